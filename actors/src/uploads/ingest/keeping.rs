//! The transaction in which a file begins to exist.

use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{IngestError, Judged, writing::Rest};
use crate::{
    domain::{append::AuditWrite, brought::Brought, caller::Caller, session::audit},
    store::{
        attachment_blobs,
        attachments::{self, memories},
        audit_event, erase,
        memory_write_outbox::enqueue::enqueue,
        tus_uploads::{self, TusUpload, Writer},
        wall::TenantTx,
    },
    uploads::{Attachment, remembering},
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
    attachment: Attachment,
    /// Its bytes, unless they are dropped.
    rest: Option<Rest>,
    dedup: bool,
    keeping: Keeping,
    origin: Origin,
    audit: AuditWrite,
    /// What is to be remembered of it, if anything.
    memory: Option<Brought>,
}

/// What became of it.
enum Kept {
    /// It exists.
    Here(Box<Attachment>),
    /// Its bytes are gone.
    GivenUp,
    /// Its session was deleted.
    SessionDeleted,
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
    /// [`IngestError::SessionDeleted`].
    pub async fn keep(self, keeping: Keeping) -> Result<Attachment, IngestError> {
        self.keep_from(Origin::Request, keeping).await
    }

    /// The same of a file that has come as `origin` says.
    ///
    /// # Errors
    /// As [`keep`](Self::keep); [`IngestError::GivenUp`] also if somebody else went on with the upload.
    pub(in crate::uploads) async fn keep_from(
        mut self,
        origin: Origin,
        keeping: Keeping,
    ) -> Result<Attachment, IngestError> {
        let (now, reason) = ((self.uploads.clock)(), self.quarantine_reason);
        let status = if reason.is_some() { "quarantined" } else { "clean" };
        let drops_bytes = self.drops_bytes;
        let Keeping { caller, session_id, persona_id } = &keeping;
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
            status: status.to_owned(),
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
        // What the file is, and not what it is called: that may be about somebody.
        let mut details = json!({
            "mime": attachment.mime, "size": attachment.size, "sha256": attachment.sha256, "status": status, "reason": reason,
        });
        // Not the whole of where it was: that may open it.
        if let Some(source) = &self.source {
            details["host"] = source.host.as_str().into();
        }
        let audit = audit(caller, "attachments.upload", "attachment", attachment.id.to_string(), details);
        let tenant = caller.tenant.clone();
        let rest = (!drops_bytes).then(|| self.blob.rest());
        let memory = self.uploads.remembers.as_ref();
        let memory = memory.map(|space| remembering::record(&attachment, self.index, space, caller));
        let step = Step { attachment, rest, dedup: self.rules.dedup, keeping, origin, audit, memory };
        let work = self.uploads.store.change_for(tenant, move |rows| Box::pin(step.write(rows, now)));
        let kept = match work.await? {
            Kept::Here(kept) => *kept,
            Kept::GivenUp => return Err(IngestError::GivenUp),
            Kept::SessionDeleted => return Err(IngestError::SessionDeleted),
        };
        if !drops_bytes {
            self.blob.kept();
        }
        self.uploads.metrics.kept(reason.is_some());
        Ok(kept)
    }
}

impl Step {
    async fn write(mut self, rows: &mut TenantTx<'_>, at: OffsetDateTime) -> Result<Kept, sqlx::Error> {
        if let Some(id) = self.keeping.session_id
            && erase::hold_off(rows, &self.keeping.caller.session(id)).await?
        {
            rows.undo();
            return Ok(Kept::SessionDeleted);
        }
        if let Origin::Pieces(writer) = &self.origin {
            tus_uploads::hold_row(rows, &writer.tenant, writer.id).await?;
        }
        if let Some(rest) = self.rest.take() {
            let Some(blob) = self.place(rows, &rest, at).await? else {
                rows.undo();
                return Ok(Kept::GivenUp);
            };
            self.attachment.blob_id = Some(blob);
        }
        attachments::insert(rows, &self.attachment).await?;
        if !self.origin.settle(rows, self.attachment.id).await? {
            rows.undo();
            return Ok(Kept::GivenUp);
        }
        let caller = &self.keeping.caller;
        match self.keeping.session_id {
            Some(id) => audit_event::insert_of_session(rows, &caller.session(id), &self.audit, at).await?,
            None => drop(audit_event::insert(rows, &caller.tenant, &self.audit, at).await?),
        }
        if let Some(memory) = self.memory {
            enqueue(rows, &caller.tenant, &[memory], at).await?;
            memories::queued(rows, &self.attachment.tenant, self.attachment.id).await?;
        }
        Ok(Kept::Here(Box::new(self.attachment)))
    }

    /// The blob that has the bytes from now on.
    async fn place(
        &self,
        rows: &mut TenantTx<'_>,
        rest: &Rest,
        at: OffsetDateTime,
    ) -> Result<Option<Uuid>, sqlx::Error> {
        let (tenant, sum) = (self.attachment.tenant.as_str(), (self.attachment.sha256.as_str(), self.attachment.size));
        if self.dedup
            && let Some(same) = attachment_blobs::same(rows, tenant, sum).await?
        {
            if let Some(id) = rest.id {
                attachment_blobs::abandon(rows, tenant, id).await?;
            }
            return Ok(Some(same));
        }
        let id = rest.id.unwrap_or_else(Uuid::now_v7);
        if rest.id.is_none() {
            attachment_blobs::begin(rows, tenant, id, at).await?;
        }
        if !rest.bytes.is_empty() && !attachment_blobs::append(rows, tenant, id, (rest.offset, &rest.bytes), at).await?
        {
            return Ok(None);
        }
        Ok(attachment_blobs::complete(rows, tenant, id, sum, at).await?.then_some(id))
    }
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
