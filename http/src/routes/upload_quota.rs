//! How much may still be kept.

use actix_web::web::{Data, Json};
use serde::Serialize;
use somaagent_actors::uploads::quota::{Quota, Room};
use utoipa::ToSchema;

use super::uploads::{not_there, session};
use crate::{
    door::Door,
    extract::{By, Query},
    problem::{Code, Problem},
};

/// How many bytes of files may be kept, and how many are.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct QuotaReply {
    /// Most of them.
    limit: u64,
    /// Those that are, and those that uploads in pieces are to have.
    used: u64,
    /// How many more may be.
    left: u64,
}

/// What is left for files.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct RoomReply {
    /// Of the tenant; null: as much as it wants.
    tenant: Option<QuotaReply>,
    /// Of the session; null: as much as it wants, or none was named.
    session: Option<QuotaReply>,
}

/// Tells how many bytes of files there may be, are, and may still come: of the caller's tenant, and of a session.
#[utoipa::path(
    get,
    path = "/v1/uploads/quota",
    tag = "attachments",
    params(("session_id" = Option<Uuid>, Query, description = "The session that files are to belong to")),
    responses((status = 200, description = "What is left", body = RoomReply)),
    extensions(
        ("x-action" = json!("conversation.read")),
        ("x-problems" = json!([
            Code::SessionNotFound, Code::SessionDeleted, Code::Overloaded, Code::Unavailable, Code::Timeout,
        ])),
    ),
)]
pub(crate) async fn get_upload_quota(door: Data<Door>, by: By, query: Query) -> Result<Json<RoomReply>, Problem> {
    let caller = by.caller();
    let session_id =
        query.text("session_id")?.map(|text| session(&["query", "session_id"], text)).transpose()?.flatten();
    if let Some(id) = session_id {
        door.uploads.check_session(&caller, id).await.map_err(not_there)?;
    }
    Ok(Json(door.uploads.room(&caller, door.uploads.rules().quotas, session_id).await?.into()))
}

impl From<Room> for RoomReply {
    fn from(room: Room) -> Self {
        Self { tenant: room.tenant.map(Into::into), session: room.session.map(Into::into) }
    }
}

impl From<Quota> for QuotaReply {
    fn from(quota: Quota) -> Self {
        Self { limit: quota.limit, used: quota.used, left: quota.left() }
    }
}
