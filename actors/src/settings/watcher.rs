//! Learns what other processes have saved.
//!
//! State: whether the database is being asked, and whether it answered last time. What is in force is with [`Settings`] and
//! survives a restart.
//! Supervision: child of `settings`, Permanent. Crashes on broken invariants only; a database that does not answer is asked
//! again, and what was in force goes on meanwhile.

use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Supervised, WrapFuture};
use somaagent_supervision::Child;

use super::{Settings, StoreError};

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// See the module.
pub struct SettingsWatcher {
    settings: Settings,
    state: State,
}

#[derive(Default)]
struct State {
    asking: bool,
    failing: bool,
}

impl SettingsWatcher {
    /// A watcher over `settings`.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, state: State::default() }
    }

    fn look(&mut self, ctx: &mut Context<Self>) {
        if self.state.asking {
            return;
        }
        self.state.asking = true;
        let settings = self.settings.clone();
        async move { settings.look().await.map(drop) }
            .into_actor(self)
            .map(|outcome, this, _| {
                this.state.asking = false;
                this.note(outcome);
            })
            .spawn(ctx);
    }

    fn note(&mut self, outcome: Result<(), StoreError>) {
        let failed_before = std::mem::replace(&mut self.state.failing, outcome.is_err());
        match outcome {
            Err(error) if !failed_before => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "it is not known whether settings were changed: those in force go on"
            ),
            Ok(()) if failed_before => tracing::info!("it is known again what settings are saved"),
            _ => {}
        }
    }
}

impl Actor for SettingsWatcher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.look(ctx);
        ctx.run_interval(EVERY, Self::look);
    }
}

impl Supervised for SettingsWatcher {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = State::default();
    }
}

impl Child for SettingsWatcher {
    const NAME: &'static str = "settings-watcher";

    fn state_name(&self) -> &'static str {
        match (self.state.asking, self.state.failing) {
            (true, _) => "asking",
            (false, false) => "resting",
            (false, true) => "failing",
        }
    }
}
