//! What is remembered, as the replica has it.

use actix_web::web::{Data, Json};
use serde::Serialize;
use somaagent_actors::memory::queries::MemoryItem;
use utoipa::ToSchema;

use super::memory_filter::{MemorySelection, caught_up, filter, min_offset};
use crate::{
    door::Door,
    extract::{By, MemoryId, Query},
    openapi::shapes::ReplicaItem,
    problem::{Code, Problem},
};

const MAX_LIMIT: i64 = 200;
const DEFAULT_LIMIT: i64 = 50;

/// A page of memories.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MemoriesReply {
    /// The memories, descending by `id`.
    #[schema(value_type = Vec<ReplicaItem>)]
    items: Vec<MemoryItem>,
    /// The last `id` of the page; null on an empty page.
    next_cursor: Option<i64>,
}

/// Lists the tenant's memories, the newest row of the replica first. Large memories make a shorter page; an empty one is
/// the end.
#[utoipa::path(
    get,
    path = "/v1/admin/memory",
    tag = "memory",
    params(
        MemorySelection,
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 200, description = "Page size (50)"),
    ),
    responses((status = 200, description = "A page of memories", body = MemoriesReply)),
    extensions(
        ("x-action" = json!("memory.read")),
        ("x-problems" = json!(["invalid-query", "replica-behind", "unavailable", "timeout"])),
    ),
)]
pub(crate) async fn get_memories(door: Data<Door>, by: By, query: Query) -> Result<Json<MemoriesReply>, Problem> {
    let filter = filter(&query)?;
    let (after, limit) = (query.after()?, query.limit(MAX_LIMIT, DEFAULT_LIMIT)?);
    caught_up(&door, min_offset(&query)?).await?;
    let items = door.memories.list(&by.caller().tenant, filter, after, limit).await?;
    let next_cursor = items.last().map(|item| item.id);
    Ok(Json(MemoriesReply { items, next_cursor }))
}

/// One memory of the tenant.
#[utoipa::path(
    get,
    path = "/v1/admin/memory/{event_id}",
    tag = "memory",
    params(
        ("event_id" = String, Path, description = "The memory's id"),
        ("min_offset" = Option<String>, Query, pattern = "^[0-9]{1,9}:[0-9]{1,18}$", description = "`<partition>:<offset>`: waits until the replica has applied that record"),
    ),
    responses((status = 200, description = "The memory", body = ReplicaItem)),
    extensions(
        ("x-action" = json!("memory.read")),
        ("x-problems" = json!(["memory-not-found", "invalid-query", "replica-behind", "unavailable", "timeout"])),
    ),
)]
pub(crate) async fn get_memory(
    door: Data<Door>,
    by: By,
    memory: MemoryId,
    query: Query,
) -> Result<Json<MemoryItem>, Problem> {
    caught_up(&door, min_offset(&query)?).await?;
    let found = door.memories.find(&by.caller().tenant, memory.0).await?;
    found.map(Json).ok_or_else(|| Code::MemoryNotFound.into())
}
