//! One atomic step of a session's history: what the Journal commits or refuses as a whole.

use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    event::{EventType, size_bytes},
    idempotency::Idempotency,
    ids::SessionKey,
    turn::TurnState,
};

/// A compare-and-set on a session: takes effect only while the envelope's `(epoch, last_seq)` is `(epoch, head)`.
#[derive(Clone, Debug)]
pub struct Append {
    /// Whose session.
    pub key: SessionKey,
    /// The writer's fence: an owner that lost the session has an older one.
    pub epoch: i64,
    /// The number of the last event the writer knows.
    pub head: i64,
    /// The time of the step.
    pub at: OffsetDateTime,
    /// Whether the session has no envelope yet: this step makes it.
    pub fresh: bool,
    /// Set with the first message of a session: whose it is from then on.
    pub begun: Option<Beginner>,
    /// Changes of the envelope.
    pub envelope: EnvelopeChange,
    /// New events; they get the numbers `head + 1 …` in this order.
    pub events: Vec<NewEvent>,
    /// Turns opened, raised or closed.
    pub turns: Vec<TurnWrite>,
    /// Who asked, for the audit trail.
    pub audit: Vec<AuditWrite>,
}

/// Who begins a session.
#[derive(Clone, Debug, Default)]
pub struct Beginner {
    /// The authenticated subject, whose the session is.
    pub subject: Option<String>,
    /// The scope it is begun with.
    pub scope: Option<String>,
}

/// Changes of an envelope; `None` keeps what is there.
#[derive(Clone, Debug, Default)]
pub struct EnvelopeChange {
    /// The node that appends, with the end of its lease.
    pub owner: Option<(String, OffsetDateTime)>,
    /// A title to set; see `keep_title`.
    pub title: Option<String>,
    /// Whether an existing title wins over `title`.
    pub keep_title: bool,
    /// The persona that answers from now on.
    pub persona_id: Option<String>,
    /// Metadata merged in at the top level.
    pub metadata: Option<Value>,
    /// The analysis of the last message.
    pub analysis: Option<Value>,
    /// Whether new messages are refused.
    pub paused: Option<bool>,
}

/// An event without its number.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Its identity.
    pub event_id: Uuid,
    /// Its type.
    pub event_type: EventType,
    /// Its turn.
    pub turn_seq: i64,
    /// The client's key, for a message that came with one.
    pub idempotency: Option<Idempotency>,
    /// The event as it travels.
    pub payload: Value,
    /// Where it is published for other consumers.
    pub topic: &'static str,
    /// The record to be remembered, with its idempotency key, or `None` when there is nothing to remember.
    pub memory: Option<(Value, String)>,
}

/// The state of a turn from this step on.
#[derive(Clone, Debug)]
pub struct TurnWrite {
    /// Which turn.
    pub turn_seq: i64,
    /// The id of its user event.
    pub event_id: Uuid,
    /// Attempts begun.
    pub attempt: i32,
    /// Its state.
    pub state: TurnState,
    /// Tokens used, for a closed turn.
    pub usage: Option<Value>,
    /// Why it failed.
    pub error_code: Option<&'static str>,
}

/// One line of the audit trail.
#[derive(Clone, Debug)]
pub struct AuditWrite {
    /// The request that caused the step.
    pub correlation_id: Uuid,
    /// Who asked, if known.
    pub subject: Option<String>,
    /// What was done, such as `message.enqueue`.
    pub action: &'static str,
    /// To what kind of thing, such as `conversation.message`.
    pub resource: &'static str,
    /// To which one.
    pub target_id: String,
    /// Names and sizes, never content.
    pub details: Value,
    /// From which address.
    pub ip: Option<std::net::IpAddr>,
}

impl Append {
    /// The number of the session's last event once this step is committed.
    #[must_use]
    pub fn new_head(&self) -> i64 {
        self.head + i64::try_from(self.events.len()).unwrap_or(i64::MAX)
    }

    /// About how many bytes the step sends to the store.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        // What is said and its details travel in the event, in the outbox row and in the memory record.
        512 + self.events.iter().map(|event| 2048 + 3 * size_bytes(&event.payload)).sum::<usize>()
    }
}

/// What became of an [`Append`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is durable.
    Committed,
    /// It had no effect and never will.
    Refused(RefusedReason),
    /// It may have been committed or may yet be: the reply was lost. The fence tells (see `journal`).
    Unknown,
}

/// Why an append had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedReason {
    /// The envelope has another epoch or head: this writer is stale, or the session is gone.
    Stale,
    /// The database rejected the content (SQLSTATE class 22 or 23).
    BadData,
    /// The database could not do it now; nothing was sent or it said that nothing was done.
    Unavailable,
}
