//! An upload that has come whole goes through the pipeline of all files: its bytes are read back for that, and stay where they are.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use time::OffsetDateTime;
use tokio::time::timeout;
use uuid::Uuid;

use super::{NewUpload, Tus, TusError, TusUpload, Uploads, owner};
use crate::{
    domain::caller::Caller,
    store::{
        StoreError,
        tus_uploads::{self, Writer},
    },
    uploads::{
        Attachment, Declared, Ingest, IngestError, Judged, Keeping,
        downloads::{Attachments, BytesError},
        ingest::{Blob, Origin},
        rules::Rules,
    },
};

/// Who looks through an upload has it to themselves for so long …
const HELD_FOR: Duration = Duration::from_secs(15);
/// … and says so often that they still do.
const RENEWED_EVERY: Duration = Duration::from_secs(5);

/// What came of asking to finish an upload.
pub enum Begun {
    /// It is to be looked through.
    Now(Box<Finishing>),
    /// It has become an attachment already.
    Before(Box<TusUpload>),
}

/// An upload that has come whole and that nobody else looks through. If this is dropped, somebody else may soon.
pub struct Finishing {
    uploads: Uploads,
    writer: Writer,
    caller: Caller,
    /// The upload.
    pub upload: TusUpload,
}

impl Tus {
    /// Begins to make an attachment of an upload that has come whole.
    ///
    /// # Errors
    /// [`TusError::NotFound`], [`TusError::Incomplete`], [`TusError::Locked`] or [`TusError::Store`].
    pub async fn finish(&self, caller: &Caller, id: Uuid) -> Result<Begun, TusError> {
        let (owner, now) = (owner(caller), (self.uploads.clock)());
        let work = self.uploads.store.change_for(caller.tenant.clone(), move |rows| {
            Box::pin(async move {
                let Some(upload) = tus_uploads::lock(rows, &owner, id, now).await? else {
                    return Ok(Err(TusError::NotFound));
                };
                if upload.attachment_id.is_some() {
                    return Ok(Ok((upload, None)));
                }
                if upload.is_partial() || !upload.is_whole() {
                    return Ok(Err(TusError::Incomplete));
                }
                if upload.is_held(now) {
                    return Ok(Err(TusError::Locked));
                }
                let writer = tus_uploads::take(rows, &owner.tenant, id, Some(now + HELD_FOR)).await?;
                Ok(Ok((upload, Some(writer))))
            })
        });
        Ok(match work.await?? {
            (upload, Some(writer)) => {
                let (uploads, caller) = (self.uploads.clone(), caller.clone());
                Begun::Now(Box::new(Finishing { uploads, writer, caller, upload }))
            }
            (upload, None) => Begun::Before(Box::new(upload)),
        })
    }

    /// The caller's parts of these ids, which must all have come whole.
    ///
    /// # Errors
    /// [`TusError::NotFound`], [`TusError::Incomplete`], or [`TusError::Store`].
    pub async fn parts(&self, caller: &Caller, ids: &[Uuid]) -> Result<Vec<TusUpload>, TusError> {
        let mut parts = Vec::with_capacity(ids.len());
        for id in ids {
            let part = self.find(caller, *id).await?;
            if !part.is_partial() || !part.is_whole() {
                return Err(TusError::Incomplete);
            }
            parts.push(part);
        }
        Ok(parts)
    }

    /// Makes one file of parts and finds out what is in it. The parts stay.
    ///
    /// # Errors
    /// [`IngestError`]; [`IngestError::GivenUp`] if a part went meanwhile.
    pub async fn judge_parts(
        &self,
        caller: &Caller,
        rules: Arc<Rules>,
        said: &Declared,
        parts: &[TusUpload],
    ) -> Result<Judged, IngestError> {
        let length: u64 = parts.iter().map(|part| part.length.unsigned_abs()).fold(0, u64::saturating_add);
        if length > rules.max_bytes {
            return Err(IngestError::TooLarge(rules.max_bytes));
        }
        let mut ingest = Ingest::begin(&self.uploads, caller.tenant.clone(), rules, said).await?;
        for part in parts {
            ingest = push_all(&self.uploads, caller, part, ingest).await?;
        }
        ingest.finish().await
    }

