//! Bounded reads of attachments: they wake no actor, and hold one piece of a file at a time.

use bytes::Bytes;
use futures_util::Stream;
use uuid::Uuid;

use crate::{
    contents,
    domain::{caller::Caller, ids::Tenant},
    store::{Store, StoreError, attachments, session_envelopes, wall::TenantTx},
};
pub use crate::{
    contents::bytes::BytesError,
    store::{attachment_blobs::Sending, attachments::Attachment},
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

    /// A part of the bytes `blob` of `tenant`: from where on, and how many; a piece at a time. One that cannot be read is the last. Those
    /// of an attachment that is `sending` end once it is deleted or not clean any more, or the link was taken back.
    pub fn bytes(
        &self,
        tenant: &Tenant,
        (blob, sending): (Uuid, Option<Sending>),
        part: (u64, u64),
    ) -> impl Stream<Item = Result<Bytes, BytesError>> + use<> {
        contents::bytes::bytes(&self.store, tenant, (blob, sending), part)
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
