//! Carries out export jobs, a page at a time, and clears up behind them.
//!
//! State: how many jobs it works on and whether it clears up just now. Jobs and results are in the database.
//! Asks: none. Tells: [`ExportJobsChanged`] (a hint; a lost one costs one poll interval).
//! Supervision: child of `durability`, Permanent. Crashes on broken invariants only. A database that does not answer is
//! waited for; a job goes on once it answers again, also in another process.

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Handler, Supervised, WrapFuture};
use somaagent_supervision::{Admitted, Child};

use super::{ExportJobMetrics, ExportJobSettings, messages::ExportJobsChanged, page::next_page, sweep::sweep};
use crate::memory::queries::Memories;

/// Rest after a page while people wait for the database.
const CROWDED_REST: Duration = Duration::from_millis(250);
/// Rest between two steps of clearing up.
const SWEEP_REST: Duration = Duration::from_millis(50);

/// What the runner needs; survives a restart.
#[derive(Clone)]
pub struct RunnerDeps {
    /// What is exported.
    pub memories: Memories,
    /// Whether people wait for the database: then jobs hold back.
    pub crowded: Arc<dyn Fn() -> bool + Send + Sync>,
    /// How to work.
    pub settings: Arc<ExportJobSettings>,
    /// What is counted.
    pub metrics: ExportJobMetrics,
}

/// See the module.
pub struct ExportRunner {
    deps: RunnerDeps,
    state: State,
}

#[derive(Default)]
struct State {
    working: usize,
    /// Whether there may be more to do than those at work saw when they began.
    stale: bool,
    sweeping: bool,
}

impl ExportRunner {
    /// A runner that begins with the jobs that are left.
    #[must_use]
    pub fn new(deps: RunnerDeps) -> Self {
        Self { deps, state: State::default() }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        self.state.stale = self.state.working > 0;
        while self.state.working < self.deps.settings.concurrency {
            self.state.working += 1;
            self.work(ctx);
        }
        if !std::mem::replace(&mut self.state.sweeping, true) {
            self.sweep(ctx);
        }
    }

    /// Does pages until no job waits for one.
    fn work(&mut self, ctx: &mut Context<Self>) {
        let deps = self.deps.clone();
        async move { next_page(&deps).await }
            .into_actor(self)
            .map(|done, this, ctx| match done {
                Ok(true) => {
                    let rest = if (this.deps.crowded)() { CROWDED_REST } else { Duration::ZERO };
                    ctx.run_later(rest, Self::work);
                }
                Ok(false) if std::mem::take(&mut this.state.stale) => this.work(ctx),
                Ok(false) => this.state.working -= 1,
                Err(error) => {
                    this.state.working -= 1;
                    tracing::warn!(error = &error as &dyn std::error::Error, "a page of an export job failed");
                }
            })
            .spawn(ctx);
    }

    /// Clears up until there is nothing left to do.
    fn sweep(&mut self, ctx: &mut Context<Self>) {
        let deps = self.deps.clone();
        async move { sweep(&deps).await }
            .into_actor(self)
            .map(|more, this, ctx| match more {
                Ok(true) => drop(ctx.run_later(SWEEP_REST, Self::sweep)),
                Ok(false) => this.state.sweeping = false,
                Err(error) => {
                    this.state.sweeping = false;
                    tracing::warn!(error = &error as &dyn std::error::Error, "old exports are still there");
                }
            })
            .spawn(ctx);
    }
}

impl Actor for ExportRunner {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.look(ctx);
        ctx.run_interval(self.deps.settings.interval(), Self::look);
    }
}

impl Supervised for ExportRunner {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = State::default();
    }
}

impl Child for ExportRunner {
    const NAME: &'static str = "export-runner";

    fn state_name(&self) -> &'static str {
        if self.state.working > 0 { "exporting" } else { "resting" }
    }
}

impl Handler<Admitted<ExportJobsChanged>> for ExportRunner {
    type Result = ();

    fn handle(&mut self, msg: Admitted<ExportJobsChanged>, ctx: &mut Context<Self>) {
        let (ExportJobsChanged, _in_flight) = msg.open();
        self.look(ctx);
    }
}
