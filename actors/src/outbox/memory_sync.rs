//! Moves waiting memories to the memory service, in their order per session.
//!
//! State: where its walk over the sessions is, how many sessions are under way, and who waits for which memory. Everything
//! else is read again from the database after a restart; memories that were under way come back when their lease is over, and
//! the service knows them by their key. Whoever waited gets `Down`.
//! Asks: [`WriteThrough`] and [`Finish`], answered through their own reply. Else it works by its own clock.
//! Supervision: child of `durability`, Permanent. Crashes on broken invariants only; a service or a database that does not
//! answer is waited for.

use std::{sync::Arc, time::Duration};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Handler, SpawnHandle, Supervised, WrapFuture,
};
use somaagent_supervision::{Admitted, Child, Port};
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    claiming::{Claimed, Sought, claim, seek},
    finish::{Finish, Finishing},
    metrics::MemorySyncMetrics,
    settings::QueueSettings,
    through::{Cause, Outcome, Waiters, WriteThrough},
    write::write,
};
use crate::{
    domain::{ids::Tenant, memory::MemorySpace},
    policy::Policy,
    retry::held_back,
    somabrain::messages::{Remember, RememberBatch},
    store::{
        Store, StoreError,
        memory_write_outbox::{self, ClaimedMemory, Place},
        purge::purge,
    },
};

/// Time between two removals of old rows.
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(10);
/// Shortest time between two looks at the length of the queue. One that is long takes time to be counted: then these take one
/// part in so many of it.
const COUNT_EVERY: Duration = Duration::from_secs(1);
const COUNTING_PART: u32 = 50;

/// What the memory sync needs; survives a restart.
#[derive(Clone)]
pub struct MemorySyncDeps {
    /// Where the queue is.
    pub store: Store,
    /// Who remembers one memory.
    pub remember: Port<Remember>,
    /// Who remembers several.
    pub remember_batch: Port<RememberBatch>,
    /// Says whether something may be remembered.
    pub policy: Policy,
    /// Where memories go that do not say it themselves.
    pub space: MemorySpace,
    /// Whether people wait for the database: then memories hold back.
    pub crowded: Arc<dyn Fn() -> bool + Send + Sync>,
    /// Whether it looks for waiting memories by itself; else it writes only what it is asked for.
    pub looks: bool,
    /// How to work.
    pub settings: Arc<QueueSettings>,
    /// What is counted.
    pub metrics: MemorySyncMetrics,
    /// What time it is.
    pub clock: fn() -> OffsetDateTime,
}

/// See the module.
pub struct MemorySync {
    deps: MemorySyncDeps,
    state: State,
}

#[derive(Default)]
struct State {
    place: Place,
    claiming: bool,
    /// Memories under way.
    under_way: u32,
    keeping_house: bool,
    waiters: Waiters,
    /// When the last claim began.
    claimed_at: Option<Instant>,
    /// The next look that is due by the clock.
    timer: Option<SpawnHandle>,
    finishing: Finishing,
}

impl MemorySync {
    /// A memory sync that begins with the first session.
    #[must_use]
    pub fn new(deps: MemorySyncDeps) -> Self {
        Self { deps, state: State::default() }
    }

    /// Claims as much as there is room for.
    fn look(&mut self, ctx: &mut Context<Self>) {
        let room = self.deps.settings.batch_size.saturating_sub(self.state.under_way);
        let holds_back = self.state.under_way > 0 && (self.deps.crowded)();
        let looks = self.deps.looks && !self.state.finishing.is_asked();
        if !looks || room == 0 || holds_back || std::mem::replace(&mut self.state.claiming, true) {
            return;
        }
        self.state.claimed_at = Some(Instant::now());
        let (deps, from) = (self.deps.clone(), self.state.place.clone());
        async move { claim(&deps, from, room).await }
            .into_actor(self)
            .map(|claimed, this, ctx| this.begin(claimed, ctx))
            .spawn(ctx);
    }

    fn look_after(&mut self, rest: Duration, ctx: &mut Context<Self>) {
        if let Some(timer) = self.state.timer.replace(ctx.run_later(rest, Self::look)) {
            ctx.cancel_future(timer);
        }
    }

