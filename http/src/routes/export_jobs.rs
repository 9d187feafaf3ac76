//! Exports of memories that go on by themselves, and whose results are fetched later.

use actix_web::{
    HttpRequest, HttpResponse,
    body::SizedStream,
    http::header::{ETAG, LOCATION},
    web::{Data, Json},
};
use serde::Serialize;
use serde_json::{Value, json};
use somaagent_actors::{domain::hex::hex, memory::jobs::ExportJob};
use utoipa::ToSchema;

use super::{
    memory_deletion::unknown,
    memory_export::{attachment, believed, streamed},
    memory_filter::{MemorySelection, caught_up, names_tenant},
};
use crate::{
    door::Door,
    extract::{By, ExportJobId, JsonBody, Query},
    openapi::shapes::ReplicaItem,
    problem::{Code, Problem},
    wire::timestamp,
};

const MAX_LIMIT: i64 = 200;
const DEFAULT_LIMIT: i64 = 50;

/// A job that was taken.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExportOrderedReply {
    /// Its number.
    job_id: i64,
    /// Always `queued`.
    status: &'static str,
}

/// An export job.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExportJobReply {
    /// Its number.
    id: i64,
    /// `queued`, `running`, `completed`, `failed`, `cancelled`, or `expired`: it was completed, and its result is gone.
    status: String,
    /// Rows so far.
    row_count: i64,
    /// Rows that it will have; null as long as that is not known.
    total: Option<i64>,
    /// Bytes so far; of a completed job those of its result.
    byte_size: i64,
    /// SHA-256 of the result in hexadecimal digits.
    sha256: Option<String>,
    /// Of a completed job: the `after` of the next one, if this one ended by its limit.
    cursor: Option<i64>,
    /// Why it failed: `result-too-large`, `no-progress` or `unreadable`.
    error_code: Option<String>,
    /// Why it failed, or why its last try did.
    error: Option<String>,
    /// Where its result is, if it is there.
    download_url: Option<String>,
    /// Which memories it is about, by the names of the order.
    #[schema(value_type = Object)]
    params: Value,
    /// Most rows.
    limit_total: i64,
    /// When it was ordered, RFC 3339 in UTC.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it began.
    #[schema(format = DateTime)]
    started_at: Option<String>,
    /// When it was over.
    #[schema(format = DateTime)]
    ended_at: Option<String>,
    /// Until when its result is kept.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

impl From<ExportJob> for ExportJobReply {
    fn from(job: ExportJob) -> Self {
        let (here, gone) = (job.status == "completed", job.status == "expired");
        Self {
            id: job.id,
            row_count: job.row_count,
            total: job.total,
            byte_size: job.byte_size,
            sha256: job.sha256.map(|sum| hex(&sum)),
            cursor: job.cursor.filter(|_| here || gone),
            error_code: job.error_code,
            error: job.error,
            download_url: here.then(|| format!("{}/download", place(job.id))),
            params: json!(job.filter.0),
            limit_total: job.max_rows,
            created_at: timestamp(job.created_at),
            started_at: job.started_at.map(timestamp),
            ended_at: job.ended_at.map(timestamp),
            expires_at: job.expires_at.map(timestamp),
            status: job.status,
        }
    }
}

/// The path of a job.
fn place(id: i64) -> String {
    format!("/v1/memory/export/jobs/{id}")
}

/// Orders an export of the tenant's memories, which goes on by itself, also after a restart; ask for its progress at
/// `Location`. Its result is what `GET /v1/memory/export` would stream. It is kept for a day, or as long as configured, as
/// it was found: memories that are deleted later are still in it.
#[utoipa::path(
    post,
    path = "/v1/memory/export/jobs",
    tag = "memory",
    request_body(content = MemorySelection, content_type = "application/json"),
    responses((
        status = 202,
        description = "The job is taken",
        body = ExportOrderedReply,
        headers(("Location" = String, description = "Where its progress is")),
    )),
    extensions(
        ("x-action" = json!("memory.export")),
        ("x-problems" = json!([
            "tenant-required", "too-many-exports", "replica-behind", "unavailable", "draining", "timeout", "outcome-unknown",
        ])),
    ),
)]
pub(crate) async fn post_export_job(
    door: Data<Door>,
    by: By,
    body: JsonBody<MemorySelection>,
) -> Result<HttpResponse, Problem> {
    let caller = by.of_tenant(body.fields.tenant()?)?;
    let (of, place_in_log) = body.fields.export_of()?;
    names_tenant(&door, &of)?;
    door.accepting()?;
    caught_up(&door, place_in_log).await?;
    let job_id = door.export_jobs.order(&caller, of).await.map_err(unknown)?.ok_or(Code::TooManyExports)?;
    let reply = ExportOrderedReply { job_id, status: "queued" };
    Ok(HttpResponse::Accepted().insert_header((LOCATION, place(job_id))).json(reply))
}

