//! What may be asked of SomaBrain, and what comes back.
//!
//! Every ask carries its own reply, because many are under way at a time. All of them are reads and safe to repeat.

use std::time::Duration;

use actix::Message;
use serde_json::{Map, Value};
use somaagent_supervision::Reply;
use tokio::time::Instant;
use uuid::Uuid;

pub use super::health::{HealthReader, HealthReport, HealthState};
use super::wire::Endpoint;
use crate::domain::{ids::Tenant, memory::MemorySpace};

/// Asks for the memories nearest to a text. May be sent by conversations.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Recall {
    /// The text; what a person just wrote, as a rule.
    pub query: String,
    /// Whose memories; nothing of another tenant is ever returned.
    pub tenant: Tenant,
    /// Which universe and which namespace.
    pub space: MemorySpace,
    /// How many at most, 1 to 50; other numbers are moved to the nearer end.
    pub top_k: u32,
    /// The session the text belongs to. A hint for the server, no filter.
    pub session_id: Uuid,
    /// Sent as `X-Request-ID`, so that the server's log can be joined with ours.
    pub correlation_id: Uuid,
    /// Sent as the header of this name (W3C Trace Context) if there is one.
    pub traceparent: Option<String>,
    /// Covers everything: waiting for a free place, all attempts, and the waits between them.
    pub deadline: Instant,
    /// Where the answer goes.
    pub reply: Reply<Result<Recalled, BrainError>>,
}

/// Asks how the server is, now. Probes run at a time are one: later askers get the answer of the probe under way.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CheckHealth {
    /// Where the answer goes; it comes within the settings' `health_timeout_ms`.
    pub reply: Reply<HealthReport>,
}

/// What a recall found.
#[derive(Debug, Clone, PartialEq)]
pub struct Recalled {
    /// The memories that have a text, in the server's order (best first).
    pub memories: Vec<Memory>,
    /// Items of the answer that had no text.
    pub skipped: usize,
    /// Whether the server said that it searched only a part of what it has.
    pub degraded: bool,
    /// From the mailbox's door to the answer, waits included.
    pub took: Duration,
    /// Members of the answer that have no field here, unchanged.
    pub rest: Map<String, Value>,
}

/// One recalled memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Memory {
    /// What is remembered, as text.
    pub text: String,
    /// How near it is, as the server sees it; 0.5 when the server does not say.
    pub score: f64,
    /// Where in the server it was found: its `source`, else its layer.
    pub source: Option<String>,
    /// The server's name for its place; three numbers as a rule.
    pub coordinate: Option<Vec<f64>>,
    /// The item as it came, for what has no field here.
    pub item: Value,
}

/// Why SomaBrain gave no usable answer; variants by what the caller can do. None holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum BrainError {
    /// The server cannot be reached, is not well, or is left alone for a while. Go on without it, or come back later.
    #[error("SomaBrain request {endpoint} failed: {reason}")]
    Unavailable {
        /// What was asked.
        endpoint: Endpoint,
        /// Status and detail, or what became of the connection.
        reason: String,
        /// When to come back, if that is known.
        retry_after: Option<Duration>,
    },
    /// The deadline passed first. Whether the server did anything is unknown.
    #[error("SomaBrain request {endpoint} failed: no answer in time")]
    TimedOut {
        /// What was asked.
        endpoint: Endpoint,
    },
    /// The server will not do this; the same again is refused again.
    #[error("SomaBrain request {endpoint} failed: {status} {detail}")]
    Refused {
        /// What was asked.
        endpoint: Endpoint,
        /// The HTTP status, 400 to 499.
        status: u16,
        /// The server's `detail`, else its body, shortened.
        detail: String,
    },
    /// The server answered something that this client cannot read: one of the two must be mended.
    #[error("SomaBrain request {endpoint} failed: {reason}")]
    Broken {
        /// What was asked.
        endpoint: Endpoint,
        /// What is wrong with the answer.
        reason: String,
    },
}
