//! Bytes on their way into the database, a piece at a time.

use bytes::{Bytes, BytesMut};
use futures_util::{
    FutureExt as _, Stream, StreamExt as _, TryStreamExt as _,
    future::{BoxFuture, poll_immediate},
    stream,
};
use uuid::Uuid;

use super::IngestError;
use crate::{
    domain::ids::Tenant,
    store::{
        Store, StoreError,
        attachment_blobs::{self, CHUNK_BYTES},
    },
    uploads::{
        Clock,
        downloads::{Attachments, BytesError},
    },
};

/// A file without any more bytes than these is kept in one transaction with everything else, and waits for it in memory.
const SMALL_BYTES: usize = 64 << 10;

/// A blob that arrives. While one piece is written the next one fills; there is never a second statement beside it. Dropped, it
/// gives up what it has written.
pub(in crate::uploads) struct Blob {
    store: Store,
    clock: Clock,
    tenant: Tenant,
    /// Its id, once something of it is written.
    id: Option<Uuid>,
    /// Where the piece that fills begins.
    offset: i64,
    filling: BytesMut,
    /// The piece that is being written; whether the blob still arrives.
    writing: Option<BoxFuture<'static, Result<bool, StoreError>>>,
    is_kept: bool,
    /// Whether its bytes are written already, and only looked at again.
    is_stored: bool,
}

/// What of a blob is still to be written.
#[derive(Debug)]
pub(in crate::uploads) struct Rest {
    /// The blob; `None` if nothing of it is written.
    pub(in crate::uploads) id: Option<Uuid>,
    /// Where the last piece begins …
    pub(in crate::uploads) offset: i64,
    /// … and its bytes.
    pub(in crate::uploads) bytes: Bytes,
}

impl Blob {
    pub(super) fn new(store: Store, clock: Clock, tenant: Tenant) -> Self {
        let filling = BytesMut::new();
        Self { store, clock, tenant, id: None, offset: 0, filling, writing: None, is_kept: false, is_stored: false }
    }

    /// The blob `id`, all of which is written already. What it is filled with are its own bytes, and what becomes of it if it is not
    /// kept is up to whoever wrote it.
    pub(in crate::uploads) fn stored(store: Store, clock: Clock, tenant: Tenant, id: Uuid) -> Self {
        let mut blob = Self::new(store, clock, tenant);
        (blob.id, blob.is_kept, blob.is_stored) = (Some(id), true, true);
        blob
    }

    /// Whether its bytes are written already.
    pub(super) const fn is_stored(&self) -> bool {
        self.is_stored
    }

    /// Takes from the beginning of `bytes`, until a piece is full: that is to be [written](Self::write), and there may be bytes left.
    /// Of what is stored already each is a piece.
    pub(super) fn fill(&mut self, bytes: &mut Bytes) -> Option<Bytes> {
        if self.is_stored {
            return (!bytes.is_empty()).then(|| std::mem::take(bytes));
        }
        fill(&mut self.filling, bytes);
        (self.filling.len() == CHUNK_BYTES).then(|| self.filling.split().freeze())
    }

    /// The bytes of the piece that is not full.
    pub(super) fn unfilled(&self) -> Bytes {
        Bytes::copy_from_slice(&self.filling)
    }

    /// Begins to write a piece, once the one before it is written.
    ///
    /// # Errors
    /// The one before was not written.
    pub(super) async fn write(&mut self, piece: Bytes) -> Result<(), IngestError> {
        if self.is_stored {
            return Ok(());
        }
        self.written().await?;
        let (at, offset, is_first) = ((self.clock)(), self.offset, self.id.is_none());
        let id = *self.id.get_or_insert_with(Uuid::now_v7);
        self.offset += i64::try_from(piece.len()).unwrap_or(i64::MAX);
        let (store, tenant) = (self.store.clone(), self.tenant.clone());
        let mut writing = async move {
            let name = tenant.clone();
            // Nobody counts on a piece before the transaction that keeps them all, which looks for holes.
            let work = store.prepare_for(tenant, move |rows| {
                Box::pin(async move {
                    if is_first {
                        attachment_blobs::begin(rows, name.as_str(), id, at).await?;
                    }
                    attachment_blobs::append(rows, name.as_str(), id, (offset, &piece), at).await
                })
            });
            work.await
        }
        .boxed();
        // The store works on by itself from the first look on.
        if let Some(done) = poll_immediate(&mut writing).await {
            return Self::settled(done);
        }
        self.writing = Some(writing);
        Ok(())
    }

