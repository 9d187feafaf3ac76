//! Asks SomaBrain, and leaves it alone while it does not answer.
//!
//! State: the breaker, the recalls under way and those waiting for a place, the probe under way. A restart begins with
//! a closed breaker, and whoever waited for an answer gets `Down`.
//! Asks: [`Recall`] → what was found; [`CheckHealth`] → how the server is. Both answer through their own reply.
//! Supervision: child of `somabrain`, Permanent. Crashes on broken invariants only; whatever the server does is a
//! [`BrainError`], retried inside the ask's deadline where that may help.

use std::{cell::RefCell, collections::VecDeque, rc::Rc, sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Supervised, WrapFuture};
use serde_json::Value;
use somaagent_supervision::{Admitted, Child, InFlight, Reply};
use tokio::time::Instant;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::{
    breaker::{Breaker, BreakerRules, BreakerState},
    connection::{Connection, Request},
    exchange::{Answer, Lost, Outcome, Terms, exchange},
    health::{HealthBoard, HealthReader, HealthReport, HealthState},
    messages::{BrainError, CheckHealth, Recall, Recalled},
    metrics::BrainMetrics,
    settings::{BrainSettings, SettingsError},
    wire::{Endpoint, OldRecallBody, RecallAnswer, RecallBody, shortened},
};
use crate::retry::RetryPolicy;

/// Memories a recall may ask for.
const TOP_K: std::ops::RangeInclusive<u32> = 1..=50;

/// What the client keeps over its restarts: the way to the server, its settings, and where it publishes.
#[derive(Debug, Clone)]
pub struct BrainDeps {
    connection: Connection,
    metrics: BrainMetrics,
    health: HealthBoard,
    breaker: BreakerRules,
    recall_retry: RetryPolicy,
    max_in_flight: usize,
    health_interval: Duration,
    health_timeout: Duration,
}

impl BrainDeps {
    /// Makes ready to call the server of `settings`; nothing is sent yet.
    ///
    /// # Errors
    /// The settings are unusable; the error names the key and holds no secret.
    pub fn new(settings: &BrainSettings, metrics: BrainMetrics) -> Result<Self, SettingsError> {
        Ok(Self {
            connection: Connection::new(settings)?,
            metrics,
            health: HealthBoard::new(),
            breaker: settings.breaker_rules(),
            recall_retry: settings.recall_retry(),
            max_in_flight: settings.max_in_flight.max(1),
            health_interval: Duration::from_millis(settings.health_interval_ms.max(100)),
            health_timeout: Duration::from_millis(settings.health_timeout_ms.max(1)),
        })
    }

    /// The last health report, for whoever wants it without an ask.
    #[must_use]
    pub fn health(&self) -> HealthReader {
        self.health.reader()
    }
}

/// The client actor. One for each server.
pub struct BrainClient {
    deps: BrainDeps,
    state: State,
}

struct State {
    /// Shared with the calls under way, on this actor's thread alone. Never borrowed over an await.
    breaker: Rc<RefCell<Breaker>>,
    /// The breaker's state that was logged last.
    logged: BreakerState,
    running: usize,
    /// Bounded by the port: each entry holds its place there.
    waiting: VecDeque<Waiting>,
    /// Askers of the probe under way; `None` when there is no probe.
    probe: Option<Vec<(Reply<HealthReport>, InFlight)>>,
}

struct Waiting {
    recall: Recall,
    in_flight: InFlight,
}

impl State {
    fn new(rules: BreakerRules) -> Self {
        Self {
            breaker: Rc::new(RefCell::new(Breaker::new(rules))),
            logged: BreakerState::Closed,
            running: 0,
            waiting: VecDeque::new(),
            probe: None,
        }
    }
}

impl BrainClient {
    /// A client with a closed breaker. Call it where the actor is going to run.
    #[must_use]
    pub fn new(deps: BrainDeps) -> Self {
        let state = State::new(deps.breaker);
        Self { deps, state }
    }
}

impl Actor for BrainClient {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.probe(ctx);
        ctx.run_interval(self.deps.health_interval, Self::probe);
    }
}

