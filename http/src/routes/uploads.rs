//! Files that people send.

pub(super) mod external;
mod progress;
mod receiving;
mod refusal;

use std::{
    future::{Future, pending},
    time::Duration,
};

use actix_web::{
    HttpRequest,
    web::{Data, Json},
};
use serde::Serialize;
use serde_json::Value;
use somaagent_actors::{
    domain::caller::Caller,
    uploads::{Attachment, Keeping, external::host_of, remembering::memory_id},
};
use tokio::{
    select,
    time::{Instant, timeout},
};
use utoipa::ToSchema;
use uuid::Uuid;

use self::{
    progress::Progress,
    receiving::{Asked, Outcome, Receiving},
    refusal::Refused,
};
pub(super) use self::{
    progress::of as progress_of,
    receiving::{permitted, session},
    refusal::{not_there, refused, unkept},
};
use super::{attachments::seconds, write_through::written_soon};
use crate::{
    door::Door,
    extract::{By, Hints, Parts, Query},
    middleware::authorise::{Authorised, Ends},
    openapi::shapes::ProblemReply,
    problem::{Code, Problem},
    settings::{DoorSettings, WriteThroughSettings},
};

/// What the form around the files may take, of each file and in all.
const FORM_BYTES: u64 = 64 << 10;

/// Longest time in which a form comes. Below that after which bytes that stopped coming are swept.
const FORM_WITHIN: Duration = Duration::from_mins(10);

/// A form with files.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the body, which is read part by part")]
pub(crate) struct UploadForm {
    /// The files.
    #[schema(value_type = Vec<String>, format = Binary, min_items = 1)]
    files: Vec<Vec<u8>>,
    /// The session that they belong to.
    session_id: Option<Uuid>,
}

/// A file that is kept.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AttachmentReply {
    /// Its id.
    id: Uuid,
    /// Its name, without what is odd.
    filename: String,
    /// What its bytes are.
    mime: String,
    /// How many there are.
    size: i64,
    /// Their SHA-256 in hexadecimal digits.
    sha256: String,
    /// When it was sent, in seconds since 1970.
    created_at: f64,
    /// Whose it is.
    tenant: String,
    /// The session that it belongs to, or `unspecified`.
    session_id: String,
    /// `clean`, or `quarantined`: then nobody gets it.
    status: String,
    /// Why it is quarantined, or was until it was released: `infected`, `av_error` or `limits_exceeded`.
    quarantine_reason: Option<String>,
    /// Where it is.
    path: String,
    /// On which host its bytes are, if they are not here.
    #[serde(skip_serializing_if = "Option::is_none")]
    external_host: Option<String>,
}

/// A file that was not taken, where each file has a result of its own.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RefusedFileReply {
    /// Its name, without what is odd.
    filename: String,
    /// Why, as a problem document.
    #[schema(value_type = ProblemReply)]
    error: Value,
}

/// What became of a file.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum FileReply {
    /// It is kept.
    Kept(AttachmentReply),
    /// It is not.
    Refused(RefusedFileReply),
}

/// Takes files, which are looked at while they come. A request of which a file is refused is refused as a whole, unless each has a
/// result of its own. One that is refused, or breaks off, leaves nothing.
#[utoipa::path(
    post,
    path = "/v1/uploads",
    tag = "attachments",
    request_body(content = UploadForm, content_type = "multipart/form-data"),
    params(
        ("session_id" = Option<Uuid>, Query, description = "The session that the files belong to, unless the form says so"),
        ("per_file" = Option<bool>, Query, description = "Whether each file has a result of its own: one that is refused then ends nothing"),
        ("X-Persona-Id" = Option<String>, Header, max_length = 128, pattern = r"^[\t -~]*$", description = "The persona that they are for"),
    ),
    responses((status = 200, description = "What became of each file, in their order", body = Vec<FileReply>)),
    extensions(
        ("x-action" = json!("attachments.upload")),
        ("x-problems" = json!(refusal::CODES)),
    ),
)]
pub(crate) async fn post_uploads(
    request: HttpRequest,
    door: Data<Door>,
    by: By,
    hints: Hints,
    query: Query,
    parts: Parts,
    settings: Data<DoorSettings>,
) -> Result<Json<Vec<FileReply>>, Problem> {
    let (started, rules) = (Instant::now(), door.uploads.rules());
    if !rules.enabled {
        return Err(Code::UploadsDisabled.into());
    }
    door.accepting()?;
    let caller = by.caller();
    let session_id =
        query.text("session_id")?.map(|text| session(&["query", "session_id"], text)).transpose()?.flatten();
    let per_file = query.parsed::<bool>("per_file", "true or false")?.unwrap_or_default();
    let around = u64::from(rules.max_files).saturating_add(1).saturating_mul(FORM_BYTES);
    let most = u64::from(rules.max_files).saturating_mul(rules.max_bytes).saturating_add(around);
    let asked = Asked { at_least: parts.announced().unwrap_or_default().saturating_sub(around), session_id, per_file };
    let ends = Authorised::of(&request)?.ends;
    let persona_id = hints.persona_id;
    let receiving = Receiving::new(&door, &caller, persona_id.as_deref(), rules.clone(), asked);
    let received = parts.open(most, |parts| in_time(ends, Box::pin(receiving.receive(parts)))).await?;
    // What came by other rules may be what these do not let in.
    if door.uploads.rules() != rules {
        return Err(Problem::new(Code::Unavailable).caused_by("the rules of uploads changed while the files came"));
    }
    let keeping = Keeping { caller: caller.clone(), session_id: received.session_id, persona_id };
    let progress = Progress { door: &door, caller: &caller, session_id: received.session_id };
    let replies = keep(&door, keeping, (received.outcomes, per_file), |kept, index| {
        progress.kept(kept, index);
        remember(&door, &settings.write_through, &caller, kept);
    });
    let replies = replies.await?;
    door.uploads.metrics().took(started.elapsed().as_secs_f64());
    Ok(Json(replies))
}

