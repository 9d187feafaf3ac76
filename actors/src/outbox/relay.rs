//! Moves committed outbox rows to the log, in commit order per key.
//!
//! State: where its walk over the keys is, and whether a round is under way. Everything else is read again from the
//! database after a restart; rows of a round that was cut off come back when its lease is over.
//! Asks: none. It works by its own clock.
//! Supervision: child of `durability`, Permanent. Crashes on broken invariants only; a log that is not available, or a
//! database that does not answer, is waited for.

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Supervised, WrapFuture};
use somaagent_supervision::Child;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{
    metrics::OutboxMetrics,
    pace::Pace,
    round::{Done, round},
    settings::QueueSettings,
};
use crate::{
    bus::Log,
    retry::held_back,
    somabrain::messages::HealthReader,
    store::{
        Store, StoreError,
        message_outbox::{self, Place},
        purge::purge,
    },
};

/// Time between two removals of old sent rows.
const PURGE_EVERY: Duration = Duration::from_mins(1);

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
    working: bool,
    purging: bool,
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

    fn begin_round(&mut self, ctx: &mut Context<Self>) {
        self.state.working = true;
        let (deps, place, rows) = (self.deps.clone(), self.state.place.clone(), self.pace().rows);
        deps.metrics.batch_size.set(rows.into());
        let begun = Instant::now();
        async move { round(&deps, place, rows).await }
            .into_actor(self)
            .map(move |done, this, ctx| this.end_round(done, begun.elapsed(), ctx))
            .spawn(ctx);
    }

    fn end_round(&mut self, done: Result<Done, StoreError>, took: Duration, ctx: &mut Context<Self>) {
        self.state.working = false;
        let rest = match done {
            // More may wait behind what was taken, or behind the keys that were looked at.
            Ok(Done { place, claimed }) => {
                let rest = match (claimed, self.pace().rest) {
                    (0, rest) if place == Place::default() => rest,
                    (0, rest) => rest / 8,
                    (_, rest) if (self.deps.crowded)() => held_back(took, rest),
                    _ => Duration::ZERO,
                };
                self.state.place = place;
                rest
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a round of the outbox failed");
                self.pace().rest.max(Duration::from_secs(1))
            }
        };
        ctx.run_later(rest, Self::begin_round);
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
    let before = (deps.clock)() - Duration::from_millis(deps.settings.retention_ms);
    purge(&deps.store, move |connection, rows| Box::pin(message_outbox::purge(connection, before, rows))).await
}

impl Actor for OutboxRelay {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.begin_round(ctx);
        ctx.run_interval(PURGE_EVERY, Self::purge);
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
        if self.state.working { "sending" } else { "resting" }
    }
}
