//! How far a memory has come.

use actix_web::{HttpResponse, web::Data};
use somaagent_actors::memory::receipts::MemoryReceipt;

use crate::{
    door::Door,
    extract::{By, MemoryId, Prefer},
    openapi::shapes::Receipt,
    problem::{Code, Problem},
};

/// Why there may be no receipt.
const NONE: &str = "nothing is known of such a memory: it was never written, was taken back, is forgotten by the queues and not \
                    replicated yet, or belongs to an event of a kind that is not remembered, as all are but messages and \
                    answers with text";

/// How far a memory of the tenant has come: of one that was written more than once, its newest writing. With
/// `Prefer: wait=N` the reply waits up to N seconds, at most 30, for `replicated` or `dead`, unless too many wait already. What the queues know is kept as
/// long as they keep what they sent (`outbox.retention_ms`, `memory_sync.retention_ms`); what the replica has, and dead
/// letters, have no such end. A memory that was taken back has no receipt.
#[utoipa::path(
    get,
    path = "/v1/memory/{event_id}/receipt",
    tag = "memory",
    params(
        ("event_id" = String, Path, description = "The memory's id: that of the event which it comes from"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: wait up to N seconds, at most 30 (RFC 7240)"),
    ),
    responses((
        status = 200,
        description = "How far it is",
        body = Receipt,
        headers(("Preference-Applied" = String, description = "`wait=N`, if that was asked for and done")),
    )),
    extensions(
        ("x-action" = json!("memory.receipt")),
        ("x-problems" = json!(["memory-not-found", "unavailable", "timeout"])),
    ),
)]
pub(crate) async fn get_receipt(
    door: Data<Door>,
    by: By,
    memory: MemoryId,
    prefer: Prefer,
) -> Result<HttpResponse, Problem> {
    let caller = by.caller();
    let place = if prefer.wait().is_zero() { None } else { door.memories.place_to_wait() };
    // Where too many wait already, the wish is not granted, and the reply does not say that it was.
    let prefer = if place.is_some() { prefer } else { Prefer::default() };
    let receipt = door.memories.receipt(&caller, &memory.0, prefer.wait(), door.draining.begun()).await?;
    let receipt = receipt.ok_or_else(|| Problem::new(Code::MemoryNotFound).because(NONE))?;
    Ok(reply(&receipt, prefer))
}

fn reply(receipt: &MemoryReceipt, prefer: Prefer) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    if let Some(applied) = prefer.applied() {
        response.insert_header(applied);
    }
    response.json(receipt)
}
