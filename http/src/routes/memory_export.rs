//! Memories as one stream of lines.

use std::error::Error;

use actix_web::{
    HttpResponse,
    http::header::{CACHE_CONTROL, CONTENT_DISPOSITION},
    web::{Bytes, Data},
};
use futures_util::{Stream, StreamExt as _, stream};
use somaagent_actors::{
    conversation::queries::StoreError,
    memory::{jobs::Chunks, queries::Export},
};

use super::memory_filter::{MemorySelection, caught_up, export_of, min_offset, names_tenant};
use crate::{
    door::Door,
    extract::{By, Query},
    openapi::shapes::ReplicaItem,
    problem::Problem,
};

/// The type of lines of JSON.
const NDJSON: &str = "application/x-ndjson";

/// Streams the tenant's memories, the newest row of the replica first, one JSON object a line. The last line,
/// `{"type":"trailer","rows","sha256","cursor"}`, has the number of lines before it and the SHA-256 of their bytes; a
/// download without it is broken and goes on with `after`, the last `id` that it received. `cursor` is the `after` of the
/// next export if this one ended by its limit. At most so many exports as configured run at a time; others wait.
#[utoipa::path(
    get,
    path = "/v1/memory/export",
    tag = "memory",
    params(
        MemorySelection,
        ("limit_total" = Option<i64>, Query, minimum = 1, description = "Most rows"),
    ),
    responses((
        status = 200,
        description = "The lines, as the attachment `memory_export_<seconds since 1970>.ndjson`",
        content_type = "application/x-ndjson",
        item_schema = ReplicaItem,
    )),
    extensions(
        ("x-action" = json!("memory.export")),
        ("x-problems" = json!(["tenant-required", "invalid-query", "replica-behind", "unavailable", "draining", "timeout"])),
    ),
)]
pub(crate) async fn get_export(door: Data<Door>, by: By, query: Query) -> Result<HttpResponse, Problem> {
    let (of, place) = (export_of(&query)?, min_offset(&query)?);
    names_tenant(&door, &of)?;
    door.accepting()?;
    caught_up(&door, place).await?;
    let mut export = door.memories.export(&by.caller().tenant, of).await;
    let name = format!("memory_export_{}.ndjson", export.begun_at().unix_timestamp());
    // A failure so far is a problem; a later one can only break the stream off.
    let first = export.next().await?;
    Ok(attachment(&name).streaming(streamed(first, export)))
}

/// The head of a reply that is saved as a file of lines.
pub(super) fn attachment(name: &str) -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .content_type(NDJSON)
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")));
    response
}

/// Lines that come a piece at a time.
pub(super) trait Pieces {
    /// The next piece, `None` after the last one.
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError>;
}

impl Pieces for Export {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        Self::next(self).await
    }
}

impl Pieces for Chunks {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        Self::next(self).await
    }
}

/// `first` and what comes behind it. A failure breaks the reply off.
pub(super) fn streamed(first: Option<Bytes>, rest: impl Pieces) -> impl Stream<Item = Result<Bytes, StoreError>> {
    let rest = stream::unfold(Some(rest), |rest| async move {
        let mut rest = rest?;
        match rest.next().await {
            Ok(piece) => piece.map(|piece| (Ok(piece), Some(rest))),
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "an export broke off");
                Some((Err(error), None))
            }
        }
    });
    stream::iter(first.map(Ok)).chain(rest)
}
