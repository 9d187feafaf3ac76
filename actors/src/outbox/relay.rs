//! Moves committed outbox rows to the log, in commit order per key.
//!
//! State: where its walk over the keys is, and how many rounds are under way. Everything else is read again from the
//! database after a restart; rows of a round that was cut off come back when its lease is over.
//! Asks: [`Finish`], answered through its own reply. Else it works by its own clock.
//! Supervision: child of `durability`, Permanent. Crashes on broken invariants only; a log that is not available, or a
//! database that does not answer, is waited for.

use std::{sync::Arc, time::Duration};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Handler, SpawnHandle, Supervised, WrapFuture,
};
use somaagent_supervision::{Admitted, Child};
use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    finish::{Finish, Finishing},
    metrics::OutboxMetrics,
    pace::Pace,
    round::{self, Claimed},
    settings::QueueSettings,
};
use crate::{
    bus::Log,
    retry::held_back,
    somabrain::messages::HealthReader,
    store::{
        Store, StoreError,
        message_outbox::{self, ClaimedMessage, Place},
        outbox_leases::forget_leases,
        purge::purge,
    },
};

/// Time between two removals of old sent rows: as long as they are kept, within these.
const PURGE_AFTER: [Duration; 2] = [Duration::from_secs(1), Duration::from_mins(1)];

/// What the relay needs; survives a restart.
#[derive(Clone)]
pub struct RelayDeps {
    /// Where the outbox is.
    pub store: Store,
    /// Where records go.
    pub log: Arc<dyn Log>,
    /// How the memory service is.
    pub health: HealthReader,
    /// Whether people wait for the database: then the relay holds back.
    pub crowded: Arc<dyn Fn() -> bool + Send + Sync>,
    /// How to work.
    pub settings: Arc<QueueSettings>,
    /// What is counted.
    pub metrics: OutboxMetrics,
    /// What time it is.
    pub clock: fn() -> OffsetDateTime,
}

/// See the module.
pub struct OutboxRelay {
    deps: RelayDeps,
    state: State,
}

#[derive(Default)]
struct State {
    place: Place,
    claiming: bool,
    /// Rounds that are being sent.
    under_way: usize,
    purging: bool,
    /// When the last claim began.
    claimed_at: Option<Instant>,
    /// The next claim that is due by the clock.
    timer: Option<SpawnHandle>,
    finishing: Finishing,
}

impl OutboxRelay {
    /// A relay that begins with the first key.
    #[must_use]
    pub fn new(deps: RelayDeps) -> Self {
        Self { deps, state: State::default() }
    }

    fn pace(&self) -> Pace {
        Pace::of(&self.deps.settings, self.deps.health.last().map(|report| report.state))
    }

    /// Claims a round if there is room for one.
    fn claim(&mut self, ctx: &mut Context<Self>) {
        let room = if (self.deps.crowded)() { 1 } else { self.pace().rounds };
        let no_more = self.state.finishing.is_asked() || self.state.under_way >= room;
        if no_more || std::mem::replace(&mut self.state.claiming, true) {
            return;
        }
        self.state.claimed_at = Some(Instant::now());
        let (deps, place, rows) = (self.deps.clone(), self.state.place.clone(), self.pace().rows);
        deps.metrics.batch_size.set(rows.into());
        async move { round::claim(&deps, place, rows).await }
            .into_actor(self)
            .map(|claimed, this, ctx| this.begin(claimed, ctx))
            .spawn(ctx);
    }

    fn claim_after(&mut self, rest: Duration, ctx: &mut Context<Self>) {
        if let Some(timer) = self.state.timer.replace(ctx.run_later(rest, Self::claim)) {
            ctx.cancel_future(timer);
        }
    }

    fn begin(&mut self, claimed: Result<Claimed, StoreError>, ctx: &mut Context<Self>) {
        self.state.claiming = false;
        match claimed {
            Ok(Claimed { claim, rows, place }) => {
                let rest = match (rows.is_empty(), self.pace().rest) {
                    (true, rest) if place == Place::default() => rest,
                    (true, rest) => rest / 8,
                    // More may wait behind what was taken, or behind the keys that were looked at.
                    (false, _) => Duration::ZERO,
                };
                self.state.place = place;
                if !rows.is_empty() {
                    self.send(claim, rows, ctx);
                }
                self.claim_after(rest, ctx);
            }
            Err(error) => self.failed(&error, ctx),
        }
        self.finish();
    }

    fn send(&mut self, claim: Uuid, rows: Vec<ClaimedMessage>, ctx: &mut Context<Self>) {
        self.state.under_way += 1;
        let deps = self.deps.clone();
        async move { round::send(&deps, claim, rows).await }
            .into_actor(self)
            .map(|done, this, ctx| {
                this.state.under_way -= 1;
                match done {
                    // Its keys are free again, and there is room.
                    Ok(()) => this.claim_again(ctx),
                    Err(error) => this.failed(&error, ctx),
                }
                this.finish();
            })
            .spawn(ctx);
    }

    fn claim_again(&mut self, ctx: &mut Context<Self>) {
        let took = self.state.claimed_at.map(|at| at.elapsed()).filter(|_| (self.deps.crowded)());
        match took {
            Some(took) => self.claim_after(held_back(took, self.pace().rest), ctx),
            None => self.claim(ctx),
        }
    }

    /// Tells who asked for it that nothing is under way, if that is so.
    fn finish(&mut self) {
        if !self.state.claiming && self.state.under_way == 0 {
            self.state.finishing.tell();
        }
    }

    fn failed(&mut self, error: &StoreError, ctx: &mut Context<Self>) {
        tracing::warn!(error = error as &dyn std::error::Error, "a round of the outbox failed");
        self.claim_after(self.pace().rest.max(Duration::from_secs(1)), ctx);
    }

    fn purge(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.state.purging, true) {
            return;
        }
        let deps = self.deps.clone();
        async move { remove_old(&deps).await }
            .into_actor(self)
            .map(|done, this, _| {
                this.state.purging = false;
                if let Err(error) = done {
                    tracing::warn!(error = &error as &dyn std::error::Error, "old rows of the outbox are still there");
                }
            })
            .spawn(ctx);
    }
}

async fn remove_old(deps: &RelayDeps) -> Result<(), StoreError> {
    let before = (deps.clock)() - deps.settings.retention();
    deps.store.run(move |connection| Box::pin(async move { forget_leases(connection, before).await })).await?;
    purge(&deps.store, move |connection, rows| Box::pin(message_outbox::purge(connection, before, rows))).await
}

impl Actor for OutboxRelay {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.claim(ctx);
        let [shortest, longest] = PURGE_AFTER;
        ctx.run_interval(self.deps.settings.retention().clamp(shortest, longest), Self::purge);
    }
}

impl Handler<Admitted<Finish>> for OutboxRelay {
    type Result = ();

    fn handle(&mut self, asked: Admitted<Finish>, _: &mut Context<Self>) {
        self.state.finishing.ask(asked);
        self.finish();
    }
}

impl Supervised for OutboxRelay {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = State::default();
    }
}

impl Child for OutboxRelay {
    const NAME: &'static str = "outbox-relay";

    fn state_name(&self) -> &'static str {
        if self.state.claiming || self.state.under_way > 0 { "sending" } else { "resting" }
    }
}

#[cfg(test)]
mod tests;