impl Supervised for BrainClient {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = State::new(self.deps.breaker);
    }
}

impl Child for BrainClient {
    const NAME: &'static str = "brain-client";

    fn state_name(&self) -> &'static str {
        self.state.breaker.borrow().state().as_str()
    }
}

impl Handler<Admitted<Recall>> for BrainClient {
    type Result = ();

    fn handle(&mut self, msg: Admitted<Recall>, ctx: &mut Context<Self>) {
        let (recall, in_flight) = msg.open();
        self.state.waiting.push_back(Waiting { recall, in_flight });
        self.serve_waiting(ctx);
    }
}

impl Handler<Admitted<CheckHealth>> for BrainClient {
    type Result = ();

    fn handle(&mut self, msg: Admitted<CheckHealth>, ctx: &mut Context<Self>) {
        let (check, in_flight) = msg.open();
        self.probe(ctx);
        if let Some(askers) = &mut self.state.probe {
            askers.push((check.reply, in_flight));
        }
    }
}

impl BrainClient {
    /// Starts waiting recalls while there are places. Few run at a time, so each may be a future of this actor.
    fn serve_waiting(&mut self, ctx: &mut Context<Self>) {
        while self.state.running < self.deps.max_in_flight {
            let Some(Waiting { recall, in_flight }) = self.state.waiting.pop_front() else { return };
            if recall.reply.is_abandoned() {
                continue;
            }
            self.state.running += 1;
            let call = run_recall(self.deps.clone(), Rc::clone(&self.state.breaker), recall, in_flight);
            ctx.spawn(call.into_actor(self).map(|(), this, ctx| {
                this.state.running -= 1;
                this.log_breaker();
                this.serve_waiting(ctx);
            }));
        }
    }

    /// Starts a probe unless one is under way.
    fn probe(&mut self, ctx: &mut Context<Self>) {
        if self.state.probe.is_some() {
            return;
        }
        self.state.probe = Some(Vec::new());
        let call = run_probe(self.deps.clone());
        ctx.spawn(call.into_actor(self).map(|report, this, _| this.publish(&report)));
    }

    fn publish(&mut self, report: &HealthReport) {
        self.deps.metrics.healthy(report.state);
        let before = self.deps.health.publish(report.clone());
        if before != Some(report.state) {
            let (state, detail) = (report.state.as_str(), &*report.detail);
            if report.state == HealthState::Normal {
                info!(state, "SomaBrain is well");
            } else {
                warn!(state, detail, "SomaBrain is not well");
            }
        }
        for (reply, in_flight) in self.state.probe.take().into_iter().flatten() {
            // The place first: an asker that has its answer finds the room again.
            drop(in_flight);
            reply.send(report.clone());
        }
    }

    /// Says so once when the breaker's state has changed.
    fn log_breaker(&mut self) {
        let state = self.state.breaker.borrow().state();
        if state == self.state.logged {
            return;
        }
        self.state.logged = state;
        match state {
            BreakerState::Open => warn!("SomaBrain is left alone for a while: the breaker is open"),
            BreakerState::Closed => info!("SomaBrain is asked again: the breaker is closed"),
            BreakerState::HalfOpen => {}
        }
    }
}

async fn run_recall(deps: BrainDeps, breaker: Rc<RefCell<Breaker>>, recall: Recall, in_flight: InFlight) {
    let found = find(&deps, &breaker, &recall, in_flight.admitted_at()).await;
    drop(in_flight);
    recall.reply.send(found);
}

