//! Fetches what an issuer publishes and keeps it fresh.
//!
//! State: the fetch under way and who waits for it, when the document was last fetched because somebody asked. The document itself
//! is on a board that survives a restart.
//! Asks: [`Refresh`].
//! Supervision: child of `identity`, Permanent. Crashes on broken invariants only; an issuer that does not answer, or answers
//! rubbish, is asked again, and its last document stays on the board with its age.

use std::{future::Future, sync::Arc, time::Duration};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Handler, Message, SpawnHandle, Supervised,
    WrapFuture,
};
use somaagent_supervision::{Admitted, Child, InFlight, Reply};
use tokio::{sync::watch, time::Instant};

use super::fetching::FetchError;

/// Time between two fetches that somebody asked for: tokens that name unknown keys cost the issuer no more than this.
const ASKED_EVERY: Duration = Duration::from_mins(1);
/// Wait after a fetch that failed; it doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait after a fetch that failed.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Something that an issuer publishes, and how it is had.
pub trait Source: Clone + Send + Unpin + 'static {
    /// What it is once it was read.
    type Document: Send + Sync + 'static;

    /// Name of the actor that keeps it.
    const ACTOR: &'static str;
    /// What it is called in the log.
    const WHAT: &'static str;

    /// The issuer's host: the keeper's name among others.
    fn label(&self) -> String;

    /// Fetches it.
    fn fetch(&self) -> impl Future<Output = Result<Self::Document, FetchError>>;
}

/// What was fetched.
#[derive(Debug)]
pub struct Fetched<D> {
    /// The document.
    pub(super) document: Arc<D>,
    /// When.
    pub(super) at: Instant,
}

/// Asks whether there is something newer. May be sent by whoever needs it, as often as they like.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Refresh {
    /// Answered once the board shows what is to be had now.
    pub reply: Reply<()>,
}

/// What the keeper needs; survives a restart.
#[derive(Debug)]
pub struct KeeperDeps<S: Source> {
    source: S,
    cache: Duration,
    board: Arc<watch::Sender<Option<Fetched<S::Document>>>>,
}

impl<S: Source> Clone for KeeperDeps<S> {
    fn clone(&self) -> Self {
        Self { source: self.source.clone(), cache: self.cache, board: Arc::clone(&self.board) }
    }
}

impl<S: Source> KeeperDeps<S> {
    /// Makes ready to fetch from `source` whenever `cache` has passed; nothing is sent yet.
    pub(super) fn new(source: S, cache: Duration) -> Self {
        Self { source, cache, board: Arc::new(watch::Sender::new(None)) }
    }

    /// The board.
    pub(super) fn fetched(&self) -> watch::Receiver<Option<Fetched<S::Document>>> {
        self.board.subscribe()
    }

    /// See [`Source::label`].
    #[must_use]
    pub fn label(&self) -> String {
        self.source.label()
    }
}

/// See the module.
pub struct Keeper<S: Source> {
    deps: KeeperDeps<S>,
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

impl<S: Source> Keeper<S> {
    /// A keeper that fetches at once.
    #[must_use]
    pub fn new(deps: KeeperDeps<S>) -> Self {
        Self { deps, state: State::default() }
    }

    /// Fetches, unless a fetch is under way.
    fn fetch(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.state.fetching, true) {
            return;
        }
        let source = self.deps.source.clone();
        async move { source.fetch().await }
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

    fn note(&mut self, fetched: Result<S::Document, FetchError>) {
        match fetched {
            Ok(document) => {
                if self.state.failures > 0 {
                    tracing::info!("{} are there again", S::WHAT);
                }
                self.state.failures = 0;
                self.deps.board.send_replace(Some(Fetched { document: Arc::new(document), at: Instant::now() }));
            }
            Err(error) => {
                self.state.failures = self.state.failures.saturating_add(1);
                tracing::warn!(error = &error as &dyn std::error::Error, "{} were not fetched", S::WHAT);
            }
        }
    }
}

impl<S: Source> Actor for Keeper<S> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.fetch(ctx);
    }
}

impl<S: Source> Supervised for Keeper<S> {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = State::default();
    }
}

impl<S: Source> Child for Keeper<S> {
    const NAME: &'static str = S::ACTOR;

    fn state_name(&self) -> &'static str {
        match (self.state.fetching, self.state.failures) {
            (true, _) => "fetching",
            (false, 0) => "resting",
            (false, _) => "retrying",
        }
    }
}

impl<S: Source> Handler<Admitted<Refresh>> for Keeper<S> {
    type Result = ();

    fn handle(&mut self, msg: Admitted<Refresh>, ctx: &mut Context<Self>) {
        let (Refresh { reply }, in_flight) = msg.open();
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
