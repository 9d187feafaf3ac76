//! What people decide about attachments.

use actix_web::{
    HttpResponse,
    web::{Data, Json},
};
use somaagent_actors::{
    conversation::queries::StoreError,
    uploads::{
        ingest::ScanError,
        rescanning::NotScanned,
        verdicts::{Decision, NotChanged},
    },
};

use super::attachment_list::ListedAttachmentReply;
use crate::{
    door::Door,
    extract::{AttachmentId, By},
    problem::{Code, Problem},
};

/// Deletes an attachment that the caller sent, or of a session that exists for the caller. Nobody gets it from then on (410), and
/// what is remembered of it is taken back; messages that refer to it stay as they are. Safe to repeat.
#[utoipa::path(
    delete,
    path = "/v1/attachments/{attachment_id}",
    tag = "attachments",
    params(("attachment_id" = Uuid, Path, description = "The attachment")),
    responses((status = 204, description = "The attachment is deleted")),
    extensions(
        ("x-action" = json!("attachments.delete")),
        ("x-problems" = json!(["attachment-unknown", "unavailable", "draining", "outcome-unknown", "timeout"])),
    ),
)]
pub(crate) async fn delete_attachment(door: Data<Door>, by: By, id: AttachmentId) -> Result<HttpResponse, Problem> {
    door.accepting()?;
    door.uploads.delete(&by.caller(), id.0).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Lets an attachment out of its quarantine: it is sent and may be referred to from then on. What was found in it stays written down,
/// with who released it and when. One that is clean stays as it is. Safe to repeat.
#[utoipa::path(
    post,
    path = "/v1/attachments/{attachment_id}/release",
    tag = "attachments",
    params(("attachment_id" = Uuid, Path, description = "The attachment")),
    responses((status = 200, description = "The attachment as it is now", body = ListedAttachmentReply)),
    extensions(
        ("x-action" = json!("admin.attachments.release")),
        ("x-problems" = json!([
            "attachment-unknown", "attachment-gone", "attachment-bytes-dropped", "unavailable", "draining", "outcome-unknown",
            "timeout",
        ])),
    ),
)]
pub(crate) async fn post_release(
    door: Data<Door>,
    by: By,
    id: AttachmentId,
) -> Result<Json<ListedAttachmentReply>, Problem> {
    decide(&door, by, id, Decision::Release).await
}

/// Drops the bytes of an attachment that is quarantined; what it was stays written down. Safe to repeat.
#[utoipa::path(
    post,
    path = "/v1/attachments/{attachment_id}/clear",
    tag = "attachments",
    params(("attachment_id" = Uuid, Path, description = "The attachment")),
    responses((status = 200, description = "The attachment as it is now", body = ListedAttachmentReply)),
    extensions(
        ("x-action" = json!("admin.attachments.clear")),
        ("x-problems" = json!([
            "attachment-unknown", "attachment-gone", "attachment-not-quarantined", "unavailable", "draining",
            "outcome-unknown", "timeout",
        ])),
    ),
)]
pub(crate) async fn post_clear(
    door: Data<Door>,
    by: By,
    id: AttachmentId,
) -> Result<Json<ListedAttachmentReply>, Problem> {
    decide(&door, by, id, Decision::Clear).await
}

/// Has an attachment looked through again now, and does what follows: it is quarantined or let out, with all that have the same bytes.
/// One that was released in spite of what is found again stays released. If nobody can look, it stays as it is. Safe to repeat.
#[utoipa::path(
    post,
    path = "/v1/attachments/{attachment_id}/scan",
    tag = "attachments",
    params(("attachment_id" = Uuid, Path, description = "The attachment")),
    responses((status = 200, description = "The attachment as it is now", body = ListedAttachmentReply)),
    extensions(
        ("x-action" = json!("admin.attachments.scan")),
        ("x-problems" = json!([
            "attachment-unknown", "attachment-gone", "attachment-bytes-dropped", "antivirus-off", "antivirus-error",
            "overloaded", "unavailable", "draining", "outcome-unknown", "timeout",
        ])),
    ),
)]
pub(crate) async fn post_scan(
    door: Data<Door>,
    by: By,
    id: AttachmentId,
) -> Result<Json<ListedAttachmentReply>, Problem> {
    door.accepting()?;
    let attachment = door.uploads.scan_again(&by.caller(), id.0).await?;
    Ok(Json(attachment.into()))
}

async fn decide(
    door: &Door,
    by: By,
    id: AttachmentId,
    decision: Decision,
) -> Result<Json<ListedAttachmentReply>, Problem> {
    door.accepting()?;
    let attachment = door.uploads.decide(&by.caller(), id.0, decision).await?;
    Ok(Json(attachment.into()))
}

impl From<NotScanned> for Problem {
    fn from(error: NotScanned) -> Self {
        match error {
            NotScanned::NotChanged(error) => error.into(),
            NotScanned::Off => Code::AntivirusOff.into(),
            NotScanned::Gone => Code::AttachmentGone.into(),
            NotScanned::Scan(ScanError::Busy) => Code::Overloaded.into(),
            NotScanned::Scan(error) => Self::new(Code::AntivirusError).caused_by(error),
        }
    }
}

impl From<NotChanged> for Problem {
    fn from(error: NotChanged) -> Self {
        match error {
            NotChanged::Unknown => Code::AttachmentUnknown.into(),
            NotChanged::Gone => Code::AttachmentGone.into(),
            NotChanged::BytesDropped => Code::AttachmentBytesDropped.into(),
            NotChanged::NotQuarantined => Code::AttachmentNotQuarantined.into(),
            NotChanged::Store(error @ (StoreError::Interrupted(_) | StoreError::TimedOut)) => {
                Self::new(Code::OutcomeUnknown).caused_by(error)
            }
            NotChanged::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::Method;

    use crate::testing::{ask, request};

    #[actix_web::test]
    async fn what_is_no_id_is_refused_and_without_a_database_nothing_is_decided() {
        for (method, path) in
            [(Method::DELETE, ""), (Method::POST, "/release"), (Method::POST, "/clear"), (Method::POST, "/scan")]
        {
            let bad = ask(request(method.clone(), &format!("/v1/attachments/7{path}"))).await;
            assert_eq!(
                (bad.status.as_u16(), bad.json()["code"].as_str()),
                (400, Some("attachment-id-invalid")),
                "{path}"
            );
            let id = "7b0d4cb2-5d3c-4f2e-9a55-8f3f3b1f6a01";
            let away = ask(request(method, &format!("/v1/attachments/{id}{path}"))).await;
            assert_eq!((away.status.as_u16(), away.json()["code"].as_str()), (503, Some("unavailable")), "{path}");
        }
    }
}
