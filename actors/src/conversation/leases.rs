//! Leases of live conversations: renewed while somebody needs them, given back when nobody has for long, confirmed before an
//! answer from memory when they may be over. A conversation that lost its session is let go: its readers come back, and
//! whoever asks gets a new one that looks who owns the session.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use somaagent_supervision::close_if_idle;
use tokio::time::{Instant, timeout_at};

use super::{
    deps::Deps,
    directory::{Conversations, Live},
    messages::{ConversationError, Passivate},
    tenure::Trust,
};
use crate::{
    domain::ids::SessionKey,
    store::{
        StoreError,
        session_envelopes::{self, Lease},
    },
};

/// Leases renewed in one statement.
const PAGE: usize = 1000;

impl Conversations {
    /// Whether `live` may answer from memory. If its lease may be over, the store is asked: nobody else can have changed
    /// the session while it is still ours, and its lease begins anew.
    pub(super) async fn may_answer(
        &self,
        key: &SessionKey,
        live: &Live,
        deadline: Instant,
    ) -> Result<bool, ConversationError> {
        if live.activity.tenure.trust() == Trust::Sure {
            return Ok(true);
        }
        let unavailable = ConversationError::Unavailable { event_id: None };
        match timeout_at(deadline, confirm(self.deps(), key, live)).await {
            Ok(Ok(held)) => Ok(held),
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a lease could not be confirmed");
                Err(unavailable)
            }
            Err(_) => Err(unavailable),
        }
    }

    /// Lets a conversation go whose session may be somebody else's. Who waits for it is told that it is gone and asks anew.
    pub(super) fn dismiss(&self, key: &SessionKey, live: &Arc<Live>) {
        tracing::info!(session = %key, "a conversation ends whose session may be another node's");
        self.forget(key, live);
        // It may have ended meanwhile.
        drop(live.exit.tell(Passivate));
    }

    /// Renews the leases of conversations that are working or read, and lets those go that have lost theirs: also one that
    /// is only read and whose lease may be over, because nobody knows what its readers miss. What is working goes on: the
    /// fence decides about what it does.
    pub(super) async fn renew(&self) -> Result<(), StoreError> {
        let due = self.deps().sessions.lease() / 2;
        let needed: Vec<_> =
            self.needed().into_iter().filter(|(_, live)| live.activity.tenure.trust_for(due) == Trust::Ask).collect();
        let mut renewed = Ok(());
        for page in needed.chunks(PAGE) {
            renewed = self.renew_page(page).await.and(renewed);
        }
        for (key, live) in &needed {
            if live.activity.tenure.is_over() && !live.activity.is_busy() {
                tracing::warn!(session = %key, "the lease of a session could not be renewed in time");
                self.dismiss(key, live);
            }
        }
        renewed
    }

    async fn renew_page(&self, page: &[(SessionKey, Arc<Live>)]) -> Result<(), StoreError> {
        let deps = self.deps();
        let keys: Vec<SessionKey> = page.iter().map(|(key, _)| key.clone()).collect();
        let (node, stamp, until) = (deps.node.clone(), deps.stamp(), deps.sure_until());
        let leases = deps
            .store
            .run(move |connection| {
                Box::pin(async move { session_envelopes::renew(connection, &keys, &node, stamp.lease_until).await })
            })
            .await?;
        let page: HashMap<_, _> = page.iter().map(|(key, live)| (key, live)).collect();
        for (key, lease) in &leases {
            match (page.get(key), lease) {
                (Some(live), Lease::Renewed) => live.activity.tenure.renewed(until),
                (Some(live), Lease::Lost) => self.dismiss(key, live),
                (None, _) => {}
            }
        }
        Ok(())
    }

    /// The conversations that are working or read.
    pub(super) fn needed(&self) -> Vec<(SessionKey, Arc<Live>)> {
        let mut needed = vec![];
        self.live().for_each(|key, live| {
            if live.activity.is_busy() || live.activity.readers.load(Ordering::Acquire) > 0 {
                needed.push((key.clone(), Arc::clone(live)));
            }
        });
        needed
    }

    /// Lets conversations go that nobody has needed for the idle time, and answers what they owned.
    pub(super) fn passivate(&self) -> Vec<(SessionKey, i64)> {
        let (now, idle) = ((self.deps().clock)(), Duration::from_millis(self.deps().sessions.idle_ms));
        let mut idlers = vec![];
        self.live().for_each(|key, live| {
            if live.activity.is_idle_for(idle, now) {
                idlers.push((key.clone(), Arc::clone(live)));
            }
        });
        let mut released = vec![];
        for (key, live) in idlers {
            // If it is busy again or a permit is out, somebody needs it after all.
            if !live.activity.is_idle_for(idle, (self.deps().clock)())
                || !close_if_idle(&[&live.posts, &live.control, &live.watch])
            {
                continue;
            }
            self.forget(&key, &live);
            // It may have crashed meanwhile; then it is gone as well.
            drop(live.exit.tell(Passivate));
            if let Some(epoch) = live.activity.tenure.epoch() {
                released.push((key, epoch));
            }
        }
        released
    }
}

/// Renews one lease, and tells whether the session is still the conversation's: its own, or still nobody's.
async fn confirm(deps: &Deps, key: &SessionKey, live: &Live) -> Result<bool, StoreError> {
    let (of, node, stamp) = (key.clone(), deps.node.clone(), deps.stamp());
    let until = deps.sure_until();
    // The first message of the session may be stored while the store is asked.
    let unused = live.activity.tenure.epoch().is_none();
    let held = deps
        .store
        .run(move |connection| {
            Box::pin(async move { session_envelopes::hold(connection, &of, &node, stamp.lease_until).await })
        })
        .await?;
    match held {
        Some(Lease::Renewed) => live.activity.tenure.renewed(until),
        Some(Lease::Lost) => return Ok(false),
        None => return Ok(unused),
    }
    Ok(true)
}