/// Keeps the files of a form together, and has each one that is kept `told`. If `per_file`, one that is not has a result of its own.
async fn keep(
    door: &Door,
    keeping: Keeping,
    (outcomes, per_file): (Vec<Outcome>, bool),
    told: impl Fn(&Attachment, u32),
) -> Result<Vec<FileReply>, Problem> {
    let (mut files, mut names) = (Vec::new(), Vec::new());
    let mut replies: Vec<Option<FileReply>> = Vec::with_capacity(outcomes.len());
    for (index, outcome) in (0..).zip(outcomes) {
        replies.push(match outcome {
            Outcome::Judged(judged) => {
                names.push((index, judged.filename.clone()));
                files.push(judged.numbered(index));
                None
            }
            Outcome::Refused(refused) => Some(FileReply::Refused(refused.into())),
        });
    }
    let refuse = |error| {
        door.uploads.metrics().refused();
        unkept(error)
    };
    let mut kept = door.uploads.keep(files, keeping, per_file).await.map_err(refuse)?.into_iter().zip(names);
    for reply in replies.iter_mut().filter(|reply| reply.is_none()) {
        let (kept, (index, filename)) = kept.next().ok_or(Code::Internal)?;
        *reply = Some(match kept {
            Ok(kept) => {
                told(&kept, index);
                FileReply::Kept(kept.into())
            }
            Err(error) => FileReply::Refused(Refused { filename, problem: refuse(error) }.into()),
        });
    }
    Ok(replies.into_iter().flatten().collect())
}

/// Has the memory of a file written at once, where requests have that done. The reply does not tell of it, so it does not wait either.
fn remember(door: &Door, settings: &WriteThroughSettings, caller: &Caller, kept: &Attachment) {
    if let Some(session_id) = kept.session_id.filter(|_| settings.enabled) {
        let within = Duration::from_millis(settings.timeout_ms);
        written_soon(door, caller.session(session_id), memory_id(kept.id), "/v1/uploads", within);
    }
}

/// What `reading` gives, unless it takes too long, or what the sender showed ends before it does.
pub(super) async fn in_time<T>(
    ends: Option<Ends>,
    reading: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    let in_time = async {
        let read = timeout(FORM_WITHIN, reading).await;
        read.unwrap_or_else(|_| Err(Problem::new(Code::RequestTimeout).because("the body took too long")))
    };
    while_shown(ends, in_time).await
}

/// What `reading` gives, unless what the sender showed ends before it does.
async fn while_shown<T>(ends: Option<Ends>, reading: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let ended = async {
        match ends {
            Some(ends) => ends.reached().await,
            None => pending().await,
        }
    };
    select! {
        read = reading => read,
        () = ended => Err(Problem::new(Code::TokenInvalid).because("what the sender showed ended while the files came")),
    }
}

impl From<Refused> for RefusedFileReply {
    fn from(refused: Refused) -> Self {
        Self { filename: refused.filename, error: refused.problem.body(None) }
    }
}

impl From<Attachment> for AttachmentReply {
    fn from(kept: Attachment) -> Self {
        Self {
            path: format!("/v1/attachments/{}", kept.id),
            external_host: kept.external_url.as_deref().and_then(host_of),
            id: kept.id,
            filename: kept.filename,
            mime: kept.mime,
            size: kept.size,
            sha256: kept.sha256,
            created_at: seconds(kept.created_at),
            tenant: kept.tenant,
            session_id: kept.session_id.map_or_else(|| "unspecified".to_owned(), |id| id.to_string()),
            status: kept.status,
            quarantine_reason: kept.quarantine_reason,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_form_has_its_time_and_no_more_than_what_its_sender_showed() {
        let form = |seconds| async move {
            sleep(Duration::from_secs(seconds)).await;
            Ok(seconds)
        };
        assert_eq!(in_time(None, form(599)).await.unwrap(), 599);
        assert_eq!(in_time(None, form(601)).await.unwrap_err().code(), Code::RequestTimeout);
        let ends = || Some(Ends::At(Instant::now() + Duration::from_secs(5)));
        assert_eq!(in_time(ends(), form(4)).await.unwrap(), 4);
        assert_eq!(in_time(ends(), form(6)).await.unwrap_err().code(), Code::TokenInvalid);
    }
}
