//! Making attachments of uploads that have come whole.

use somaagent_actors::{
    domain::caller::Caller,
    uploads::{
        Attachment, IngestError, Judged,
        downloads::Found,
        rules::Rules,
        tus::{Begun, NewUpload, TusError, TusUpload},
    },
};
use uuid::Uuid;

use super::{
    super::uploads::{not_there, permitted, progress_of, refused, unkept},
    refusal::{Spoken, told},
};
use crate::{
    door::Door,
    problem::{Code, Problem},
};

/// The attachment that an upload has become; made of it now unless it was before.
///
/// # Errors
/// It has not come whole, or is refused: then it is not there any more. Else it may be tried again.
pub(super) async fn finished(door: &Door, caller: &Caller, id: Uuid, spoken: Spoken) -> Result<Attachment, Problem> {
    let finishing = match door.uploads.tus().finish(caller, id).await {
        Ok(Begun::Now(finishing)) => finishing,
        Ok(Begun::Before(upload)) => return attachment_of(door, caller, &upload).await?.ok_or(Code::Internal.into()),
        Err(error) => return Err(told(error, spoken)),
    };
    let (session_id, rules) = (finishing.upload.session_id, door.uploads.rules());
    let judging = async {
        check_session(door, caller, session_id).await?;
        let judged = finishing.judge(rules.clone()).await.map_err(|error| told(error.into(), spoken))?;
        let of = (session_id, finishing.upload.persona_id.as_deref());
        may_be_kept(door, caller, of, &rules, judged).await
    };
    match finishing.holding(Box::pin(judging)).await {
        Ok(judged) => kept(door, caller, finishing.keep(judged).await, session_id),
        // By rules that are not in force any more nothing is refused for good.
        Err(problem) if is_for_good(&problem) && door.uploads.rules() == rules => {
            door.uploads.metrics().refused();
            finishing.refuse().await?;
            Err(problem)
        }
        Err(problem) => {
            finishing.release().await?;
            Err(problem)
        }
    }
}

/// Makes one file of parts, keeps it, and an upload that tells so.
///
/// # Errors
/// A part is not there or has not come whole, or the file is refused; the parts stay.
pub(super) async fn made_of_parts(
    door: &Door,
    caller: &Caller,
    new: NewUpload,
    ids: &[Uuid],
) -> Result<(TusUpload, Attachment), Problem> {
    let (tus, rules, session_id) = (door.uploads.tus(), door.uploads.rules(), new.session_id);
    check_session(door, caller, session_id).await?;
    let parts = tus.parts(caller, ids).await.map_err(|error| told(error, Spoken::Create))?;
    let length = parts.iter().map(|part| part.length.unsigned_abs()).sum();
    let room = door.uploads.room(caller, rules.quotas, session_id).await?;
    room.check(length).map_err(|over| {
        door.uploads.metrics().refused();
        refused(over.into())
    })?;
    let judging = async {
        let judged = tus.judge_parts(caller, rules.clone(), &new.said, &parts).await;
        let judged = judged.map_err(|error| told(error.into(), Spoken::Create))?;
        may_be_kept(door, caller, (session_id, new.persona_id.as_deref()), &rules, judged).await
    };
    let judged = Box::pin(judging).await.inspect_err(|problem| {
        if is_for_good(problem) {
            door.uploads.metrics().refused();
        }
    })?;
    let (upload, attachment) = tus.keep_final(judged, caller, new, ids).await.map_err(unkept)?;
    let attachment = kept(door, caller, Ok(attachment), session_id)?;
    Ok((upload, attachment))
}

/// The attachment that an upload has become, if it has.
///
/// # Errors
/// It is not there any more.
pub(super) async fn attachment_of(
    door: &Door,
    caller: &Caller,
    upload: &TusUpload,
) -> Result<Option<Attachment>, Problem> {
    let Some(id) = upload.attachment_id else { return Ok(None) };
    match door.attachments.find(caller, id).await? {
        Found::Here(attachment) => Ok(Some(*attachment)),
        Found::Gone | Found::Unknown => Err(Code::AttachmentGone.into()),
    }
}

/// Refuses files for a session that takes none.
pub(super) async fn check_session(door: &Door, caller: &Caller, session_id: Option<Uuid>) -> Result<(), Problem> {
    match session_id {
        Some(id) => door.uploads.check_session(caller, id).await.map_err(not_there),
        None => Ok(()),
    }
}

/// A file that the policy lets the caller keep, by the rules that are in force still.
async fn may_be_kept(
    door: &Door,
    caller: &Caller,
    of: (Option<Uuid>, Option<&str>),
    rules: &Rules,
    judged: Judged,
) -> Result<Judged, Problem> {
    permitted(door, caller, of, &judged).await?;
    // What came by other rules may be what these do not let in.
    if *door.uploads.rules() != *rules {
        return Err(
            Problem::new(Code::Unavailable).caused_by("the rules of uploads changed while a file was looked through")
        );
    }
    Ok(judged)
}

fn kept(
    door: &Door,
    caller: &Caller,
    kept: Result<Attachment, IngestError>,
    session_id: Option<Uuid>,
) -> Result<Attachment, Problem> {
    match kept {
        Ok(attachment) => {
            progress_of(door, caller, session_id).kept(&attachment, 0);
            Ok(attachment)
        }
        Err(IngestError::GivenUp) => Err(told(TusError::Overtaken, Spoken::Tus)),
        Err(error) => Err(unkept(error)),
    }
}

/// Whether a file is refused however often it is tried.
fn is_for_good(problem: &Problem) -> bool {
    let status = problem.code().status();
    (400..500).contains(&status) && ![408, 409, 423, 429].contains(&status)
}
