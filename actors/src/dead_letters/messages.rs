//! What may be asked of the keeper of dead letters. May be sent by the door.
//!
//! Every ask carries its own reply. A change whose answer was lost may be asked for again: what is done is not done twice.

use actix::Message;
use serde_json::Value;
use somaagent_supervision::{AskError, Reply};
use uuid::Uuid;

use crate::domain::caller::Caller;
pub use crate::store::{StoreError, dead_letters::browse::LetterFilter, dlq_jobs::Job};

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The caller's tenant has no such letter; it may have been dealt with.
    #[error("no such dead letter")]
    NotFound,
    /// The caller's tenant has no such order.
    #[error("no such order")]
    NoSuchJob,
    /// The letter cannot be sent like this.
    #[error("the record {0}")]
    Unusable(String),
    /// A later version of its memory is known, which the letter would undo.
    #[error("a later version of its memory is known")]
    Superseded,
    /// Nobody has said that exactly these letters may go: `token` says it.
    #[error("{letters} letters would be deleted")]
    Unconfirmed {
        /// What confirms it.
        token: String,
        /// How many letters it lets go.
        letters: i64,
    },
    /// The keeper did not answer.
    #[error("the keeper of dead letters did not answer")]
    Ask(#[from] AskError),
    /// The database did not do it, or not for certain.
    #[error("the change could not be stored")]
    Store(#[from] StoreError),
}

/// Asks to send one letter again.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Reprocess {
    /// Who asks.
    pub caller: Caller,
    /// The dead-letter topic.
    pub topic: String,
    /// The letter's number.
    pub id: i64,
    /// What to send in place of the record; it must name no other tenant.
    pub event: Option<Value>,
    /// The answer: the topic the record goes to.
    pub reply: Reply<Result<String, ChangeError>>,
}

/// Asks to send all letters again that match and are there now, oldest first. The work goes on by itself.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ReprocessAll {
    /// Who asks.
    pub caller: Caller,
    /// The dead-letter topic.
    pub topic: String,
    /// Which letters.
    pub filter: LetterFilter,
    /// At most so many.
    pub max_letters: i64,
    /// The answer: the order, which can be looked at by its id.
    pub reply: Reply<Result<Job, ChangeError>>,
}

/// Asks to end an order before its time. What it has sent stays sent.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CancelJob {
    /// Who asks.
    pub caller: Caller,
    /// The dead-letter topic.
    pub topic: String,
    /// The order.
    pub id: Uuid,
    /// The answer: the order as it is then; one that was over is as it was.
    pub reply: Reply<Result<Job, ChangeError>>,
}

/// Asks to delete one letter.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Discard {
    /// Who asks.
    pub caller: Caller,
    /// The dead-letter topic.
    pub topic: String,
    /// The letter's number.
    pub id: i64,
    /// The answer.
    pub reply: Reply<Result<(), ChangeError>>,
}

/// Asks to delete all letters of a topic.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Purge {
    /// Who asks.
    pub caller: Caller,
    /// The dead-letter topic.
    pub topic: String,
    /// The token of [`ChangeError::Unconfirmed`]; nothing is deleted without it, and nothing that came after it.
    pub token: Option<String>,
    /// The answer: how many were deleted.
    pub reply: Reply<Result<u64, ChangeError>>,
}
