//! Changes of a session that are not messages.

use actix_web::web::{Data, Json};
use serde::{Deserialize, Serialize};
use somaagent_actors::domain::title;
use utoipa::ToSchema;

use super::sessions::{SessionReply, find};
use crate::{
    door::Door,
    extract::{By, JsonBody, SessionId, wrong},
    problem::{Code, Problem},
};

/// What any change of a session may be refused with.
const CHANGING: [Code; 7] = [
    Code::SessionNotFound,
    Code::SessionDeleted,
    Code::Overloaded,
    Code::Unavailable,
    Code::Draining,
    Code::SessionElsewhere,
    Code::OutcomeUnknown,
];

/// What became of the turn that was running.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StoppedReply {
    /// `stopped`, or `idle` when nothing was running.
    status: &'static str,
    /// The turn that was stopped: the `seq` of its user event.
    #[serde(skip_serializing_if = "Option::is_none")]
    turn: Option<i64>,
}

/// Stops the answer under way; its text so far is kept.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session_id}/stop",
    tag = "sessions",
    params(("session_id" = uuid::Uuid, Path, description = "The session")),
    responses((status = 200, description = "Nothing is being answered any more", body = StoppedReply)),
    extensions(
        ("x-action" = json!("conversation.stop")),
        ("x-problems" = json!(CHANGING)),
    ),
)]
pub(crate) async fn post_stop(door: Data<Door>, by: By, session: SessionId) -> Result<Json<StoppedReply>, Problem> {
    let turn = door.conversations.stop(&by.caller(), session.0).await?.turn;
    let status = if turn.is_some() { "stopped" } else { "idle" };
    Ok(Json(StoppedReply { status, turn }))
}

/// A new title.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct RenameRequest {
    /// 1 to 80 characters, of which some can be seen; it becomes one line.
    #[schema(
        min_length = 1, max_length = 80,
        // What is neither blank nor invisible.
        pattern = r"[^\s\u0000-\u001F\u007F-\u009F\u00AD\u034F\u061C\u115F\u1160\u17B4\u17B5\u180B-\u180F\u200B-\u200F\u202A-\u202E\u2060-\u206F\u2800\u3164\uFE00-\uFE0F\uFEFF\uFFA0\uFFF0-\uFFFB]",
    )]
    title: String,
}

/// Renames a session.
#[utoipa::path(
    patch,
    path = "/v1/sessions/{session_id}",
    tag = "sessions",
    params(("session_id" = uuid::Uuid, Path, description = "The session")),
    request_body(content = RenameRequest, content_type = "application/json"),
    responses((status = 200, description = "The session as it is now", body = SessionReply)),
    extensions(
        ("x-action" = json!("conversation.rename")),
        ("x-problems" = json!([&CHANGING[..], &[Code::Timeout]].concat())),
    ),
)]
pub(crate) async fn patch_session(
    door: Data<Door>,
    by: By,
    session: SessionId,
    body: JsonBody<RenameRequest>,
) -> Result<Json<SessionReply>, Problem> {
    let title = title::accept(&body.fields.title)
        .ok_or_else(|| wrong(vec!["title".into()], "must be 1 to 80 characters that can be seen"))?;
    let caller = by.caller();
    door.conversations.rename(&caller, session.0, title).await?;
    Ok(Json(find(&door, &caller, session.0).await?.into()))
}

/// What was removed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RemovedReply {
    /// `deleted` or `reset`.
    status: &'static str,
    /// How much.
    result: Removed,
}

/// Counts of removed rows.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Removed {
    /// Events.
    events: u64,
    /// Envelopes.
    #[serde(skip_serializing_if = "Option::is_none")]
    envelopes: Option<u64>,
}

/// Deletes a session for good: its events and attachments go, its readers are told, its id is never used again.
///
/// What was remembered of it stays and may be recalled in other sessions: `GET /v1/admin/memory?session_id=…` lists it,
/// `DELETE /v1/memory/{event_id}` takes one memory back.
#[utoipa::path(
    delete,
    path = "/v1/sessions/{session_id}",
    tag = "sessions",
    params(("session_id" = uuid::Uuid, Path, description = "The session")),
    responses((status = 200, description = "The session is gone", body = RemovedReply)),
    extensions(
        ("x-action" = json!("conversation.delete")),
        ("x-problems" = json!(CHANGING)),
    ),
)]
pub(crate) async fn delete_session(
    door: Data<Door>,
    by: By,
    session: SessionId,
) -> Result<Json<RemovedReply>, Problem> {
    let events = door.conversations.delete(&by.caller(), session.0).await?;
    Ok(Json(RemovedReply { status: "deleted", result: Removed { events, envelopes: Some(1) } }))
}

/// Empties a session: its events and attachments go, its title and settings stay, its numbering goes on.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session_id}/reset",
    tag = "sessions",
    params(("session_id" = uuid::Uuid, Path, description = "The session")),
    responses((status = 200, description = "The session is empty", body = RemovedReply)),
    extensions(
        ("x-action" = json!("conversation.reset")),
        ("x-problems" = json!(CHANGING)),
    ),
)]
pub(crate) async fn post_reset(door: Data<Door>, by: By, session: SessionId) -> Result<Json<RemovedReply>, Problem> {
    let events = door.conversations.reset(&by.caller(), session.0).await?;
    Ok(Json(RemovedReply { status: "reset", result: Removed { events, envelopes: None } }))
}

/// Whether a session shall refuse messages.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct PauseRequest {
    /// `true` refuses messages from now on, `false` takes them again.
    paused: bool,
}

/// Whether a session refuses messages.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PauseReply {
    /// `ok`.
    status: &'static str,
    /// What it is now.
    paused: bool,
}

/// Pauses or resumes a session. What is being answered goes on.
#[utoipa::path(
    post,
    path = "/v1/sessions/{session_id}/pause",
    tag = "sessions",
    params(("session_id" = uuid::Uuid, Path, description = "The session")),
    request_body(content = PauseRequest, content_type = "application/json"),
    responses((status = 200, description = "The flag is set", body = PauseReply)),
    extensions(
        ("x-action" = json!("conversation.pause")),
        ("x-problems" = json!(CHANGING)),
    ),
)]
pub(crate) async fn post_pause(
    door: Data<Door>,
    by: By,
    session: SessionId,
    body: JsonBody<PauseRequest>,
) -> Result<Json<PauseReply>, Problem> {
    let paused = body.fields.paused;
    door.conversations.pause(&by.caller(), session.0, paused).await?;
    Ok(Json(PauseReply { status: "ok", paused }))
}
