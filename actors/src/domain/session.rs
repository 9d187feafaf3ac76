//! The owner's knowledge of one session, and the steps by which it may change.
//!
//! [`Session`] never changes itself ahead of the store: a method builds an [`Append`], and [`Session::committed`] takes it
//! over once the Journal says that it is durable.

use std::collections::VecDeque;

use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    analysis,
    append::{Append, AuditWrite, Beginner, Doer, EnvelopeChange, NewEvent, TurnWrite},
    caller::Caller,
    event::{self, Draft, EventType, Metadata},
    ids::SessionKey,
    memory::{self, MemorySpace},
    message::MessageDraft,
    title,
    trace_context::TraceContext,
    turn::{Admission, OnBusy, OpenTurn, Refusal, TurnState, admit},
    whose::Whose,
};

/// Where messages are published for other consumers.
pub const INBOUND: &str = "conversation.inbound";
/// Where terminal events are published for other consumers.
pub const OUTBOUND: &str = "conversation.outbound";

/// A session as its owner knows it.
#[derive(Clone, Debug)]
pub struct Session {
    /// Which session.
    pub key: SessionKey,
    /// Whose it is.
    pub whose: Whose,
    /// Whether it has no row yet.
    pub fresh: bool,
    /// The fence.
    pub epoch: i64,
    /// The number of the last event.
    pub head: i64,
    /// Events up to this number were erased.
    pub erased: i64,
    /// Its title.
    pub title: Option<String>,
    /// Who answers.
    pub persona_id: Option<String>,
    /// Whether new messages are refused.
    pub paused: bool,
    /// The last turn's name, 0 when there was none.
    pub last_turn: i64,
    /// Turns without a terminal event, in the order they were asked. Only the first may be running.
    pub open: VecDeque<OpenTurn>,
}

/// Who writes, and when.
#[derive(Clone, Debug)]
pub struct Stamp {
    /// The time of the step.
    pub at: OffsetDateTime,
    /// The node that owns the session.
    pub node: String,
    /// Until when it owns it.
    pub lease_until: OffsetDateTime,
}

/// How a turn ends.
#[derive(Clone, Debug)]
pub struct Ending {
    /// Which turn.
    pub turn_seq: i64,
    /// The id of its user event.
    pub user_event_id: Uuid,
    /// The attempt that ends it.
    pub attempt: i32,
    /// The id of the terminal event.
    pub event_id: Uuid,
    /// Which terminal event.
    pub event_type: EventType,
    /// Its text.
    pub message: String,
    /// Its details.
    pub metadata: Metadata,
    /// The trace of the request that the turn goes back to.
    pub trace: Option<TraceContext>,
    /// Tokens used.
    pub usage: Option<Value>,
    /// Why it failed.
    pub error_code: Option<&'static str>,
    /// Who ended it, when it was not the answer's own end.
    pub by: Option<Caller>,
}

impl Ending {
    /// Who ended it: somebody, or the process, which had come to the end of the answer.
    fn line(&self) -> AuditWrite {
        let target = self.user_event_id.to_string();
        let mut details = json!({"turn": self.turn_seq, "attempt": self.attempt});
        let (action, doer) = if let Some(caller) = &self.by {
            ("turn.stop", caller.doer())
        } else {
            details["event"] = self.event_type.as_str().into();
            details["error_code"] = self.error_code.into();
            let doer = Doer {
                correlation_id: event::named_request(&self.metadata).unwrap_or(self.user_event_id),
                trace_id: self.trace.as_ref().map(|trace| trace.trace_id().to_owned()),
                ..Doer::process("conversation")
            };
            ("turn.end", doer)
        };
        let workflow_id = Some(target.clone());
        AuditWrite { doer, action, resource: "conversation.turn", target_id: target, workflow_id, details, diff: None }
    }
}

/// Why a message is not accepted by a session that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAccepted {
    /// The session is paused.
    Paused,
    /// The client has not seen the latest events.
    HeadMoved,
    /// The client expects events that do not exist.
    HeadAhead,
    /// See [`Refusal::Busy`].
    Busy,
    /// See [`Refusal::QueueFull`].
    QueueFull,
}

