//! Events of a session: the JSON objects that are stored, streamed and published, all of one shape.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    analysis::Analysis,
    ids::SessionKey,
    trace_context::{TRACE_CONTEXT, TraceContext},
};

/// The schema version every event names.
pub const VERSION: &str = "sa01-v1";

/// String and JSON details of an event, by name.
pub type Metadata = Map<String, Value>;

/// Names in an event's metadata that only this system writes, or that tell clients what became of a turn. What a client gives
/// under one of them is dropped at the door: it would stand on every frame of the answer. `source` is not among them: a
/// client's own is kept as `ingress_source`.
pub const RESERVED: [&str; 25] = [
    "analysis",
    "attempt",
    "completed",
    "context",
    "correlation_id",
    "error",
    "error_code",
    "escalation",
    "final",
    "finish_reason",
    "ingress_source",
    "model",
    ON_BUSY,
    "partial",
    "policy",
    "recall",
    "retriable",
    "sequence",
    "status",
    "stream_index",
    "timing",
    "tool_name",
    TRACE_CONTEXT,
    "turn",
    "usage",
];

/// Where a user event says that the turns before it are to be stopped. It is stored with the message, so that they are, whoever
/// owns the session by then.
const ON_BUSY: &str = "on_busy";
const INTERRUPT: &str = "interrupt";

/// The types of events that are stored. The live ones (`assistant.started`, `.thinking`, `.stream`) have no row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// What a person said.
    User,
    /// A complete answer.
    Final,
    /// An answer that somebody stopped; its text is what had been streamed.
    Stopped,
    /// A turn that failed; `metadata.error_code` says why.
    Error,
}

impl EventType {
    /// The `type` on the wire and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Final => "assistant.final",
            Self::Stopped => "assistant.stopped",
            Self::Error => "assistant.error",
        }
    }

    /// Whether an event of this type ends its turn. Every turn has exactly one.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::User)
    }

    const fn role(self) -> &'static str {
        if self.is_terminal() { "assistant" } else { "user" }
    }
}

/// One row of a session's history.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEvent {
    /// Its number in the session, from 1 without gaps.
    pub seq: i64,
    /// Its identity everywhere.
    pub event_id: Uuid,
    /// The turn it belongs to: the `seq` of that turn's user event.
    pub turn_seq: Option<i64>,
    /// When it was stored.
    pub occurred_at: OffsetDateTime,
    /// The event as it travels.
    pub payload: Value,
}

impl StoredEvent {
    /// The `type` field of the payload.
    #[must_use]
    pub fn type_name(&self) -> &str {
        self.payload["type"].as_str().unwrap_or_default()
    }
}

/// Everything that goes into an event's JSON.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// Fresh for live frames, stored otherwise.
    pub event_id: Uuid,
    /// Whose session.
    pub key: &'a SessionKey,
    /// The persona that answers.
    pub persona_id: Option<&'a str>,
    /// The text.
    pub message: &'a str,
    /// References to attachments.
    pub attachments: &'a [String],
    /// Details.
    pub metadata: Metadata,
    /// The trace of the request it goes back to.
    pub trace: Option<&'a TraceContext>,
}

impl Draft<'_> {
    /// The JSON of a stored event with number `seq` in turn `turn_seq`.
    #[must_use]
    pub fn stored(mut self, event_type: EventType, seq: i64, turn_seq: i64) -> Value {
        self.metadata.insert("sequence".into(), seq.into());
        self.metadata.insert("turn".into(), turn_seq.into());
        if event_type.is_terminal() {
            self.metadata.insert("completed".into(), true.into());
        }
        let trace = TraceContext::json(self.trace);
        let mut event = self.object(event_type.role(), event_type.as_str());
        event[TRACE_CONTEXT] = trace;
        event
    }

    /// The JSON of an event with any role and type. Only stored ones are published and name their trace.
    #[must_use]
    pub fn object(self, role: &str, type_name: &str) -> Value {
        json!({
            "event_id": self.event_id,
            "session_id": self.key.session_id,
            "persona_id": self.persona_id,
            "role": role,
            "message": self.message,
            "attachments": self.attachments,
            "metadata": self.metadata,
            "version": VERSION,
            "type": type_name,
        })
    }
}

/// What the user event says about its turn: where every later event of the turn starts from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ingress {
    /// Metadata of the user event, the client's own included.
    pub metadata: Metadata,
    /// The trace of the request that brought it.
    pub trace: Option<TraceContext>,
}

