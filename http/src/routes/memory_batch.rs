//! Many memories at once.

use std::time::Duration;

use actix_web::web::{Data, Json};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use somaagent_actors::{
    memory::writes::{Enqueued, NotTaken},
    outbox::{Cause, Outcome},
};
use utoipa::ToSchema;

use super::{
    memory_deletion::unknown,
    write_through::{MemoryReply, written},
};
use crate::{
    door::Door,
    extract::{By, JsonBody},
    problem::{Code, Problem},
    settings::DoorSettings,
};

/// The template of the route, for the metrics.
const PATH: &str = "/v1/memory/batch";

/// Memories to be written.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct MemoryBatch {
    /// Each of them is to be a JSON object: `id` (made from the rest where it is missing), `content`, `role`, `session_id`, `persona_id`,
    /// `namespace`, `metadata`, and what else is to be kept.
    #[schema(value_type = Vec<Value>)]
    items: Vec<Value>,
}

/// What became of each item, in their order.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MemoryBatchReply {
    /// The items.
    items: Vec<BatchItemReply>,
}

/// What became of one item.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BatchItemReply {
    /// The memory's id.
    id: Option<String>,
    /// Whether it is kept: it is remembered, or will be.
    ok: bool,
    /// How far it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<MemoryReply>,
    /// Why it is not kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

/// Writes memories. They are put into their queue together and then written at once, as far as that goes in the time that
/// `write_through.timeout_ms` allows. An item that can be no memory is left out and changes nothing. Safe to send again: a
/// memory is known by its id.
#[utoipa::path(
    post,
    path = "/v1/memory/batch",
    tag = "memory",
    request_body = MemoryBatch,
    responses((status = 200, description = "What became of each item", body = MemoryBatchReply)),
    extensions(
        ("x-action" = json!("memory.write")),
        ("x-problems" = json!(["too-many-items", "unavailable", "draining", "outcome-unknown"])),
    ),
)]
pub(crate) async fn post_batch(
    door: Data<Door>,
    settings: Data<DoorSettings>,
    by: By,
    body: JsonBody<MemoryBatch>,
) -> Result<Json<MemoryBatchReply>, Problem> {
    let (items, most) = (body.fields.items, door.memories.settings().batch_max_items);
    if items.len() > most {
        return Err(Problem::new(Code::TooManyItems).because(format!("Too many items (>{most})")));
    }
    door.accepting()?;
    let judged = door.memories.enqueue(&by.caller(), items).await.map_err(unknown)?;
    let within = Duration::from_millis(settings.write_through.timeout_ms);
    let items = join_all(judged.into_iter().map(|item| reply(&door, item, within))).await;
    Ok(Json(MemoryBatchReply { items }))
}

async fn reply(door: &Door, item: Result<Enqueued, NotTaken>, within: Duration) -> BatchItemReply {
    match item {
        Ok(Enqueued { id, lane, behind }) => {
            let written = async || written(door, lane, id.clone(), PATH, within).await;
            // Who waits for an id is told of its first version that waits.
            let result = Some(if behind { Outcome::Queued(Cause::Waiting).into() } else { written().await });
            BatchItemReply { id: Some(id), ok: true, result, error: None }
        }
        Err(NotTaken { id, why }) => BatchItemReply { id, ok: false, result: None, error: Some(why) },
    }
}
