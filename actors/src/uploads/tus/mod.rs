//! Files that come in pieces, over as many requests as it takes, and go on where they stopped.
//!
//! | file | holds |
//! | --- | --- |
//! | this one | [`Tus`]: beginning an upload, looking at it, taking it away |
//! | `writing` | [`Piece`]: what one request adds; a request that comes later overtakes it |
//! | `finishing` | [`Finishing`], [`Tus::judge_parts`]: an upload that has come whole goes through the pipeline of all files |
//!
//! Its bytes are in the database from the moment they are told to be here. No process remembers anything of an upload, so any of
//! them goes on with it.

mod finishing;
mod writing;

use serde_json::json;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

pub use self::{
    finishing::{Begun, Finishing},
    writing::{Algorithm, Checksum, Piece},
};
use super::{Declared, IngestError, Uploads, ingest::check_declared, quota::Room, rules::Rules};
pub use crate::store::tus_uploads::TusUpload;
use crate::{
    domain::{caller::Caller, session::audit},
    store::{StoreError, attachment_blobs, audit_event, tus_uploads, tus_uploads::Owner, wall::TenantTx},
};

/// Most uploads of one caller that have begun and have not become attachments, or were made of parts.
pub const MAX_OPEN: i64 = 100;
/// Most parts that a file is made of.
pub const MAX_PARTS: usize = 100;
/// An upload of which nothing came for so long is given up.
const KEPT_FOR: Duration = Duration::hours(24);

/// What is said of an upload that begins.
#[derive(Clone, Debug, Default)]
pub struct NewUpload {
    /// Its name and type.
    pub said: Declared,
    /// All that its sender says of it, as it was written.
    pub metadata: Option<String>,
    /// What it has to do with others, as it was written.
    pub concat: Option<String>,
    /// The session that it belongs to, if any.
    pub session_id: Option<Uuid>,
    /// The persona that it is for, if any.
    pub persona_id: Option<String>,
}

/// Why an upload does not go on.
#[derive(Debug, thiserror::Error)]
pub enum TusError {
    /// There is none for the caller.
    #[error("the upload does not exist for the caller")]
    NotFound,
    /// The caller has as many as one may have.
    #[error("the caller has {MAX_OPEN} uploads that are not at their end")]
    TooMany,
    /// Somebody looks through it just now.
    #[error("the upload is being looked through")]
    Locked,
    /// A piece is for another place than the one where the upload stopped: this one.
    #[error("the upload has {0} bytes so far")]
    OffsetMismatch(u64),
    /// There would be more bytes than were announced.
    #[error("the upload would have more bytes than were announced")]
    TooLong,
    /// Another request went on with it, or took it away.
    #[error("another request went on with the upload")]
    Overtaken,
    /// The bytes of a piece are not those that their checksum is of.
    #[error("the bytes are not those that the checksum is of")]
    ChecksumMismatch,
    /// It was made of parts, and nothing can be added.
    #[error("the upload was made of parts")]
    Final,
    /// Not all of it has come.
    #[error("the upload has not come whole")]
    Incomplete,
    /// It is not taken.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Takes files that come in pieces. A cheap handle.
#[derive(Clone)]
pub struct Tus {
    uploads: Uploads,
}

impl Uploads {
    /// Takes files that come in pieces.
    #[must_use]
    pub fn tus(&self) -> Tus {
        Tus { uploads: self.clone() }
    }
}

impl Tus {
    /// Begins an upload of `length` bytes, or if `is_partial` a part of others, and writes down who did.
    ///
    /// # Errors
    /// [`TusError::Ingest`] if no file is taken that is so large or has such a type, or there is no room for it, [`TusError::TooMany`], or
    /// [`TusError::Store`].
    pub async fn begin(
        &self,
        caller: &Caller,
        rules: &Rules,
        new: NewUpload,
        (length, is_partial): (u64, bool),
    ) -> Result<TusUpload, TusError> {
        if length > rules.max_bytes {
            return Err(IngestError::TooLarge(rules.max_bytes).into());
        }
        if length > rules.inline_max_bytes {
            return Err(IngestError::OverInlineCap(rules.inline_max_bytes).into());
        }
        if !is_partial {
            check_declared(rules, &new.said)?;
        }
        let kind = if is_partial { "partial" } else { "whole" };
        let blob = Uuid::now_v7();
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        let upload = TusUpload { length, blob_id: Some(blob), ..self.row(caller, new, kind) };
        let (caller, now, quotas) = (caller.clone(), upload.created_at, rules.quotas);
        let work = self.uploads.store.change_for(caller.tenant.clone(), move |rows| {
            Box::pin(async move {
                // From now on it takes all the room that it will need.
                let room = Room::held(rows, quotas, (&upload.tenant, upload.session_id)).await?;
                if let Err(over) = room.check(upload.length.unsigned_abs()) {
                    rows.undo();
                    return Ok(Err(IngestError::from(over).into()));
                }
                if !tus_uploads::has_place(rows, &owner(&caller), MAX_OPEN).await? {
                    rows.undo();
                    return Ok(Err(TusError::TooMany));
                }
                attachment_blobs::begin(rows, &upload.tenant, blob, now).await?;
                tus_uploads::insert(rows, &upload).await?;
                let details = json!({"size": upload.length, "kind": upload.kind});
                write_down(rows, &caller, &upload, ("attachments.upload.begin", details), now).await?;
                Ok(Ok(upload))
            })
        });
        work.await?
    }

