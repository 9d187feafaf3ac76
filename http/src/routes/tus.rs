//! Files that come in pieces, over as many requests as it takes: by tus 1.0.0, or in JSON by clients of the original. Which of the
//! two a request speaks, its header `Tus-Resumable` says.

mod creation;
mod finishing;
mod piece;
mod refusal;
mod replies;

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    web::{Data, Json},
};

use self::{
    creation::{CreateRequest, Creation, create},
    finishing::{attachment_of, finished},
    piece::{PieceHead, receive},
    refusal::{Spoken, told},
    replies::{CreatedReply, FinalizedReply, OffsetReply, UploadReply, described},
};
use super::uploads::in_time;
use crate::{
    door::Door,
    extract::{By, Hints, RawBody, UploadId},
    middleware::authorise::Authorised,
    problem::{Code, Problem},
    tus::{ALGORITHMS, Dialect, EXTENSIONS},
};

/// Begins an upload. By tus (with `Tus-Resumable`) its length is `Upload-Length`, what it is called `Upload-Metadata`, and with
/// `Upload-Concat` it is a part, or is made of parts; the reply is 201 without a body. Else the body says it in JSON, and the reply
/// is 200.
#[utoipa::path(
    post,
    path = "/v1/uploads/tus",
    tag = "attachments",
    request_body(content = CreateRequest, content_type = "application/json", description = "Without `Tus-Resumable` only"),
    params(
        ("Tus-Resumable" = Option<String>, Header, pattern = r"^1\.0\.0$", description = "The version of tus, for those who speak it"),
        ("Upload-Length" = Option<String>, Header, description = "tus: how many bytes it has"),
        ("Upload-Metadata" = Option<String>, Header, description = "tus: names, each with a value in base64: `filename`, `filetype`, `session_id`; others are told again"),
        ("Upload-Concat" = Option<String>, Header, description = "tus: `partial`, or `final;` and where its parts are"),
        ("X-Persona-Id" = Option<String>, Header, max_length = 128, pattern = r"^[\t -~]*$", description = "The persona that it is for"),
    ),
    responses(
        (status = 200, description = "The upload has begun", body = CreatedReply),
        (
            status = 201,
            description = "The upload has begun",
            headers(
                ("Location" = String, description = "Where it is"),
                ("Upload-Expires" = String, description = "When it is given up if nothing comes"),
            ),
        ),
    ),
    extensions(
        ("x-action" = json!("attachments.upload")),
        ("x-problems" = json!(refusal::CREATING)),
    ),
)]
pub(crate) async fn post_upload(
    door: Data<Door>,
    by: By,
    hints: Hints,
    creation: Creation,
) -> Result<HttpResponse, Problem> {
    accepting(&door)?;
    create(&door, &by.caller(), hints.persona_id, creation).await
}

/// Tells how far an upload has come, and what it has become. Whoever speaks tus and asks about one that has come whole has it
/// finished, if that was cut off; while that goes on the reply is 423.
#[utoipa::path(
    get,
    path = "/v1/uploads/tus/{upload_id}",
    tag = "attachments",
    params(
        ("upload_id" = Uuid, Path, description = "The upload"),
        ("Tus-Resumable" = Option<String>, Header, pattern = r"^1\.0\.0$", description = "The version of tus, for those who speak it"),
    ),
    responses((
        status = 200,
        description = "What has become of it",
        body = UploadReply,
        headers(
            ("Upload-Offset" = i64, description = "How many bytes are here"),
            ("Upload-Length" = i64, description = "How many it has"),
            ("Upload-Expires" = String, description = "When it is given up if nothing comes"),
            ("Upload-Metadata" = String, description = "What was said of it when it began"),
            ("Upload-Concat" = String, description = "What it has to do with others"),
            ("Upload-Attachment" = String, description = "Where the attachment is that it has become"),
            ("Upload-Attachment-Status" = String, description = "`clean` or `quarantined`"),
        ),
    )),
    extensions(
        ("x-action" = json!("attachments.upload")),
        ("x-problems" = json!(refusal::LOOKING)),
    ),
)]
pub(crate) async fn get_upload(
    request: HttpRequest,
    door: Data<Door>,
    by: By,
    id: UploadId,
) -> Result<HttpResponse, Problem> {
    let (dialect, caller) = (Dialect::of(&request)?, by.caller());
    let find = || async { door.uploads.tus().find(&caller, id.0).await.map_err(|error| told(error, Spoken::Tus)) };
    let mut upload = find().await?;
    let attachment = if dialect == Dialect::Tus && upload.is_open() && upload.is_whole() {
        // Nothing is begun while files are not taken, or the process ends.
        if accepting(&door).is_err() {
            return Err(refusal::locked());
        }
        let attachment = finished(&door, &caller, id.0, Spoken::Tus).await.map_err(|problem| {
            // Clients take any other failure for the end of the upload.
            let passes = problem.code().status() >= 500 || problem.code() == Code::UploadConflict;
            if passes { refusal::locked().caused_by(format!("{problem:?}")) } else { problem }
        })?;
        upload = find().await?;
        Some(attachment)
    } else {
        attachment_of(&door, &caller, &upload).await?
    };
    let mut reply = HttpResponse::Ok();
    described(&mut reply, &upload, attachment.as_ref());
    Ok(reply.json(UploadReply::of(&upload, attachment)))
}

