//! Bounded reads of attachments: they wake no actor, and hold one piece of a file at a time.

use bytes::Bytes;
use futures_util::{Stream, stream};
use uuid::Uuid;

pub use crate::store::attachments::Attachment;
use crate::{
    domain::{caller::Caller, ids::Tenant},
    store::{Store, StoreError, attachment_blobs, attachments, session_envelopes, wall::TenantTx},
};

/// Reads what people have sent.
#[derive(Clone, Debug)]
pub struct Attachments {
    store: Store,
}

/// What is known of an id.
#[derive(Clone, Debug)]
pub enum Found {
    /// There is such an attachment, though perhaps without its bytes.
    Here(Box<Attachment>),
    /// There was one: it was deleted, or its session was.
    Gone,
    /// There is none for whoever asks.
    Unknown,
}

/// Why no more of a file comes.
#[derive(Debug, thiserror::Error)]
pub enum BytesError {
    /// The database's.
    #[error("the bytes of an attachment could not be read")]
    Store(#[from] StoreError),
    /// They are not there any more.
    #[error("the bytes of an attachment went while they were read")]
    Gone,
}

impl Attachments {
    /// Reads from `store`.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Looks an attachment up. One that does not exist for `caller` is unknown, whatever became of it: it exists for whoever sent it
    /// and for those for whom its session exists.
    ///
    /// # Errors
    /// The store's.
    pub async fn find(&self, caller: &Caller, id: Uuid) -> Result<Found, StoreError> {
        Ok(self.find_all(caller, vec![id]).await?.pop().unwrap_or(Found::Unknown))
    }

    /// The same of each of `ids`, in their order, at one moment.
    ///
    /// # Errors
    /// The store's.
    pub async fn find_all(&self, caller: &Caller, ids: Vec<Uuid>) -> Result<Vec<Found>, StoreError> {
        let caller = caller.clone();
        let work = self.store.read_for(caller.tenant.clone(), move |rows| {
            Box::pin(async move {
                let mut all = Vec::with_capacity(ids.len());
                for id in ids {
                    all.push(match attachments::get(rows, caller.tenant.as_str(), id).await? {
                        Some(found) => standing(rows, &caller, found).await?,
                        None => Found::Unknown,
                    });
                }
                Ok(all)
            })
        });
        work.await
    }

    /// The same for a worker of this installation, for whom everything of the tenant exists; without a tenant, of whichever it is.
    ///
    /// # Errors
    /// The store's.
    pub async fn find_for_worker(&self, id: Uuid) -> Result<Option<Attachment>, StoreError> {
        let work = self.store.run(move |connection| Box::pin(attachments::tenant_of(connection, id)));
        let Some(tenant) = work.await?.and_then(|tenant| Tenant::new(&tenant)) else { return Ok(None) };
        let work = self.store.read_for(tenant.clone(), move |rows| {
            Box::pin(async move { attachments::get(rows, tenant.as_str(), id).await })
        });
        work.await
    }

    /// The `length` bytes from `from` on of the bytes `blob` of `tenant`, a piece at a time. One that cannot be read is the last.
    pub fn bytes(
        &self,
        tenant: &Tenant,
        blob: Uuid,
        (from, length): (u64, u64),
    ) -> impl Stream<Item = Result<Bytes, BytesError>> + use<> {
        let (store, tenant) = (self.store.clone(), tenant.clone());
        stream::try_unfold((store, tenant, from, length), move |(store, tenant, from, left)| async move {
            if left == 0 {
                return Ok(None);
            }
            let piece = piece(&store, &tenant, blob, from).await?.ok_or(BytesError::Gone)?;
            let taken = piece.slice(..piece.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
            let count = taken.len() as u64;
            Ok(Some((taken, (store, tenant, from + count, left - count))))
        })
    }
}

/// What is left of `found` for `caller`.
pub(super) async fn standing(
    rows: &mut TenantTx<'_>,
    caller: &Caller,
    found: Attachment,
) -> Result<Found, sqlx::Error> {
    let own = caller.may_touch(found.subject.as_deref());
    let session = match found.session_id {
        Some(id) => session_envelopes::get(rows, &caller.session(id), caller.only()).await?,
        None => None,
    };
    Ok(match session {
        _ if !own && session.is_none() => Found::Unknown,
        Some(session) if session.deleted_at.is_some() => Found::Gone,
        _ if found.deleted_at.is_some() => Found::Gone,
        _ => Found::Here(Box::new(found)),
    })
}

/// The piece of a blob that the byte at `from` is in, from there on; never empty.
async fn piece(store: &Store, tenant: &Tenant, blob: Uuid, from: u64) -> Result<Option<Bytes>, StoreError> {
    let Ok(offset) = i64::try_from(from) else { return Ok(None) };
    let tenant = tenant.clone();
    let work = store.read_for(tenant.clone(), move |rows| {
        Box::pin(async move { attachment_blobs::around(rows, tenant.as_str(), blob, offset).await })
    });
    let Some(chunk) = work.await? else { return Ok(None) };
    let before = usize::try_from(offset - chunk.at).unwrap_or(usize::MAX);
    let bytes = Bytes::from(chunk.bytes);
    Ok((before < bytes.len()).then(|| bytes.slice(before..)))
}
