//! What one request adds to an upload.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use bytes::{Bytes, BytesMut};
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, poll_immediate},
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Tus, TusError, TusUpload, Uploads, expiry, owner};
use crate::{
    domain::{caller::Caller, ids::Tenant},
    store::{
        StoreError,
        attachment_blobs::{self, CHUNK_BYTES},
        tus_uploads::{self, Writer},
        wall::TenantTx,
    },
    uploads::ingest::fill,
};

/// What a checksum is made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// SHA-1, which every server of tus has to know.
    Sha1,
    /// SHA-256.
    Sha256,
}

/// What the sender of a piece says its bytes sum up to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checksum {
    /// What it was made by.
    pub algorithm: Algorithm,
    /// The sum.
    pub sum: Vec<u8>,
}

/// A piece of an upload that comes. Without a checksum whatever has come of it is kept, also if it breaks off or this is dropped; with
/// one, all of it or nothing.
pub struct Piece {
    uploads: Uploads,
    tenant: Tenant,
    upload: TusUpload,
    /// Who writes, and where to; nobody if the upload takes nothing any more.
    writer: Option<(Writer, Uuid)>,
    check: Option<(Context, Vec<u8>)>,
    /// Where what fills begins.
    placed: i64,
    filling: BytesMut,
    /// What is being written; whether this still is the writer.
    writing: Option<BoxFuture<'static, Result<bool, StoreError>>>,
}

/// Bytes on their way into the database.
struct Step {
    writer: Writer,
    blob: Uuid,
    at: i64,
    bytes: Bytes,
    /// So many bytes the upload is told to have before this …
    from: i64,
    /// … and so many then.
    to: i64,
    now: OffsetDateTime,
}

/// What came of asking for the upload.
enum Asked {
    Unknown,
    Refused(TusError),
    Taken(Box<TusUpload>, Option<(Writer, Uuid)>),
}

impl Tus {
    /// Goes on with an upload that stopped at `offset`, by so many bytes if that is `announced`. Whoever is at it meanwhile writes
    /// nothing any more.
    ///
    /// # Errors
    /// [`TusError`]; nothing was changed.
    pub async fn write(
        &self,
        caller: &Caller,
        id: Uuid,
        (offset, announced): (u64, Option<u64>),
        check: Option<Checksum>,
    ) -> Result<Piece, TusError> {
        let (owner, now) = (owner(caller), (self.uploads.clock)());
        let work = self.uploads.store.change_for(caller.tenant.clone(), move |rows| {
            Box::pin(async move {
                let Some(upload) = tus_uploads::lock(rows, &owner, id, now).await? else { return Ok(Asked::Unknown) };
                if let Err(refusal) = may_go_on(&upload, (offset, announced), now) {
                    return Ok(Asked::Refused(refusal));
                }
                let Some(blob) = upload.blob_id else { return Ok(Asked::Taken(Box::new(upload), None)) };
                let writer = tus_uploads::take(rows, &owner.tenant, id, None).await?;
                // What came of a piece that was to be kept whole or not at all.
                attachment_blobs::cut(rows, &owner.tenant, blob, upload.arrived).await?;
                Ok(Asked::Taken(Box::new(upload), Some((writer, blob))))
            })
        });
        let (upload, writer) = match work.await? {
            Asked::Unknown => return Err(TusError::NotFound),
            Asked::Refused(refusal) => return Err(refusal),
            Asked::Taken(upload, writer) => (*upload, writer),
        };
        let check = check.map(|Checksum { algorithm, sum }| {
            let algorithm = match algorithm {
                Algorithm::Sha1 => &SHA1_FOR_LEGACY_USE_ONLY,
                Algorithm::Sha256 => &SHA256,
            };
            (Context::new(algorithm), sum)
        });
        let (uploads, tenant, placed) = (self.uploads.clone(), caller.tenant.clone(), upload.arrived);
        Ok(Piece { uploads, tenant, upload, writer, check, placed, filling: BytesMut::new(), writing: None })
    }
}

/// Whether bytes at `offset` go on with an upload.
fn may_go_on(upload: &TusUpload, (offset, announced): (u64, Option<u64>), now: OffsetDateTime) -> Result<(), TusError> {
    if upload.kind == "final" {
        return Err(TusError::Final);
    }
    let [arrived, length] = [upload.arrived, upload.length].map(i64::unsigned_abs);
    if arrived != offset {
        return Err(TusError::OffsetMismatch(arrived));
    }
    if announced.is_some_and(|count| count > length - arrived) {
        return Err(TusError::TooLong);
    }
    if upload.is_held(now) { Err(TusError::Locked) } else { Ok(()) }
}

