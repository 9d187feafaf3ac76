//! What was said is written to memory before the reply goes out, where the settings say so.

use std::time::Duration;

use serde::Serialize;
use somaagent_actors::{
    domain::ids::SessionKey,
    outbox::{Cause, Outcome, WriteThrough},
};
use somaagent_supervision::Reply;
use tokio::time::Instant;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{door::Door, settings::WriteThroughSettings};

/// What became of a memory while the reply waited for it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MemoryReply {
    /// `remembered`, or `queued`: it will be.
    state: &'static str,
    /// Why it is only queued: `refused` or `unavailable` by the memory service, or `waiting`.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

impl From<Outcome> for MemoryReply {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Remembered => Self { state: "remembered", reason: None },
            Outcome::Queued(cause) => Self { state: "queued", reason: Some(cause.as_str()) },
        }
    }
}

/// Has the memory of a stored event written, and waits for it unless that happens in the background.
pub(super) async fn write_through(
    door: &Door,
    settings: &WriteThroughSettings,
    key: SessionKey,
    event_id: Uuid,
    path: &'static str,
) -> Option<MemoryReply> {
    if !settings.enabled {
        return None;
    }
    let within = Duration::from_millis(settings.timeout_ms);
    if settings.background {
        written_soon(door, key, event_id.to_string(), path, within);
        return None;
    }
    Some(written(door, key, event_id.to_string(), path, within).await)
}

/// Has a memory that is in its queue written, and waits for nothing.
pub(super) fn written_soon(door: &Door, key: SessionKey, memory_id: String, path: &'static str, within: Duration) {
    let until = Instant::now() + within;
    let ask = |reply| WriteThrough { key, memory_id, path, until, reply };
    let (reply, _nobody_waits) = Reply::pair();
    if door.write_through.tell(ask(reply)).is_err() {
        tracing::debug!(path, "a memory is not written at once: it waits in its queue");
    }
}

/// Has a memory that is in its queue written, and waits for it.
pub(super) async fn written(
    door: &Door,
    key: SessionKey,
    memory_id: String,
    path: &'static str,
    within: Duration,
) -> MemoryReply {
    let until = Instant::now() + within;
    let ask = |reply| WriteThrough { key, memory_id, path, until, reply };
    // Whatever keeps the answer away, the memory is in its queue.
    door.write_through.call(ask, within).await.unwrap_or(Outcome::Queued(Cause::Waiting)).into()
}
