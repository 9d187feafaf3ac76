//! Fetches the keys that an issuer publishes (RFC 7517 §5) and keeps them fresh.
//!
//! State: the fetch under way and who waits for it, when keys were last fetched because somebody asked. The keys themselves are
//! on a board that survives a restart.
//! Asks: [`RefreshKeys`].
//! Supervision: child of `identity`, Permanent. Crashes on broken invariants only; an issuer that does not answer, or answers
//! rubbish, is asked again, and its last keys stay on the board with their age.

use std::{sync::Arc, time::Duration};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Handler, Message, SpawnHandle, Supervised,
    WrapFuture,
};
use reqwest::{Client, Url, redirect::Policy};
use somaagent_supervision::{Admitted, Child, InFlight, Reply};
use tokio::{sync::watch, time::Instant};

use super::{
    keys::{KeyError, KeySet},
    settings::{AuthSettings, SettingsError},
    verifier::Fetched,
};
use crate::base_url::root_cause;

/// Longest document that is read, in bytes.
const MAX_BYTES: usize = 256 * 1024;
/// Time between two fetches that somebody asked for: tokens that name unknown keys cost the issuer no more than this.
const ASKED_EVERY: Duration = Duration::from_mins(1);
/// Wait after a fetch that failed; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait after a fetch that failed.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Asks whether there are newer keys. May be sent by whoever proves tokens, as often as they like.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RefreshKeys {
    /// Answered once the board shows what is to be had now.
    pub reply: Reply<()>,
}

/// Why keys were not fetched. No text of it holds the address.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the issuer was not reached or fell silent: {0}")]
    Transport(String),
    #[error("the issuer answered with status {0}")]
    Status(u16),
    #[error("the answer is longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error("the answer {0}")]
    Keys(#[from] KeyError),
}

/// What the keeper needs; survives a restart.
#[derive(Debug, Clone)]
pub struct KeyKeeperDeps {
    http: Client,
    url: Url,
    cache: Duration,
    timeout: Duration,
    board: Arc<watch::Sender<Option<Fetched>>>,
}

impl KeyKeeperDeps {
    /// Makes ready to fetch keys from `url`; nothing is sent yet.
    ///
    /// # Errors
    /// The client of the network cannot be made.
    pub(super) fn new(url: Url, settings: &AuthSettings) -> Result<Self, SettingsError> {
        let timeout = Duration::from_secs_f64(settings.jwks_timeout_seconds);
        // No redirect: keys come from where the settings say. No proxy: it would be found in the environment, which only the
        // outermost room reads.
        let http = Client::builder().redirect(Policy::none()).no_proxy().timeout(timeout).build();
        let http = http.map_err(|error| SettingsError { setting: "jwks_url".to_owned(), what: error.to_string() })?;
        let cache = Duration::from_secs(settings.jwks_cache_seconds);
        Ok(Self { http, url, cache, timeout, board: Arc::new(watch::Sender::new(None)) })
    }

    /// The board.
    pub(super) fn fetched(&self) -> watch::Receiver<Option<Fetched>> {
        self.board.subscribe()
    }

    /// The issuer's host: the keeper's name among others.
    #[must_use]
    pub fn label(&self) -> String {
        self.url.host_str().unwrap_or_default().to_owned()
    }

    /// How long one fetch may take.
    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }

    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let lost = |error: reqwest::Error| FetchError::Transport(root_cause(&error));
        let mut answer = self.http.get(self.url.clone()).send().await.map_err(lost)?;
        if answer.status().as_u16() != 200 {
            return Err(FetchError::Status(answer.status().as_u16()));
        }
        let mut document = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(lost)? {
            if document.len() + piece.len() > MAX_BYTES {
                return Err(FetchError::TooLong);
            }
            document.extend_from_slice(&piece);
        }
        Ok(KeySet::published(&document)?)
    }
}

/// See the module.
pub struct KeyKeeper {
    deps: KeyKeeperDeps,
    state: State,
}

#[derive(Default)]
struct State {
    fetching: bool,
    waiting: Vec<(Reply<()>, InFlight)>,
    asked: Option<Instant>,
    failures: u32,
    timer: Option<SpawnHandle>,
}

impl State {
    /// Whether a fetch that is asked for now may begin.
    fn may_ask(&self, now: Instant) -> bool {
        self.asked.is_none_or(|last| now.duration_since(last) >= ASKED_EVERY)
    }

    /// The time until the next fetch.
    fn rest(&self, cache: Duration) -> Duration {
        match self.failures {
            0 => cache,
            failures => FIRST_WAIT.saturating_mul(1 << (failures - 1).min(5)).min(MAX_WAIT).min(cache),
        }
    }
}

impl KeyKeeper {
    /// A keeper that fetches at once.
    #[must_use]
    pub fn new(deps: KeyKeeperDeps) -> Self {
        Self { deps, state: State::default() }
    }

    /// Fetches, unless a fetch is under way.
    fn fetch(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.state.fetching, true) {
            return;
        }
        let deps = self.deps.clone();
        async move { deps.fetch().await }
            .into_actor(self)
            .map(|fetched, this, ctx| {
                this.state.fetching = false;
                this.note(fetched);
                for (reply, in_flight) in this.state.waiting.drain(..) {
                    drop(in_flight);
                    reply.send(());
                }
                // One timer at a time: a fetch that was asked for puts the next one off.
                if let Some(timer) = this.state.timer.take() {
                    ctx.cancel_future(timer);
                }
                this.state.timer = Some(ctx.run_later(this.state.rest(this.deps.cache), |this, ctx| {
                    this.state.timer = None;
                    this.fetch(ctx);
                }));
            })
            .spawn(ctx);
    }

    fn note(&mut self, fetched: Result<KeySet, FetchError>) {
        match fetched {
            Ok(keys) => {
                if self.state.failures > 0 {
                    tracing::info!("the issuer's keys are there again");
                }
                self.state.failures = 0;
                self.deps.board.send_replace(Some(Fetched { keys: Arc::new(keys), at: Instant::now() }));
            }
            Err(error) => {
                self.state.failures = self.state.failures.saturating_add(1);
                tracing::warn!(error = &error as &dyn std::error::Error, "the issuer's keys were not fetched");
            }
        }
    }
}

impl Actor for KeyKeeper {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.fetch(ctx);
    }
}

impl Supervised for KeyKeeper {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = State::default();
    }
}

impl Child for KeyKeeper {
    const NAME: &'static str = "key-keeper";

    fn state_name(&self) -> &'static str {
        match (self.state.fetching, self.state.failures) {
            (true, _) => "fetching",
            (false, 0) => "resting",
            (false, _) => "retrying",
        }
    }
}

impl Handler<Admitted<RefreshKeys>> for KeyKeeper {
    type Result = ();

    fn handle(&mut self, msg: Admitted<RefreshKeys>, ctx: &mut Context<Self>) {
        let (RefreshKeys { reply }, in_flight) = msg.open();
        let now = Instant::now();
        if !self.state.fetching {
            // While the issuer does not answer, its own clock says when it is asked again.
            if self.state.failures > 0 || !self.state.may_ask(now) {
                drop(in_flight);
                return reply.send(());
            }
            self.state.asked = Some(now);
            self.fetch(ctx);
        }
        self.state.waiting.push((reply, in_flight));
    }
}

#[cfg(test)]
mod tests;
