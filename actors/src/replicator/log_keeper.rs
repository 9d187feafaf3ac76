//! Keeps the log inside the database short: records that are old, and that every group has passed, are removed.
//!
//! State: whether a removal is under way. Asks: none. It works by its own clock.
//! Supervision: child of `durability`, Permanent. A database that does not answer is waited for.

use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Supervised, WrapFuture};
use somaagent_supervision::Child;
use time::OffsetDateTime;

use crate::store::{Store, StoreError, event_log};

/// Time between two looks for old records.
const LOOK_EVERY: Duration = Duration::from_mins(1);
/// Rest between two removals while there is more to remove.
const REST: Duration = Duration::from_millis(250);
/// Records of a partition in one removal: short enough to be in nobody's way.
const PURGE_RECORDS: i64 = 500;

/// What the keeper needs; survives a restart.
#[derive(Clone)]
pub struct LogKeeperDeps {
    /// Where the log is.
    pub store: Store,
    /// How long records are kept.
    pub retention: Duration,
    /// What time it is.
    pub clock: fn() -> OffsetDateTime,
}

/// See the module.
pub struct LogKeeper {
    deps: LogKeeperDeps,
    removing: bool,
}

impl LogKeeper {
    /// A keeper that looks at once.
    #[must_use]
    pub const fn new(deps: LogKeeperDeps) -> Self {
        Self { deps, removing: false }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        self.removing = true;
        let deps = self.deps.clone();
        async move { remove(&deps).await }
            .into_actor(self)
            .map(|removed, this, ctx| {
                this.removing = false;
                let rest = match removed {
                    Ok(0) => LOOK_EVERY,
                    Ok(_) => REST,
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "old records of the log are still there");
                        LOOK_EVERY
                    }
                };
                ctx.run_later(rest, Self::look);
            })
            .spawn(ctx);
    }
}

async fn remove(deps: &LogKeeperDeps) -> Result<u64, StoreError> {
    let before = (deps.clock)() - deps.retention;
    let work = deps
        .store
        .run(move |connection| Box::pin(async move { event_log::purge(connection, before, PURGE_RECORDS).await }));
    work.await
}

impl Actor for LogKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.look(ctx);
    }
}

impl Supervised for LogKeeper {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.removing = false;
    }
}

impl Child for LogKeeper {
    const NAME: &'static str = "log-keeper";

    fn state_name(&self) -> &'static str {
        if self.removing { "removing" } else { "resting" }
    }
}
