//! What people have sent, as it came.

use std::{convert::Infallible, error::Error, future::ready};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{HeaderName, HeaderValue},
    web::{Bytes, Data},
};
use futures_util::{Stream, TryStreamExt as _, stream};
use somaagent_actors::{
    contents::ContentError,
    domain::{caller::Caller, ids::Tenant},
    extraction::Purpose,
    uploads::downloads::{Attachment, BytesError, Found, Sending},
};

use time::OffsetDateTime;
use uuid::Uuid;

use super::memory_export::until;
use crate::{
    door::Door,
    download::File,
    extract::{AttachmentId, By, TENANT_HEADER, header},
    middleware::authorise::Authorised,
    problem::{Code, Problem},
};

/// Fetches a file that was sent, always to be saved: `Content-Disposition` is `attachment`, and a browser that shows it all the same may
/// run nothing of it. Parts are sent for `Range`, several as `multipart/byteranges`; more than 16, or parts that overlap, are answered with
/// the whole. The entity tag is the SHA-256 of the bytes, and conditions are judged as RFC 9110 says. What is quarantined is not sent.
#[utoipa::path(
    get,
    path = "/v1/attachments/{attachment_id}",
    tag = "attachments",
    params(("attachment_id" = Uuid, Path, description = "The attachment")),
    responses(
        (
            status = 200,
            description = "The file",
            headers(
                ("ETag" = String, description = "SHA-256 of the bytes in hexadecimal digits, in quotes"),
                ("Content-Disposition" = String, description = "`attachment` with the file's name (RFC 6266)"),
            ),
            content_type = "*/*",
            body = Vec<u8>,
        ),
        (status = 206, description = "The wished parts of the file", content_type = "*/*", body = Vec<u8>),
        (status = 304, description = "The client has it"),
    ),
    extensions(
        ("x-action" = json!("attachments.download")),
        ("x-problems" = json!([
            "attachment-quarantined", "attachment-unknown", "attachment-gone", "precondition-failed",
            "range-not-satisfiable", "unavailable", "draining", "timeout",
        ])),
    ),
)]
pub(crate) async fn get_attachment(
    request: HttpRequest,
    door: Data<Door>,
    by: By,
    id: AttachmentId,
) -> Result<HttpResponse, Problem> {
    door.accepting()?;
    let attachment = found(&door, &by.caller(), id.0).await?;
    sent(&request, &door, &attachment, Some(Sending { attachment: attachment.id, link: None }))
}

/// Fetches a small picture of an attachment that is a PNG, JPEG, GIF or WebP: in WebP, upright, at most 320 pixels wide and high. It is
/// made when it is first asked for. Whoever may fetch the file may fetch this.
#[utoipa::path(
    get,
    path = "/v1/attachments/{attachment_id}/thumbnail",
    tag = "attachments",
    params(("attachment_id" = Uuid, Path, description = "The attachment")),
    responses(
        (
            status = 200,
            description = "The picture",
            headers(("ETag" = String, description = "What tells it from others, in quotes")),
            content_type = "image/webp",
            body = Vec<u8>,
        ),
        (status = 206, description = "The wished parts of the picture", content_type = "*/*", body = Vec<u8>),
        (status = 304, description = "The client has it"),
    ),
    extensions(
        ("x-action" = json!("attachments.download")),
        ("x-problems" = json!([
            "attachment-quarantined", "attachment-unknown", "thumbnail-not-found", "attachment-gone", "precondition-failed",
            "range-not-satisfiable", "unavailable", "draining", "timeout",
        ])),
    ),
)]
pub(crate) async fn get_thumbnail(
    request: HttpRequest,
    door: Data<Door>,
    by: By,
    id: AttachmentId,
) -> Result<HttpResponse, Problem> {
    door.accepting()?;
    let caller = by.caller();
    let attachment = found(&door, &caller, id.0).await?;
    let picture = Box::pin(door.contents.picture(&attachment, Purpose::Thumbnail)).await?;
    // Making it may have taken long.
    found(&door, &caller, id.0).await?;
    let file = File {
        name: format!("{}.webp", attachment.filename),
        mime: Purpose::Thumbnail.mime().to_owned(),
        size: picture.bytes.len() as u64,
        // What is made of the same bytes is kept, and stays the same.
        sha256: format!("{}-thumbnail", attachment.sha256),
        modified: attachment.created_at.into(),
    };
    file.answer(&request, move |part| stream::once(ready(Ok::<_, Infallible>(part.of(&picture.bytes)))))
}

impl From<ContentError> for Problem {
    fn from(error: ContentError) -> Self {
        match error {
            ContentError::Unreadable(why) => Self::new(Code::ThumbnailNotFound).because(why),
            ContentError::Gone => Code::AttachmentGone.into(),
            ContentError::NotNow(error) => Self::new(Code::Unavailable).caused_by(error),
            ContentError::Store(error) => error.into(),
        }
    }
}

