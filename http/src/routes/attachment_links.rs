//! Links to what people have sent, for those who are not let in otherwise.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::CACHE_CONTROL,
    web::{Data, Json},
};
use serde::Serialize;
use somaagent_actors::{
    domain::caller::Caller,
    uploads::{
        downloads::{Found, Sending},
        links::{Link, LinkError},
    },
};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    attachments::{found, seconds, sent},
    memory_deletion::unknown,
};
use crate::{
    door::Door,
    extract::{AttachmentId, By, IdempotencyKey, LinkId, LinkToken, bad_header},
    problem::{Code, Problem},
};

/// A link as lists show it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LinkReply {
    /// Its id.
    link_id: Uuid,
    /// Who made it, if that is known.
    created_by: Option<String>,
    /// When it was made, in seconds since 1970.
    created_at: f64,
    /// Until when it is good, in seconds since 1970.
    expires_at: f64,
}

/// A link that was made.
#[derive(Serialize, ToSchema)]
pub(crate) struct NewLinkReply {
    #[serde(flatten)]
    link: LinkReply,
    /// The path that fetches the file, shown this once.
    path: String,
}

impl From<Link> for LinkReply {
    fn from(link: Link) -> Self {
        Self {
            link_id: link.id,
            created_by: link.subject,
            created_at: seconds(link.created_at),
            expires_at: seconds(link.expires_at),
        }
    }
}

/// Makes a link to an attachment: whoever has it fetches the file without proving anything, until it expires or is taken back. How long
/// it is good is a setting of the installation. Its path is shown this once, so an `Idempotency-Key` is refused: if the reply was lost,
/// take the link back and make another.
#[utoipa::path(
    post,
    path = "/v1/attachments/{attachment_id}/links",
    tag = "attachments",
    params(("attachment_id" = Uuid, Path, description = "The attachment")),
    responses((status = 200, description = "The link with its path", body = NewLinkReply)),
    extensions(
        ("x-action" = json!("attachments.links.create")),
        ("x-problems" = json!([
            "attachment-quarantined", "attachment-unknown", "attachment-gone", "links-disabled", "too-many-links",
            "unavailable", "draining", "outcome-unknown", "timeout",
        ])),
    ),
)]
pub(crate) async fn post_link(
    door: Data<Door>,
    by: By,
    idempotency: IdempotencyKey,
    id: AttachmentId,
) -> Result<HttpResponse, Problem> {
    if idempotency.0.is_some() {
        return Err(bad_header("Idempotency-Key", "cannot be honoured: the path is shown only once"));
    }
    door.accepting()?;
    let caller = by.caller();
    found(&door, &caller, id.0).await?;
    let made = door.uploads.links().create(&caller, id.0).await.map_err(|error| match error {
        LinkError::Off => Code::LinksDisabled.into(),
        LinkError::TooMany => Code::TooManyLinks.into(),
        LinkError::NoChance => Problem::new(Code::Internal).caused_by(error),
        LinkError::Store(error) => unknown(error),
    })?;
    let path = format!("/v1/downloads/{}", made.token());
    let reply = NewLinkReply { link: made.link.into(), path };
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, "no-store")).json(reply))
}

/// Lists the links to an attachment that are good, the latest first.
#[utoipa::path(
    get,
    path = "/v1/attachments/{attachment_id}/links",
    tag = "attachments",
    params(("attachment_id" = Uuid, Path, description = "The attachment")),
    responses((status = 200, description = "The links", body = Vec<LinkReply>)),
    extensions(
        ("x-action" = json!("attachments.links.read")),
        ("x-problems" = json!(["attachment-unknown", "unavailable", "draining", "timeout"])),
    ),
)]
pub(crate) async fn get_links(door: Data<Door>, by: By, id: AttachmentId) -> Result<Json<Vec<LinkReply>>, Problem> {
    door.accepting()?;
    let caller = by.caller();
    known(&door, &caller, id.0).await?;
    let links = door.uploads.links().list(&caller.tenant, id.0).await?;
    Ok(Json(links.into_iter().map(LinkReply::from).collect()))
}

/// Refuses whoever the attachment does not exist for. One that is quarantined, or gone, may have links that are to be taken back.
async fn known(door: &Door, caller: &Caller, id: Uuid) -> Result<(), Problem> {
    match door.attachments.find(caller, id).await? {
        Found::Here(_) | Found::Gone => Ok(()),
        Found::Unknown => Err(Code::AttachmentUnknown.into()),
    }
}

/// Takes a link to an attachment back: from now on it leads nowhere.
#[utoipa::path(
    delete,
    path = "/v1/attachments/{attachment_id}/links/{link_id}",
    tag = "attachments",
    params(
        ("attachment_id" = Uuid, Path, description = "The attachment"),
        ("link_id" = Uuid, Path, description = "The link"),
    ),
    responses((status = 204, description = "The link is taken back")),
    extensions(
        ("x-action" = json!("attachments.links.revoke")),
        ("x-problems" = json!([
            "attachment-unknown", "link-not-found", "unavailable", "draining", "outcome-unknown", "timeout",
        ])),
    ),
)]
pub(crate) async fn delete_link(
    door: Data<Door>,
    by: By,
    id: AttachmentId,
    link: LinkId,
) -> Result<HttpResponse, Problem> {
    door.accepting()?;
    let caller: Caller = by.caller();
    known(&door, &caller, id.0).await?;
    if !door.uploads.links().revoke(&caller, id.0, link.0).await.map_err(unknown)? {
        return Err(Code::LinkNotFound.into());
    }
    Ok(HttpResponse::NoContent().finish())
}

/// Fetches the file that a link leads to, as `GET /v1/attachments/{attachment_id}` does, without any other proof. A link that is over,
/// or whose file may not be fetched any more, is answered like one that never was.
#[utoipa::path(
    get,
    path = "/v1/downloads/{token}",
    tag = "attachments",
    params(("token" = String, Path, description = "The token of the link")),
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
        ("x-action" = json!("public")),
        ("x-problems" = json!([
            "link-not-found", "precondition-failed", "range-not-satisfiable", "unavailable", "draining", "timeout",
        ])),
    ),
)]
pub(crate) async fn get_download(
    request: HttpRequest,
    door: Data<Door>,
    token: LinkToken,
) -> Result<HttpResponse, Problem> {
    door.accepting()?;
    let (attachment, link) = door.uploads.links().follow(&token.0).await?.ok_or(Code::LinkNotFound)?;
    let sending = Sending { attachment: attachment.id, link: Some(link) };
    sent(&request, &door, &attachment, Some(sending)).map_err(|problem| match problem.code() {
        Code::AttachmentGone | Code::AttachmentUnknown => Code::LinkNotFound.into(),
        _ => problem,
    })
}
