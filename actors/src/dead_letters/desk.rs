//! The door's handle to dead letters.

use std::time::Duration;

use serde_json::Value;
use somaagent_supervision::Port;
use uuid::Uuid;

use super::{
    messages::{CancelJob, ChangeError, Discard, Job, LetterFilter, Purge, Reprocess, ReprocessAll},
    queries::LetterReads,
};
use crate::domain::caller::Caller;

/// Longest wait for a change.
const WITHIN: Duration = Duration::from_secs(12);

/// The ways to the keeper.
#[derive(Clone)]
pub struct Ports {
    /// Sends one again.
    pub reprocess: Port<Reprocess>,
    /// Sends many again.
    pub reprocess_all: Port<ReprocessAll>,
    /// Ends an order before its time.
    pub cancel: Port<CancelJob>,
    /// Deletes one.
    pub discard: Port<Discard>,
    /// Deletes all of a topic.
    pub purge: Port<Purge>,
}

/// Reads and changes dead letters. A cheap handle.
#[derive(Clone)]
pub struct DeadLetters {
    /// Reads.
    pub reads: LetterReads,
    ports: Ports,
}

impl DeadLetters {
    /// A handle to the keeper behind `ports`.
    #[must_use]
    pub const fn new(reads: LetterReads, ports: Ports) -> Self {
        Self { reads, ports }
    }

    /// Sends a letter again, as it is or as `event`, and returns the topic it goes to.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn reprocess(
        &self,
        caller: Caller,
        topic: String,
        id: i64,
        event: Option<Value>,
    ) -> Result<String, ChangeError> {
        self.ports.reprocess.call(|reply| Reprocess { caller, topic, id, event, reply }, WITHIN).await?
    }

    /// Begins to send all matching letters again, at most `max_letters`.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn reprocess_all(
        &self,
        caller: Caller,
        topic: String,
        filter: LetterFilter,
        max_letters: i64,
    ) -> Result<Job, ChangeError> {
        let ask = |reply| ReprocessAll { caller, topic, filter, max_letters, reply };
        self.ports.reprocess_all.call(ask, WITHIN).await?
    }

    /// Ends an order before its time and returns it as it is then.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn cancel(&self, caller: Caller, topic: String, id: Uuid) -> Result<Job, ChangeError> {
        self.ports.cancel.call(|reply| CancelJob { caller, topic, id, reply }, WITHIN).await?
    }

    /// Deletes a letter.
    ///
    /// # Errors
    /// [`ChangeError`].
    pub async fn discard(&self, caller: Caller, topic: String, id: i64) -> Result<(), ChangeError> {
        self.ports.discard.call(|reply| Discard { caller, topic, id, reply }, WITHIN).await?
    }

    /// Deletes the letters of a topic that `token` confirms, and returns how many they were.
    ///
    /// # Errors
    /// [`ChangeError`], `Unconfirmed` with the right token where this one is not.
    pub async fn purge(&self, caller: Caller, topic: String, token: Option<String>) -> Result<u64, ChangeError> {
        self.ports.purge.call(|reply| Purge { caller, topic, token, reply }, WITHIN).await?
    }
}