    fn begin(&mut self, claimed: Result<Claimed, StoreError>, ctx: &mut Context<Self>) {
        self.state.claiming = false;
        let claimed = match claimed {
            Ok(claimed) => claimed,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "waiting memories could not be read");
                self.look_after(self.deps.settings.interval().max(Duration::from_secs(1)), ctx);
                self.finish();
                return;
            }
        };
        self.state.place = claimed.place;
        let rest = match (claimed.sessions.is_empty(), self.deps.settings.interval()) {
            (true, rest) if self.state.place == Place::default() => rest,
            (true, rest) => rest / 8,
            _ => Duration::ZERO,
        };
        for session in claimed.sessions {
            self.write(claimed.claim, session, ctx);
        }
        self.look_after(rest, ctx);
        self.finish();
    }

    fn write(&mut self, claim: Uuid, session: Vec<ClaimedMemory>, ctx: &mut Context<Self>) {
        let count = u32::try_from(session.len()).unwrap_or(u32::MAX);
        self.state.under_way = self.state.under_way.saturating_add(count);
        let deps = self.deps.clone();
        async move { write(&deps, claim, session).await }
            .into_actor(self)
            .map(move |written, this, ctx| {
                this.state.under_way = this.state.under_way.saturating_sub(count);
                match written {
                    Ok(outcomes) => {
                        for (memory, outcome) in outcomes {
                            this.tell(&memory, outcome);
                        }
                    }
                    Err(error) => {
                        let error: &(dyn std::error::Error + 'static) = &error;
                        tracing::warn!(error, "what became of memories could not be stored: they are written again");
                    }
                }
                this.look_again(ctx);
                this.finish();
            })
            .spawn(ctx);
    }

    /// Tells who asked for it that nothing is under way, if that is so.
    fn finish(&mut self) {
        if !self.state.claiming && self.state.under_way == 0 {
            self.state.finishing.tell();
        }
    }

    fn tell(&mut self, memory: &(Tenant, String), outcome: Outcome) {
        self.state.waiters.tell(memory, outcome, &self.deps.metrics);
    }

    /// A session is done: there is room for the next one, at once or after a rest.
    fn look_again(&mut self, ctx: &mut Context<Self>) {
        let took = self.state.claimed_at.map(|at| at.elapsed()).filter(|_| (self.deps.crowded)());
        match took {
            Some(took) => self.look_after(held_back(took, self.deps.settings.interval()), ctx),
            None => self.look(ctx),
        }
    }

    /// Tells how much waits, now and again and again.
    fn count(&mut self, ctx: &mut Context<Self>) {
        let (store, begun) = (self.deps.store.clone(), Instant::now());
        let pending = async move {
            store.run(|connection| Box::pin(async move { memory_write_outbox::pending(connection).await })).await
        };
        pending
            .into_actor(self)
            .map(move |pending, this, ctx| {
                match pending {
                    Ok(rows) => this.deps.metrics.pending(rows),
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "waiting memories were not counted");
                    }
                }
                ctx.run_later(COUNT_EVERY.max(begun.elapsed() * COUNTING_PART), Self::count);
            })
            .spawn(ctx);
    }

    fn keep_house(&mut self, ctx: &mut Context<Self>) {
        self.state.waiters.expire(Instant::now(), &self.deps.metrics);
        if std::mem::replace(&mut self.state.keeping_house, true) {
            return;
        }
        let deps = self.deps.clone();
        async move { keep_house(&deps).await }
            .into_actor(self)
            .map(|done, this, _| {
                this.state.keeping_house = false;
                if let Err(error) = done {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the queue of memories was not looked after"
                    );
                }
            })
            .spawn(ctx);
    }
}

/// Removes old rows.
async fn keep_house(deps: &MemorySyncDeps) -> Result<(), StoreError> {
    let before = (deps.clock)() - deps.settings.retention();
    purge(&deps.store, move |connection, rows| Box::pin(memory_write_outbox::purge(connection, before, rows))).await
}

impl Actor for MemorySync {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.look(ctx);
        // Once for each queue: a process that writes only what it is asked for leaves that to the others.
        if self.deps.looks {
            self.count(ctx);
        }
        self.keep_house(ctx);
        ctx.run_interval(HOUSEKEEPING_EVERY, Self::keep_house);
    }
}

impl Handler<Admitted<WriteThrough>> for MemorySync {
    type Result = ();

    fn handle(&mut self, msg: Admitted<WriteThrough>, ctx: &mut Context<Self>) {
        let (ask, in_flight) = msg.open();
        self.deps.metrics.asked_through(ask.path);
        let (key, memory_id) = (ask.key.clone(), ask.memory_id.clone());
        let memory = (key.tenant.clone(), memory_id.clone());
        // Before the look: what is under way by then may be done before it.
        self.state.waiters.add(ask, in_flight);
        let deps = self.deps.clone();
        async move { seek(&deps, key, memory_id).await }
            .into_actor(self)
            .map(move |sought, this, ctx| match sought {
                Ok(Sought { claimed, outcome }) => {
                    for session in claimed.sessions {
                        this.write(claimed.claim, session, ctx);
                    }
                    if let Some(outcome) = outcome {
                        this.tell(&memory, outcome);
                    }
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a waiting memory could not be read");
                    this.tell(&memory, Outcome::Queued(Cause::Waiting));
                }
            })
            .spawn(ctx);
    }
}

impl Handler<Admitted<Finish>> for MemorySync {
    type Result = ();

    fn handle(&mut self, asked: Admitted<Finish>, _: &mut Context<Self>) {
        self.state.finishing.ask(asked);
        self.finish();
    }
}

impl Supervised for MemorySync {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = State::default();
    }
}

impl Child for MemorySync {
    const NAME: &'static str = "memory-sync";

    fn state_name(&self) -> &'static str {
        if self.state.under_way > 0 { "writing" } else { "resting" }
    }
}
