//! Learns which keys were revoked, and writes down which are used.
//!
//! State: whether the database is being asked, and what it did not do last time. What is known of keys is with their prover
//! and survives a restart.
//! Supervision: child of `identity`, Permanent. Crashes on broken invariants only; a database that does not answer is asked
//! again, and keys that nobody can vouch for end meanwhile.

use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Supervised, WrapFuture};
use somaagent_supervision::Child;
use tokio::time::Instant;

use super::{known::Round, prover::ApiKeys};
use crate::store::{StoreError, api_keys};

/// Time between two rounds.
const EVERY: Duration = Duration::from_secs(1);

/// See the module.
pub struct ApiKeyWatcher {
    keys: ApiKeys,
    state: State,
}

#[derive(Default)]
struct State {
    asking: bool,
    failing: Option<Failing>,
}

/// What the database does not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failing {
    /// Say which keys stand.
    Standing,
    /// Write down which are used.
    Noting,
}

/// Why a round has not been gone to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum RoundError {
    /// Nobody knows which keys stand.
    #[error("it is not known which API keys were revoked")]
    Standing(#[source] StoreError),
    /// That is known. It is not written down which are used: the next round will.
    #[error("the use of API keys was not written down")]
    Noting(#[source] StoreError),
}

impl RoundError {
    const fn failing(&self) -> Failing {
        match self {
            Self::Standing(_) => Failing::Standing,
            Self::Noting(_) => Failing::Noting,
        }
    }
}

impl ApiKeyWatcher {
    /// A watcher over what `keys` knows.
    #[must_use]
    pub fn new(keys: ApiKeys) -> Self {
        Self { keys, state: State::default() }
    }

    /// Looks for what must end, also while the database does not answer; and asks it, unless it is being asked.
    fn look(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        self.keys.inner.known.lock().end_old(now);
        if self.state.asking {
            return;
        }
        let round = self.keys.inner.known.lock().begin_round(now, (self.keys.inner.clock)());
        if round.in_use.key_ids.is_empty() && round.used.key_ids.is_empty() {
            return;
        }
        self.state.asking = true;
        let keys = self.keys.clone();
        async move { keys.go_round(round, now).await }
            .into_actor(self)
            .map(|outcome, this, _| {
                this.state.asking = false;
                this.note(outcome);
            })
            .spawn(ctx);
    }

    fn note(&mut self, outcome: Result<(), RoundError>) {
        let failing = outcome.as_ref().err().map(RoundError::failing);
        let failed_before = std::mem::replace(&mut self.state.failing, failing);
        if failing == failed_before {
            return;
        }
        if failed_before == Some(Failing::Standing) {
            tracing::info!("it is known again which API keys were revoked");
        }
        match outcome {
            Err(error @ RoundError::Standing(_)) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "nobody knows which API keys were revoked: none is taken until the database answers"
            ),
            Err(error @ RoundError::Noting(_)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "lists of API keys do not show which are used"
                );
            }
            Ok(()) if failed_before == Some(Failing::Noting) => {
                tracing::info!("it is written down again which API keys are used");
            }
            Ok(()) => {}
        }
    }
}

impl ApiKeys {
    /// Asks the database about the keys in use, then writes their use down.
    pub(super) async fn go_round(&self, round: Round, now: Instant) -> Result<(), RoundError> {
        let Round { in_use, used, used_at } = round;
        if !in_use.key_ids.is_empty() {
            let asked = in_use.clone();
            let work = self
                .inner
                .store
                .run(move |connection| Box::pin(async move { api_keys::standing(connection, &asked).await }));
            let standing = work.await.map_err(RoundError::Standing)?;
            self.inner.known.lock().confirm(&in_use, standing, now);
        }
        if !used.key_ids.is_empty() {
            let (noted, noted_at) = (used.clone(), used_at.clone());
            let work = self.inner.store.run(move |connection| {
                Box::pin(async move { api_keys::note_used(connection, &noted, &noted_at).await })
            });
            work.await.map_err(RoundError::Noting)?;
            self.inner.known.lock().noted(&used, &used_at, now);
        }
        Ok(())
    }
}

impl Actor for ApiKeyWatcher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(EVERY, Self::look);
    }
}

impl Supervised for ApiKeyWatcher {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = State::default();
    }
}

impl Child for ApiKeyWatcher {
    const NAME: &'static str = "api-key-watcher";

    fn state_name(&self) -> &'static str {
        match (self.state.asking, self.state.failing) {
            (true, _) => "asking",
            (false, None) => "resting",
            (false, Some(_)) => "failing",
        }
    }
}
