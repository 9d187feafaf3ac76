//! What people decide about attachments: one is deleted, or let out of its quarantine, or its bytes are dropped.

use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Attachment, Uploads,
    downloads::{Found, standing},
};
use crate::{
    domain::{caller::Caller, session::audit},
    store::{
        StoreError, attachments,
        attachments::{listing, verdicts},
        audit_event,
        wall::TenantTx,
    },
};

pub use crate::{domain::list_cursor::ListCursor, store::attachments::listing::AttachmentFilter};

/// Why an attachment is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum NotChanged {
    /// There is none for whoever asks.
    #[error("the attachment does not exist for the caller")]
    Unknown,
    /// It was deleted.
    #[error("the attachment was deleted")]
    Gone,
    /// Its bytes were dropped.
    #[error("the bytes of the attachment were dropped")]
    BytesDropped,
    /// It is not quarantined.
    #[error("the attachment is not quarantined")]
    NotQuarantined,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Uploads {
    /// Up to `limit` attachments of the caller's tenant, whoever sent them, the latest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(
        &self,
        caller: &Caller,
        filter: AttachmentFilter,
        after: Option<ListCursor>,
        limit: i64,
    ) -> Result<Vec<Attachment>, StoreError> {
        let tenant = caller.tenant.clone();
        let work = self.store.search_for(tenant.clone(), move |rows| {
            Box::pin(async move { listing::list(rows, tenant.as_str(), &filter, after, limit).await })
        });
        work.await
    }

    /// Deletes an attachment that exists for the caller. A tombstone is left; its bytes go unless another attachment has them
    /// too. Safe to repeat.
    ///
    /// # Errors
    /// [`NotChanged::Unknown`], or the store's: after `Interrupted` and `TimedOut` it may be gone.
    pub async fn delete(&self, caller: &Caller, id: Uuid) -> Result<(), NotChanged> {
        let (caller, at) = (caller.clone(), (self.clock)());
        let work = self.store.change_for(caller.tenant.clone(), move |rows| {
            Box::pin(async move {
                let tenant = caller.tenant.as_str();
                let Some(found) = verdicts::hold(rows, tenant, id).await? else { return Ok(false) };
                if matches!(standing(rows, &caller, found.clone()).await?, Found::Unknown) {
                    return Ok(false);
                }
                if attachments::delete(rows, tenant, id, at).await? {
                    told(rows, &caller, &found, "attachments.delete", at).await?;
                }
                Ok(true)
            })
        });
        if work.await? { Ok(()) } else { Err(NotChanged::Unknown) }
    }

    /// Does with an attachment what an admin decided, in the admin's name. Safe to repeat. Returns what it is then.
    ///
    /// # Errors
    /// [`NotChanged`]; after the store's `Interrupted` and `TimedOut` it may be done.
    pub async fn decide(&self, caller: &Caller, id: Uuid, decision: Decision) -> Result<Attachment, NotChanged> {
        let (caller, at) = (caller.clone(), (self.clock)());
        let work = self.store.change_for(caller.tenant.clone(), move |rows| {
            Box::pin(async move { carry_out(rows, &caller, id, decision, at).await })
        });
        work.await?
    }
}

/// What an admin decides about an attachment that is quarantined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It goes out all the same; what was found in it stays written down. One that is clean stays as it is.
    Release,
    /// Its bytes are dropped; what it was stays.
    Clear,
}

impl Decision {
    const fn action(self) -> &'static str {
        match self {
            Self::Release => "admin.attachments.release",
            Self::Clear => "admin.attachments.clear",
        }
    }
}

async fn carry_out(
    rows: &mut TenantTx<'_>,
    caller: &Caller,
    id: Uuid,
    decision: Decision,
    at: OffsetDateTime,
) -> Result<Result<Attachment, NotChanged>, sqlx::Error> {
    let tenant = caller.tenant.as_str();
    let Some(found) = verdicts::hold(rows, tenant, id).await? else { return Ok(Err(NotChanged::Unknown)) };
    if found.deleted_at.is_some() {
        return Ok(Err(NotChanged::Gone));
    }
    let is_done = match (decision, found.status == "quarantined", found.blob_id) {
        (Decision::Release, false, _) | (Decision::Clear, true, None) => return Ok(Ok(found)),
        (Decision::Release, true, None) => return Ok(Err(NotChanged::BytesDropped)),
        (Decision::Clear, false, _) => return Ok(Err(NotChanged::NotQuarantined)),
        (Decision::Release, true, Some(_)) => {
            verdicts::release(rows, tenant, id, caller.subject.as_deref(), at).await?
        }
        (Decision::Clear, true, Some(_)) => verdicts::drop_bytes(rows, tenant, id).await?,
    };
    if is_done {
        told(rows, caller, &found, decision.action(), at).await?;
    }
    let now = attachments::get(rows, tenant, id).await?;
    Ok(now.ok_or(NotChanged::Unknown))
}

/// Writes down what `caller` did with `found`: what that was, and not what it is called, which may be about somebody.
async fn told(
    rows: &mut TenantTx<'_>,
    caller: &Caller,
    found: &Attachment,
    action: &'static str,
    at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let details = json!({
        "mime": found.mime, "size": found.size, "sha256": found.sha256, "status": found.status,
        "reason": found.quarantine_reason, "threat": found.threat,
    });
    let line = audit(caller, action, "attachment", found.id.to_string(), details);
    match found.session_id {
        Some(id) => audit_event::insert_of_session(rows, &caller.session(id), &line, at).await,
        None => audit_event::insert(rows, &caller.tenant, &line, at).await.map(drop),
    }
}

#[cfg(test)]
mod tests;
