//! Has clamd scan one stream of bytes at a time.
//!
//! State: the connection kept for the next scan, and whether one goes on.
//! Asks: `BeginScan`, which only [`Scanners`](super::Scanners) sends, to a scanner whose place it holds.
//! Supervision: child of `uploads`, Permanent. Crashes on broken invariants only; then the scan in hand has no verdict, its
//! connection is closed and its place is free. What clamd does wrong is a [`ScanError`].

use std::{sync::Arc, time::Duration};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, ContextFutureSpawner, Handler, Message, Supervised, WrapFuture,
};
use bytes::Bytes;
use parking_lot::Mutex;
use somaagent_supervision::{Admitted, Child};
use tokio::{
    select,
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    ScanError, Signatures, Verdict, bench::Place, metrics::ScannerMetrics, session::Session, settings::Limits,
    target::Address,
};
use crate::{
    breaker::{self, Breaker, BreakerState, Ticket},
    uploads::rules::InForce,
};

/// Time between two looks whether the kept connection is still wanted.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What comes of a scan.
pub(super) type Outcome = Result<Verdict, ScanError>;

/// What the scanners need; survives a restart.
#[derive(Clone)]
pub(super) struct ScannerDeps {
    pub in_force: InForce,
    pub limits: Limits,
    pub breaker: Arc<Mutex<Breaker>>,
    pub metrics: ScannerMetrics,
}

impl ScannerDeps {
    /// Why no scan would have leave now.
    pub fn refuses(&self) -> Option<ScanError> {
        let refusal = self.breaker.lock().refuses(Instant::now())?;
        Some(ScanError::Resting { retry_after: refusal.retry_after })
    }

    /// Leave for a scan.
    pub fn attempt(&self) -> Result<Attempt, ScanError> {
        let ticket = self.breaker.lock().admit(Instant::now());
        let ticket = ticket.map_err(|refusal| ScanError::Resting { retry_after: refusal.retry_after })?;
        Ok(Attempt { deps: self.clone(), ticket: Some(ticket) })
    }

    fn settle(&self, ticket: Ticket, verdict: breaker::Verdict) {
        let (before, after) = {
            let mut breaker = self.breaker.lock();
            let before = breaker.state();
            breaker.settle(ticket, verdict, Instant::now());
            (before, breaker.state())
        };
        self.metrics.breaker(after == BreakerState::Open);
        match (before, after) {
            (BreakerState::Closed, BreakerState::Open) => {
                tracing::warn!("clamd is left alone for a while: the breaker is open");
            }
            (BreakerState::HalfOpen, BreakerState::Closed) => {
                tracing::info!("clamd is asked again: the breaker is closed");
            }
            _ => {}
        }
    }
}

/// A scan as the breaker sees it. One that is dropped says nothing of clamd.
pub(super) struct Attempt {
    deps: ScannerDeps,
    ticket: Option<Ticket>,
}

impl Attempt {
    /// clamd is there. That decides a trial: others need not wait until an upload is whole.
    fn reached(&mut self) {
        if let Some(ticket) = self.ticket.take_if(|ticket| ticket.is_trial()) {
            self.deps.settle(ticket, breaker::Verdict::Succeeded);
            self.ticket = self.deps.breaker.lock().admit(Instant::now()).ok();
        }
    }

    fn ended(self, outcome: &Outcome, is_the_files: bool) {
        let verdict = match outcome {
            Ok(_) => breaker::Verdict::Succeeded,
            Err(_) if is_the_files => breaker::Verdict::Neutral,
            Err(error) if error.blames_clamd() => breaker::Verdict::Failed,
            Err(_) => breaker::Verdict::Neutral,
        };
        if let Some(ticket) = self.ticket {
            self.deps.settle(ticket, verdict);
        }
    }
}

/// Begins a scan. Its place is free once this is done with, whatever happens.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct BeginScan {
    pub address: Address,
    /// Nothing for a scan that is made whatever the breaker thinks.
    pub attempt: Option<Attempt>,
    pub place: Place,
    /// What is to be scanned; ends when its sender is dropped.
    pub pieces: mpsc::Receiver<Bytes>,
    /// Told when clamd is there, and which signatures it has.
    pub ready: oneshot::Sender<Signatures>,
    /// Told what came of it. The scan ends when nobody listens.
    pub outcome: oneshot::Sender<Outcome>,
}

/// See the module.
pub struct UploadScanner {
    deps: ScannerDeps,
    state: State,
}

#[derive(Default)]
struct State {
    kept: Option<Session>,
    scanning: bool,
}