/// Goes on with an upload where it stopped. What has come of a piece that breaks off is kept, unless it has a checksum. By tus an upload
/// is finished with its last byte: it is looked through and becomes an attachment, which the head of the reply names. A request that
/// comes while another one is under way goes on in its place.
#[utoipa::path(
    patch,
    path = "/v1/uploads/tus/{upload_id}",
    tag = "attachments",
    request_body(content = String, content_type = "application/offset+octet-stream", description = "The bytes"),
    params(
        ("upload_id" = Uuid, Path, description = "The upload"),
        ("Tus-Resumable" = Option<String>, Header, pattern = r"^1\.0\.0$", description = "The version of tus, for those who speak it"),
        ("Upload-Offset" = String, Header, pattern = "^[0-9]{1,18}$", description = "Where the piece belongs"),
        ("Upload-Checksum" = Option<String>, Header, description = "What the piece sums up to. tus: `sha1` or `sha256` and the sum in base64; else a SHA-256 in hexadecimal digits"),
    ),
    responses(
        (status = 200, description = "The piece is here", body = OffsetReply),
        (
            status = 204,
            description = "The piece is here",
            headers(
                ("Upload-Offset" = i64, description = "How many bytes are here"),
                ("Upload-Attachment" = String, description = "Where the attachment is that it has become"),
                ("Upload-Attachment-Status" = String, description = "`clean` or `quarantined`"),
            ),
        ),
    ),
    extensions(
        ("x-action" = json!("attachments.upload")),
        ("x-problems" = json!(refusal::WRITING)),
    ),
)]
pub(crate) async fn patch_upload(
    request: HttpRequest,
    door: Data<Door>,
    by: By,
    id: UploadId,
    body: RawBody,
) -> Result<HttpResponse, Problem> {
    let dialect = Dialect::of(&request)?;
    accepting(&door)?;
    let (caller, announced, ends) = (by.caller(), body.announced(), Authorised::of(&request)?.ends);
    let most = door.uploads.rules().max_bytes;
    let head = if announced.is_some_and(|length| length > most) {
        Err(Problem::new(Code::BodyTooLarge).because(format!("a piece is larger than any file may be, {most} bytes")))
    } else {
        PieceHead::of(&request, dialect)
    };
    let received = body.open(|incoming| {
        let (door, caller) = (&door, &caller);
        in_time(ends, Box::pin(async move { receive(door, caller, id.0, (head?, announced), incoming).await }))
    });
    let upload = received.await?;
    if dialect == Dialect::Json {
        return Ok(HttpResponse::Ok().json(OffsetReply { upload_id: upload.id, offset: upload.arrived }));
    }
    let attachment = if upload.is_open() && upload.is_whole() {
        Some(finished(&door, &caller, id.0, Spoken::Tus).await?)
    } else {
        attachment_of(&door, &caller, &upload).await?
    };
    let mut reply = HttpResponse::NoContent();
    described(&mut reply, &upload, attachment.as_ref());
    Ok(reply.finish())
}

/// Takes an upload away, and what has come of it. What it has become already stays.
#[utoipa::path(
    delete,
    path = "/v1/uploads/tus/{upload_id}",
    tag = "attachments",
    params(
        ("upload_id" = String, Path, description = "The upload"),
        ("Tus-Resumable" = Option<String>, Header, pattern = r"^1\.0\.0$", description = "The version of tus, for those who speak it. For them 404 is an upload that there is not"),
    ),
    responses((status = 204, description = "There is no such upload any more")),
    extensions(
        ("x-action" = json!("attachments.upload")),
        ("x-problems" = json!(refusal::REMOVING)),
    ),
)]
pub(crate) async fn delete_upload(
    request: HttpRequest,
    door: Data<Door>,
    by: By,
    id: UploadId,
) -> Result<HttpResponse, Problem> {
    let dialect = Dialect::of(&request)?;
    door.accepting()?;
    let was = door.uploads.tus().remove(&by.caller(), id.0).await.map_err(refusal::unsure)?;
    if !was && dialect == Dialect::Tus {
        return Err(Code::UploadNotFound.into());
    }
    Ok(HttpResponse::NoContent().finish())
}

/// Makes an attachment of an upload that has come whole. Safe to repeat: then it tells again what became of it.
#[utoipa::path(
    post,
    path = "/v1/uploads/tus/{upload_id}/finalize",
    tag = "attachments",
    params(
        ("upload_id" = Uuid, Path, description = "The upload"),
        ("Tus-Resumable" = Option<String>, Header, pattern = r"^1\.0\.0$", description = "The version of tus, for those who speak it"),
    ),
    responses((status = 200, description = "What it has become", body = FinalizedReply)),
    extensions(
        ("x-action" = json!("attachments.upload")),
        ("x-problems" = json!(refusal::FINISHING)),
    ),
)]
pub(crate) async fn post_finalize(
    request: HttpRequest,
    door: Data<Door>,
    by: By,
    id: UploadId,
) -> Result<Json<FinalizedReply>, Problem> {
    let spoken = if Dialect::of(&request)? == Dialect::Tus { Spoken::Tus } else { Spoken::Finalize };
    accepting(&door)?;
    Ok(Json(finished(&door, &by.caller(), id.0, spoken).await?.into()))
}

/// Refuses what is new while files are not taken.
fn accepting(door: &Door) -> Result<(), Problem> {
    if !door.uploads.rules().enabled {
        return Err(Code::UploadsDisabled.into());
    }
    door.accepting()
}

/// Says what is spoken of tus, and how large a file may be.
pub(super) fn introduce(request: &HttpRequest, reply: &mut HttpResponseBuilder) {
    reply.insert_header(("Tus-Extension", EXTENSIONS));
    reply.insert_header(("Tus-Checksum-Algorithm", ALGORITHMS));
    if let Some(door) = request.app_data::<Data<Door>>() {
        let rules = door.uploads.rules();
        reply.insert_header(("Tus-Max-Size", rules.max_bytes.min(rules.inline_max_bytes).to_string()));
    }
}
