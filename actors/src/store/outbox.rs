//! What the two queues of rows to be sent, `message_outbox` and `memory_write_outbox`, have in common.
//!
//! A claim leases keys, in the table `outbox_leases`: it takes the first unsent rows of each, and nobody else may take rows of
//! that key until they are settled or the lease runs out. So the order of a key holds, and a slow key holds up only itself.
//! Rows change only when they are settled. The rows of a key are read after it was leased, by a statement of their own: what
//! another claim has settled until then is seen.

use std::collections::HashMap;

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

    /// Where the next walk begins after one that had room for the rows of the keys up to `last`. `walked` is the last key it saw and how many
    /// it saw, unless it had enough before.
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
    /// The keys that the claim is done with. Rows of others are not settled.
    pub keys: Vec<Key>,
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

    pub(super) fn columns(&self) -> Columns<'_> {
        let cut = |text: &String| text.chars().take(Self::MAX_ERROR_CHARS).filter(|c| *c != '\0').collect::<String>();
        let mut columns = Columns::default();
        for id in &self.sent {
            columns.push(*id, "sent", None, None);
        }
        for row in &self.given_back {
            columns.push(row.id, "pending", Some(row.next_attempt_at), row.error.as_ref().map(cut));
        }
        for (id, error) in &self.failed {
            columns.push(*id, "failed", None, Some(cut(error)));
        }
        let place = |id: &i64| self.places.get(id).copied().unzip();
        (columns.partitions, columns.offsets) = columns.ids.iter().map(place).unzip();
        (columns.scopes, columns.keys) = self.keys.iter().map(|(scope, key)| (scope.as_str(), key.as_str())).unzip();
        columns
    }
}

/// One row of each becomes one change.
#[derive(Default)]
pub(super) struct Columns<'a> {
    pub(super) ids: Vec<i64>,
    pub(super) states: Vec<&'static str>,
    pub(super) next: Vec<Option<OffsetDateTime>>,
    pub(super) errors: Vec<Option<String>>,
    pub(super) partitions: Vec<Option<i32>>,
    pub(super) offsets: Vec<Option<i64>>,
    pub(super) scopes: Vec<&'a str>,
    pub(super) keys: Vec<&'a str>,
}

impl Columns<'_> {
    fn push(&mut self, id: i64, state: &'static str, next: Option<OffsetDateTime>, error: Option<String>) {
        self.ids.push(id);
        self.states.push(state);
        self.next.push(next);
        self.errors.push(error);
    }
}

/// Ends the leases of a claim and writes down what became of rows of a table, as far as the claim still holds their keys;
/// returns those rows. A table that says where in the log its rows are sets that from the columns `s.partition` and `s.place`.
macro_rules! settle {
    ($table:tt, ($scope:tt, $key:tt), $places:tt, $connection:expr, $claim:expr, $settled:expr, $at:expr) => {{
        let columns = $settled.columns();
        sqlx::query_scalar!(
            "WITH held AS (
                 DELETE FROM outbox_leases
                 WHERE (queue, scope, key) IN (
                     -- In the order in which claims take them.
                     SELECT l.queue, l.scope, l.key
                     FROM outbox_leases AS l
                     JOIN unnest($9::text[], $10::text[]) AS k(scope, key) ON l.scope = k.scope AND l.key = k.key
                     WHERE l.queue = $11 AND l.claim = $5
                     ORDER BY l.scope, l.key
                     FOR UPDATE OF l
                 )
                 RETURNING scope, key
             )
             UPDATE "
                + $table
                + " AS o
             SET status = s.state,
                 claim = NULL,
                 next_attempt_at = COALESCE(s.next_attempt_at, o.next_attempt_at),
                 retry_count = o.retry_count + CASE WHEN s.error IS NULL THEN 0 ELSE 1 END,
                 last_error = COALESCE(s.error, o.last_error),
                 last_error_at = CASE WHEN s.error IS NULL THEN o.last_error_at ELSE $6 END,
                 updated_at = $6"
                + $places
                + " FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::text[], $7::integer[], $8::bigint[])
                 AS s(id, state, next_attempt_at, error, partition, place)
             WHERE o.id = s.id
               AND EXISTS (SELECT FROM held WHERE held.scope = o."
                + $scope
                + " AND held.key = o."
                + $key
                + "::text)
               -- An earlier version of the program, which knows no leases, has marked what it is sending.
               AND (o.claim IS NULL OR o.next_attempt_at <= $6)
             RETURNING o.id",
            &columns.ids,
            &columns.states as _,
            &columns.next as _,
            &columns.errors as _,
            $claim,
            $at,
            &columns.partitions as _,
            &columns.offsets as _,
            &columns.scopes as _,
            &columns.keys as _,
            $table,
        )
        .fetch_all($connection)
        .await
    }};
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
