//! Chains the rows of the audit trail after they were committed, and signs the ends of the chains from time to time.
//!
//! State: what it is doing, and whether it has looked for rows of another server. Asks: none. It works by its own clock; of
//! several processes one seals at a time, whoever has the lock.
//! Supervision: child of `durability`, Permanent. A database that does not answer is waited for.

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Supervised, WrapFuture};
use somaagent_supervision::Child;
use time::OffsetDateTime;

use super::{checkpoint::CheckpointSigner, metrics::AuditMetrics, settings::AuditSettings};
use crate::store::{
    Store, StoreError,
    audit_chain::{self, Sealed},
};

/// Rows sealed in one transaction: short enough to be in nobody's way.
const PAGE: i64 = 500;
/// Checkpoints signed in one transaction.
const CHECKPOINTS: i64 = 500;
/// When the first checkpoints are signed, at the latest: what was sealed before the process began has none yet.
const FIRST_SIGNED_AFTER: Duration = Duration::from_secs(5);
/// Rest between two pages while people wait for the database.
const CROWDED_REST: Duration = Duration::from_millis(100);

/// What the sealer needs; survives a restart.
#[derive(Clone)]
pub struct SealerDeps {
    /// Where the audit trail is.
    pub store: Store,
    /// Whether people wait for the database: then the sealer holds back.
    pub crowded: Arc<dyn Fn() -> bool + Send + Sync>,
    /// How to work.
    pub settings: Arc<AuditSettings>,
    /// Who signs checkpoints; without one there are none.
    pub signer: Option<CheckpointSigner>,
    /// What is counted.
    pub metrics: AuditMetrics,
    /// What time it is.
    pub clock: fn() -> OffsetDateTime,
}

/// See the module.
pub struct AuditSealer {
    deps: SealerDeps,
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    sealing: bool,
    signing: bool,
    /// Whether every row is known to have been written on this server.
    at_home: bool,
}

impl AuditSealer {
    /// A sealer that begins at once.
    #[must_use]
    pub fn new(deps: SealerDeps) -> Self {
        Self { deps, state: State::default() }
    }

    fn seal(&mut self, ctx: &mut Context<Self>) {
        self.state.sealing = true;
        let (deps, at_home) = (self.deps.clone(), self.state.at_home);
        async move { if at_home { seal(&deps).await.map(|rows| (rows, true)) } else { settle_in(&deps).await } }
            .into_actor(self)
            .map(|done, this, ctx| {
                this.state.sealing = false;
                let rest = match done {
                    Ok((more, at_home)) => {
                        this.state.at_home = at_home;
                        match more {
                            false if at_home => this.deps.settings.seal_every(),
                            _ if (this.deps.crowded)() => CROWDED_REST,
                            _ => Duration::ZERO,
                        }
                    }
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "the audit trail was not sealed");
                        this.deps.settings.seal_every().max(Duration::from_secs(1))
                    }
                };
                ctx.run_later(rest, Self::seal);
            })
            .spawn(ctx);
    }

    fn sign(&mut self, ctx: &mut Context<Self>) {
        let Some(signer) = self.deps.signer.clone() else { return };
        if std::mem::replace(&mut self.state.signing, true) {
            return;
        }
        let deps = self.deps.clone();
        async move { tell(&deps, signer).await }
            .into_actor(self)
            .map(|done, this, ctx| {
                this.state.signing = false;
                match done {
                    Ok(true) => this.sign(ctx),
                    Ok(false) => {}
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "checkpoints were not signed");
                    }
                }
            })
            .spawn(ctx);
    }
}

/// Seals the next rows, and tells whether there may be more.
async fn seal(deps: &SealerDeps) -> Result<bool, StoreError> {
    let oldest = deps.store.run(|connection| Box::pin(audit_chain::oldest_unsealed(connection))).await?;
    let lag = oldest.map_or(0.0, |oldest| ((deps.clock)() - oldest).as_seconds_f64());
    deps.metrics.lag(lag);
    if oldest.is_none() {
        return Ok(false);
    }
    let sealed = deps.store.run(|connection| Box::pin(audit_chain::seal(connection, PAGE))).await?;
    let Sealed::Rows(rows) = sealed else { return Ok(false) };
    deps.metrics.sealed(rows);
    // What was written meanwhile has the next turn; the gauge is right again at once.
    Ok(rows > 0)
}

/// Takes over rows that another server's transactions wrote. Returns whether there is more to do, and whether it is done.
async fn settle_in(deps: &SealerDeps) -> Result<(bool, bool), StoreError> {
    let rows = deps.store.run(|connection| Box::pin(audit_chain::adopt(connection, PAGE))).await?;
    if rows > 0 {
        tracing::info!(rows, "the audit trail comes from another server: rows were taken over");
    }
    Ok((true, rows == 0))
}

/// Signs ends of chains, and tells whether there may be more.
async fn tell(deps: &SealerDeps, signer: CheckpointSigner) -> Result<bool, StoreError> {
    let at = (deps.clock)();
    let work = deps.store.run(move |connection| {
        Box::pin(async move {
            let sign = move |tenant: &str, head: &_| signer.sign(tenant, head, at);
            audit_chain::tell(connection, CHECKPOINTS, at, sign).await
        })
    });
    let told = work.await?;
    deps.metrics.told(told);
    Ok(i64::try_from(told).is_ok_and(|told| told == CHECKPOINTS))
}

impl Actor for AuditSealer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.seal(ctx);
        if self.deps.signer.is_some() {
            let every = self.deps.settings.checkpoint_every();
            ctx.run_later(FIRST_SIGNED_AFTER.min(every), Self::sign);
            ctx.run_interval(every, Self::sign);
        }
    }
}

impl Supervised for AuditSealer {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = State::default();
    }
}

impl Child for AuditSealer {
    const NAME: &'static str = "audit-sealer";

    fn state_name(&self) -> &'static str {
        match self.state {
            State { sealing: true, .. } => "sealing",
            State { signing: true, .. } => "signing",
            State { .. } => "resting",
        }
    }
}

#[cfg(test)]
mod tests;
