//! Everything about one session in one reply, for whoever looks for what went wrong.

use actix_web::web::{Data, Json};
use serde::Serialize;
use serde_json::Value;
use somaagent_actors::{
    audit::queries::{TrailFilter, TrailRow},
    conversation::queries::TimelineEntry,
};
use utoipa::ToSchema;
use uuid::Uuid;

use super::sessions::find;
use crate::{
    door::Door,
    extract::{By, Query, SessionId, bad},
    openapi::shapes::ListedEvent,
    problem::Problem,
    wire::{listed, timestamp},
};

const MAX_LIMIT: i64 = 1_000;
const DEFAULT_LIMIT: i64 = 200;
/// Rows of the audit trail besides the timeline.
const AUDIT_ROWS: i64 = 50;

/// What is known of a session.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DescriptionReply {
    /// The session.
    session_id: Uuid,
    /// Its events, the newest first. A page of long events ends before its `limit`.
    #[schema(value_type = Vec<ListedEvent>)]
    events: Vec<Value>,
    /// Undertakings in several steps besides turns: none.
    #[schema(value_type = Vec<Object>)]
    sagas: [Value; 0],
    /// Who changed what in it, the newest first, at most 50.
    audit: Vec<SessionAudit>,
    /// A workflow of another engine: none.
    #[schema(value_type = Option<Object>)]
    workflow: Option<Value>,
    /// What happened, the oldest first: of each kind the newest `limit`.
    timeline: Vec<TimelineReply>,
}

/// A row of the audit trail, without where and with which program somebody sits.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionAudit {
    /// Its number.
    id: i64,
    /// When, RFC 3339 in UTC.
    #[schema(format = DateTime)]
    ts: String,
    /// In which request.
    request_id: Option<String>,
    /// In which trace.
    trace_id: Option<String>,
    /// What it is a step of.
    workflow_id: Option<String>,
    /// Who.
    subject: Option<String>,
    /// What was done.
    action: String,
    /// To what kind of thing.
    resource: String,
    /// To which one.
    target_id: Option<String>,
    /// SHA-256 of what the policy was asked when it allowed this.
    decision: Option<String>,
    /// Names and sizes, never content.
    #[schema(value_type = Option<Object>)]
    details: Option<Value>,
    /// What was changed: `before` and `after`, each a SHA-256.
    #[schema(value_type = Option<Object>)]
    diff: Option<Value>,
}

impl From<TrailRow> for SessionAudit {
    fn from(item: TrailRow) -> Self {
        Self {
            id: item.id,
            ts: timestamp(item.ts),
            request_id: item.request_id,
            trace_id: item.trace_id,
            workflow_id: item.workflow_id,
            subject: item.subject,
            action: item.action,
            resource: item.resource,
            target_id: item.target_id,
            decision: item.decision,
            details: item.details,
            diff: item.diff,
        }
    }
}

/// Something that happened.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TimelineReply {
    /// When, RFC 3339 in UTC; of what goes on, when it last did.
    #[schema(format = DateTime)]
    at: String,
    /// `event`, `audit`, `turn`, `outbox` (on its way into the log), `memory` (on its way to the memory service) or `replica`.
    kind: String,
    /// What is known of it, without what was said.
    #[schema(value_type = Object)]
    entry: Value,
}

impl From<TimelineEntry> for TimelineReply {
    fn from(TimelineEntry { at, kind, entry }: TimelineEntry) -> Self {
        Self { at: timestamp(at), kind, entry }
    }
}

/// Describes a session: its events, who changed what, and everything that is known of both in the order of time.
#[utoipa::path(
    get,
    path = "/v1/describe/{session_id}",
    tag = "sessions",
    params(
        ("session_id" = uuid::Uuid, Path, description = "The session"),
        ("limit" = Option<i64>, Query, minimum = 1, maximum = 1000, description = "Most events, and most entries of a kind (200)"),
        ("include_audit" = Option<bool>, Query, description = "`false` leaves the audit trail out (`true`)"),
        ("workflow_id" = Option<String>, Query, description = "Only rows of the audit trail that are steps of it"),
    ),
    responses((status = 200, description = "What is known of the session", body = DescriptionReply)),
    extensions(
        ("x-action" = json!("conversation.read")),
        ("x-problems" = json!(["session-not-found", "session-deleted", "invalid-query", "unavailable", "timeout"])),
    ),
)]
pub(crate) async fn get_description(
    door: Data<Door>,
    by: By,
    session: SessionId,
    query: Query,
) -> Result<Json<DescriptionReply>, Problem> {
    let limit = query.limit(MAX_LIMIT, DEFAULT_LIMIT)?;
    let with_audit = match query.text("include_audit")? {
        None | Some("true") => true,
        Some("false") => false,
        Some(_) => return Err(bad("include_audit", "must be true or false")),
    };
    let workflow_id = query.text("workflow_id")?.map(str::to_owned);
    let (caller, session_id) = (by.caller(), session.0);
    find(&door, &caller, session_id).await?;
    let page = door.reads.recent_events(&caller, session_id, i64::MAX, limit).await?;
    let audit = if with_audit {
        let filter = TrailFilter { session_id: Some(session_id), workflow_id, ..TrailFilter::default() };
        door.trail.list(&caller.tenant, &filter, None, AUDIT_ROWS).await?.items
    } else {
        Vec::new()
    };
    let timeline = door.reads.timeline(&caller, session_id, limit, with_audit).await?;
    Ok(Json(DescriptionReply {
        session_id,
        events: page.events.iter().rev().map(listed).collect(),
        sagas: [],
        audit: audit.into_iter().map(SessionAudit::from).collect(),
        workflow: None,
        timeline: timeline.into_iter().map(TimelineReply::from).collect(),
    }))
}