    /// An upload of the caller.
    ///
    /// # Errors
    /// [`TusError::NotFound`], or [`TusError::Store`].
    pub async fn find(&self, caller: &Caller, id: Uuid) -> Result<TusUpload, TusError> {
        let (owner, now) = (owner(caller), (self.uploads.clock)());
        let work = self.uploads.store.read_for(caller.tenant.clone(), move |rows| {
            Box::pin(async move { tus_uploads::get(rows, &owner, id, now).await })
        });
        work.await?.ok_or(TusError::NotFound)
    }

    /// Takes an upload away, and its bytes unless they are an attachment's. Returns whether there was one.
    ///
    /// # Errors
    /// The store's.
    pub async fn remove(&self, caller: &Caller, id: Uuid) -> Result<bool, StoreError> {
        let (caller, now) = (caller.clone(), (self.uploads.clock)());
        let work = self.uploads.store.change_for(caller.tenant.clone(), move |rows| {
            Box::pin(async move {
                let owner = owner(&caller);
                let Some(upload) = tus_uploads::lock(rows, &owner, id, now).await? else { return Ok(false) };
                let details = json!({"size": upload.length, "arrived": upload.arrived});
                write_down(rows, &caller, &upload, ("attachments.upload.end", details), now).await?;
                tus_uploads::remove(rows, &owner, id).await
            })
        });
        work.await
    }

    /// What its sender says of an upload, as the pipeline takes it.
    fn said(upload: &TusUpload) -> Declared {
        Declared { filename: upload.filename.clone(), mime: upload.declared_mime.clone() }
    }

    fn row(&self, caller: &Caller, new: NewUpload, kind: &str) -> TusUpload {
        let (now, Owner { tenant, subject, issuer }) = ((self.uploads.clock)(), owner(caller));
        TusUpload {
            id: Uuid::new_v4(),
            tenant,
            kind: kind.to_owned(),
            session_id: new.session_id,
            persona_id: new.persona_id,
            subject,
            issuer,
            filename: new.said.filename,
            declared_mime: new.said.mime,
            metadata: new.metadata,
            length: 0,
            arrived: 0,
            concat: new.concat,
            parts: None,
            writer: 0,
            finishing_until: None,
            blob_id: None,
            attachment_id: None,
            created_at: now,
            expires_at: expiry(now),
        }
    }
}

impl TusUpload {
    /// Whether all of its bytes are here.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.arrived == self.length
    }

    /// Whether it is a part of others, and never becomes an attachment by itself.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.kind == "partial"
    }

    /// Whether an attachment is still to be made of it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.attachment_id.is_none() && !self.is_partial()
    }

    /// Whose it is.
    pub(super) fn owner(&self) -> Owner {
        Owner { tenant: self.tenant.clone(), subject: self.subject.clone(), issuer: self.issuer.clone() }
    }

    fn is_held(&self, now: OffsetDateTime) -> bool {
        self.finishing_until.is_some_and(|until| until > now)
    }
}

/// When an upload to which something came at `at` is given up.
fn expiry(at: OffsetDateTime) -> OffsetDateTime {
    at + KEPT_FOR
}

fn owner(caller: &Caller) -> Owner {
    Owner {
        tenant: caller.tenant.as_str().to_owned(),
        subject: caller.subject.clone(),
        issuer: caller.admission.as_ref().and_then(|admission| admission.issuer.clone()),
    }
}

/// Writes down what the caller did with an upload; not what it is called, which may be about somebody.
async fn write_down(
    rows: &mut TenantTx<'_>,
    caller: &Caller,
    upload: &TusUpload,
    (action, details): (&'static str, serde_json::Value),
    at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let line = audit(caller, action, "upload", upload.id.to_string(), details);
    match upload.session_id {
        Some(id) => audit_event::insert_of_session(rows, &caller.session(id), &line, at).await,
        None => audit_event::insert(rows, &caller.tenant, &line, at).await.map(drop),
    }
}

#[cfg(test)]
mod tests;
