//! A file that is elsewhere, fetched by its URL.

use std::sync::Arc;

use actix_web::{
    HttpRequest,
    http::header::{ContentDisposition, HeaderValue},
    web::{Data, Json},
};
use serde::Deserialize;
use somaagent_actors::uploads::{
    Declared, IngestError, Judged, Keeping,
    external::{External, ExternalError, Failure, Fetched},
    rules::Rules,
};
use tokio::time::Instant;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    AttachmentReply,
    progress::Progress,
    receiving::{permitted, session},
    refusal::{self, not_there, refused, unkept},
    remember, while_shown,
};
use crate::{
    door::Door,
    extract::{By, Hints, JsonBody, called, wrong},
    limits::unhurried,
    middleware::authorise::Authorised,
    problem::{Code, Problem},
    settings::DoorSettings,
    tus::{MAX_TYPE_BYTES, file_type},
};

/// Longest name of a file that is read.
const MAX_NAME_CHARS: usize = 1024;

/// Where a file is.
#[derive(Deserialize, ToSchema)]
pub(crate) struct ExternalRequest {
    /// Its URL. What is secret in it is told to nobody but those who may fetch the file.
    #[schema(max_length = 4096, pattern = "^https?://")]
    url: String,
    /// What it is called; else what the server that has it says, or how the URL ends.
    #[schema(max_length = 1024)]
    filename: Option<String>,
    /// What type it is said to have; else what that server says.
    #[schema(max_length = 255, pattern = "^[ -~]*$")]
    mime: Option<String>,
    /// The session that it belongs to; empty or `unspecified`: none.
    #[schema(
        pattern = "^\\s*(unspecified|[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12})?\\s*$"
    )]
    session_id: Option<String>,
}

/// Fetches a file from where it is, if that is allowed, and takes it like one that is sent. One that is larger than a file may be that is
/// kept here is looked through to its end and referred to where it is. What is refused, or breaks off, leaves nothing.
#[utoipa::path(
    post,
    path = "/v1/uploads/external",
    tag = "attachments",
    request_body(content = ExternalRequest, content_type = "application/json"),
    params(
        ("X-Persona-Id" = Option<String>, Header, max_length = 128, pattern = r"^[\t -~]*$", description = "The persona that it is for"),
    ),
    responses((status = 200, description = "The file is kept, or referred to", body = AttachmentReply)),
    extensions(
        ("x-action" = json!("attachments.upload")),
        ("x-problems" = json!(refusal::FETCHING)),
    ),
)]
pub(crate) async fn post_external(
    request: HttpRequest,
    door: Data<Door>,
    by: By,
    hints: Hints,
    body: JsonBody<ExternalRequest>,
    settings: Data<DoorSettings>,
) -> Result<Json<AttachmentReply>, Problem> {
    let (started, rules) = (Instant::now(), door.uploads.rules());
    if !rules.enabled {
        return Err(Code::UploadsDisabled.into());
    }
    let external = door.uploads.external().filter(|_| rules.allow_external).ok_or(Code::ExternalDisabled)?;
    door.accepting()?;
    let (caller, persona_id) = (by.caller(), hints.persona_id);
    let wanted = Wanted::read(body.fields)?;
    let session_id = wanted.session_id;
    if let Some(id) = session_id {
        door.uploads.check_session(&caller, id).await.map_err(not_there)?;
    }
    let progress = Progress { door: &door, caller: &caller, session_id };
    let fetching = Fetching { progress, rules: &rules, wanted: &wanted, persona_id: persona_id.as_deref() };
    let ends = Authorised::of(&request)?.ends;
    let fetched = unhurried(request, while_shown(ends, Box::pin(fetching.fetch(external)))).await;
    let not_taken = |problem| {
        door.uploads.metrics().refused();
        problem
    };
    let judged = fetched.map_err(not_taken)?;
    // What came by other rules may be what these do not let in.
    if door.uploads.rules() != rules {
        return Err(Problem::new(Code::Unavailable).caused_by("the rules of uploads changed while the file came"));
    }
    let keeping = Keeping { caller: caller.clone(), session_id, persona_id };
    let kept = judged.numbered(0).keep(keeping).await.map_err(|error| not_taken(unkept(error)))?;
    progress.kept(&kept, 0);
    remember(&door, &settings.write_through, &caller, &kept);
    door.uploads.metrics().took(started.elapsed().as_secs_f64());
    Ok(Json(kept.into()))
}

