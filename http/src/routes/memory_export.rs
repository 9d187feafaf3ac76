//! Memories as one stream of lines.

use std::error::Error;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, CONTENT_DISPOSITION},
    web::{Bytes, Data},
};
use futures_util::{Stream, StreamExt as _, future::Either, stream};
use somaagent_actors::{
    conversation::queries::StoreError,
    memory::{jobs::Chunks, queries::Export},
};

use super::memory_filter::{MemorySelection, caught_up, export_of, min_offset, names_tenant};
use crate::{
    door::Door,
    extract::{By, Query},
    middleware::authorise::{Authorised, Ends},
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
pub(crate) async fn get_export(
    request: HttpRequest,
    door: Data<Door>,
    by: By,
    query: Query,
) -> Result<HttpResponse, Problem> {
    let (of, place) = (export_of(&query)?, min_offset(&query)?);
    names_tenant(&door, &of)?;
    door.accepting()?;
    caught_up(&door, place).await?;
    let mut export = door.memories.export(&by.caller().tenant, of).await;
    let name = format!("memory_export_{}.ndjson", export.begun_at().unix_timestamp());
    // A failure so far is a problem; a later one can only break the stream off.
    let first = export.next().await?;
    Ok(attachment(&name).streaming(believed(&request, streamed(first, export))?))
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

/// `pieces` for as long as what the caller showed may be believed: then it breaks off.
pub(super) fn believed<S: Stream>(
    request: &HttpRequest,
    pieces: S,
) -> Result<impl Stream<Item = S::Item> + use<S>, Problem> {
    Ok(until(Authorised::of(request)?.ends, pieces))
}

/// `pieces` until what somebody showed ends, if it does.
pub(super) fn until<S: Stream>(ends: Option<Ends>, pieces: S) -> impl Stream<Item = S::Item> + use<S> {
    match ends {
        Some(ends) => Either::Left(pieces.take_until(Box::pin(ends.reached()))),
        None => Either::Right(pieces),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use std::time::Duration;

    use actix_web::{HttpMessage as _, test::TestRequest};
    use somaagent_actors::domain::caller::Reach;
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_exported_ends_with_what_the_caller_showed() {
        let endless = || {
            stream::unfold(0, |n| async move {
                sleep(Duration::from_secs(1)).await;
                Some((n, n + 1))
            })
        };
        let request = TestRequest::default().to_http_request();
        assert!(believed(&request, endless()).is_err(), "nobody decided about it");
        let ends = Some(Ends::At(Instant::now() + Duration::from_millis(3_500)));
        let decision = String::new();
        request.extensions_mut().insert(Authorised { identity: None, reach: Reach::Tenant, decision, ends });
        let sent: Vec<i32> = believed(&request, endless()).unwrap().collect().await;
        assert_eq!(sent, [0, 1, 2]);
    }
}
