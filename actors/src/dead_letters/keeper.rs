//! Counts dead letters and does what people ask to be done with them.
//!
//! State: whether it counts or works on an order just now. Letters and orders are in the database.
//! Asks: [`Reprocess`], [`ReprocessAll`], [`CancelJob`], [`Discard`], [`Purge`].
//! Supervision: child of `durability`, Permanent. Crashes on broken invariants only. A database that does not answer costs a
//! count; an order goes on once it answers again, also in another process.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Handler, Supervised, WrapFuture};
use somaagent_supervision::{Admitted, Child};
use time::OffsetDateTime;

use super::{
    changes, job,
    messages::{CancelJob, Discard, Purge, Reprocess, ReprocessAll},
    metrics::DeadLetterMetrics,
    settings::DeadLetterSettings,
};
use crate::store::{Store, StoreError, dead_letters::browse, dlq_jobs, purge::purge};

/// Time between two looks for orders, which may be another process's that died, and after a page that failed.
const JOBS_EVERY: Duration = Duration::from_secs(2);
/// Time between two removals of orders that are long over.
const PURGE_EVERY: Duration = Duration::from_mins(1);
/// Rest after a page while people wait for the database.
const CROWDED_REST: Duration = Duration::from_millis(250);

/// What the keeper needs; survives a restart.
#[derive(Clone)]
pub struct KeeperDeps {
    /// Where the letters are.
    pub store: Store,
    /// Whether people wait for the database: then orders hold back.
    pub crowded: Arc<dyn Fn() -> bool + Send + Sync>,
    /// How to work.
    pub settings: Arc<DeadLetterSettings>,
    /// What is counted.
    pub metrics: DeadLetterMetrics,
    /// What time it is.
    pub clock: fn() -> OffsetDateTime,
}

/// See the module.
pub struct DlqKeeper {
    deps: KeeperDeps,
    state: State,
}

#[derive(Default)]
struct State {
    counting: bool,
    /// Whether something changed while it counted.
    stale: bool,
    working: bool,
}

impl DlqKeeper {
    /// A keeper that begins with a count and with the orders that are left.
    #[must_use]
    pub fn new(deps: KeeperDeps) -> Self {
        Self { deps, state: State::default() }
    }

    fn count(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.state.counting, true) {
            self.state.stale = true;
            return;
        }
        let deps = self.deps.clone();
        async move { count(&deps).await }
            .into_actor(self)
            .map(|counted, this, ctx| {
                this.state.counting = false;
                if let Err(error) = counted {
                    tracing::warn!(error = &error as &dyn std::error::Error, "dead letters were not counted");
                } else if std::mem::take(&mut this.state.stale) {
                    this.count(ctx);
                }
            })
            .spawn(ctx);
    }

    /// Goes on with orders, a page at a time, until there are none.
    fn work(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.state.working, true) {
            return;
        }
        let deps = self.deps.clone();
        async move { job::next_page(&deps).await }
            .into_actor(self)
            .map(|done, this, ctx| {
                this.state.working = false;
                match done {
                    Ok(true) => {
                        this.count(ctx);
                        let rest = if (this.deps.crowded)() { CROWDED_REST } else { Duration::ZERO };
                        ctx.run_later(rest, Self::work);
                    }
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "dead letters were not sent again");
                    }
                }
            })
            .spawn(ctx);
    }

    fn purge(&mut self, ctx: &mut Context<Self>) {
        let deps = self.deps.clone();
        async move { purge_jobs(&deps).await }
            .into_actor(self)
            .map(|done, _, ctx| {
                if let Err(error) = done {
                    tracing::warn!(error = &error as &dyn std::error::Error, "old orders are still there");
                }
                ctx.run_later(PURGE_EVERY, Self::purge);
            })
            .spawn(ctx);
    }
}

/// Removes orders that are long over.
///
/// # Errors
/// The store's.
pub(super) async fn purge_jobs(deps: &KeeperDeps) -> Result<(), StoreError> {
    let at = (deps.clock)();
    let before = at - Duration::from_millis(deps.settings.job_retention_ms);
    purge(&deps.store, move |connection, rows| Box::pin(dlq_jobs::purge(connection, before, at, rows))).await
}

async fn count(deps: &KeeperDeps) -> Result<(), StoreError> {
    let found = deps.store.run(|connection| Box::pin(browse::depths(connection))).await?;
    let mut depths: BTreeMap<String, i64> = deps.settings.shown_topics().into_iter().map(|topic| (topic, 0)).collect();
    depths.extend(found);
    deps.metrics.depths(&depths);
    Ok(())
}

impl Actor for DlqKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_later(self.deps.settings.first_after(), Self::count);
        ctx.run_interval(self.deps.settings.interval(), Self::count);
        self.work(ctx);
        ctx.run_interval(JOBS_EVERY, Self::work);
        ctx.run_later(PURGE_EVERY, Self::purge);
    }
}

impl Supervised for DlqKeeper {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = State::default();
    }
}

impl Child for DlqKeeper {
    const NAME: &'static str = "dlq-keeper";

    fn state_name(&self) -> &'static str {
        if self.state.working { "sending" } else { "resting" }
    }
}

/// Does what an ask wants, answers, and looks at what has changed.
macro_rules! change {
    ($ask:ident { $($field:ident),+ } $work:path) => {
        impl Handler<Admitted<$ask>> for DlqKeeper {
            type Result = ();

            fn handle(&mut self, msg: Admitted<$ask>, ctx: &mut Context<Self>) {
                let ($ask { $($field,)+ reply }, in_flight) = msg.open();
                let deps = self.deps.clone();
                async move { $work(&deps, $($field),+).await }
                    .into_actor(self)
                    .map(move |outcome, this, ctx| {
                        drop(in_flight);
                        if outcome.is_ok() {
                            this.count(ctx);
                            this.work(ctx);
                        }
                        reply.send(outcome);
                    })
                    .spawn(ctx);
            }
        }
    };
}

change!(Reprocess { caller, topic, id, event } changes::reprocess);
change!(ReprocessAll { caller, topic, filter, max_letters } changes::reprocess_all);
change!(CancelJob { caller, topic, id } changes::cancel);
change!(Discard { caller, topic, id } changes::discard);
change!(Purge { caller, topic, token } changes::purge);
