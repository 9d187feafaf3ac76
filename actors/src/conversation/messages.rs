//! What may be asked of a conversation, and what it answers.
//!
//! The front door does not send these itself: it calls [`Conversations`](super::Conversations), which finds the actor.

use std::time::Duration;

use actix::Message;
use serde::Serialize;
use somaagent_supervision::Reply;
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use super::{frames::StreamMode, subscription::Subscription};
pub use crate::domain::message::{MessageDraft, RefusedReference};
use crate::domain::{attached::Shown, caller::Caller, cursor::Cursor, event::StoredEvent};

/// A message that is durable: it is in the history, and its turn will end in exactly one terminal event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Accepted {
    /// The session, new or old.
    pub session_id: Uuid,
    /// The user event.
    pub event_id: Uuid,
    /// Its number, which is also the name of the turn.
    pub seq: i64,
}

/// Why a conversation did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ConversationError {
    /// Nobody has used this id in this tenant.
    #[error("session not found")]
    NotFound,
    /// The session was deleted.
    #[error("session was deleted")]
    Deleted,
    /// The session takes no messages until it is resumed.
    #[error("session is paused")]
    Paused,
    /// As many messages wait as may.
    #[error("too many messages are waiting in this session")]
    QueueFull,
    /// The session answers another message and was told to refuse this one.
    #[error("session is answering another message")]
    SessionBusy,
    /// The client has not seen the latest events.
    #[error("session has events after the expected head")]
    HeadMoved {
        /// The number of the last event.
        head: i64,
        /// The events the client has not seen, the oldest first, as many as are read at a time: the last one
        /// tells where to read on.
        missing: Vec<StoredEvent>,
    },
    /// The client expects events that do not exist.
    #[error("session has no event with the expected head")]
    HeadAhead {
        /// The number of the last event.
        head: i64,
    },
    /// The idempotency key was used for another request.
    #[error("idempotency key was used with another body")]
    KeyReused,
    /// The message refers to an attachment that its sender does not get.
    #[error("an attachment of the message {}", .0.why)]
    AttachmentRefused(RefusedReference),
    /// Another node owns the session.
    #[error("session is owned by another node")]
    Elsewhere {
        /// When to ask again.
        retry_after: Duration,
    },
    /// Nothing was done, because the database could not do it. Sending again is safe.
    #[error("the store is not available")]
    Unavailable {
        /// The event that was not stored, if one was meant to be.
        event_id: Option<Uuid>,
    },
    /// It is not known whether it was done. Sending again with the same key is safe.
    #[error("the outcome is not known")]
    Unknown {
        /// The event that may be stored.
        event_id: Option<Uuid>,
    },
    /// More is waiting for this conversation than it takes.
    #[error("conversation has no room for another request")]
    Overloaded,
    /// The process is shutting down.
    #[error("conversations are draining")]
    Draining,
}

impl ConversationError {
    /// The same, naming the event that was not stored or may be.
    #[must_use]
    pub fn about(self, event: Option<Uuid>) -> Self {
        match self {
            Self::Unavailable { event_id } => Self::Unavailable { event_id: event_id.or(event) },
            Self::Unknown { event_id } => Self::Unknown { event_id: event_id.or(event) },
            other => other,
        }
    }
}

/// Takes a message. Repeating it with the same idempotency key gives the first answer.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Post {
    /// Who sends it.
    pub caller: Caller,
    /// What it says.
    pub draft: MessageDraft,
    /// The id its event will have, chosen by the sender so that a lost answer can name it.
    pub event_id: Uuid,
    /// Until when its sender waits.
    pub deadline: Instant,
    /// Whether it was sent before, to a conversation that ended with it: then it may be stored already.
    pub again: bool,
    /// Answered when the message is durable or refused.
    pub reply: Reply<Result<Accepted, ConversationError>>,
}

/// Something that must get through while posts are waiting.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Control {
    /// Who asks.
    pub caller: Caller,
    /// What for.
    pub order: Order,
    /// Until when the sender waits.
    pub deadline: Instant,
}

/// What a [`Control`] orders. Each may be repeated.
pub enum Order {
    /// End the running turn; what was streamed is kept.
    Stop(Reply<Result<Stopped, ConversationError>>),
    /// Refuse new messages, or take them again.
    Pause(bool, Reply<Result<(), ConversationError>>),
    /// Change the title, which the door has checked.
    Rename(String, Reply<Result<(), ConversationError>>),
    /// Remove the history and go on with the next number. Answers how many events were removed.
    Reset(Reply<Result<u64, ConversationError>>),
    /// Remove the session for good. Answers how many events were removed.
    Delete(Reply<Result<u64, ConversationError>>),
}

/// The answer to a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Stopped {
    /// The turn that was ended, or `None` when the session was idle.
    pub turn: Option<i64>,
}

/// Something that changes nothing.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Watch {
    /// Who asks.
    pub caller: Caller,
    /// What for.
    pub look: Look,
}

