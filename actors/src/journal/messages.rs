//! What may be asked of the Journal.

use actix::Message;
use somaagent_supervision::Reply;

use crate::domain::append::{Append, Outcome};

/// Makes one step of a session's history durable. Sent by that session's conversation, which has at most one under way.
///
/// Repeating a step is safe: its compare-and-set holds once. An asker that gets no answer must treat the step as
/// [`Outcome::Unknown`].
#[derive(Message)]
#[rtype(result = "()")]
pub struct Commit {
    /// The step.
    pub append: Append,
    /// Answered when the step is durable, refused, or in doubt.
    pub reply: Reply<Outcome>,
}
