//! The transaction in which files begin to exist.

use std::{collections::HashMap, sync::Arc};

use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{IngestError, Judged, writing::Rest};
use crate::{
    domain::{brought::Brought, caller::Caller, memory::MemorySpace, session::audit},
    store::{
        attachment_blobs::{self, Sum},
        attachments::{
            self, memories,
            rescans::{self, Finding},
            verdicts::{self, FoundBefore},
        },
        audit_event, erase,
        memory_write_outbox::enqueue::enqueue,
        tus_uploads::{self, TusUpload, Writer},
        wall::TenantTx,
    },
    uploads::{
        Attachment, Uploads,
        quota::Room,
        remembering,
        rescanning::{Asked, caught, finding, judge},
        rules::{Quarantine, Rules},
        tus::MAX_OPEN,
    },
};

/// For whom a file is kept, and where it belongs.
#[derive(Clone, Debug)]
pub struct Keeping {
    /// Who sent it.
    pub caller: Caller,
    /// To which session, if to any.
    pub session_id: Option<Uuid>,
    /// To which persona, if to any.
    pub persona_id: Option<String>,
}

/// How a file has come.
pub(in crate::uploads) enum Origin {
    /// In one request.
    Request,
    /// As an upload in pieces, of which this is the last writer.
    Pieces(Writer),
    /// As parts, of which this upload is made, which begins to exist with the file.
    Parts(Box<TusUpload>),
}

/// Everything that the transaction needs.
struct Step {
    files: Vec<File>,
    rules: Arc<Rules>,
    keeping: Keeping,
    origin: Origin,
    /// Whether a file that is not kept keeps none of the others from it.
    each: bool,
    /// Where it is remembered, if that is wanted.
    remembers: Option<MemorySpace>,
    /// Blobs that have such bytes already, where those are kept once.
    known: HashMap<Sum, Uuid>,
    /// What was found in some of the files.
    findings: HashMap<Sum, Finding>,
}

/// A file that is to be kept.
struct File {
    attachment: Attachment,
    /// Its bytes, unless they are dropped.
    rest: Option<Rest>,
    /// From which host it was fetched, if it was.
    host: Option<String>,
    /// Its place among the files of the request.
    index: Option<u32>,
}

/// What became of each file.
type Kept = Vec<Result<Attachment, IngestError>>;

/// What the transaction has done.
struct Written {
    kept: Kept,
    /// How many attachments that were here before nobody gets any more.
    caught: usize,
}

impl Judged {
    /// The same file, which has this place among those of one request.
    #[must_use]
    pub fn numbered(self, index: u32) -> Self {
        Self { index: Some(index), ..self }
    }

    /// Keeps the file: from now on it exists. If this fails nothing of it does, unless the database did not say.
    ///
    /// # Errors
    /// [`IngestError::Store`]; after `Interrupted` and `TimedOut` the attachment may be there. [`IngestError::GivenUp`],
    /// [`IngestError::SessionDeleted`], [`IngestError::OverQuota`].
    pub async fn keep(self, keeping: Keeping) -> Result<Attachment, IngestError> {
        self.keep_from(Origin::Request, keeping).await
    }

    /// The same of a file that has come as `origin` says.
    ///
    /// # Errors
    /// As [`keep`](Self::keep); [`IngestError::GivenUp`] also if somebody else went on with the upload, and
    /// [`IngestError::TooManyUploads`] for parts.
    pub(in crate::uploads) async fn keep_from(
        self,
        origin: Origin,
        keeping: Keeping,
    ) -> Result<Attachment, IngestError> {
        let uploads = self.uploads.clone();
        let kept = keep(&uploads, vec![self], origin, (keeping, false)).await?;
        kept.into_iter().next().unwrap_or(Err(IngestError::GivenUp))
    }