/// Asks `/memory/recall`, and `/recall` where the server is too old to know it.
async fn find(
    deps: &BrainDeps,
    breaker: &RefCell<Breaker>,
    recall: &Recall,
    since: Instant,
) -> Result<Recalled, BrainError> {
    let universe = recall.space.universe.as_deref();
    let (query, top_k) = (recall.query.as_str(), recall.top_k.clamp(*TOP_K.start(), *TOP_K.end()));
    let (tenant, namespace) = (recall.tenant.as_str(), recall.space.namespace.as_str());
    let session_id = recall.session_id.to_string();
    let body = RecallBody { tenant, namespace, query, top_k, universe, session_id };
    let answer = call_recall(deps, breaker, recall, Endpoint::Recall, serde_json::to_vec(&body)).await?;
    if answer.status != 404 {
        return read(&answer, Endpoint::Recall, since);
    }
    let body = OldRecallBody { query, top_k, universe };
    let answer = call_recall(deps, breaker, recall, Endpoint::OldRecall, serde_json::to_vec(&body)).await?;
    read(&answer, Endpoint::OldRecall, since)
}

async fn call_recall(
    deps: &BrainDeps,
    breaker: &RefCell<Breaker>,
    recall: &Recall,
    endpoint: Endpoint,
    body: serde_json::Result<Vec<u8>>,
) -> Result<Answer, BrainError> {
    let deadline = recall.deadline;
    let begun = Instant::now();
    if begun >= deadline {
        return Err(BrainError::TimedOut { endpoint });
    }
    let body = body.map_err(|error| BrainError::Broken { endpoint, reason: error.to_string() })?;
    let request_id = recall.correlation_id.to_string();
    let headers = deps.connection.headers(Some(&recall.tenant), &request_id, recall.traceparent.as_deref());
    let request = Request { endpoint, headers, body: Some(body) };
    let terms = Terms { endpoint, accepts_404: endpoint == Endpoint::Recall, retry: deps.recall_retry, deadline };
    let outcome = exchange(terms, breaker, async || deps.connection.attempt(&request, deadline).await).await;
    note(deps, endpoint, &outcome, begun.elapsed(), &request_id);
    outcome.result
}

/// Counts and traces a call that reached the network.
fn note(deps: &BrainDeps, endpoint: Endpoint, outcome: &Outcome, took: Duration, request_id: &str) {
    if outcome.sent {
        deps.metrics.called(endpoint, outcome.status, took);
    }
    debug!(
        method = endpoint.method(),
        path = endpoint.path(),
        status = outcome.status,
        took_ms = took.as_secs_f64() * 1e3,
        correlation_id = request_id,
        "SomaBrain was asked",
    );
}

fn read(answer: &Answer, endpoint: Endpoint, since: Instant) -> Result<Recalled, BrainError> {
    let broken = |reason: String| BrainError::Broken { endpoint, reason };
    if answer.status != 200 {
        return Err(broken(format!("status {} is no answer to a recall", answer.status)));
    }
    let body =
        serde_json::from_slice(&answer.body).map_err(|error| broken(format!("the answer is no JSON: {error}")))?;
    let RecallAnswer { memories, skipped, degraded, rest } =
        RecallAnswer::read(body).map_err(|reason| broken(reason.to_owned()))?;
    Ok(Recalled { memories, skipped, degraded, took: since.elapsed(), rest })
}

/// One attempt past the breaker: it must see the server's return, and its failures say nothing about recalls.
async fn run_probe(deps: BrainDeps) -> HealthReport {
    let endpoint = Endpoint::Health;
    let begun = Instant::now();
    let request_id = Uuid::new_v4().to_string();
    let request = Request { endpoint, headers: deps.connection.headers(None, &request_id, None), body: None };
    let attempt = deps.connection.attempt(&request, begun + deps.health_timeout).await;
    let took = begun.elapsed();
    deps.metrics.called(endpoint, attempt.as_ref().ok().map(|answer| answer.status), took);
    let (state, detail) = match attempt {
        Ok(answer) => {
            let body = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
            let said = deps.connection.scrubbed(&String::from_utf8_lossy(&answer.body));
            (HealthState::of_answer(answer.status, &body), shortened(&said))
        }
        Err(Lost::Transport(reason)) => (HealthState::Down, reason),
        Err(Lost::TimedOut) => (HealthState::Down, format!("no answer in {} ms", deps.health_timeout.as_millis())),
    };
    HealthReport { state, detail: Arc::from(detail), took }
}

#[cfg(test)]
mod tests;
