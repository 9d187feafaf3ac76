//! Looks after conversations as a whole: takes up turns whose owner died, renews leases, lets idle conversations go, deletes
//! the rows of what was erased.
//!
//! State: none that matters; it reads the directory and the store again each time.
//! Asks: none. It works by timers, and at once when a conversation crashes or history is erased.
//! Supervision: child of `sessions`, Permanent. A store that does not answer costs it one round.

use std::{sync::Arc, time::Duration};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, StreamHandler, Supervised, WrapFuture,
};
use futures_util::stream;
use somaagent_supervision::Child;
use tokio::sync::{Mutex, mpsc};

use super::directory::Conversations;
use crate::{
    domain::ids::SessionKey,
    store::{StoreError, erase, session_envelopes},
};

/// Sessions handled in one statement.
const PAGE: usize = 1000;
/// Numbers of a session whose rows are deleted in one statement. Events can be long, and a statement must stay short.
const ERASED_PAGE: i64 = 250;
/// Sessions whose erased rows are deleted in turns, a page each.
const ERASED_SESSIONS: i64 = 64;

/// See the module.
pub struct SessionKeeper {
    conversations: Conversations,
    /// Keys of conversations that crashed. Shared, because it outlives a restart of this actor.
    crashes: Arc<Mutex<mpsc::UnboundedReceiver<SessionKey>>>,
    state: State,
}

#[derive(Default)]
struct State {
    sweeping: bool,
    renewing: bool,
    erasing: bool,
}

struct Crashed(SessionKey);

struct Erased;

impl SessionKeeper {
    /// A keeper of `conversations`, told of crashes by the receiver made with them.
    #[must_use]
    pub fn new(conversations: Conversations, crashes: Arc<Mutex<mpsc::UnboundedReceiver<SessionKey>>>) -> Self {
        Self { conversations, crashes, state: State::default() }
    }

    fn sweep(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.state.sweeping, true) {
            return;
        }
        let conversations = self.conversations.clone();
        async move { conversations.orphans().await }
            .into_actor(self)
            .map(|orphans, this, _| {
                this.state.sweeping = false;
                match orphans {
                    Ok(orphans) => orphans.iter().for_each(|key| this.conversations.wake(key)),
                    Err(error) => warn(&error, "open turns could not be looked for"),
                }
            })
            .spawn(ctx);
    }

    fn renew(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.state.renewing, true) {
            return;
        }
        let conversations = self.conversations.clone();
        async move { conversations.renew().await }
            .into_actor(self)
            .map(|renewed, this, _| {
                this.state.renewing = false;
                if let Err(error) = renewed {
                    warn(&error, "leases could not be renewed");
                }
            })
            .spawn(ctx);
    }

    fn erase(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.state.erasing, true) {
            return;
        }
        let conversations = self.conversations.clone();
        async move { delete_erased(&conversations).await }
            .into_actor(self)
            .map(|deleted, this, _| {
                this.state.erasing = false;
                // Readers do not see these rows; the next round goes on where this one stopped.
                if let Err(error) = deleted {
                    warn(&error, "erased history could not be deleted");
                }
            })
            .spawn(ctx);
    }

    fn let_go(&self, ctx: &mut Context<Self>) {
        let released = self.conversations.passivate();
        if released.is_empty() {
            return;
        }
        let conversations = self.conversations.clone();
        async move { release(&conversations, &released).await }
            .into_actor(self)
            .map(|done, _, _| {
                // A lease that was not given back runs out by itself.
                if let Err(error) = done {
                    warn(&error, "leases could not be given back");
                }
            })
            .spawn(ctx);
    }
}

fn warn(error: &StoreError, what: &'static str) {
    tracing::warn!(error = error as &dyn std::error::Error, "{what}");
}

async fn release(conversations: &Conversations, sessions: &[(SessionKey, i64)]) -> Result<(), StoreError> {
    let deps = conversations.deps();
    for page in sessions.chunks(PAGE) {
        let (page, node) = (page.to_vec(), deps.node.clone());
        deps.store
            .run(move |connection| Box::pin(async move { session_envelopes::release(connection, &page, &node).await }))
            .await?;
    }
    Ok(())
}

/// Deletes the rows of erased history, page by page, until none are left. One session's trouble does not keep the others.
async fn delete_erased(conversations: &Conversations) -> Result<(), StoreError> {
    let deps = conversations.deps();
    loop {
        let found = deps
            .store
            .run(|connection| Box::pin(async move { erase::unswept(connection, ERASED_SESSIONS).await }))
            .await?;
        if found.is_empty() {
            return Ok(());
        }
        let mut trouble = None;
        for session in found {
            if deps.is_draining() {
                return Ok(());
            }
            let page = deps
                .store
                .run(move |connection| Box::pin(async move { erase::sweep(connection, &session, ERASED_PAGE).await }))
                .await;
            trouble = page.err().or(trouble);
        }
        trouble.map_or(Ok(()), Err)?;
    }
}

impl Actor for SessionKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let deps = self.conversations.deps();
        let (sweep, lease, idle) = (deps.turns.sweep_ms, deps.sessions.lease_ms, deps.sessions.idle_ms);
        self.sweep(ctx);
        self.erase(ctx);
        ctx.run_interval(Duration::from_millis(sweep.max(100)), Self::sweep);
        ctx.run_interval(Duration::from_millis(sweep.max(100)), Self::erase);
        ctx.run_interval(Duration::from_millis((lease / 3).max(100)), Self::renew);
        ctx.run_interval(Duration::from_millis((idle / 4).clamp(50, 10_000)), |this, ctx| this.let_go(ctx));
        let crashes = Arc::clone(&self.crashes);
        ctx.add_stream(Box::pin(stream::unfold(crashes, |crashes| async move {
            let key = crashes.lock().await.recv().await?;
            Some((Crashed(key), crashes))
        })));
        let conversations = self.conversations.clone();
        ctx.add_stream(Box::pin(stream::unfold(conversations, |conversations| async move {
            conversations.erased().await;
            Some((Erased, conversations))
        })));
    }
}

impl Supervised for SessionKeeper {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = State::default();
    }
}

impl Child for SessionKeeper {
    const NAME: &'static str = "session-keeper";
}

impl StreamHandler<Crashed> for SessionKeeper {
    fn handle(&mut self, Crashed(key): Crashed, _: &mut Context<Self>) {
        self.conversations.wake(&key);
    }

    fn finished(&mut self, _: &mut Context<Self>) {
        // The sender is gone only when the process ends; timers go on until then.
    }
}

impl StreamHandler<Erased> for SessionKeeper {
    fn handle(&mut self, _: Erased, ctx: &mut Context<Self>) {
        self.erase(ctx);
    }

    fn finished(&mut self, _: &mut Context<Self>) {
        // Never: the stream has no end.
    }
}
