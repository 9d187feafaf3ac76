//! Sending dead letters of the caller's tenant again: one, one with another content, many.

use actix_web::{
    HttpResponse,
    http::header::LOCATION,
    web::{Data, Json},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use somaagent_actors::dead_letters::queries::Job;
use utoipa::ToSchema;
use uuid::Uuid;

use super::dead_letters::{CHANGING, filter};
use crate::{
    door::Door,
    extract::{By, JobId, JsonBody, LetterId, LetterTopic, Query},
    problem::{Code, Problem},
    wire::timestamp,
};

/// Most letters of one order.
const MAX_LETTERS: i64 = 1_000_000;
const DEFAULT_LETTERS: i64 = 10_000;

/// Where a dead letter went.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReprocessedReply {
    /// Always `reprocessed`.
    status: &'static str,
    /// The topic the record goes to; a memory goes there by way of the memory service.
    target: String,
    /// Whether it is there already: never, it waits its turn in a queue.
    published: bool,
    /// Whether it waits in a queue.
    enqueued: bool,
}

impl ReprocessedReply {
    const fn new(target: String) -> Self {
        Self { status: "reprocessed", target, published: false, enqueued: true }
    }
}

/// Sends a dead letter again as it is, back into the queue it came from. It is a dead letter no longer; if it fails again it
/// becomes one with its history. Sent twice, it goes once: the second time there is no such letter. One whose memory was
/// written anew since is refused, because it would undo that: send it with its content (PUT) if that is what you want.
#[utoipa::path(
    post,
    path = "/v1/admin/dlq/{topic}/{id}/reprocess",
    tag = "dead-letters",
    params(
        ("topic" = String, Path, description = "The dead-letter topic"),
        ("id" = i64, Path, minimum = 1, description = "The letter's number"),
    ),
    responses((status = 200, description = "It is on its way", body = ReprocessedReply)),
    extensions(
        ("x-action" = json!("admin.dlq.reprocess")),
        ("x-problems" = json!([&CHANGING[..], &[Code::DeadLetterNotFound, Code::LetterSuperseded, Code::InvalidBody]].concat())),
    ),
)]
pub(crate) async fn post_reprocess(
    door: Data<Door>,
    by: By,
    topic: LetterTopic,
    id: LetterId,
) -> Result<Json<ReprocessedReply>, Problem> {
    let target = door.dead_letters.reprocess(by.caller(), topic.0, id.0, None).await?;
    Ok(Json(ReprocessedReply::new(target)))
}

/// Another content for a dead letter.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct EditRequest {
    /// The whole record, in place of the one that failed. It must keep its tenant.
    #[schema(value_type = Object)]
    event: Map<String, Value>,
}

/// Sends a dead letter again with another content.
#[utoipa::path(
    put,
    path = "/v1/admin/dlq/{topic}/{id}/reprocess",
    tag = "dead-letters",
    params(
        ("topic" = String, Path, description = "The dead-letter topic"),
        ("id" = i64, Path, minimum = 1, description = "The letter's number"),
    ),
    request_body(content = EditRequest, content_type = "application/json"),
    responses((status = 200, description = "It is on its way", body = ReprocessedReply)),
    extensions(
        ("x-action" = json!("admin.dlq.edit")),
        ("x-problems" = json!([&CHANGING[..], &[Code::DeadLetterNotFound]].concat())),
    ),
)]
pub(crate) async fn put_reprocess(
    door: Data<Door>,
    by: By,
    topic: LetterTopic,
    id: LetterId,
    body: JsonBody<EditRequest>,
) -> Result<Json<ReprocessedReply>, Problem> {
    let event = Value::Object(body.fields.event);
    let target = door.dead_letters.reprocess(by.caller(), topic.0, id.0, Some(event)).await?;
    Ok(Json(ReprocessedReply::new(target)))
}

/// An order to send many dead letters again.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JobReply {
    /// Its id.
    job_id: Uuid,
    /// The dead-letter topic.
    topic: String,
    /// `running`, `completed` or `cancelled`.
    status: String,
    /// How many letters matched when it began.
    total: i64,
    /// How many were sent again.
    reprocessed: i64,
    /// How many could not be sent, or would undo a later version of their memory, and are still there.
    failed: i64,
    /// When it began, RFC 3339 in UTC.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it last went on, RFC 3339 in UTC.
    #[schema(format = DateTime)]
    updated_at: String,
}