impl UploadScanner {
    pub(super) fn new(deps: ScannerDeps) -> Self {
        Self { deps, state: State::default() }
    }

    /// Closes a connection that is too old, or leads where no scan goes any more.
    fn tidy(&mut self) {
        let address = Address::in_force(&self.deps.in_force);
        self.state.kept.take_if(|kept| !kept.is_fresh(address.as_ref()));
    }
}

impl Actor for UploadScanner {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.run_interval(LOOK_EVERY, |this, _| this.tidy());
    }
}

impl Supervised for UploadScanner {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = State::default();
    }
}

impl Child for UploadScanner {
    const NAME: &'static str = "upload-scanner";

    fn state_name(&self) -> &'static str {
        if self.state.scanning { "scanning" } else { "free" }
    }
}

impl Handler<Admitted<BeginScan>> for UploadScanner {
    type Result = ();

    fn handle(&mut self, msg: Admitted<BeginScan>, ctx: &mut Context<Self>) {
        let (BeginScan { address, attempt, place, mut pieces, ready, mut outcome }, in_flight) = msg.open();
        let (deps, kept) = (self.deps.clone(), self.state.kept.take());
        self.state.scanning = true;
        async move {
            let scan = Scan { deps: &deps, attempt, ready, pieces: &mut pieces };
            let ended = select! {
                biased;
                () = outcome.closed() => None,
                ended = scan.run(kept, &address) => Some(ended),
            };
            (ended, outcome)
        }
        .into_actor(self)
        .map(move |(ended, outcome), this, _| {
            this.state.scanning = false;
            let (came, kept) = ended.unzip();
            this.state.kept = kept.flatten();
            this.tidy();
            // The place first: who has an outcome finds the scanner free.
            drop((in_flight, place));
            if let Some(came) = came {
                // Whoever has gone away since wants to know nothing.
                drop(outcome.send(came));
            }
        })
        .spawn(ctx);
    }
}

/// A scan under way.
struct Scan<'a> {
    deps: &'a ScannerDeps,
    attempt: Option<Attempt>,
    ready: oneshot::Sender<Signatures>,
    pieces: &'a mut mpsc::Receiver<Bytes>,
}

impl Scan<'_> {
    /// To its end; with the connection, if it may be used again.
    async fn run(self, kept: Option<Session>, address: &Address) -> (Outcome, Option<Session>) {
        let Self { deps, mut attempt, ready, pieces } = self;
        let ended = async {
            let session = reach(kept, address, deps.limits).await?;
            if let Some(attempt) = &mut attempt {
                attempt.reached();
            }
            // Whoever has gone away is noticed elsewhere.
            let _ = ready.send(session.signatures().clone());
            let clock = Clock { metrics: &deps.metrics, since: Some(Instant::now()) };
            let ended = session.scan(pieces).await;
            clock.stop(ended.as_ref().map(|(verdict, _)| verdict));
            ended
        };
        let (outcome, session) = match ended.await {
            Ok((verdict, session)) => (Ok(verdict), session),
            Err(error) => (Err(error), None),
        };
        if let Err(error) = &outcome {
            tracing::warn!(error = error as &dyn std::error::Error, "an upload was not scanned");
        }
        if let Some(attempt) = attempt {
            attempt.ended(&outcome, is_the_files(&outcome, address, deps.limits).await);
        }
        (outcome, session)
    }
}

/// Whether it lies in the bytes that there is no verdict: clamd is there for others. Who sends a file that it cannot cope with keeps
/// it from nobody.
async fn is_the_files(outcome: &Outcome, address: &Address, limits: Limits) -> bool {
    match outcome {
        Err(error) if error.may_be_the_files() => Session::open(address, limits).await.is_ok(),
        _ => false,
    }
}

/// The kept session if clamd keeps it too, else a new one.
async fn reach(kept: Option<Session>, address: &Address, limits: Limits) -> Result<Session, ScanError> {
    if let Some(kept) = kept
        && let Some(session) = kept.again(address).await
    {
        return Ok(session);
    }
    Session::open(address, limits).await
}

/// Times a scan, also one that is given up.
struct Clock<'a> {
    metrics: &'a ScannerMetrics,
    since: Option<Instant>,
}

impl Clock<'_> {
    fn stop(mut self, outcome: Result<&Verdict, &ScanError>) {
        if let Some(since) = self.since.take() {
            self.metrics.scanned(Some(outcome), since.elapsed());
        }
    }
}

impl Drop for Clock<'_> {
    fn drop(&mut self) {
        if let Some(since) = self.since {
            self.metrics.scanned(None, since.elapsed());
        }
    }
}

#[cfg(test)]
mod tests;