    /// How many bytes are kept of it: all or none.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        if self.drops_bytes { 0 } else { self.size }
    }

    /// What exists from `now` on, and what of its bytes is still to be written.
    fn file(&mut self, keeping: &Keeping, now: OffsetDateTime) -> File {
        let (reason, drops_bytes) = (self.quarantine_reason, self.drops_bytes);
        let Keeping { caller, session_id, persona_id } = keeping;
        let attachment = Attachment {
            id: Uuid::new_v4(),
            tenant: caller.tenant.as_str().to_owned(),
            session_id: *session_id,
            persona_id: persona_id.clone(),
            subject: caller.subject.clone(),
            issuer: caller.admission.as_ref().and_then(|admission| admission.issuer.clone()),
            filename: std::mem::take(&mut self.filename),
            mime: std::mem::take(&mut self.mime),
            declared_mime: self.declared_mime.take(),
            size: i64::try_from(self.size).unwrap_or(i64::MAX),
            sha256: std::mem::take(&mut self.sha256),
            status: if reason.is_some() { "quarantined" } else { "clean" }.to_owned(),
            quarantine_reason: reason.map(str::to_owned),
            threat: self.threat.take(),
            scanned_at: self.scanned_at,
            signatures: self.signatures.take(),
            blob_id: None,
            external_url: self
                .source
                .as_ref()
                .filter(|_| drops_bytes && reason.is_none())
                .map(|source| source.url.clone()),
            created_at: now,
            deleted_at: None,
            released_at: None,
            released_by: None,
        };
        let rest = (!drops_bytes).then(|| self.blob.rest());
        let host = self.source.take().map(|source| source.host);
        File { attachment, rest, host, index: self.index }
    }
}

impl Uploads {
    /// Keeps the files of one request in one transaction: if this fails none of them exists, unless the database did not say. If
    /// `each` has a result of its own, one that is not kept is in its place, and the others are kept.
    ///
    /// # Errors
    /// As [`Judged::keep`].
    pub async fn keep(&self, files: Vec<Judged>, keeping: Keeping, each: bool) -> Result<Kept, IngestError> {
        keep(self, files, Origin::Request, (keeping, each)).await
    }
}

async fn keep(
    uploads: &Uploads,
    mut files: Vec<Judged>,
    origin: Origin,
    (keeping, each): (Keeping, bool),
) -> Result<Kept, IngestError> {
    let Some(first) = files.first() else { return Ok(Vec::new()) };
    let (now, rules, tenant) = ((uploads.clock)(), Arc::clone(&first.rules), keeping.caller.tenant.clone());
    let remembers = uploads.remembers.clone();
    let step: Vec<File> = files.iter_mut().map(|judged| judged.file(&keeping, now)).collect();
    let found = |file: &File| Some((sum(&file.attachment), finding(&file.attachment, rules.quarantine)?));
    let findings = step.iter().filter_map(found).collect();
    let step = Step { files: step, rules, keeping, origin, each, remembers, known: HashMap::new(), findings };
    let work = uploads.store.change_for(tenant, move |rows| Box::pin(step.write(rows, now)));
    let Written { kept, caught } = work.await??;
    for (judged, kept) in files.iter_mut().zip(&kept) {
        let Ok(attachment) = kept else { continue };
        if attachment.blob_id.is_some() {
            judged.blob.kept();
        }
        uploads.metrics.kept(attachment.status == "quarantined");
    }
    uploads.metrics.quarantined(caught);
    Ok(kept)
}

impl Step {
    async fn write(
        mut self,
        rows: &mut TenantTx<'_>,
        at: OffsetDateTime,
    ) -> Result<Result<Written, IngestError>, sqlx::Error> {
        let kept = self.keep(rows, at).await?;
        if kept.is_err() {
            rows.undo();
        }
        Ok(kept)
    }

    async fn keep(
        &mut self,
        rows: &mut TenantTx<'_>,
        at: OffsetDateTime,
    ) -> Result<Result<Written, IngestError>, sqlx::Error> {
        if let Some(id) = self.keeping.session_id
            && erase::hold_off(rows, &self.keeping.caller.session(id)).await?
        {
            return Ok(Err(IngestError::SessionDeleted));
        }
        // Each of these keeps others waiting, so all take them in this order.
        let mut room = self.room(rows).await?;
        let caught = self.judge_others(rows, at).await?;
        if self.rules.dedup {
            let (tenant, sums) = (self.keeping.caller.tenant.as_str(), self.sums());
            self.known = attachment_blobs::same(rows, tenant, &sums).await?;
        }
        match &self.origin {
            Origin::Request => {}
            Origin::Pieces(writer) => tus_uploads::hold_row(rows, &writer.tenant, writer.id).await?,
            Origin::Parts(upload) => {
                if !tus_uploads::has_place(rows, &upload.owner(), MAX_OPEN).await? {
                    return Ok(Err(IngestError::TooManyUploads));
                }
            }
        }
        let (mut kept, mut memories) = (Vec::with_capacity(self.files.len()), Vec::new());
        for file in std::mem::take(&mut self.files) {
            match self.keep_one(rows, file, (&mut room, &mut memories), at).await? {
                Err(refusal) if !self.each => return Ok(Err(refusal)),
                result => kept.push(result),
            }
        }
        self.remember(rows, &memories, at).await?;
        Ok(Ok(Written { kept, caught }))
    }

