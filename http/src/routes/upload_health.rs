//! Whether uploads work.

use actix_web::web::{Data, Json};
use serde::Serialize;
use utoipa::ToSchema;

use crate::door::Door;

/// How it stands with uploads.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct UploadHealthReply {
    /// `ok`, or `degraded`: files get no verdict.
    status: &'static str,
    /// `ok`, `error`, or `disabled`: files are not looked through.
    clamav: &'static str,
    /// What is wrong with it, if anything is.
    clamav_error: Option<&'static str>,
    /// Most bytes of a file.
    max_upload_bytes: u64,
    /// Where uploads are that have not come whole: `postgres`.
    session_backend: &'static str,
}

/// Tells whether uploads work: whether clamd answers, if it is to look through files.
#[utoipa::path(
    get,
    path = "/v1/uploads/health",
    tag = "attachments",
    responses((status = 200, description = "How it stands", body = UploadHealthReply)),
    extensions(("x-action" = json!("config.read"))),
)]
pub(crate) async fn get_upload_health(door: Data<Door>) -> Json<UploadHealthReply> {
    let rules = door.uploads.rules();
    let clamav = if door.scanners.in_force().enabled {
        // What exactly is wrong, whoever looks after the system finds out.
        door.scanners.ping().await.is_ok().then_some("ok")
    } else {
        Some("disabled")
    };
    Json(UploadHealthReply {
        status: if clamav.is_some() { "ok" } else { "degraded" },
        clamav: clamav.unwrap_or("error"),
        clamav_error: clamav.is_none().then_some("clamd does not answer"),
        max_upload_bytes: rules.max_bytes.min(rules.inline_max_bytes),
        session_backend: "postgres",
    })
}
