//! A memory is taken back.

use actix_web::web::{Data, Json};
use serde::Serialize;
use serde_json::json;
use somaagent_actors::{
    conversation::queries::StoreError,
    memory::deletion::{AtTheService, Forgotten},
};
use utoipa::ToSchema;

use crate::{
    door::Door,
    extract::{By, MemoryId},
    problem::{Code, Problem},
};

/// What became of a memory that was to go.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MemoryDeletionReply {
    /// Whether it is gone here and at the memory service: false if that has no deletion.
    deleted: bool,
    /// What each part did.
    result: DeletionResult,
}

/// What each part did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletionResult {
    /// Rows of the replica that went.
    replica: usize,
    /// Writes that waited and went.
    queued: usize,
    /// Of these, writes that the memory service may have been working on: delete once more when they are over.
    under_way: usize,
    /// Records for the log that waited and went.
    unpublished: usize,
    /// Dead letters that went.
    dead_letters: usize,
    /// `queued`: the record that makes other replicas follow is on its way into the log.
    tombstone: &'static str,
    /// The memory service.
    brain: BrainDeletion,
}

/// What the memory service did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BrainDeletion {
    /// `deleted`, `unsupported` (the service has no deletion: what it remembers stays), or, in a problem, `failed`.
    state: &'static str,
    /// How many memories it deleted, if it says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<u64>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Deletes a memory of the tenant: its row of the replica, what waits to be written or sent, its dead letters, and the
/// memory itself where the memory service can do that. A record in the log makes other replicas follow. Safe to repeat; a memory
/// service that failed is asked again by the next try (502, with `result` as below).
#[utoipa::path(
    delete,
    path = "/v1/memory/{event_id}",
    tag = "memory",
    params(("event_id" = String, Path, description = "The memory's id")),
    responses((status = 200, description = "What each part did", body = MemoryDeletionReply)),
    extensions(
        ("x-action" = json!("memory.delete")),
        ("x-problems" = json!(["memory-not-found", "deletion-incomplete", "unavailable", "draining", "outcome-unknown"])),
    ),
)]
pub(crate) async fn delete_memory(
    door: Data<Door>,
    by: By,
    memory: MemoryId,
) -> Result<Json<MemoryDeletionReply>, Problem> {
    door.accepting()?;
    let (gone, service) = door.memories.delete(&by.caller(), memory.0).await.map_err(unknown)?;
    let (deleted, failed) = (matches!(service, AtTheService::Deleted(_)), matches!(service, AtTheService::Failed(_)));
    let result = result(&gone, service);
    if failed {
        return Err(Problem::new(Code::DeletionIncomplete).with("result", json!(result)));
    }
    Ok(Json(MemoryDeletionReply { deleted, result }))
}

fn result(gone: &Forgotten, service: AtTheService) -> DeletionResult {
    let brain = match service {
        AtTheService::Deleted(deleted) => BrainDeletion { state: "deleted", deleted, reason: None },
        AtTheService::Unsupported => BrainDeletion { state: "unsupported", deleted: None, reason: None },
        AtTheService::Failed(reason) => BrainDeletion { state: "failed", deleted: None, reason: Some(reason) },
    };
    let Forgotten { replica, queued, under_way, unpublished, dead_letters, .. } = *gone;
    DeletionResult { replica, queued, under_way, unpublished, dead_letters, tombstone: "queued", brain }
}

/// Of a change that broke off nobody knows whether it was done.
pub(super) fn unknown(error: StoreError) -> Problem {
    match error {
        StoreError::Interrupted(_) | StoreError::TimedOut => Problem::new(Code::OutcomeUnknown).caused_by(error),
        other => other.into(),
    }
}