impl From<Job> for JobReply {
    fn from(job: Job) -> Self {
        Self {
            job_id: job.id,
            topic: job.topic,
            status: job.status,
            total: job.total,
            reprocessed: job.reprocessed,
            failed: job.failed,
            created_at: timestamp(job.created_at),
            updated_at: timestamp(job.updated_at),
        }
    }
}

/// Begins to send all dead letters again that match and are there now, the oldest first. The order goes on by itself, also
/// after a restart; ask for its progress at `Location`.
#[utoipa::path(
    post,
    path = "/v1/admin/dlq/{topic}/reprocess",
    tag = "dead-letters",
    params(
        ("topic" = String, Path, description = "The dead-letter topic"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1_000_000, description = "At most so many (10000)"),
        ("error" = Option<String>, Query, description = "Part of the error, in either case"),
        ("since" = Option<String>, Query, format = DateTime, description = "Only what came then or later, RFC 3339"),
        ("until" = Option<String>, Query, format = DateTime, description = "Only what came before, RFC 3339"),
    ),
    responses((
        status = 202,
        description = "The order is taken",
        body = JobReply,
        headers(("Location" = String, description = "Where its progress is")),
    )),
    extensions(
        ("x-action" = json!("admin.dlq.reprocess")),
        ("x-problems" = json!([&CHANGING[..], &[Code::InvalidQuery]].concat())),
    ),
)]
pub(crate) async fn post_reprocess_all(
    door: Data<Door>,
    by: By,
    topic: LetterTopic,
    query: Query,
) -> Result<HttpResponse, Problem> {
    let (limit, filter) = (query.limit(MAX_LETTERS, DEFAULT_LETTERS)?, filter(&query)?);
    let job = door.dead_letters.reprocess_all(by.caller(), topic.0, filter, limit).await?;
    let place = format!("/v1/admin/dlq/{}/reprocess/{}", job.topic, job.id);
    Ok(HttpResponse::Accepted().insert_header((LOCATION, place)).json(JobReply::from(job)))
}

/// Shows how far an order is.
#[utoipa::path(
    get,
    path = "/v1/admin/dlq/{topic}/reprocess/{job_id}",
    tag = "dead-letters",
    params(
        ("topic" = String, Path, description = "The dead-letter topic"),
        ("job_id" = Uuid, Path, description = "The order"),
    ),
    responses((status = 200, description = "The order as it stands", body = JobReply)),
    extensions(
        ("x-action" = json!("admin.dlq.read")),
        ("x-problems" = json!(["not-found", "job-not-found", "unavailable", "timeout"])),
    ),
)]
pub(crate) async fn get_job(
    door: Data<Door>,
    by: By,
    topic: LetterTopic,
    job: JobId,
) -> Result<Json<JobReply>, Problem> {
    let job = door.dead_letters.reads.job(&by.caller().tenant, &topic.0, job.0).await?;
    Ok(Json(job.ok_or(Code::JobNotFound)?.into()))
}

/// Ends an order before its time: what it has sent stays sent, the other letters stay where they are. Of an order that is
/// over nothing changes. Safe to repeat.
#[utoipa::path(
    delete,
    path = "/v1/admin/dlq/{topic}/reprocess/{job_id}",
    tag = "dead-letters",
    params(
        ("topic" = String, Path, description = "The dead-letter topic"),
        ("job_id" = Uuid, Path, description = "The order"),
    ),
    responses((status = 200, description = "The order as it is now", body = JobReply)),
    extensions(
        ("x-action" = json!("admin.dlq.cancel")),
        ("x-problems" = json!([&CHANGING[..], &[Code::JobNotFound]].concat())),
    ),
)]
pub(crate) async fn delete_job(
    door: Data<Door>,
    by: By,
    topic: LetterTopic,
    job: JobId,
) -> Result<Json<JobReply>, Problem> {
    Ok(Json(door.dead_letters.cancel(by.caller(), topic.0, job.0).await?.into()))
}