/// What is asked for.
struct Wanted {
    url: String,
    said: Declared,
    session_id: Option<Uuid>,
}

impl Wanted {
    fn read(fields: ExternalRequest) -> Result<Self, Problem> {
        let ExternalRequest { url, filename, mime, session_id } = fields;
        if filename.as_ref().is_some_and(|name| name.chars().count() > MAX_NAME_CHARS) {
            return Err(wrong(vec!["filename".into()], &format!("must be at most {MAX_NAME_CHARS} characters")));
        }
        let mime = mime.map(|text| {
            let rule = format!("must be at most {MAX_TYPE_BYTES} characters that can be seen");
            file_type(&text).ok_or_else(|| wrong(vec!["mime".into()], &rule))
        });
        let said = Declared { filename, mime: mime.transpose()? };
        let session_id = session_id.map(|given| session(&["body", "session_id"], &given)).transpose()?.flatten();
        Ok(Self { url, said, session_id })
    }
}

/// A file on its way.
struct Fetching<'a> {
    progress: Progress<'a>,
    rules: &'a Arc<Rules>,
    wanted: &'a Wanted,
    persona_id: Option<&'a str>,
}

impl Fetching<'_> {
    async fn fetch(self, external: &External) -> Result<Judged, Problem> {
        let (Progress { door, caller, session_id }, rules) = (self.progress, self.rules);
        let room = door.uploads.room(caller, rules.quotas, session_id).await?;
        // What is too large to be kept takes no room.
        let check = |bytes: u64| match room.check(bytes) {
            Err(over) if bytes <= rules.inline_max_bytes => Err(refused(over.into())),
            _ => Ok(()),
        };
        let mut file = external.open(&rules.external_allowlist, &self.wanted.url).await.map_err(not_fetched)?;
        if file.length.is_some_and(|length| length > rules.max_bytes) {
            return Err(refused(IngestError::TooLarge(rules.max_bytes)));
        }
        file.length.map_or(Ok(()), check)?;
        let begun = door.uploads.begin(caller, Arc::clone(rules), &declared(&self.wanted.said, &file)).await;
        let mut ingest = begun.map_err(refused)?.fetched_from(file.source.clone());
        while let Some(bytes) = file.next().await.map_err(not_fetched)? {
            let before = ingest.size();
            ingest = ingest.push(bytes).await.map_err(refused)?;
            self.progress.came(&ingest, 0, before);
        }
        let judged = ingest.finish().await.map_err(refused)?;
        permitted(door, caller, (session_id, self.persona_id), &judged).await?;
        Ok(judged)
    }
}

/// What is said of a file: by whoever asks for it, else by whoever has it.
fn declared(said: &Declared, file: &Fetched) -> Declared {
    let there = || {
        let head = HeaderValue::from_bytes(file.disposition.as_deref()?).ok()?;
        called(&ContentDisposition::from_raw(&head).ok()?).filter(|name| !name.is_empty())
    };
    let filename = said.filename.clone().filter(|name| !name.is_empty());
    Declared {
        filename: filename.or_else(there).or_else(|| file.name.clone()),
        mime: said.mime.clone().or_else(|| file_type(file.mime.as_deref()?)),
    }
}

/// Why a file is not fetched.
fn not_fetched(error: ExternalError) -> Problem {
    match error {
        ExternalError::BadUrl(why) => wrong(vec!["url".into()], why),
        ExternalError::NotAllowed(why) => Problem::new(Code::ExternalNotAllowed).because(why),
        ExternalError::Failed { ref failure, .. } => {
            let problem = Problem::new(Code::ExternalFailed).with("reason", failure.word());
            let problem = match failure {
                Failure::Status(status) => problem.with("upstream_status", *status),
                _ => problem,
            };
            problem.caused_by(error)
        }
    }
}
