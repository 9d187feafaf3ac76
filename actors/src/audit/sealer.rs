//! Chains the rows of the audit trail after they were committed, and signs the ends of the chains from time to time.
//!
//! State: what it is doing, whether the trail is known to be at home on this server, and how far the sealing was when it last
//! looked: it never goes back behind that. Asks: none. It works by its own clock; of several processes one seals at a time, whoever
//! has the lock.
//! Supervision: child of `durability`, Permanent. A database that does not answer is waited for; one in which what tells how
//! far the sealing is is missing or wrong is told of, and looked at again.

mod arriving;

use std::{sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Supervised, WrapFuture};
use somaagent_supervision::Child;
use time::OffsetDateTime;

use self::arriving::settle_in;
use super::{checkpoint::CheckpointSigner, metrics::AuditMetrics, settings::AuditSettings, told::Book};
use crate::{
    domain::audit_chain::Place,
    store::{
        Store, StoreError,
        audit_chain::{self, Sealed},
    },
};

/// Rows sealed in one transaction: short enough to be in nobody's way.
const PAGE: i64 = 500;
/// Checkpoints signed in one transaction.
const CHECKPOINTS: i64 = 500;
/// When the first checkpoints are signed, at the latest: what was sealed before the process began has none yet.
const FIRST_SIGNED_AFTER: Duration = Duration::from_secs(5);
/// Rest between two pages, or two looks, while people wait for the database.
const CROWDED_REST: Duration = Duration::from_millis(100);
/// How long a row waits for its seal meanwhile, in seconds: people come first, but not for ever.
const PATIENCE_SECONDS: f64 = 10.0;

/// What the sealer needs; survives a restart.
#[derive(Clone)]
pub struct SealerDeps {
    /// Where the audit trail is.
    pub store: Store,
    /// Whether people wait for the database: then the sealer holds back.
    pub crowded: Arc<dyn Fn() -> bool + Send + Sync>,
    /// How to work.
    pub settings: Arc<AuditSettings>,
    /// Who signs checkpoints and takeovers; without one nothing is signed.
    pub signer: Option<CheckpointSigner>,
    /// Where the checkpoints are that were told: they say whether the trail was here before.
    pub book: Book,
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

#[derive(Clone, Debug, Default)]
struct State {
    sealing: bool,
    signing: bool,
    known: Known,
}

/// What the sealer knows of the sealing.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Whether the numbers of transactions are known to be this server's.
    at_home: bool,
    /// How far it was, and on which server.
    reached: Option<(String, Place)>,
    /// From where the trail is said to come, if that is not believed; empty if that is not said.
    disbelieved: Option<String>,
    /// Why nothing can be sealed, as it was told.
    stuck: Option<String>,
}

impl AuditSealer {
    /// A sealer that begins at once.
    #[must_use]
    pub fn new(deps: SealerDeps) -> Self {
        Self { deps, state: State::default() }
    }

    fn seal(&mut self, ctx: &mut Context<Self>) {
        self.state.sealing = true;
        let (deps, mut known) = (self.deps.clone(), self.state.known.clone());
        async move {
            let more = if known.at_home { seal(&deps, &mut known).await } else { settle_in(&deps, &mut known).await };
            (more, known)
        }
        .into_actor(self)
        .map(|(more, known), this, ctx| {
            this.state = State { sealing: false, known, ..this.state };
            let rest = match more {
                Ok(false) => this.deps.settings.seal_every(),
                Ok(true) if (this.deps.crowded)() => CROWDED_REST,
                Ok(true) => Duration::ZERO,
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
async fn seal(deps: &SealerDeps, known: &mut Known) -> Result<bool, StoreError> {
    let oldest = deps.store.run(|connection| Box::pin(audit_chain::oldest_unsealed(connection))).await?;
    let lag = oldest.map_or(0.0, |oldest| ((deps.clock)() - oldest).as_seconds_f64());
    deps.metrics.lag(lag);
    // A row from the future, of a clock that is ahead, does not wait until then.
    if oldest.is_some() && (0.0..PATIENCE_SECONDS).contains(&lag) && (deps.crowded)() {
        return Ok(true);
    }
    let sealed = if oldest.is_none() {
        // Nothing is written while there is nothing to do.
        deps.store.run(|connection| Box::pin(audit_chain::look(connection))).await?
    } else {
        let reached = known.reached.clone();
        let work = deps.store.run(move |connection| {
            Box::pin(async move { audit_chain::seal(connection, PAGE, reached.as_ref()).await })
        });
        work.await?
    };
    let looked = match sealed {
        Sealed::Rows(looked) => looked,
        Sealed::Elsewhere => return Ok(false),
        Sealed::Moved => {
            known.at_home = false;
            return Ok(true);
        }
        Sealed::Missing => return Ok(known.stuck(deps, "it is not written down how far the sealing is")),
        Sealed::Ahead => return Ok(known.stuck(deps, "the sealing is said to be further than any transaction")),
    };
    known.unstuck(deps);
    deps.metrics.sealed(looked.sealed);
    if looked.is_set_back {
        deps.metrics.set_back();
        tracing::error!(
            "somebody set the sealing of the audit trail back: it goes on where it was, and `audit verify` names what was put in"
        );
    }
    known.reached = looked.reached.or(known.reached.take());
    // What was written meanwhile has the next turn; the gauge is right again at once.
    Ok(looked.rows > 0)
}

impl Known {
    /// Nothing can be sealed, which is told once. Returns that there is nothing more to do now.
    fn stuck(&mut self, deps: &SealerDeps, why: &str) -> bool {
        deps.metrics.stuck(true);
        if self.stuck.as_deref() != Some(why) {
            tracing::error!(why, "the audit trail cannot be sealed; see `audit verify`");
            self.stuck = Some(why.to_owned());
        }
        false
    }

    fn unstuck(&mut self, deps: &SealerDeps) {
        deps.metrics.stuck(false);
        if self.stuck.take().is_some() {
            tracing::info!("the audit trail is sealed again");
        }
    }
}

/// Signs ends of chains, and tells whether there may be more.
async fn tell(deps: &SealerDeps, signer: CheckpointSigner) -> Result<bool, StoreError> {
    let at = (deps.clock)();
    let work = deps.store.run(move |connection| {
        Box::pin(async move {
            let sign = move |tenant: &str, head: &_, stand: Option<&_>| signer.sign(tenant, head, stand, at);
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