/// Fetches a file that was sent, whatever was found in it, for workers, who show the internal token. If `X-Tenant-Id` is given, it must
/// be the attachment's.
#[utoipa::path(
    get,
    path = "/internal/attachments/{attachment_id}/binary",
    tag = "internal",
    params(
        ("attachment_id" = Uuid, Path, description = "The attachment"),
        ("X-Tenant-Id" = Option<String>, Header, description = "Whose it must be"),
    ),
    responses(
        (
            status = 200,
            description = "The file",
            headers(
                ("X-Attachment-Status" = String, description = "`clean` or `quarantined`"),
                ("X-Attachment-Size" = i64, description = "How many bytes all of it has"),
                ("ETag" = String, description = "SHA-256 of the bytes in hexadecimal digits, in quotes"),
            ),
            content_type = "*/*",
            body = Vec<u8>,
        ),
        (status = 206, description = "The wished parts of the file", content_type = "*/*", body = Vec<u8>),
        (status = 304, description = "The client has it"),
    ),
    extensions(
        ("x-action" = json!("internal.attachments.read")),
        ("x-problems" = json!([
            "invalid-header", "tenant-denied", "attachment-unknown", "attachment-gone", "precondition-failed",
            "range-not-satisfiable", "unavailable", "draining", "timeout",
        ])),
    ),
)]
pub(crate) async fn get_binary(
    request: HttpRequest,
    door: Data<Door>,
    id: AttachmentId,
) -> Result<HttpResponse, Problem> {
    door.accepting()?;
    let expected = header(&request, TENANT_HEADER)?;
    let attachment = door.attachments.find_for_worker(id.0).await?.ok_or(Code::AttachmentUnknown)?;
    if expected.is_some_and(|tenant| tenant != attachment.tenant) {
        return Err(Problem::new(Code::TenantDenied).because("tenant mismatch"));
    }
    let mut response = sent(&request, &door, &attachment, None)?;
    let headers = response.headers_mut();
    for (name, value) in
        [("x-attachment-status", attachment.status), ("x-attachment-size", attachment.size.to_string())]
    {
        let value = HeaderValue::from_str(&value).map_err(|error| Problem::new(Code::Internal).caused_by(error))?;
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(response)
}

/// The attachment that `caller` may fetch.
///
/// # Errors
/// It does not exist for them, or not any more, or nobody gets it.
pub(super) async fn found(door: &Door, caller: &Caller, id: Uuid) -> Result<Attachment, Problem> {
    match door.attachments.find(caller, id).await? {
        Found::Here(attachment) if attachment.status == "clean" && attachment.external_url.is_some() => {
            Err(gone(&attachment))
        }
        Found::Here(attachment) if attachment.status == "clean" => Ok(*attachment),
        Found::Here(_) => Err(Code::AttachmentQuarantined.into()),
        Found::Gone => Err(Code::AttachmentGone.into()),
        Found::Unknown => Err(Code::AttachmentUnknown.into()),
    }
}

/// That there are no bytes here, and where they are if they are elsewhere.
fn gone(attachment: &Attachment) -> Problem {
    let problem = Problem::new(Code::AttachmentGone);
    match &attachment.external_url {
        Some(url) => problem.because("the bytes are elsewhere").with("external_url", url.as_str()),
        None => problem,
    }
}

/// Seconds since 1970, in microseconds.
pub(super) fn seconds(at: OffsetDateTime) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact to the microsecond for some centuries")]
    let microseconds = (at.unix_timestamp_nanos() / 1_000) as f64;
    microseconds / 1e6
}

/// The reply with the bytes of `attachment`, if they are there. `sending` breaks off when it may not be fetched any more; without it, it
/// is for whoever gets everything.
pub(super) fn sent(
    request: &HttpRequest,
    door: &Door,
    attachment: &Attachment,
    sending: Option<Sending>,
) -> Result<HttpResponse, Problem> {
    let blob = attachment.blob_id.filter(|_| attachment.deleted_at.is_none()).ok_or_else(|| gone(attachment))?;
    let tenant = Tenant::new(&attachment.tenant).ok_or(Code::AttachmentUnknown)?;
    let file = File {
        name: attachment.filename.clone(),
        mime: attachment.mime.clone(),
        size: u64::try_from(attachment.size).unwrap_or_default(),
        sha256: attachment.sha256.clone(),
        modified: attachment.created_at.into(),
    };
    let (attachments, ends) = (door.attachments.clone(), Authorised::of(request)?.ends);
    file.answer(request, move |part| {
        until(ends.clone(), told(attachments.bytes(&tenant, (blob, sending), (part.from, part.length))))
    })
}

/// The same bytes; that no more come is in the log.
fn told(bytes: impl Stream<Item = Result<Bytes, BytesError>>) -> impl Stream<Item = Result<Bytes, BytesError>> {
    bytes.inspect_err(|error| tracing::warn!(error = error as &dyn Error, "a download broke off"))
}
