//! What is remembered of an attachment, and how that is taken back when the attachment is deleted.
//!
//! That it was sent goes the way of everything that was said: into the queue of what is to be remembered, in the transaction in which
//! the attachment begins to exist. One that is deleted, by whomever, leaves a tombstone that still says that there is a memory;
//! `Forgetting` finds it, takes the memory back here and in the log, and then tells the memory service, as often as it
//! takes.

use std::time::Duration;

use serde_json::{Value, json};
use somaagent_supervision::Port;
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use super::Attachment;
use crate::{
    domain::{
        brought::{Brought, lane},
        caller::Caller,
        ids::Tenant,
        memory::{MemorySpace, idempotency_key},
    },
    somabrain::messages::{Asker, BrainError, Consult, DeleteByKey, Deletion},
    store::{
        Store, StoreError,
        attachments::memories::{self, Forgotten, Stage},
        forget,
        outbox_events::Enqueued,
    },
};

/// Memories that have their turn at a time.
const PAGE: i64 = 100;
/// How long the memory service has to answer.
const WITHIN: Duration = Duration::from_secs(5);

/// The id of the memory of an attachment.
#[must_use]
pub fn memory_id(id: Uuid) -> String {
    format!("att:{id}")
}

/// What is remembered of an attachment: that it was sent, and what it was then. Of one that belongs to no session, too: it goes its own
/// way there.
pub(super) fn record(kept: &Attachment, index: Option<u32>, space: &MemorySpace, caller: &Caller) -> Brought {
    let (id, tenant) = (memory_id(kept.id), &caller.tenant);
    let mut metadata = json!({
        "tenant": kept.tenant, "filename": kept.filename, "mime": kept.mime, "agent_profile_id": null,
        "correlation_id": caller.correlation_id,
    });
    if let Some(index) = index {
        metadata["upload_index"] = index.into();
    }
    if let Some(universe) = &space.universe {
        metadata["universe_id"] = universe.as_str().into();
    }
    let mut payload = json!({
        "id": id,
        "type": "attachment",
        "role": "user",
        "content": "",
        "attachments": [{
            "id": kept.id, "filename": kept.filename, "mime": kept.mime, "size": kept.size, "sha256": kept.sha256,
            "path": format!("/v1/attachments/{}", kept.id), "status": kept.status, "session_id": kept.session_id,
            "tenant": kept.tenant,
        }],
        "session_id": kept.session_id,
        "persona_id": kept.persona_id,
        "metadata": metadata,
    });
    let named = json!({"event_id": id, "session_id": kept.session_id, "role": "user"});
    let key = idempotency_key(&named, space, tenant, kept.created_at);
    payload["idempotency_key"] = Value::from(key.as_str());
    let session = kept.session_id.map(|session| session.to_string());
    Brought { lane: lane(tenant, session.as_deref(), &id), id, payload, idempotency_key: key }
}

/// A round in which the memories of all deleted attachments are taken back: here first, whether or not the memory service answers, and
/// then there. One that cannot be taken back now keeps no other one waiting: it has its turn in the next round.
pub(super) struct Forgetting {
    stage: Stage,
    /// The last one that had its turn.
    last: Option<(OffsetDateTime, Uuid)>,
    /// Tenants for which the service did not answer: what is wrong may be theirs alone.
    unheard: Vec<String>,
}

impl Default for Forgetting {
    fn default() -> Self {
        Self { stage: Stage::Queued, last: None, unheard: Vec::new() }
    }
}

impl Forgetting {
    /// Goes on with the round, for a while. Returns whether there may be more to do in it.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn step(
        &mut self,
        store: &Store,
        brain: &Port<Consult<DeleteByKey>>,
        clock: fn() -> OffsetDateTime,
    ) -> Result<bool, StoreError> {
        let (page, until) = (self.next(store).await?, Instant::now() + WITHIN);
        // Those that come meanwhile may wait for the next round.
        let mut is_last = page.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
        for forgotten in page {
            if Instant::now() >= until {
                is_last = false;
                break;
            }
            self.last = Some((forgotten.deleted_at, forgotten.id));
            let Some(tenant) = Tenant::new(&forgotten.tenant) else { continue };
            match self.stage {
                Stage::Queued => withdraw(store, &tenant, forgotten.id, clock()).await?,
                Stage::Withdrawn if !tell(store, brain, tenant, &forgotten).await? => {
                    self.unheard.push(forgotten.tenant);
                    is_last = false;
                    break;
                }
                Stage::Withdrawn => {}
            }
        }
        if !is_last {
            return Ok(true);
        }
        let is_over = self.stage == Stage::Withdrawn;
        *self = Self { stage: if is_over { Stage::Queued } else { Stage::Withdrawn }, ..Self::default() };
        Ok(!is_over)
    }

    /// Those that have their turn next.
    async fn next(&self, store: &Store) -> Result<Vec<Forgotten>, StoreError> {
        let (stage, last, but) = (self.stage, self.last, self.unheard.clone());
        let work = store.run(move |connection| {
            Box::pin(async move { memories::forgotten(connection, stage, (last, &but), PAGE).await })
        });
        work.await
    }
}

/// Tells the memory service, and notes that it knows. Returns whether it does.
async fn tell(
    store: &Store,
    brain: &Port<Consult<DeleteByKey>>,
    tenant: Tenant,
    forgotten: &Forgotten,
) -> Result<bool, StoreError> {
    if let Told::Later(reason) = told(brain, &tenant, forgotten).await {
        tracing::warn!(reason, "the memory service was not told of deleted attachments: it will be");
        return Ok(false);
    }
    let (id, name) = (forgotten.id, tenant.clone());
    let noted = store.change_for(tenant, move |rows| {
        Box::pin(async move { memories::forgotten_there(rows, name.as_str(), id).await })
    });
    noted.await?;
    Ok(true)
}

/// Takes a memory back here, unless it is being written: that is for the next round.
async fn withdraw(store: &Store, tenant: &Tenant, id: Uuid, at: OffsetDateTime) -> Result<(), StoreError> {
    let name = tenant.clone();
    let work = store.enqueue_for(tenant.clone(), move |rows| {
        Box::pin(async move {
            if !memories::withdrawn(rows, name.as_str(), id).await? {
                return Ok(((), Enqueued::default()));
            }
            let (gone, put) = forget::take_back(rows, &name, &memory_id(id), at).await?;
            if gone.under_way > 0 {
                // The service would get it after it was told to forget it.
                rows.undo();
                return Ok(((), Enqueued::default()));
            }
            Ok(((), put))
        })
    });
    work.await
}

/// What the memory service said.
enum Told {
    /// It knows, or cannot forget anything.
    Done,
    /// It is to be told again, for this reason.
    Later(String),
}

async fn told(brain: &Port<Consult<DeleteByKey>>, tenant: &Tenant, forgotten: &Forgotten) -> Told {
    let asker = Asker {
        tenant: tenant.clone(),
        correlation_id: Uuid::new_v4(),
        trace: None,
        deadline: Instant::now() + WITHIN,
    };
    let question = DeleteByKey { id: memory_id(forgotten.id) };
    match brain.call(|reply| Consult { question, asker, reply }, WITHIN).await {
        Ok(Ok(Deletion::Done { .. } | Deletion::Unsupported)) => Told::Done,
        // The same again would be refused again; what is wrong with who asks may be mended.
        Ok(Err(error @ BrainError::Refused { status: 400 | 410 | 422, .. })) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the memory service forgets no attachment");
            Told::Done
        }
        Ok(Err(error)) => Told::Later(error.to_string()),
        Err(error) => Told::Later(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
