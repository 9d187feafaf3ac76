//! A conversation as its actor sees it.

use actix_web::web::{Data, Json};
use somaagent_actors::conversation::SessionState;

use crate::{
    door::Door,
    extract::{By, SessionId},
    openapi::shapes::StateReply,
    problem::Problem,
};

/// The session's whole live state: turn, queue, mailbox, readers, last recall and context.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session_id}/state",
    tag = "sessions",
    params(("session_id" = uuid::Uuid, Path, description = "The session")),
    responses((status = 200, description = "The state", body = StateReply)),
    extensions(
        ("x-action" = json!("conversation.read")),
        ("x-problems" = json!(["session-not-found", "session-deleted", "overloaded", "unavailable", "draining", "timeout"])),
    ),
)]
pub(crate) async fn get_state(door: Data<Door>, by: By, session: SessionId) -> Result<Json<SessionState>, Problem> {
    let state = door.conversations.inspect(&by.caller(), session.0).await;
    Ok(Json(state.map_err(super::asked_to_read)?))
}
