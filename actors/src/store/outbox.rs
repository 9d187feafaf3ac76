//! What the two queues of rows to be sent, `message_outbox` and `memory_write_outbox`, have in common.
//!
//! A claim leases keys, in the table `outbox_leases`: it takes the first unsent rows of each, and nobody else may take rows of
//! that key until they are settled or the lease runs out. So the order of a key holds, and a slow key holds up only itself.
//! Rows change only when they are settled. The rows of a key are read after it was leased, by a statement of their own: what
//! another claim has settled until then is seen.

use std::collections::{HashMap, HashSet};

use time::OffsetDateTime;
use uuid::Uuid;

/// How much a claim may take, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct ClaimTerms {
    /// Its name; only who knows it can settle what it leased.
    pub claim: Uuid,
    /// What is due by then is taken.
    pub now: OffsetDateTime,
    /// When others may take the rows although they were not settled: the claimer is taken for dead.
    pub lease_until: OffsetDateTime,
    /// Keys looked at.
    pub keys: i64,
    /// Rows of one key.
    pub rows_a_key: i64,
    /// Rows in all.
    pub rows: i64,
}

impl ClaimTerms {
    /// Keys that a claim looks at: many may be waiting or leased.
    const KEYS: i64 = 1_000;

    /// A claim of up to `rows` rows, of however few keys, that begins `now` and holds them for `lease`.
    #[must_use]
    pub fn begin(now: OffsetDateTime, lease: std::time::Duration, rows: u32) -> Self {
        let rows = i64::from(rows);
        let keys = Self::KEYS.max(rows);
        Self { claim: Uuid::new_v4(), now, lease_until: now + lease, keys, rows_a_key: rows, rows }
    }

    /// Where the next walk begins after one that had room for the rows of the keys up to `last`. `walked` is the last
    /// key it saw and how many it saw, unless it had enough before.
    pub(super) fn next_place<P: Default>(&self, last: Option<P>, walked: Option<(P, i64)>) -> P {
        match walked {
            // There may be keys for which there was no room.
            None => last.unwrap_or_default(),
            Some((_, seen)) if seen < self.keys => P::default(),
            Some((place, _)) => place,
        }
    }
}

/// A row that goes back into its queue.
#[derive(Clone, Debug)]
pub struct GivenBack {
    /// Which one.
    pub id: i64,
    /// When it may be sent again. Later rows of its key wait for it.
    pub next_attempt_at: OffsetDateTime,
    /// Why it was not sent, or `None` if it was not tried.
    pub error: Option<String>,
}

/// A key of a queue: topic and partition key, or tenant and session.
pub type Key = (String, String);

/// What became of the rows of a claim.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// The key of each row that was claimed, whatever became of it: the claim is done with them.
    pub keys: HashMap<i64, Key>,
    /// Sent.
    pub sent: Vec<i64>,
    /// Partition and offset in the log of rows that were sent there.
    pub places: HashMap<i64, (i32, i64)>,
    /// To be tried again, or not tried.
    pub given_back: Vec<GivenBack>,
    /// Refused for good, with the reason.
    pub failed: Vec<(i64, String)>,
}

impl Settled {
    /// Longest kept text of an error, in characters.
    const MAX_ERROR_CHARS: usize = 2_000;

    /// Each key once.
    pub(super) fn distinct_keys(&self) -> Vec<Key> {
        let keys: HashSet<&Key> = self.keys.values().collect();
        keys.into_iter().cloned().collect()
    }

    /// The rows of the keys that the claim has `held` until now.
    pub(super) fn columns(&self, held: &HashSet<Key>) -> Columns {
        let cut = |text: &String| text.chars().take(Self::MAX_ERROR_CHARS).filter(|c| *c != '\0').collect::<String>();
        let is_held = |id: &i64| self.keys.get(id).is_some_and(|key| held.contains(key));
        let mut columns = Columns::default();
        for id in self.sent.iter().filter(|id| is_held(id)) {
            columns.push(*id, "sent", None, None);
        }
        for row in self.given_back.iter().filter(|row| is_held(&row.id)) {
            columns.push(row.id, "pending", Some(row.next_attempt_at), row.error.as_ref().map(cut));
        }
        for (id, error) in self.failed.iter().filter(|(id, _)| is_held(id)) {
            columns.push(*id, "failed", None, Some(cut(error)));
        }
        let place = |id: &i64| self.places.get(id).copied().unzip();
        (columns.partitions, columns.offsets) = columns.ids.iter().map(place).unzip();
        columns
    }
}

/// One row of each becomes one change.
#[derive(Default)]
pub(super) struct Columns {
    pub(super) ids: Vec<i64>,
    pub(super) states: Vec<&'static str>,
    pub(super) next: Vec<Option<OffsetDateTime>>,
    pub(super) errors: Vec<Option<String>>,
    pub(super) partitions: Vec<Option<i32>>,
    pub(super) offsets: Vec<Option<i64>>,
}

impl Columns {
    fn push(&mut self, id: i64, state: &'static str, next: Option<OffsetDateTime>, error: Option<String>) {
        self.ids.push(id);
        self.states.push(state);
        self.next.push(next);
        self.errors.push(error);
    }
}

/// Writes down what became of rows of a table and returns them. A table that says where in the log its rows are sets that from
/// the columns `s.partition` and `s.place`.
macro_rules! settle {
    ($table:tt, $places:tt, $connection:expr, $columns:expr, $at:expr) => {
        sqlx::query_scalar!(
            "UPDATE "
                + $table
                + " AS o
             SET status = s.state,
                 claim = NULL,
                 next_attempt_at = COALESCE(s.next_attempt_at, o.next_attempt_at),
                 retry_count = o.retry_count + CASE WHEN s.error IS NULL THEN 0 ELSE 1 END,
                 last_error = COALESCE(s.error, o.last_error),
                 last_error_at = CASE WHEN s.error IS NULL THEN o.last_error_at ELSE $5 END,
                 updated_at = $5"
                + $places
                + " FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::text[], $6::integer[], $7::bigint[])
                 AS s(id, state, next_attempt_at, error, partition, place)
             WHERE o.id = s.id
               -- An earlier version of the program, which knows no leases, has marked what it is sending.
               AND (o.claim IS NULL OR o.next_attempt_at <= $5)
             RETURNING o.id",
            &$columns.ids,
            &$columns.states as _,
            &$columns.next as _,
            &$columns.errors as _,
            $at,
            &$columns.partitions as _,
            &$columns.offsets as _,
        )
        .fetch_all($connection)
        .await
    };
}

/// Removes up to a limit of rows of a table that were sent or given up before a time, and returns how many. Of what was given
/// up the dead letter has all.
macro_rules! purge {
    ($table:tt, $connection:expr, $before:expr, $limit:expr) => {
        sqlx::query!(
            "DELETE FROM "
                + $table
                + " WHERE id = ANY (ARRAY (
                 SELECT id FROM "
                + $table
                + " WHERE status IN ('sent', 'failed') AND updated_at < $1
                 ORDER BY updated_at
                 LIMIT $2
                 FOR UPDATE SKIP LOCKED
             ))",
            $before,
            $limit,
        )
        .execute($connection)
        .await
        .map(|done| done.rows_affected())
    };
}

pub(super) use {purge, settle};
