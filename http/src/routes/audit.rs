//! The audit trail, for admins.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Bytes, Data, Json},
};
use serde::Serialize;
use somaagent_actors::{
    audit::queries::{TrailExport, TrailFilter, TrailRow},
    conversation::queries::StoreError,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::{IntoParams, ToSchema};

use super::memory_export::{Pieces, attachment, believed, streamed};
use crate::{
    door::Door,
    extract::{By, Query, bad},
    openapi::shapes::AuditItem,
    problem::Problem,
};

const MAX_LIMIT: i64 = 200;
const DEFAULT_LIMIT: i64 = 50;
/// Most rows of an export, and how many it has if nothing is said.
const MAX_EXPORT: i64 = 1_000_000;
const DEFAULT_EXPORT: i64 = 10_000;

/// Which rows are asked for. What is absent, or empty, excludes nothing.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes the query, which is read one by one")]
pub(crate) struct AuditSelection {
    /// What one request caused
    request_id: Option<String>,
    /// What happened to this session
    session_id: Option<uuid::Uuid>,
    /// What was done, such as `message.enqueue`
    action: Option<String>,
    /// What was done as a step of this
    workflow_id: Option<String>,
    /// Written then or later, RFC 3339
    #[param(format = DateTime)]
    since: Option<String>,
    /// Written before, RFC 3339
    #[param(format = DateTime)]
    until: Option<String>,
}

/// A page of the audit trail.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditReply {
    /// The rows, descending by `id`. Where what is asked for is rare there are fewer than `limit`, or none.
    #[schema(value_type = Vec<AuditItem>)]
    items: Vec<TrailRow>,
    /// The `after` of the next page; null at the end.
    next_cursor: Option<i64>,
}

/// Lists who changed what in the tenant, the newest first.
#[utoipa::path(
    get,
    path = "/v1/admin/audit",
    tag = "audit",
    params(
        AuditSelection,
        ("after" = Option<i64>, Query, minimum = 0, description = "Only rows with a lower `id`: the `next_cursor` of a page"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 200, description = "Page size (50)"),
    ),
    responses((status = 200, description = "A page of the audit trail", body = AuditReply)),
    extensions(
        ("x-action" = json!("admin.audit.read")),
        ("x-problems" = json!(["invalid-query", "unavailable", "timeout"])),
    ),
)]
pub(crate) async fn get_audit(door: Data<Door>, by: By, query: Query) -> Result<Json<AuditReply>, Problem> {
    let (filter, after, limit) = (filter(&query)?, query.after()?, query.limit(MAX_LIMIT, DEFAULT_LIMIT)?);
    let page = door.trail.list(&by.caller().tenant, &filter, after, limit).await?;
    Ok(Json(AuditReply { items: page.items, next_cursor: page.next }))
}

/// Streams who changed what in the tenant, the oldest first, one JSON object a line. The last line,
/// `{"type":"trailer","rows","sha256","cursor"}`, has the number of lines before it and the SHA-256 of their bytes; a
/// download without it is broken and goes on with `after`, the last `id` that it received. `cursor` is the `after` of the
/// next export if this one ended by its limit.
#[utoipa::path(
    get,
    path = "/v1/admin/audit/export",
    tag = "audit",
    params(
        AuditSelection,
        ("after" = Option<i64>, Query, minimum = 0, description = "Only rows with a higher `id`"),
        ("limit_total" = Option<i64>, Query, minimum = 1, maximum = 1_000_000, description = "Most rows (10000)"),
    ),
    responses((
        status = 200,
        description = "The lines, as the attachment `audit_export.ndjson`",
        content_type = "application/x-ndjson",
        item_schema = AuditItem,
    )),
    extensions(
        ("x-action" = json!("admin.audit.export")),
        ("x-problems" = json!(["invalid-query", "unavailable", "draining", "timeout"])),
    ),
)]
pub(crate) async fn get_audit_export(
    request: HttpRequest,
    door: Data<Door>,
    by: By,
    query: Query,
) -> Result<HttpResponse, Problem> {
    let (filter, after) = (filter(&query)?, query.after()?.unwrap_or_default());
    let limit = query.number("limit_total", 1..=MAX_EXPORT)?.unwrap_or(DEFAULT_EXPORT);
    door.accepting()?;
    let mut export = door.trail.export(&by.caller().tenant, filter, after, limit);
    // A failure so far is a problem; a later one can only break the stream off.
    let first = export.next().await?;
    Ok(attachment("audit_export.ndjson").streaming(believed(&request, streamed(first, export))?))
}

impl Pieces for TrailExport {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        Self::next(self).await
    }
}

fn filter(query: &Query) -> Result<TrailFilter, Problem> {
    let text = |name| query.text(name).map(|text| text.map(str::to_owned));
    let at = |name: &str| {
        let parse =
            |text: &str| OffsetDateTime::parse(text, &Rfc3339).map_err(|_| bad(name, "must be a time, RFC 3339"));
        query.text(name)?.map(parse).transpose()
    };
    Ok(TrailFilter {
        request_id: text("request_id")?,
        session_id: query.parsed("session_id", "a UUID")?,
        action: text("action")?,
        workflow_id: text("workflow_id")?,
        since: at("since")?,
        until: at("until")?,
    })
}
