//! What the two queues of rows to be sent, `message_outbox` and `memory_write_outbox`, have in common.
//!
//! A claim leases keys: it takes the first unsent rows of each and nobody else may take rows of that key until they are
//! settled or the lease runs out. So the order of a key holds, and a slow key holds up only itself.

use time::OffsetDateTime;
use uuid::Uuid;

/// How much a claim may take, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct ClaimTerms {
    /// Its name; only who knows it can settle the rows.
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

/// What became of the rows of a claim.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// Sent.
    pub sent: Vec<i64>,
    /// To be tried again, or not tried.
    pub given_back: Vec<GivenBack>,
    /// Refused for good, with the reason.
    pub failed: Vec<(i64, String)>,
}

impl Settled {
    /// Longest kept text of an error, in characters.
    const MAX_ERROR_CHARS: usize = 2_000;

    pub(super) fn columns(&self) -> Columns {
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
}

impl Columns {
    fn push(&mut self, id: i64, state: &'static str, next: Option<OffsetDateTime>, error: Option<String>) {
        self.ids.push(id);
        self.states.push(state);
        self.next.push(next);
        self.errors.push(error);
    }
}