/// A page of export jobs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExportJobsReply {
    /// The jobs, descending by `id`.
    items: Vec<ExportJobReply>,
    /// The last `id` of the page; null on an empty page.
    next_cursor: Option<i64>,
}

/// Lists the tenant's export jobs, the newest first. A job that is over is shown for a week, or as long as configured.
#[utoipa::path(
    get,
    path = "/v1/memory/export/jobs",
    tag = "memory",
    params(
        ("after" = Option<i64>, Query, minimum = 0, description = "Only jobs with a lower `id`"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 200, description = "Page size (50)"),
    ),
    responses((status = 200, description = "A page of jobs", body = ExportJobsReply)),
    extensions(
        ("x-action" = json!("memory.export.read")),
        ("x-problems" = json!(["invalid-query", "unavailable", "timeout"])),
    ),
)]
pub(crate) async fn get_export_jobs(door: Data<Door>, by: By, query: Query) -> Result<Json<ExportJobsReply>, Problem> {
    let (after, limit) = (query.after()?, query.limit(MAX_LIMIT, DEFAULT_LIMIT)?);
    let jobs = door.export_jobs.list(&by.caller().tenant, after, limit).await?;
    let next_cursor = jobs.last().map(|job| job.id);
    Ok(Json(ExportJobsReply { items: jobs.into_iter().map(ExportJobReply::from).collect(), next_cursor }))
}

/// Shows how far an export job is.
#[utoipa::path(
    get,
    path = "/v1/memory/export/jobs/{job_id}",
    tag = "memory",
    params(("job_id" = i64, Path, minimum = 1, description = "The job")),
    responses((status = 200, description = "The job as it stands", body = ExportJobReply)),
    extensions(
        ("x-action" = json!("memory.export.read")),
        ("x-problems" = json!(["job-not-found", "unavailable", "timeout"])),
    ),
)]
pub(crate) async fn get_export_job(
    door: Data<Door>,
    by: By,
    job: ExportJobId,
) -> Result<Json<ExportJobReply>, Problem> {
    let job = door.export_jobs.find(&by.caller().tenant, job.0).await?;
    Ok(Json(job.ok_or(Code::JobNotFound)?.into()))
}

/// Ends an export job: what is under way is cancelled, a result that is there expires at once. Of a job that is over nothing
/// changes. Safe to repeat.
#[utoipa::path(
    delete,
    path = "/v1/memory/export/jobs/{job_id}",
    tag = "memory",
    params(("job_id" = i64, Path, minimum = 1, description = "The job")),
    responses((status = 200, description = "The job as it is now", body = ExportJobReply)),
    extensions(
        ("x-action" = json!("memory.export.end")),
        ("x-problems" = json!(["job-not-found", "unavailable", "draining", "outcome-unknown"])),
    ),
)]
pub(crate) async fn delete_export_job(
    door: Data<Door>,
    by: By,
    job: ExportJobId,
) -> Result<Json<ExportJobReply>, Problem> {
    door.accepting()?;
    let job = door.export_jobs.end(&by.caller(), job.0).await.map_err(unknown)?;
    Ok(Json(job.ok_or(Code::JobNotFound)?.into()))
}

/// Fetches the result of an export job: one JSON object a line, and a last line as that of `GET /v1/memory/export`.
#[utoipa::path(
    get,
    path = "/v1/memory/export/jobs/{job_id}/download",
    tag = "memory",
    params(("job_id" = i64, Path, minimum = 1, description = "The job")),
    responses((
        status = 200,
        description = "The lines, as the attachment `export_<id>.ndjson`",
        headers(("ETag" = String, description = "SHA-256 of the lines in hexadecimal digits, in quotes")),
        content_type = "application/x-ndjson",
        item_schema = ReplicaItem,
    )),
    extensions(
        ("x-action" = json!("memory.export")),
        ("x-problems" = json!(["job-not-found", "job-not-completed", "export-gone", "unavailable", "draining", "timeout"])),
    ),
)]
pub(crate) async fn get_export_download(
    request: HttpRequest,
    door: Data<Door>,
    by: By,
    job: ExportJobId,
) -> Result<HttpResponse, Problem> {
    door.accepting()?;
    let fetched = door.export_jobs.fetch(&by.caller().tenant, job.0).await?.ok_or(Code::JobNotFound)?;
    let (job, Some(result)) = (&fetched.job, fetched.result) else {
        let gone = ["completed", "expired"].contains(&fetched.job.status.as_str());
        return Err(if gone { Code::ExportGone.into() } else { Code::JobNotCompleted.into() });
    };
    let mut response = attachment(&format!("export_{}.ndjson", job.id));
    if let Some(sum) = &job.sha256 {
        response.insert_header((ETAG, format!("\"{}\"", hex(sum))));
    }
    let size = u64::try_from(job.byte_size).unwrap_or_default();
    Ok(response.body(SizedStream::new(size, believed(&request, streamed(None, result))?)))
}
