//! A memory is taken back: here, in the log so that other copies follow, and by the memory service where that can.

use std::time::Duration;

use serde_json::json;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::queries::Memories;
use crate::{
    domain::{
        brought::lane,
        caller::Caller,
        ids::Tenant,
        session::audit,
        wal::{self, MEMORY_WAL, TakenBack},
    },
    somabrain::messages::{Asker, Consult, DeleteByKey, Deletion},
    store::{
        StoreError, audit_event, forget,
        memory_replica::{LogPartition, tombstones},
        memory_write_outbox,
        message_outbox::{self, NewMessage},
    },
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
                let gone = forget::forget(rows, caller.tenant.as_str(), &id).await?;
                let revision = memory_write_outbox::next_revision(rows).await?;
                // What is on its way does not bring it back even for a moment.
                let back = TakenBack {
                    tenant: caller.tenant.to_string(),
                    event_id: id.clone(),
                    revision: Some(revision),
                    timestamp: Some(wal::seconds(at)),
                };
                tombstones::remove(rows, &nowhere(), &back, 0, at).await?;
                let back = tombstone(&caller.tenant, &gone, &id, revision, at);
                let put = message_outbox::insert(rows, &[back], at).await?;
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

/// The place of what no log has told yet: it is none of any log.
fn nowhere() -> LogPartition {
    LogPartition { source: "deletion", topic: MEMORY_WAL.to_owned(), partition: 0 }
}

/// What takes the memory back, by the way of its session where that is known.
fn tombstone(tenant: &Tenant, gone: &Forgotten, id: &str, revision: i64, at: OffsetDateTime) -> NewMessage {
    let lane = gone.lane.unwrap_or_else(|| lane(tenant, gone.session_id.as_deref(), id));
    let session = gone.session_id.clone().unwrap_or_else(|| lane.to_string());
    NewMessage {
        tenant: tenant.to_string(),
        session_id: lane,
        seq: None,
        topic: MEMORY_WAL,
        headers: json!({}),
        payload: wal::tombstone(tenant.as_str(), &session, id, revision, at),
        dedupe_key: None,
    }
}