/// What a [`Watch`] wants to see.
pub enum Look {
    /// Read the stream from a position on.
    Subscribe {
        /// What the reader has seen; `None` asks for the current or last turn.
        after: Option<Cursor>,
        /// Which frames it wants.
        mode: StreamMode,
        /// Answered at once.
        reply: Reply<Result<Subscription, ConversationError>>,
    },
    /// Tell the state.
    Inspect(Reply<LiveState>),
    /// Show readers an event that is not kept, such as how far a file has come.
    Show(serde_json::Value),
}

/// Sent by the keeper: nobody is interested any more, and the ports are closed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Passivate;

/// A conversation as its actor sees it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LiveState {
    /// The turn being answered.
    pub turn: Option<TurnView>,
    /// The turns waiting.
    pub queue: Vec<QueuedTurn>,
    /// Readers of the stream.
    pub subscribers: usize,
    /// What the memory service answered last.
    pub last_recall: Option<RecallView>,
    /// What the last context left out.
    pub last_context: Option<ContextView>,
    /// Tokens of the last answer.
    pub last_usage: Option<serde_json::Value>,
    /// How long the last answer took.
    pub last_timing: Option<TimingView>,
}

/// The running turn.
#[derive(Clone, Debug, Serialize)]
pub struct TurnView {
    /// The `seq` of its user event.
    pub turn_seq: i64,
    /// Which attempt.
    pub attempt: i32,
    /// `waiting` for a free slot, `recalling`, `reading` files, `thinking` or `streaming`, `closing`.
    pub state: &'static str,
    /// When the attempt began.
    #[serde(with = "time::serde::rfc3339")]
    pub started_at: OffsetDateTime,
    /// Bytes of answer so far.
    pub text_bytes: usize,
    /// Milliseconds from the start of the attempt to the first piece.
    pub first_delta_ms: Option<u64>,
    /// The model that answers.
    pub model: String,
}

/// A turn in line.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct QueuedTurn {
    /// The `seq` of its user event.
    pub turn_seq: i64,
    /// The id of its user event.
    pub event_id: Uuid,
}

/// One recall.
#[derive(Clone, Debug, Serialize)]
pub struct RecallView {
    /// `ok`, `unavailable`, `timeout`, `denied` (by the policy) or `off`.
    pub state: &'static str,
    /// How long it took.
    pub took_ms: u64,
    /// What came back, best first.
    pub items: Vec<RecalledItem>,
}

/// One recalled memory.
#[derive(Clone, Debug, Serialize)]
pub struct RecalledItem {
    /// Its text.
    pub text: String,
    /// How well it matches, as the memory service says.
    pub score: f64,
    /// Which part of the memory service it came from.
    pub source: Option<String>,
}

/// One context.
#[derive(Clone, Debug, Serialize)]
pub struct ContextView {
    /// Estimated tokens used.
    pub tokens: u64,
    /// Estimated tokens allowed.
    pub budget: u64,
    /// Messages given to the model.
    pub messages: usize,
    /// What had no room.
    pub cut: CutView,
    /// The files that came with its messages, those of the new one first.
    pub files: Vec<FileView>,
}

/// One file of a context.
#[derive(Clone, Debug, Serialize)]
pub struct FileView {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Characters of its text that the model was given.
    pub chars: u64,
    /// Characters that it was not given.
    pub missing_chars: u64,
    /// Why it was given nothing of it, if so.
    pub why: Option<String>,
}

impl From<Shown> for FileView {
    fn from(Shown { id, name, chars, missing_chars, why }: Shown) -> Self {
        Self { id, name, chars, missing_chars, why }
    }
}

/// What a context left out.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct CutView {
    /// Memories.
    pub memories: usize,
    /// Earlier messages.
    pub history_messages: usize,
    /// Files, of which there is nothing at all.
    pub files: usize,
}

/// How long an answer took.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TimingView {
    /// From the start of the attempt to the first piece, milliseconds.
    pub first_delta_ms: Option<u64>,
    /// From the start of the attempt to its end, milliseconds.
    pub total_ms: u64,
}

/// A session's whole state, live or not.
#[derive(Clone, Debug, Serialize)]
pub struct SessionState {
    /// Which session.
    pub session_id: Uuid,
    /// The number of its last event.
    pub head: i64,
    /// Whether an actor holds it now.
    pub live: bool,
    /// Whether new messages are refused.
    pub paused: bool,
    /// Its title.
    pub title: Option<String>,
    /// Who answers.
    pub persona_id: Option<String>,
    /// The node that owns it.
    pub owner: OwnerView,
    /// The actor's mailboxes.
    pub mailbox: MailboxView,
    /// What the actor knows.
    #[serde(flatten)]
    pub now: LiveState,
}

/// Who owns a session.
#[derive(Clone, Debug, Serialize)]
pub struct OwnerView {
    /// The node's name.
    pub node: Option<String>,
    /// The fence.
    pub epoch: i64,
    /// Until when.
    #[serde(with = "time::serde::rfc3339::option")]
    pub lease_until: Option<OffsetDateTime>,
}

/// How full an actor's ports are.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct MailboxView {
    /// Messages.
    pub posts: PortView,
    /// Stop, pause and the like.
    pub control: PortView,
    /// Subscriptions and inspections.
    pub inspect: PortView,
}

/// How full one port is.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct PortView {
    /// Admitted and not yet done.
    pub depth: usize,
    /// Most that are admitted.
    pub capacity: usize,
}