impl Session {
    /// A session nobody has used yet.
    #[must_use]
    pub const fn unused(key: SessionKey) -> Self {
        Self {
            key,
            whose: Whose::Nobodys,
            fresh: true,
            epoch: 1,
            head: 0,
            erased: 0,
            title: None,
            persona_id: None,
            paused: false,
            last_turn: 0,
            open: VecDeque::new(),
        }
    }

    /// Whether a message may be accepted now, and how it goes on.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self, draft: &MessageDraft, max_waiting: usize) -> Result<Admission, NotAccepted> {
        if self.paused {
            return Err(NotAccepted::Paused);
        }
        match draft.expected_head {
            Some(expected) if expected < self.head => return Err(NotAccepted::HeadMoved),
            Some(expected) if expected > self.head => return Err(NotAccepted::HeadAhead),
            _ => {}
        }
        admit(self.open.len(), draft.on_busy, max_waiting).map_err(|refusal| match refusal {
            Refusal::Busy => NotAccepted::Busy,
            Refusal::QueueFull => NotAccepted::QueueFull,
        })
    }

    /// The step that stores a message, opens its turn and queues what is remembered and published of it.
    #[must_use]
    pub fn message(
        &self,
        draft: &MessageDraft,
        event_id: Uuid,
        caller: &Caller,
        space: &MemorySpace,
        stamp: &Stamp,
    ) -> Append {
        let seq = self.head + 1;
        let persona_id = draft.persona_id.clone().or_else(|| self.persona_id.clone());
        let reading = serde_json::to_value(analysis::analyse(&draft.message)).unwrap_or_default();
        let mut metadata = draft.metadata.clone();
        metadata.insert("correlation_id".into(), caller.correlation_id.to_string().into());
        if draft.on_busy == OnBusy::Interrupt && !self.open.is_empty() {
            event::interrupt(&mut metadata);
        }
        let payload = Draft {
            event_id,
            key: &self.key,
            persona_id: persona_id.as_deref(),
            message: &draft.message,
            attachments: &draft.attachments,
            metadata,
            trace: caller.trace.as_ref(),
        }
        .stored(EventType::User, seq, seq);
        let starts = self.open.is_empty();
        let mut append = self.step(stamp);
        append.begun =
            (!self.whose.is_begun()).then(|| Beginner { subject: caller.subject.clone(), scope: caller.scope.clone() });
        append.envelope.title = title::from_message(&draft.message);
        append.envelope.keep_title = true;
        append.envelope.persona_id.clone_from(&draft.persona_id);
        append.envelope.analysis = Some(reading);
        append.events.push(NewEvent {
            event_id,
            event_type: EventType::User,
            turn_seq: seq,
            idempotency: draft.idempotency.clone(),
            memory: Some(self.remembered(&payload, space, stamp)),
            payload,
            topic: INBOUND,
        });
        append.turns.push(TurnWrite {
            turn_seq: seq,
            event_id,
            attempt: i32::from(starts),
            state: if starts { TurnState::Running } else { TurnState::Queued },
            usage: None,
            error_code: None,
        });
        let details = json!({"bytes": draft.message.len(), "attachments": draft.attachments.len()});
        let line = audit(caller, "message.enqueue", "conversation.message", event_id.to_string(), details);
        append.audit.push(line.within(event_id.to_string()));
        append
    }

    /// The step that raises the attempts of a turn, before the model is called again.
    #[must_use]
    pub fn attempt(&self, turn: &OpenTurn, attempt: i32, stamp: &Stamp) -> Append {
        let mut append = self.step(stamp);
        append.turns.push(TurnWrite {
            turn_seq: turn.turn_seq,
            event_id: turn.event_id,
            attempt,
            state: TurnState::Running,
            usage: None,
            error_code: None,
        });
        append
    }

    /// The step that ends a turn.
    #[must_use]
    pub fn ending(&self, ending: &Ending, space: &MemorySpace, stamp: &Stamp) -> Append {
        let payload = Draft {
            event_id: ending.event_id,
            key: &self.key,
            persona_id: self.persona_id.as_deref(),
            message: &ending.message,
            attachments: &[],
            metadata: ending.metadata.clone(),
            trace: ending.trace.as_ref(),
        }
        .stored(ending.event_type, self.head + 1, ending.turn_seq);
        // An error is nothing that was said.
        let said = ending.event_type != EventType::Error && !ending.message.is_empty();
        let mut append = self.step(stamp);
        append.events.push(NewEvent {
            event_id: ending.event_id,
            event_type: ending.event_type,
            turn_seq: ending.turn_seq,
            idempotency: None,
            memory: said.then(|| self.remembered(&payload, space, stamp)),
            payload,
            topic: OUTBOUND,
        });
        append.turns.push(TurnWrite {
            turn_seq: ending.turn_seq,
            event_id: ending.user_event_id,
            attempt: ending.attempt,
            state: match ending.event_type {
                EventType::Stopped => TurnState::Stopped,
                EventType::Error => TurnState::Error,
                EventType::Final | EventType::User => TurnState::Final,
            },
            usage: ending.usage.clone(),
            error_code: ending.error_code,
        });
        append.audit.push(ending.line());
        append
    }

    /// The step that changes the envelope and nothing else.
    #[must_use]
    pub fn change(&self, change: EnvelopeChange, caller: &Caller, action: &'static str, stamp: &Stamp) -> Append {
        let mut append = self.step(stamp);
        let mut line = audit(caller, action, "session", self.key.session_id.to_string(), json!({}));
        if let Some(title) = &change.title {
            line = line.changing("title", self.title.as_deref().unwrap_or_default().as_bytes(), title.as_bytes());
        }
        if let Some(paused) = change.paused {
            line = line.changing("paused", self.paused.to_string().as_bytes(), paused.to_string().as_bytes());
        }
        append.envelope = EnvelopeChange { owner: append.envelope.owner, ..change };
        append.audit.push(line);
        append
    }

    /// Takes over a step that is durable.
    pub fn committed(&mut self, append: &Append) {
        self.fresh = false;
        if let Some(by) = &append.begun {
            self.whose = Whose::Begun(by.subject.clone());
        }
        self.epoch = append.epoch;
        self.head = append.new_head();
        let change = &append.envelope;
        if !(change.keep_title && self.title.is_some()) {
            self.title = change.title.clone().or_else(|| self.title.take());
        }
        self.persona_id = change.persona_id.clone().or_else(|| self.persona_id.take());
        self.paused = change.paused.unwrap_or(self.paused);
        for turn in &append.turns {
            self.note(turn, append.at);
        }
    }

    fn note(&mut self, turn: &TurnWrite, at: OffsetDateTime) {
        let open = matches!(turn.state, TurnState::Queued | TurnState::Running);
        let known = self.open.iter().position(|known| known.turn_seq == turn.turn_seq);
        match (known, open) {
            (Some(place), true) => {
                let known = &mut self.open[place];
                // A turn that only waited begins with its first attempt.
                known.started_at = if known.attempt == 0 { at } else { known.started_at };
                known.attempt = turn.attempt;
            }
            (Some(place), false) => drop(self.open.remove(place)),
            (None, true) => {
                self.last_turn = self.last_turn.max(turn.turn_seq);
                let (turn_seq, event_id, attempt) = (turn.turn_seq, turn.event_id, turn.attempt);
                self.open.push_back(OpenTurn { turn_seq, event_id, attempt, started_at: at });
            }
            (None, false) => {}
        }
    }

    fn step(&self, stamp: &Stamp) -> Append {
        Append {
            key: self.key.clone(),
            epoch: self.epoch,
            head: self.head,
            at: stamp.at,
            fresh: self.fresh,
            begun: None,
            envelope: EnvelopeChange {
                owner: Some((stamp.node.clone(), stamp.lease_until)),
                ..EnvelopeChange::default()
            },
            events: vec![],
            turns: vec![],
            audit: vec![],
        }
    }

    fn remembered(&self, payload: &Value, space: &MemorySpace, stamp: &Stamp) -> (Value, String) {
        let record = memory::record(payload, space, &self.key.tenant, stamp.at);
        let key = record["idempotency_key"].as_str().unwrap_or_default().to_owned();
        (record, key)
    }
}

/// A line of the audit trail about what `caller` did.
#[must_use]
pub fn audit(
    caller: &Caller,
    action: &'static str,
    resource: &'static str,
    target_id: String,
    details: Value,
) -> AuditWrite {
    AuditWrite { doer: caller.doer(), action, resource, target_id, workflow_id: None, details, diff: None }
}

#[cfg(test)]
mod tests;
