//! One atomic step of a session's history: what the Journal commits or refuses as a whole.

use std::{net::IpAddr, sync::Arc};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    caller::Admission,
    event::{EventType, size_bytes},
    hex::hex,
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
#[derive(Clone, Debug, Default)]
pub struct AuditWrite {
    /// Who did it.
    pub doer: Doer,
    /// What was done, such as `message.enqueue`.
    pub action: &'static str,
    /// To what kind of thing, such as `conversation.message`.
    pub resource: &'static str,
    /// To which one.
    pub target_id: String,
    /// What it is a step of, if it is one of several: a turn, or an order that goes on by itself.
    pub workflow_id: Option<String>,
    /// Names and sizes, never content.
    pub details: Value,
    /// What was changed, by name: the sums of what was there before and of what is there now; of settings, what is no secret of
    /// both itself.
    pub diff: Option<Value>,
}

/// Who did something, as far as that is known.
#[derive(Clone, Debug, Default)]
pub struct Doer {
    /// The request that it was done for.
    pub correlation_id: Uuid,
    /// The trace that the request belongs to.
    pub trace_id: Option<String>,
    /// Who asked.
    pub subject: Option<String>,
    /// From which address.
    pub ip: Option<IpAddr>,
    /// How they were let in.
    pub admission: Option<Arc<Admission>>,
}

impl Doer {
    /// An actor of this process that does something by itself. No person's name begins like that: it is the process's own.
    #[must_use]
    pub fn process(actor: &str) -> Self {
        Self { subject: Some(format!("system:{actor}")), ..Self::default() }
    }

    /// The request that it was done for, if it was done for one.
    #[must_use]
    pub fn request(&self) -> Option<String> {
        (!self.correlation_id.is_nil()).then(|| self.correlation_id.to_string())
    }

    /// Who vouches for them.
    #[must_use]
    pub fn issuer(&self) -> Option<&str> {
        self.admission.as_ref()?.issuer.as_deref()
    }

    /// SHA-256 of what the policy was asked when it allowed this.
    #[must_use]
    pub fn decision(&self) -> Option<&str> {
        Some(self.admission.as_ref()?.decision.as_str())
    }

    /// With which program.
    #[must_use]
    pub fn user_agent(&self) -> Option<&str> {
        self.admission.as_ref()?.user_agent.as_deref()
    }
}

impl AuditWrite {
    /// The same line as a step of `workflow`.
    #[must_use]
    pub fn within(self, workflow: impl Into<String>) -> Self {
        Self { workflow_id: Some(workflow.into()), ..self }
    }

    /// The same line, which also says that `name` was `before` and is `after`: by their SHA-256, because it may be content.
    #[must_use]
    pub fn changing(mut self, name: &str, before: &[u8], after: &[u8]) -> Self {
        let sum = |bytes: &[u8]| hex(&Sha256::digest(bytes));
        let diff = self.diff.get_or_insert_with(|| json!({}));
        diff[name] = json!({"before": sum(before), "after": sum(after)});
        self
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_by_sums_of_what_was_and_of_what_is() {
        let line = AuditWrite {
            doer: Doer::default(),
            action: "session.rename",
            resource: "session",
            target_id: String::new(),
            workflow_id: None,
            details: json!({}),
            diff: None,
        };
        let line = line.changing("title", b"", b"tea").within("7");
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let tea = "a9f74d1ec36ebdeb2da3f6e5868090cd2a2d20b3dcca7b62f60304b1d3d9ef42";
        let diff = line.diff.unwrap_or_default();
        assert_eq!(diff["title"]["before"], nothing);
        assert_eq!(diff["title"]["after"], tea);
        assert_eq!(line.workflow_id.as_deref(), Some("7"));
    }
}