    fn sums(&self) -> Vec<&str> {
        self.files.iter().map(|file| file.attachment.sha256.as_str()).collect()
    }

    /// Has what was found in the files count for the same bytes that were let in before, so that it is never known of one and not of
    /// the other. Returns how many of those nobody gets any more.
    async fn judge_others(&self, rows: &mut TenantTx<'_>, at: OffsetDateTime) -> Result<usize, sqlx::Error> {
        let tenant = self.keeping.caller.tenant.as_str();
        attachment_blobs::lock_sums(rows, tenant, &self.sums()).await?;
        if self.findings.is_empty() {
            return Ok(0);
        }
        let found: Vec<&str> = self.findings.keys().map(|sum| sum.sha256.as_str()).collect();
        rescans::hold_all(rows, tenant, &found).await?;
        let mut count = 0;
        for found in &self.findings {
            count += caught(&judge(rows, tenant, found, (&Asked::ByNobody, at)).await?);
        }
        Ok(count)
    }

    /// Keeps one file. If it is refused nothing was written of it, or nothing of all is kept.
    async fn keep_one(
        &mut self,
        rows: &mut TenantTx<'_>,
        file: File,
        (room, memories): (&mut Room, &mut Vec<(Uuid, Brought)>),
        at: OffsetDateTime,
    ) -> Result<Result<Attachment, IngestError>, sqlx::Error> {
        let File { mut attachment, mut rest, host, index } = file;
        self.take_over(rows, &mut attachment, &mut rest, at).await?;
        if let Some(rest) = rest {
            let bytes = attachment.size.unsigned_abs();
            if let Err(over) = room.check(bytes) {
                return Ok(Err(over.into()));
            }
            room.take(bytes);
            let Some(blob) = self.place(rows, &attachment, &rest, at).await? else {
                return Ok(Err(IngestError::GivenUp));
            };
            attachment.blob_id = Some(blob);
        }
        attachments::insert(rows, &attachment).await?;
        if !self.origin.settle(rows, attachment.id).await? {
            return Ok(Err(IngestError::GivenUp));
        }
        self.write_down(rows, (&attachment, host), at).await?;
        if let Some(space) = &self.remembers {
            memories.push((attachment.id, remembering::record(&attachment, index, space, &self.keeping.caller)));
        }
        Ok(Ok(attachment))
    }

    /// What is left for the files. Of an upload in pieces nothing more is needed: it has its room.
    async fn room(&self, rows: &mut TenantTx<'_>) -> Result<Room, sqlx::Error> {
        match &self.origin {
            Origin::Pieces(_) => Ok(Room::default()),
            Origin::Request | Origin::Parts(_) => {
                let of = (self.keeping.caller.tenant.as_str(), self.keeping.session_id);
                Room::held(rows, self.rules.quotas, of).await
            }
        }
    }

    /// What was found in the same bytes since the file was looked through, or in another file of the request, counts for it too, else
    /// it would be clean beside others that are not. Gives its bytes up if they are to be dropped then.
    async fn take_over(
        &self,
        rows: &mut TenantTx<'_>,
        attachment: &mut Attachment,
        rest: &mut Option<Rest>,
        at: OffsetDateTime,
    ) -> Result<(), sqlx::Error> {
        let (tenant, of) = (attachment.tenant.as_str(), (attachment.sha256.as_str(), attachment.size));
        let found = match self.findings.get(&sum(attachment)) {
            // So that whoever looked through the same bytes meanwhile, and waits, finds it.
            Some(_) if is_judged(attachment) => {
                attachment.scanned_at = Some(at);
                return Ok(());
            }
            Some(Finding { reason: Some(reason), threat, signatures, .. }) => Some(FoundBefore {
                reason: (*reason).to_owned(),
                threat: threat.clone(),
                scanned_at: at,
                signatures: signatures.clone(),
            }),
            _ => verdicts::found_in(rows, tenant, of, attachment.scanned_at).await?,
        };
        let Some(found) = found else { return Ok(()) };
        if self.rules.quarantine == Quarantine::DropBytesKeepMeta
            && let Some(id) = rest.take().and_then(|rest| rest.id)
        {
            attachment_blobs::abandon(rows, tenant, id).await?;
        }
        "quarantined".clone_into(&mut attachment.status);
        attachment.external_url = None;
        attachment.quarantine_reason = Some(found.reason);
        attachment.threat = found.threat;
        attachment.scanned_at = Some(found.scanned_at);
        attachment.signatures = found.signatures;
        Ok(())
    }

