//! Copies what the log tells of memories into the replica, in the log's order.
//!
//! State: its membership in the group, where the replica is, the batch in hand and the next one. All of it is read again from
//! the log and the database after a restart.
//! Asks: none. It works by the log's records.
//! Supervision: child of `durability`, Permanent. Crashes on broken invariants only; a log or a database that does not
//! answer is waited for.

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Supervised, WrapFuture};
use somaagent_supervision::Child;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{
    metrics::ReplicatorMetrics,
    settings::ReplicatorSettings,
    work::{Step, StepError, Work},
};
use crate::{
    bus::Log,
    domain::ids::Tenant,
    retry::{Retries, RetryPolicy, held_back},
    store::Store,
};

/// Waits after failures. They never end: what is in the log stays there.
const RETRY: RetryPolicy =
    RetryPolicy { max_retries: u32::MAX, first_wait_ms: 200, max_wait_ms: 5_000, max_retry_after_ms: 0 };
/// Longest rest of a replicator that holds back.
const REST: Duration = Duration::from_secs(1);

/// What the replicator needs; survives a restart.
#[derive(Clone)]
pub struct ReplicatorDeps {
    /// Where the replica is.
    pub store: Store,
    /// What is read.
    pub log: Arc<dyn Log>,
    /// The log's name: what is applied of one log says nothing of another.
    pub source: &'static str,
    /// Whose records are that do not say it.
    pub tenant: Tenant,
    /// Whether people wait for the database: then the replicator holds back.
    pub crowded: Arc<dyn Fn() -> bool + Send + Sync>,
    /// How to work.
    pub settings: Arc<ReplicatorSettings>,
    /// What is counted.
    pub metrics: ReplicatorMetrics,
    /// How long a step waits for records; after that nothing waits.
    pub wait: Duration,
    /// What time it is.
    pub clock: fn() -> OffsetDateTime,
}

/// See the module.
pub struct WalReplicator {
    deps: ReplicatorDeps,
    state: State,
}

struct State {
    /// `None` while a step is under way.
    work: Option<Work>,
    retries: Retries,
    name: &'static str,
}

impl Default for State {
    fn default() -> Self {
        Self { work: Some(Work::default()), retries: Retries::new(RETRY), name: "joining" }
    }
}

impl WalReplicator {
    /// A replicator that is not yet of its group.
    #[must_use]
    pub fn new(deps: ReplicatorDeps) -> Self {
        Self { deps, state: State::default() }
    }

    fn begin_step(&mut self, ctx: &mut Context<Self>) {
        let Some(mut work) = self.state.work.take() else { return };
        let deps = self.deps.clone();
        let begun = Instant::now();
        async move {
            let outcome = work.step(&deps).await;
            (work, outcome)
        }
        .into_actor(self)
        .map(move |(work, outcome), this, ctx| {
            this.state.work = Some(work);
            let rest = this.end_step(&outcome, begun.elapsed());
            ctx.run_later(rest, Self::begin_step);
        })
        .spawn(ctx);
    }

    /// Tells how long to rest.
    fn end_step(&mut self, outcome: &Result<Step, StepError>, took: Duration) -> Duration {
        match outcome {
            Ok(step) => {
                self.state.retries = Retries::new(RETRY);
                self.state.name = if *step == Step::Idle { "resting" } else { "applying" };
                let holds_back = *step == Step::Applied && (self.deps.crowded)();
                if holds_back { held_back(took, REST) } else { Duration::ZERO }
            }
            Err(error) => {
                self.state.name = "waiting";
                tracing::warn!(error = error as &dyn std::error::Error, "the replica stands still");
                self.state.retries.next_wait(None).unwrap_or(REST)
            }
        }
    }
}

impl Actor for WalReplicator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.begin_step(ctx);
    }
}

impl Supervised for WalReplicator {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = State::default();
    }
}

impl Child for WalReplicator {
    const NAME: &'static str = "wal-replicator";

    fn state_name(&self) -> &'static str {
        self.state.name
    }
}