    /// Lets what is left be written too, unless it is so little that it can wait for the transaction that keeps it.
    ///
    /// # Errors
    /// A piece was not written.
    pub(super) async fn settle(&mut self) -> Result<(), IngestError> {
        if self.filling.len() > SMALL_BYTES {
            let piece = self.filling.split().freeze();
            self.write(piece).await?;
        }
        self.written().await?;
        // It waits without the room that it had to fill.
        self.filling = BytesMut::from(&*self.filling);
        Ok(())
    }

    /// Its `size` bytes once more, from the first on. It must have [settled](Self::settle).
    pub(super) fn again(&self, size: u64) -> impl Stream<Item = Result<Bytes, IngestError>> + use<> {
        let rest = self.unfilled();
        let stored = size.saturating_sub(rest.len() as u64);
        let stored =
            self.id.map(|id| Attachments::new(self.store.clone()).bytes(&self.tenant, (id, None), (0, stored)));
        let stored = stream::iter(stored).flatten().map_err(|error| match error {
            BytesError::Gone => IngestError::GivenUp,
            BytesError::Store(error) => error.into(),
        });
        stored.chain(stream::iter((!rest.is_empty()).then_some(Ok(rest))))
    }

    /// What is still to be written. Once that is done, say so by [`kept`](Self::kept).
    pub(in crate::uploads) fn rest(&mut self) -> Rest {
        Rest { id: self.id, offset: self.offset, bytes: self.filling.split().freeze() }
    }

    /// It is whole, or what was written of it is given up already.
    pub(in crate::uploads) const fn kept(&mut self) {
        self.is_kept = true;
    }

    /// Waits for the piece that is being written.
    async fn written(&mut self) -> Result<(), IngestError> {
        match self.writing.take() {
            Some(writing) => Self::settled(writing.await),
            None => Ok(()),
        }
    }

    fn settled(written: Result<bool, StoreError>) -> Result<(), IngestError> {
        if written? { Ok(()) } else { Err(IngestError::GivenUp) }
    }
}

/// Fills a piece up from the beginning of `bytes`, as far as they go. One that does not begin small has all of its room at once: growing,
/// it would leave the allocator with a hole of each size on its way.
pub(in crate::uploads) fn fill(piece: &mut BytesMut, bytes: &mut Bytes) {
    if piece.capacity() == 0 && !bytes.is_empty() {
        piece.reserve(if bytes.len() < SMALL_BYTES { SMALL_BYTES } else { CHUNK_BYTES });
    }
    let room = CHUNK_BYTES - piece.len();
    piece.extend_from_slice(&bytes.split_to(room.min(bytes.len())));
}

impl Drop for Blob {
    fn drop(&mut self) {
        let Some(id) = self.id.filter(|_| !self.is_kept) else { return };
        let (store, tenant, writing) = (self.store.clone(), self.tenant.clone(), self.writing.take());
        let mut giving_up = async move {
            let name = tenant.clone();
            let work = store.change_for(tenant, move |rows| {
                Box::pin(async move { attachment_blobs::abandon(rows, name.as_str(), id).await })
            });
            work.await
        }
        .boxed();
        // The store does it by itself from here on. If it fails, or comes before the first piece, the sweep finds the blob.
        drop(giving_up.as_mut().now_or_never());
        drop(writing);
    }
}