    /// Writes down what was sent: what it is, and not what it is called, which may be about somebody.
    async fn write_down(
        &self,
        rows: &mut TenantTx<'_>,
        (attachment, host): (&Attachment, Option<String>),
        at: OffsetDateTime,
    ) -> Result<(), sqlx::Error> {
        let caller = &self.keeping.caller;
        let mut details = json!({
            "mime": attachment.mime, "size": attachment.size, "sha256": attachment.sha256, "status": attachment.status,
            "reason": attachment.quarantine_reason,
        });
        // Not the whole of where it was: that may open it.
        if let Some(host) = host {
            details["host"] = host.into();
        }
        let audit = audit(caller, "attachments.upload", "attachment", attachment.id.to_string(), details);
        match self.keeping.session_id {
            Some(id) => audit_event::insert_of_session(rows, &caller.session(id), &audit, at).await,
            None => audit_event::insert(rows, &caller.tenant, &audit, at).await.map(drop),
        }
    }

    /// Has all of them remembered, which locks what it locks in one order.
    async fn remember(
        &self,
        rows: &mut TenantTx<'_>,
        memories: &[(Uuid, Brought)],
        at: OffsetDateTime,
    ) -> Result<(), sqlx::Error> {
        if memories.is_empty() {
            return Ok(());
        }
        let tenant = &self.keeping.caller.tenant;
        let records: Vec<Brought> = memories.iter().map(|(_, record)| record.clone()).collect();
        enqueue(rows, tenant, &records, at).await?;
        for (id, _) in memories {
            memories::queued(rows, tenant.as_str(), *id).await?;
        }
        Ok(())
    }

    /// The blob that has the bytes from now on.
    async fn place(
        &mut self,
        rows: &mut TenantTx<'_>,
        attachment: &Attachment,
        rest: &Rest,
        at: OffsetDateTime,
    ) -> Result<Option<Uuid>, sqlx::Error> {
        let (tenant, known) = (attachment.tenant.as_str(), sum(attachment));
        if let Some(same) = self.known.get(&known) {
            if let Some(id) = rest.id {
                attachment_blobs::abandon(rows, tenant, id).await?;
            }
            return Ok(Some(*same));
        }
        let id = rest.id.unwrap_or_else(Uuid::now_v7);
        if rest.id.is_none() {
            attachment_blobs::begin(rows, tenant, id, at).await?;
        }
        if !rest.bytes.is_empty() && !attachment_blobs::append(rows, tenant, id, (rest.offset, &rest.bytes), at).await?
        {
            return Ok(None);
        }
        if !attachment_blobs::complete(rows, tenant, id, (&known.sha256, known.size), at).await? {
            return Ok(None);
        }
        if self.rules.dedup {
            self.known.insert(known, id);
        }
        Ok(Some(id))
    }
}

/// Whether something was found in it, and not only nobody could look through it.
fn is_judged(attachment: &Attachment) -> bool {
    attachment.quarantine_reason.as_deref().is_some_and(|reason| reason != "av_error")
}

fn sum(attachment: &Attachment) -> Sum {
    Sum { sha256: attachment.sha256.clone(), size: attachment.size }
}

impl Origin {
    /// Says that it has become the attachment `id`. Returns whether it was still there for that.
    async fn settle(&mut self, rows: &mut TenantTx<'_>, id: Uuid) -> Result<bool, sqlx::Error> {
        match self {
            Self::Request => Ok(true),
            Self::Pieces(writer) => tus_uploads::become_attachment(rows, writer, id).await,
            Self::Parts(upload) => {
                upload.attachment_id = Some(id);
                tus_uploads::insert(rows, upload).await?;
                Ok(true)
            }
        }
    }
}
