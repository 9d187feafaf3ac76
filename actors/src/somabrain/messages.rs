//! What may be asked of SomaBrain, and what comes back.
//!
//! Every ask carries its own reply, because many are under way at a time. All of them are safe to repeat: reads change
//! nothing, and of a memory written twice under one key the server keeps the newest value.

use std::time::Duration;

use actix::Message;
use serde_json::{Map, Value};
use somaagent_supervision::Reply;
use tokio::time::Instant;
use uuid::Uuid;

pub use super::consulting::Consult;
pub use super::deletion::{DeleteByKey, Deletion};
use super::endpoint::Endpoint;
pub use super::health::{HealthReader, HealthReport, HealthState};
pub use super::placement::{Arguments, placed};
use crate::domain::{ids::Tenant, memory::MemorySpace, trace_context::TraceContext};

/// Asks for the memories nearest to a text. May be sent by conversations.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Recall {
    /// The text; what a person just wrote, as a rule.
    pub query: String,
    /// Whose memories, and until when; nothing of another tenant is ever returned.
    pub asker: Asker,
    /// Which universe and which namespace.
    pub space: MemorySpace,
    /// How many at most, 1 to 50; other numbers are moved to the nearer end.
    pub top_k: u32,
    /// The session the text belongs to. A hint for the server, no filter.
    pub session_id: Uuid,
    /// Where the answer goes.
    pub reply: Reply<Result<Recalled, BrainError>>,
}

/// On whose behalf an ask is made, and for how long its answer is of use.
#[derive(Debug, Clone)]
pub struct Asker {
    /// Whose memories; sent as the tenant's header and, where the call has one, in the body.
    pub tenant: Tenant,
    /// Sent as `X-Request-ID`, so that the server's log can be joined with ours.
    pub correlation_id: Uuid,
    /// Sent as the headers `traceparent` and `tracestate` if there is one.
    pub trace: Option<TraceContext>,
    /// Covers everything: waiting for a free place, all attempts, and the waits between them.
    pub deadline: Instant,
}

/// A memory to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryWrite {
    /// What the server knows the memory by: written again under the same key, the newest value is kept. Not empty.
    pub key: String,
    /// The memory, a JSON object. Its `universe` is filled in where it has none.
    pub value: Value,
    /// Optional members of the server's request beside these, as they are: `ttl_seconds`, `importance`, `novelty`,
    /// `tags`, `policy_tags`, `trace_id`. A member that this client sets itself is not taken from here.
    pub extra: Map<String, Value>,
}

impl MemoryWrite {
    /// A memory without optional members.
    #[must_use]
    pub fn new(key: impl Into<String>, value: Value) -> Self {
        Self { key: key.into(), value, extra: Map::new() }
    }
}

/// Asks to write one memory. May be sent by whoever keeps what is to be written until the answer is good.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Remember {
    /// Whose memory, and until when.
    pub asker: Asker,
    /// Which universe and which namespace.
    pub space: MemorySpace,
    /// The memory.
    pub memory: MemoryWrite,
    /// Where the answer goes. Anything but `Ok` may still have been written.
    pub reply: Reply<Result<Remembered, BrainError>>,
}

/// Asks to write several memories of one tenant and space at once. The current server takes all or none of them; on one
/// without batches they are written one by one in order, and an error may leave the first of them written.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RememberBatch {
    /// Whose memories, and until when.
    pub asker: Asker,
    /// Which universe and which namespace.
    pub space: MemorySpace,
    /// The memories, in the order of writing. Nothing is sent for none.
    pub memories: Vec<MemoryWrite>,
    /// Where the answer goes: as many results as memories, in their order.
    pub reply: Reply<Result<Vec<Remembered>, BrainError>>,
}

/// What the server says of a written memory.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Remembered {
    /// The place the server gave it; three numbers as a rule.
    pub coordinate: Option<Vec<f64>>,
    /// The trace id that was sent, if one was.
    pub trace_id: Option<String>,
    /// The server's name for the request.
    pub request_id: Option<String>,
    /// Whether the server says that it knew the memory. The servers of today never do.
    pub deduplicated: bool,
    /// What did not go as it should, in the server's words.
    pub warnings: Vec<String>,
    /// Members of the answer that have no field here, unchanged.
    pub rest: Map<String, Value>,
}

impl Remembered {
    /// The coordinate as text, `x,y,z`: the form of the replica and of the admin API.
    #[must_use]
    pub fn coordinate_text(&self) -> Option<String> {
        let coordinate = self.coordinate.as_ref().filter(|numbers| !numbers.is_empty())?;
        Some(coordinate.iter().map(f64::to_string).collect::<Vec<_>>().join(","))
    }
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

impl BrainError {
    /// The fixed lower-case word for metrics.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "unavailable",
            Self::TimedOut { .. } => "timed_out",
            Self::Refused { .. } => "refused",
            Self::Broken { .. } => "broken",
        }
    }

    /// Whether the same ask may go better later.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::TimedOut { .. })
    }
}
