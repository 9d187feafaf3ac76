//! A message before it is accepted.

use super::{event::Metadata, idempotency::Idempotency, turn::OnBusy};

/// Longest name of a persona, in characters.
pub const MAX_PERSONA_CHARS: usize = 128;

/// A reference to an attachment that the sender does not get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedReference {
    /// Where it is in what was sent.
    pub place: usize,
    /// What is the matter with it.
    pub why: &'static str,
}

/// A message as a person or program sent it. The door has checked its shape and sizes.
#[derive(Clone, Debug, Default)]
pub struct MessageDraft {
    /// The text, without U+0000.
    pub message: String,
    /// Who shall answer, from now on.
    pub persona_id: Option<String>,
    /// References to attachments.
    pub attachments: Vec<String>,
    /// The first of them that leads nowhere. Only a new message is refused for it: when it is sent again, it may have led
    /// somewhere the first time.
    pub refused: Option<RefusedReference>,
    /// Details, the client's own and those from headers and token.
    pub metadata: Metadata,
    /// The number of the last event the client has seen, if it wants to be told of later ones first.
    pub expected_head: Option<i64>,
    /// What to do when the session is answering something else.
    pub on_busy: OnBusy,
    /// Set when the request may be sent again.
    pub idempotency: Option<Idempotency>,
}