impl Ingress {
    /// What the user event `payload` says.
    #[must_use]
    pub fn of(payload: &Value) -> Self {
        let metadata = payload["metadata"].as_object().cloned().unwrap_or_default();
        Self { metadata, trace: TraceContext::within(payload) }
    }

    /// The request that the turn goes back to, as [`correlation_id`] of its user event.
    #[must_use]
    pub fn correlation_id(&self) -> Option<Uuid> {
        named_request(&self.metadata)
    }

    /// Metadata of an event that answers this message: the message's own, then `source` and `status` (an earlier `source`
    /// that differs is kept as `ingress_source`), the analysis, and the attempt.
    #[must_use]
    pub fn answered(&self, source: &str, status: &str, analysis: Option<&Analysis>, attempt: i32) -> Metadata {
        let mut metadata = self.metadata.clone();
        for private in ["sequence", "idempotency_key", ON_BUSY] {
            metadata.remove(private);
        }
        if let Some(earlier) = metadata.insert("source".into(), source.into())
            && earlier != source
        {
            metadata.insert("ingress_source".into(), earlier);
        }
        metadata.insert("status".into(), status.into());
        metadata.insert("attempt".into(), attempt.into());
        if let Some(Ok(analysis)) = analysis.map(serde_json::to_value) {
            metadata.insert("analysis".into(), analysis);
        }
        metadata
    }
}

/// Makes the user event with this metadata stop the turns before it.
pub fn interrupt(metadata: &mut Metadata) {
    metadata.insert(ON_BUSY.into(), INTERRUPT.into());
}

/// Whether this user event stops the turns before it.
#[must_use]
pub fn interrupts(payload: &Value) -> bool {
    payload["metadata"][ON_BUSY] == INTERRUPT
}

/// The request that an event goes back to. Events of earlier versions do not say it, or say what their client wrote there.
#[must_use]
pub fn correlation_id(payload: &Value) -> Option<Uuid> {
    payload["metadata"].as_object().and_then(named_request)
}

/// The request that the metadata of an event name.
#[must_use]
pub fn named_request(metadata: &Metadata) -> Option<Uuid> {
    metadata.get("correlation_id")?.as_str().and_then(|id| Uuid::try_parse(id).ok())
}

/// About how many bytes a value takes.
#[must_use]
pub fn size_bytes(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.len(),
            Value::Array(items) => items.iter().map(size_bytes).sum(),
            Value::Object(fields) => fields.iter().map(|(name, value)| name.len() + size_bytes(value)).sum(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{analysis::analyse, ids::Tenant};

    #[test]
    fn a_terminal_event_says_that_it_completes_its_turn() {
        let key = SessionKey::new(Tenant::new("public").unwrap_or_else(|| unreachable!()), Uuid::nil());
        let draft = Draft {
            event_id: Uuid::nil(),
            key: &key,
            persona_id: None,
            message: "Hello",
            attachments: &[],
            metadata: Metadata::new(),
            trace: None,
        };
        let user = draft.clone().stored(EventType::User, 1, 1);
        assert_eq!((user["role"].as_str(), user["metadata"]["completed"].as_bool()), (Some("user"), None));
        let last = draft.stored(EventType::Final, 2, 1);
        assert_eq!(last["metadata"], json!({"sequence": 2, "turn": 1, "completed": true}));
        assert_eq!((last["type"].as_str(), last["version"].as_str()), (Some("assistant.final"), Some(VERSION)));
        assert!(last["metadata"].as_object().is_some_and(|written| written.keys().all(|name| is_reserved(name))));
    }

    #[test]
    fn what_every_answer_is_given_is_reserved() {
        let mut ingress = Ingress::default();
        ingress.metadata.insert("source".into(), "web".into());
        let written = ingress.answered("slm", "completed", Some(&analyse("hi")), 1);
        assert!(written.len() >= 5, "{written:?}");
        assert!(written.keys().all(|name| name == "source" || is_reserved(name)), "{written:?}");
    }

    fn is_reserved(name: &str) -> bool {
        RESERVED.contains(&name)
    }

    #[test]
    fn an_earlier_source_is_kept() {
        let mut ingress = Ingress::default();
        ingress.metadata.insert("source".into(), "quick_action".into());
        ingress.metadata.insert("tenant".into(), "public".into());
        let metadata = ingress.answered("slm", "completed", None, 2);
        assert_eq!(
            Value::Object(metadata),
            json!({"tenant": "public", "source": "slm", "ingress_source": "quick_action", "status": "completed", "attempt": 2})
        );
    }
}