impl Piece {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`TusError::TooLong`], [`TusError::Overtaken`] or [`TusError::Store`]: nothing more of it is of use.
    pub async fn push(&mut self, mut bytes: Bytes) -> Result<(), TusError> {
        let room = self.upload.length - self.end();
        if i64::try_from(bytes.len()).unwrap_or(i64::MAX) > room {
            return Err(TusError::TooLong);
        }
        if let Some((context, _)) = &mut self.check {
            context.update(&bytes);
        }
        while !bytes.is_empty() {
            fill(&mut self.filling, &mut bytes);
            if self.filling.len() == CHUNK_BYTES {
                self.write(self.check.is_none()).await?;
            }
        }
        Ok(())
    }

    /// Ends the piece. Returns the upload as it is then.
    ///
    /// # Errors
    /// [`TusError::ChecksumMismatch`], after which nothing of the piece is left; [`TusError::Overtaken`] or
    /// [`TusError::Store`].
    pub async fn finish(mut self) -> Result<TusUpload, TusError> {
        let Some((context, sum)) = self.check.take() else { return self.kept().await };
        if context.finish().as_ref() != &sum[..] {
            self.discard().await?;
            return Err(TusError::ChecksumMismatch);
        }
        // What is all here still can be told as it is written.
        if self.placed == self.upload.arrived {
            return self.kept().await;
        }
        self.write(false).await?;
        self.written().await?;
        let (end, now) = (self.placed, (self.uploads.clock)());
        self.changed(move |rows, writer, arrived, _| {
            Box::pin(async move { tus_uploads::advance(rows, &writer, (arrived, end), expiry(now)).await })
        })
        .await?;
        Ok(self.told(now))
    }

    /// Ends a piece that broke off: without a checksum what has come of it is kept, else nothing is.
    ///
    /// # Errors
    /// [`TusError::Overtaken`] or [`TusError::Store`].
    pub async fn break_off(mut self) -> Result<(), TusError> {
        if self.check.take().is_some() { self.discard().await } else { self.kept().await.map(drop) }
    }

    /// How many bytes there are of the upload, with those that are not written yet.
    fn end(&self) -> i64 {
        self.placed + i64::try_from(self.filling.len()).unwrap_or(i64::MAX)
    }

    async fn kept(mut self) -> Result<TusUpload, TusError> {
        self.write(true).await?;
        self.written().await?;
        let now = (self.uploads.clock)();
        Ok(self.told(now))
    }

    fn told(&mut self, now: OffsetDateTime) -> TusUpload {
        let mut upload = self.upload.clone();
        if self.placed > upload.arrived {
            upload.arrived = self.placed;
            upload.expires_at = expiry(now);
        }
        upload
    }

    /// Takes away what is written of the piece.
    async fn discard(mut self) -> Result<(), TusError> {
        self.filling.clear();
        self.written().await?;
        // Nothing came that counts.
        let until = self.upload.expires_at;
        self.changed(move |rows, writer, arrived, blob| {
            Box::pin(async move {
                let is_writer = tus_uploads::advance(rows, &writer, (arrived, arrived), until).await?;
                if is_writer {
                    attachment_blobs::cut(rows, &writer.tenant, blob, arrived).await?;
                }
                Ok(is_writer)
            })
        })
        .await
    }

    async fn changed<W>(&self, work: W) -> Result<(), TusError>
    where
        W: for<'r> FnOnce(&'r mut TenantTx<'_>, Writer, i64, Uuid) -> BoxFuture<'r, Result<bool, sqlx::Error>>
            + Send
            + 'static,
    {
        let Some((writer, blob)) = self.writer.clone() else { return Ok(()) };
        let arrived = self.upload.arrived;
        let changed =
            self.uploads.store.change_for(self.tenant.clone(), move |rows| work(rows, writer, arrived, blob)).await;
        settled(changed)
    }

    /// Begins to write what has filled, and tells that it is here or does not yet.
    async fn write(&mut self, is_told: bool) -> Result<(), TusError> {
        self.written().await?;
        let Some(mut writing) = self.step(is_told) else { return Ok(()) };
        // The store works on by itself from the first look on.
        if let Some(done) = poll_immediate(&mut writing).await {
            return settled(done);
        }
        self.writing = Some(writing);
        Ok(())
    }

    /// Waits for the bytes that are being written.
    async fn written(&mut self) -> Result<(), TusError> {
        match self.writing.take() {
            Some(writing) => settled(writing.await),
            None => Ok(()),
        }
    }

    fn step(&mut self, is_told: bool) -> Option<BoxFuture<'static, Result<bool, StoreError>>> {
        let (writer, blob) = self.writer.clone().filter(|_| !self.filling.is_empty())?;
        let (at, bytes, now) = (self.placed, self.filling.split().freeze(), (self.uploads.clock)());
        self.placed += i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        let arrived = self.upload.arrived;
        let (from, to) = if is_told { (at, self.placed) } else { (arrived, arrived) };
        let step = Step { writer, blob, at, bytes, from, to, now };
        let (store, tenant) = (self.uploads.store.clone(), self.tenant.clone());
        Some(async move { store.change_for(tenant, move |rows| Box::pin(step.write(rows))).await }.boxed())
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if self.check.is_some() || self.filling.is_empty() {
            return;
        }
        // The store does it by itself from here on. If it does not, or comes before what is being written, the bytes come again.
        if let Some(writing) = self.step(true) {
            drop(writing.now_or_never());
        }
    }
}

impl Step {
    /// Returns whether this still was the writer's to do.
    async fn write(self, rows: &mut TenantTx<'_>) -> Result<bool, sqlx::Error> {
        let Self { writer, blob, at, bytes, from, to, now } = self;
        if !tus_uploads::advance(rows, &writer, (from, to), expiry(now)).await? {
            return Ok(false);
        }
        // Short pieces do not add up to as many rows.
        let room = i32::try_from(CHUNK_BYTES - bytes.len()).unwrap_or_default();
        let last = if room > 0 && from < to {
            attachment_blobs::take_last(rows, &writer.tenant, blob, room).await?
        } else {
            None
        };
        let (at, bytes) = match last {
            Some(last) => (last.at, [&last.bytes[..], &bytes].concat().into()),
            None => (at, bytes),
        };
        let kept = attachment_blobs::append(rows, &writer.tenant, blob, (at, &bytes), now).await?;
        if !kept {
            rows.undo();
        }
        Ok(kept)
    }
}

fn settled(done: Result<bool, StoreError>) -> Result<(), TusError> {
    if done? { Ok(()) } else { Err(TusError::Overtaken) }
}
