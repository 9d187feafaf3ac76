//! Memories that people bring. They go into the queue of what is to be remembered, together or not at all; from there they
//! are carried on as what was said is.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::queries::Memories;
use crate::{
    domain::{
        brought::{Brought, brought},
        caller::Caller,
        ids::SessionKey,
        session::audit,
    },
    store::{
        StoreError, audit_event,
        memory_write_outbox::enqueue::{Put, enqueue},
    },
};

/// A memory in its queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Enqueued {
    /// Its id.
    pub id: String,
    /// The lane it waits in.
    pub lane: SessionKey,
    /// Whether an earlier version of it waits there too: it is not written before that.
    pub behind: bool,
}

/// A memory that is in no queue.
#[derive(Clone, Debug, PartialEq)]
pub struct NotTaken {
    /// Its id, if it has one.
    pub id: Option<String>,
    /// Why, in words for whoever brought it.
    pub why: &'static str,
}

impl Memories {
    /// Puts what `caller` brings into the queue: all items that can be memories, in one transaction with its audit row. The
    /// answer has as many members as `items`, in their order. Safe to repeat.
    ///
    /// # Errors
    /// The store's; after `Interrupted` and `TimedOut` the memories may be in their queue.
    pub async fn enqueue(
        &self,
        caller: &Caller,
        items: Vec<Value>,
    ) -> Result<Vec<Result<Enqueued, NotTaken>>, StoreError> {
        let at = (self.clock)();
        let (mut seen, mut taken) = (HashSet::new(), Vec::with_capacity(items.len()));
        let mut judge = |item: Value| {
            let id = item["id"].as_str().map(ToOwned::to_owned);
            let memory = brought(item, &caller.tenant, &self.space, at).map_err(|why| NotTaken { id, why })?;
            if !seen.insert(memory.id.clone()) {
                return Err(NotTaken { id: Some(memory.id), why: "its id is that of an earlier item" });
            }
            let lane = SessionKey::new(caller.tenant.clone(), memory.lane);
            let enqueued = Enqueued { id: memory.id.clone(), lane, behind: false };
            taken.push(memory);
            Ok(enqueued)
        };
        let mut judged: Vec<_> = items.into_iter().map(&mut judge).collect();
        if !taken.is_empty() {
            let put = self.put(caller.clone(), taken).await?;
            for (enqueued, put) in judged.iter_mut().flatten().zip(put) {
                enqueued.lane.session_id = put.lane;
                enqueued.behind = put.behind;
            }
        }
        Ok(judged)
    }

    async fn put(&self, caller: Caller, memories: Vec<Brought>) -> Result<Vec<Put>, StoreError> {
        let at = (self.clock)();
        let work = self.store.change_for(caller.tenant.clone(), move |rows| {
            Box::pin(async move {
                let put = enqueue(rows, &caller.tenant, &memories, at).await?;
                let target = memories.first().map(|memory| memory.id.clone()).unwrap_or_default();
                let line = audit(&caller, "memory.write", "memory", target, json!({"items": memories.len()}));
                audit_event::insert(rows, &caller.tenant, &line, at).await?;
                Ok(put)
            })
        });
        work.await
    }
}
