//! Beginning an upload.

use std::{future::Future, pin::Pin};

use actix_web::{FromRequest, HttpRequest, HttpResponse, HttpResponseBuilder, dev::Payload, http::header::LOCATION};
use serde::Deserialize;
use somaagent_actors::{
    domain::{caller::Caller, filename::sanitised},
    uploads::{
        Declared,
        tus::{NewUpload, TusError, TusUpload},
    },
};
use utoipa::ToSchema;

use super::{
    super::uploads::session,
    finishing::{check_session, finished, made_of_parts},
    refusal::{Spoken, told},
    replies::{CreatedReply, described},
};
use crate::{
    door::Door,
    extract::{Declares, JsonBody, bad_header, header, wrong},
    problem::{Code, Problem},
    tus::{Concat, Dialect, MAX_TYPE_BYTES, Metadata, PATH, bytes, concat, file_type, metadata},
};

/// Longest name of a file that is read.
const MAX_NAME_CHARS: usize = 1024;

/// What an upload is begun with.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CreateRequest {
    /// What the file is called.
    #[schema(max_length = 1024)]
    filename: String,
    /// How many bytes it has, at least 1.
    size: i64,
    /// What type it is said to have.
    #[schema(max_length = 255, pattern = "^[ -~]*$")]
    mime_type: Option<String>,
    /// The session that it belongs to; empty or `unspecified`: none.
    #[schema(
        pattern = "^\\s*(unspecified|[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12})?\\s*$"
    )]
    session_id: Option<String>,
}

/// What an upload is begun with, in either dialect.
pub(crate) enum Creation {
    /// By tus, with so many bytes unless it is made of parts.
    Tus(NewUpload, Option<u64>, Option<Concat>),
    /// In JSON, with so many bytes.
    Json(NewUpload, i64),
}

impl FromRequest for Creation {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        match Dialect::of(request) {
            Ok(Dialect::Tus) => Box::pin(std::future::ready(by_tus(request))),
            Ok(Dialect::Json) => {
                let body = JsonBody::<CreateRequest>::from_request(request, payload);
                Box::pin(async move { in_json(body.await?.fields) })
            }
            Err(problem) => Box::pin(std::future::ready(Err(problem))),
        }
    }
}

impl Declares for Creation {
    const PROBLEMS: &'static [Code] = <JsonBody<CreateRequest> as Declares>::PROBLEMS;
}

fn by_tus(request: &HttpRequest) -> Result<Creation, Problem> {
    let Metadata { said, session_id } =
        header(request, "Upload-Metadata")?.map(metadata).transpose()?.unwrap_or_default();
    let kept = header(request, "Upload-Metadata")?.map(str::to_owned);
    if header(request, "Upload-Defer-Length")?.is_some() {
        return Err(bad_header("Upload-Defer-Length", "must not be given: the length is said when an upload begins"));
    }
    let written = header(request, "Upload-Concat")?;
    let new = NewUpload { said, metadata: kept, concat: written.map(str::to_owned), session_id, persona_id: None };
    let concat = written.map(concat).transpose()?;
    let length = header(request, "Upload-Length")?;
    let length = length.map(|text| bytes(text).ok_or_else(|| bad_header("Upload-Length", "must be a number of bytes")));
    match (&concat, length.transpose()?) {
        (Some(Concat::Final(_)), Some(_)) => {
            Err(bad_header("Upload-Length", "must not be given with parts: they have their lengths"))
        }
        (None | Some(Concat::Partial), None) => Err(bad_header("Upload-Length", "must be given")),
        (_, length) => Ok(Creation::Tus(new, length, concat)),
    }
}

fn in_json(fields: CreateRequest) -> Result<Creation, Problem> {
    let CreateRequest { filename, size, mime_type, session_id } = fields;
    if filename.chars().count() > MAX_NAME_CHARS {
        return Err(wrong(vec!["filename".into()], &format!("must be at most {MAX_NAME_CHARS} characters")));
    }
    let mime = mime_type.map(|text| {
        let rule = format!("must be at most {MAX_TYPE_BYTES} characters that can be seen");
        file_type(&text).ok_or_else(|| wrong(vec!["mime_type".into()], &rule))
    });
    let said = Declared { filename: Some(sanitised(&filename)), mime: mime.transpose()? };
    let session_id = session_id.map(|given| session(&["body", "session_id"], &given)).transpose()?.flatten();
    Ok(Creation::Json(NewUpload { said, session_id, ..NewUpload::default() }, size))
}

/// Begins an upload.
pub(super) async fn create(
    door: &Door,
    caller: &Caller,
    persona_id: Option<String>,
    creation: Creation,
) -> Result<HttpResponse, Problem> {
    match creation {
        Creation::Json(new, size) => {
            let rules = door.uploads.rules();
            let length = u64::try_from(size).ok().filter(|size| *size > 0).ok_or_else(|| {
                let most = rules.max_bytes;
                Problem::new(Code::FileTooLarge).because(format!("a file has 1 to {most} bytes"))
            })?;
            let upload = begin(door, caller, NewUpload { persona_id, ..new }, (length, false)).await?;
            let upload_url = format!("{PATH}{}", upload.id);
            Ok(HttpResponse::Ok().json(CreatedReply { upload_id: upload.id, upload_url, offset: 0 }))
        }
        Creation::Tus(new, _, Some(Concat::Final(parts))) => {
            let (upload, attachment) = made_of_parts(door, caller, NewUpload { persona_id, ..new }, &parts).await?;
            Ok(created(&upload, |reply| described(reply, &upload, Some(&attachment))))
        }
        Creation::Tus(new, length, concat) => {
            let wanted = (length.unwrap_or_default(), concat == Some(Concat::Partial));
            let upload = begin(door, caller, NewUpload { persona_id, ..new }, wanted).await?;
            // One without bytes has come whole.
            let attachment = if upload.is_open() && upload.is_whole() {
                Some(finished(door, caller, upload.id, Spoken::Create).await?)
            } else {
                None
            };
            Ok(created(&upload, |reply| described(reply, &upload, attachment.as_ref())))
        }
    }
}

async fn begin(door: &Door, caller: &Caller, new: NewUpload, wanted: (u64, bool)) -> Result<TusUpload, Problem> {
    check_session(door, caller, new.session_id).await?;
    let begun = door.uploads.tus().begin(caller, &door.uploads.rules(), new, wanted).await;
    begun.map_err(|error| {
        if matches!(error, TusError::Ingest(_)) {
            door.uploads.metrics().refused();
        }
        told(error, Spoken::Create)
    })
}

fn created(upload: &TusUpload, describe: impl FnOnce(&mut HttpResponseBuilder)) -> HttpResponse {
    let mut reply = HttpResponse::Created();
    reply.insert_header((LOCATION, format!("{PATH}{}", upload.id)));
    describe(&mut reply);
    reply.finish()
}
