//! A memory is taken back: here, in the log so that other copies follow, and by the memory service where that can.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::queries::Memories;
use crate::{
    domain::{caller::Caller, session::audit},
    somabrain::messages::{Asker, Consult, DeleteByKey, Deletion},
    store::{StoreError, audit_event, forget},
};

pub use crate::store::forget::Forgotten;

/// How long the memory service has to answer.
const WITHIN: Duration = Duration::from_secs(5);

/// What the memory service did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AtTheService {
    /// It deleted so many memories, if it says how many.
    Deleted(Option<u64>),
    /// It has no deletion: what it remembers stays.
    Unsupported,
    /// It did not answer, or refused, for this reason.
    Failed(String),
}

impl Memories {
    /// Takes the memory `id` of the caller's tenant back. What the database has of it goes in one transaction with the
    /// record that tells the log, and with the audit row; then the memory service is asked. Safe to repeat.
    ///
    /// # Errors
    /// The store's; after `Interrupted` and `TimedOut` the memory may be gone here.
    pub async fn delete(&self, caller: &Caller, id: String) -> Result<(Forgotten, AtTheService), StoreError> {
        let forgotten = self.forget_here(caller.clone(), id.clone()).await?;
        let asker = Asker {
            tenant: caller.tenant.clone(),
            correlation_id: caller.correlation_id,
            trace: caller.trace.clone(),
            deadline: Instant::now() + WITHIN,
        };
        let ask = |reply| Consult { question: DeleteByKey { id }, asker, reply };
        let service = match self.forget.call(ask, WITHIN).await {
            Ok(Ok(Deletion::Done { deleted, .. })) => AtTheService::Deleted(deleted),
            Ok(Ok(Deletion::Unsupported)) => AtTheService::Unsupported,
            Ok(Err(error)) => AtTheService::Failed(error.as_str().to_owned()),
            Err(error) => AtTheService::Failed(error.to_string()),
        };
        Ok((forgotten, service))
    }

    async fn forget_here(&self, caller: Caller, id: String) -> Result<Forgotten, StoreError> {
        let at = (self.clock)();
        let work = self.store.enqueue_for(caller.tenant.clone(), move |rows| {
            Box::pin(async move {
                let (gone, put) = forget::take_back(rows, &caller.tenant, &id, at).await?;
                let details = json!({
                    "replica": gone.replica, "queued": gone.queued, "unpublished": gone.unpublished,
                    "dead_letters": gone.dead_letters,
                });
                let done = audit(&caller, "memory.delete", "memory", id, details);
                audit_event::insert(rows, &caller.tenant, &done, at).await?;
                Ok((gone, put))
            })
        });
        work.await
    }
}
