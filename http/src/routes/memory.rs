//! What is remembered, as the replica has it.

use actix_web::web::{Data, Json};
use serde::Serialize;
use somaagent_actors::memory::queries::{LogPlace, MemoryItem, Reached, ReplicaFilter};
use utoipa::ToSchema;

use crate::{
    door::Door,
    extract::{By, MemoryId, Query, bad},
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
        ("tenant" = Option<String>, Query, description = "The tenant; there is nothing of another one than the caller's"),
        ("persona_id" = Option<String>, Query, description = "The persona"),
        ("role" = Option<String>, Query, description = "Who said it"),
        ("session_id" = Option<String>, Query, description = "The session it comes from"),
        ("universe" = Option<String>, Query, description = "The memory's `metadata.universe_id`"),
        ("namespace" = Option<String>, Query, description = "The memory's `namespace`, else its `metadata.namespace`"),
        ("q" = Option<String>, Query, description = "Text that the memory's JSON contains, in either case"),
        ("min_ts" = Option<f64>, Query, description = "Told to the log then or later, in seconds since 1970"),
        ("max_ts" = Option<f64>, Query, description = "Told to the log then or earlier, in seconds since 1970"),
        ("after" = Option<i64>, Query, minimum = 0, description = "Only rows with a lower `id`"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 200, description = "Page size (50)"),
        ("min_offset" = Option<String>, Query, description = "`<partition>:<offset>`: waits until the replica has applied that record"),
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
    caught_up(&door, &query).await?;
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
        ("min_offset" = Option<String>, Query, description = "`<partition>:<offset>`: waits until the replica has applied that record"),
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
    caught_up(&door, &query).await?;
    let found = door.memories.find(&by.caller().tenant, memory.0).await?;
    found.map(Json).ok_or_else(|| Code::MemoryNotFound.into())
}

/// Which memories a query asks for.
pub(super) fn filter(query: &Query) -> Result<ReplicaFilter, Problem> {
    let text = |name| query.text(name).map(|text| text.map(str::to_owned));
    let time = |name| {
        let time = query.parsed::<f64>(name, "a number of seconds since 1970")?;
        if time.is_some_and(|time| !time.is_finite()) {
            return Err(bad(name, "must be a number of seconds since 1970"));
        }
        Ok(time)
    };
    Ok(ReplicaFilter {
        tenant: query.tenant()?.map(|tenant| tenant.to_string()),
        persona_id: text("persona_id")?,
        role: text("role")?,
        session_id: text("session_id")?,
        universe: text("universe")?,
        namespace: text("namespace")?,
        containing: text("q")?,
        min_ts: time("min_ts")?,
        max_ts: time("max_ts")?,
    })
}

/// Waits for the replica if the query asks for that: a writer reads its own writes.
pub(super) async fn caught_up(door: &Door, query: &Query) -> Result<(), Problem> {
    let Some(place) = query.parsed::<LogPlace>("min_offset", "<partition>:<offset>")? else { return Ok(()) };
    match door.memories.reached(place).await? {
        Reached::Yes => Ok(()),
        Reached::Behind(next) => Err(Problem::new(Code::ReplicaBehind).with("next_offset", next)),
    }
}
