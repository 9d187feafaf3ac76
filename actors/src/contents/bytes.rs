//! Files as streams, of which one piece at a time is in memory.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _, stream};
use uuid::Uuid;

use crate::{
    domain::ids::Tenant,
    store::{
        Store, StoreError,
        attachment_blobs::{self, Sending},
    },
};

/// Why no more of a file comes.
#[derive(Debug, thiserror::Error)]
pub enum BytesError {
    /// The database's.
    #[error("the bytes of an attachment could not be read")]
    Store(#[from] StoreError),
    /// They are not there any more, or not for whoever reads them.
    #[error("the bytes of an attachment went while they were read")]
    Gone,
}

/// The `length` bytes from `from` on of the bytes `blob` of `tenant`, a piece at a time. One that cannot be read is the last. Those
/// of an attachment that is `sending` end once it is deleted or not clean any more, or the link was taken back.
pub fn bytes(
    store: &Store,
    tenant: &Tenant,
    (blob, sending): (Uuid, Option<Sending>),
    (from, length): (u64, u64),
) -> impl Stream<Item = Result<Bytes, BytesError>> + use<> {
    let (store, tenant) = (store.clone(), tenant.clone());
    stream::try_unfold((store, tenant, from, length), move |(store, tenant, from, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let piece = piece(&store, &tenant, (blob, from), sending).await?.ok_or(BytesError::Gone)?;
        let taken = piece.slice(..piece.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
        let count = taken.len() as u64;
        Ok(Some((taken, (store, tenant, from + count, left - count))))
    })
}

/// All of a file, for who knows nothing of databases.
pub(super) fn whole(
    store: &Store,
    tenant: &Tenant,
    blob: Uuid,
    size: u64,
) -> impl Stream<Item = io::Result<Bytes>> + use<> {
    bytes(store, tenant, (blob, None), (0, size)).map_err(io::Error::other)
}

/// The piece of a blob that the byte at `from` is in, from there on; never empty.
async fn piece(
    store: &Store,
    tenant: &Tenant,
    (blob, from): (Uuid, u64),
    sending: Option<Sending>,
) -> Result<Option<Bytes>, StoreError> {
    let Ok(offset) = i64::try_from(from) else { return Ok(None) };
    let tenant = tenant.clone();
    let work = store.read_for(tenant.clone(), move |rows| {
        Box::pin(async move { attachment_blobs::around(rows, tenant.as_str(), (blob, offset), sending).await })
    });
    let Some(chunk) = work.await? else { return Ok(None) };
    let before = usize::try_from(offset - chunk.at).unwrap_or(usize::MAX);
    let bytes = Bytes::from(chunk.bytes);
    Ok((before < bytes.len()).then(|| bytes.slice(before..)))
}
