//! Memories that somebody waits for: the reply to a message says whether what it said is remembered already.

use std::collections::HashMap;

use actix::Message;
use somaagent_supervision::{InFlight, Reply};
use tokio::time::Instant;

use super::metrics::MemorySyncMetrics;
use crate::{
    domain::ids::{SessionKey, Tenant},
    somabrain::messages::BrainError,
};

/// Asks to write what waits of a session now, and to tell what became of one memory. May be sent by the front door
/// once the memory is in its queue. Safe to repeat.
#[derive(Message)]
#[rtype(result = "()")]
pub struct WriteThrough {
    /// The session.
    pub key: SessionKey,
    /// The memory's id, that of its event as a rule.
    pub memory_id: String,
    /// The template of the route that was asked, for the metrics.
    pub path: &'static str,
    /// After that nobody is interested any more.
    pub until: Instant,
    /// Where the answer goes.
    pub reply: Reply<Outcome>,
}

/// What became of a memory. It is never lost: what is not remembered yet waits in its queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The memory service has it.
    Remembered,
    /// It is in the queue.
    Queued(Cause),
}

/// Why a memory is still in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The memory service does not take it as it is.
    Refused,
    /// The memory service does not work.
    Unavailable,
    /// It waits for an earlier memory of its session, or nobody knows yet.
    Waiting,
}

impl Cause {
    /// Its name in replies.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Waiting => "waiting",
        }
    }
}

impl From<&BrainError> for Cause {
    fn from(error: &BrainError) -> Self {
        match error {
            BrainError::Refused { .. } => Self::Refused,
            BrainError::Unavailable { .. } => Self::Unavailable,
            BrainError::TimedOut { .. } | BrainError::Broken { .. } => Self::Waiting,
        }
    }
}

impl Outcome {
    /// The original's label.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Remembered => "ok",
            Self::Queued(Cause::Refused) => "client_error",
            Self::Queued(Cause::Unavailable) => "server_error",
            Self::Queued(Cause::Waiting) => "exception",
        }
    }
}

struct Waiter {
    path: &'static str,
    until: Instant,
    reply: Reply<Outcome>,
    in_flight: InFlight,
}

/// Who waits for which memory.
#[derive(Default)]
pub(super) struct Waiters {
    by_memory: HashMap<(Tenant, String), Vec<Waiter>>,
}

impl Waiters {
    pub(super) fn add(&mut self, ask: WriteThrough, in_flight: InFlight) {
        let WriteThrough { key, memory_id, path, until, reply } = ask;
        self.by_memory.entry((key.tenant, memory_id)).or_default().push(Waiter { path, until, reply, in_flight });
    }

    /// Tells everybody who waits for a memory.
    pub(super) fn tell(&mut self, memory: &(Tenant, String), outcome: Outcome, metrics: &MemorySyncMetrics) {
        for Waiter { path, reply, in_flight, .. } in self.by_memory.remove(memory).into_iter().flatten() {
            metrics.written_through(path, outcome);
            // The place first: an asker that has its answer finds the room again.
            drop(in_flight);
            reply.send(outcome);
        }
    }

    /// Forgets those who gave up: the memory is under way in another process, or will be written later.
    pub(super) fn expire(&mut self, now: Instant, metrics: &MemorySyncMetrics) {
        self.by_memory.retain(|_, waiters| {
            for late in waiters.extract_if(.., |waiter| waiter.until <= now) {
                metrics.written_through(late.path, Outcome::Queued(Cause::Waiting));
            }
            !waiters.is_empty()
        });
    }
}