    /// Keeps a file that was made of parts, and an upload that tells so.
    ///
    /// # Errors
    /// As [`Judged::keep`].
    pub async fn keep_final(
        &self,
        judged: Judged,
        caller: &Caller,
        new: NewUpload,
        parts: &[Uuid],
    ) -> Result<(TusUpload, Attachment), IngestError> {
        let length = i64::try_from(judged.size).unwrap_or(i64::MAX);
        let mut upload = self.row(caller, new, "final");
        (upload.length, upload.arrived, upload.parts) = (length, length, Some(parts.to_vec()));
        let keeping = keeping(caller, &upload);
        let attachment = judged.keep_from(Origin::Parts(Box::new(upload.clone())), keeping).await?;
        upload.attachment_id = Some(attachment.id);
        Ok((upload, attachment))
    }
}

impl Finishing {
    /// Does `work` and says all the while that somebody is at it.
    pub async fn holding<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            if let Ok(done) = timeout(RENEWED_EVERY, work.as_mut()).await {
                return done;
            }
            let until = (self.uploads.clock)() + HELD_FOR;
            // Whoever takes it over meanwhile is found out in the end.
            if let Err(error) = self.hold(Some(until)).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "an upload is looked through without a hold on it"
                );
            }
        }
    }

    /// Finds out what is in it.
    ///
    /// # Errors
    /// [`IngestError`].
    pub async fn judge(&self, rules: Arc<Rules>) -> Result<Judged, IngestError> {
        let blob = self.upload.blob_id.ok_or(IngestError::GivenUp)?;
        let blob = Blob::stored(self.uploads.store.clone(), self.uploads.clock, self.caller.tenant.clone(), blob);
        let ingest = Ingest::begin_into(blob, &self.uploads, rules, &Tus::said(&self.upload)).await?;
        push_all(&self.uploads, &self.caller, &self.upload, ingest).await?.finish().await
    }

    /// Makes an attachment of it.
    ///
    /// # Errors
    /// As [`Judged::keep`]; [`IngestError::GivenUp`] if somebody else went on with it.
    pub async fn keep(self, judged: Judged) -> Result<Attachment, IngestError> {
        let keeping = keeping(&self.caller, &self.upload);
        judged.keep_from(Origin::Pieces(self.writer), keeping).await
    }

    /// Lets somebody else try again at once.
    ///
    /// # Errors
    /// The store's.
    pub async fn release(self) -> Result<(), StoreError> {
        self.hold(None).await
    }

    /// Takes the upload away, of which there will never be an attachment, unless somebody else went on with it.
    ///
    /// # Errors
    /// The store's.
    pub async fn refuse(self) -> Result<(), StoreError> {
        let Self { uploads, caller, writer, .. } = self;
        let work = uploads
            .store
            .change_for(caller.tenant, move |rows| Box::pin(async move { tus_uploads::refuse(rows, &writer).await }));
        work.await.map(drop)
    }

    async fn hold(&self, until: Option<OffsetDateTime>) -> Result<(), StoreError> {
        let writer = self.writer.clone();
        let work = self.uploads.store.change_for(self.caller.tenant.clone(), move |rows| {
            Box::pin(async move { tus_uploads::hold(rows, &writer, until).await })
        });
        work.await.map(drop)
    }
}

/// Reads the bytes of an upload and has `ingest` take them.
async fn push_all(
    uploads: &Uploads,
    caller: &Caller,
    upload: &TusUpload,
    mut ingest: Ingest,
) -> Result<Ingest, IngestError> {
    let blob = upload.blob_id.ok_or(IngestError::GivenUp)?;
    let stored = Attachments::new(uploads.store.clone());
    let mut bytes = pin!(stored.bytes(&caller.tenant, (blob, None), (0, upload.length.unsigned_abs())));
    while let Some(piece) = bytes.next().await {
        let piece = piece.map_err(|error| match error {
            BytesError::Store(error) => IngestError::Store(error),
            BytesError::Gone => IngestError::GivenUp,
        })?;
        ingest = ingest.push(piece).await?;
    }
    Ok(ingest)
}

fn keeping(caller: &Caller, upload: &TusUpload) -> Keeping {
    Keeping { caller: caller.clone(), session_id: upload.session_id, persona_id: upload.persona_id.clone() }
}
