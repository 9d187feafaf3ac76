//! Asks SomaBrain, and leaves it alone while it does not answer.
//!
//! State: the breaker, the calls under way and those waiting for a place, the retry budgets, the probe under way. A
//! restart begins with a closed breaker, and whoever waited for an answer gets `Down`.
//! Asks: those of [`messages`](super::messages) and [`Consult`](super::Consult), each answered through its own reply.
//! Supervision: child of `somabrain`, Permanent. Crashes on broken invariants only; whatever the server does is a
//! [`BrainError`](super::BrainError), retried inside the ask's deadline where that may help.

use std::{cell::RefCell, rc::Rc, sync::Arc, time::Duration};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Supervised, WrapFuture};
use serde_json::Value;
use somaagent_supervision::{Admitted, Child, InFlight, Reply};
use tokio::time::Instant;
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    caller::Caller,
    connection::{Connection, Request},
    endpoint::Endpoint,
    exchange::Lost,
    health::{HealthBoard, HealthReader, HealthReport, HealthState},
    lane::{Ask, Kind, Lane, Waiting},
    messages::CheckHealth,
    metrics::BrainMetrics,
    settings::{BrainSettings, SettingsError},
    wire::shortened,
};
use crate::{
    breaker::{Breaker, BreakerRules, BreakerState},
    retry::RetryPolicy,
};

/// What the client keeps over its restarts: the way to the server, its settings, and where it publishes.
#[derive(Debug, Clone)]
pub struct BrainDeps {
    pub(super) connection: Connection,
    pub(super) metrics: BrainMetrics,
    health: HealthBoard,
    breaker: BreakerRules,
    pub(super) recall_retry: RetryPolicy,
    pub(super) retry: RetryPolicy,
    max_in_flight: usize,
    max_writes_in_flight: usize,
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
            retry: settings.retry(),
            max_in_flight: settings.max_in_flight,
            max_writes_in_flight: settings.max_writes_in_flight,
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
    recalls: Lane,
    writes: Lane,
    questions: Lane,
    /// Askers of the probe under way; `None` when there is no probe.
    probe: Option<Vec<(Reply<HealthReport>, InFlight)>>,
}

impl State {
    fn new(deps: &BrainDeps) -> Self {
        Self {
            breaker: Rc::new(RefCell::new(Breaker::new(deps.breaker))),
            logged: BreakerState::Closed,
            recalls: Lane::new(deps.max_in_flight),
            writes: Lane::new(deps.max_writes_in_flight),
            questions: Lane::new(deps.max_in_flight),
            probe: None,
        }
    }

    const fn lane(&mut self, kind: Kind) -> &mut Lane {
        match kind {
            Kind::Recall => &mut self.recalls,
            Kind::Write => &mut self.writes,
            Kind::Question => &mut self.questions,
        }
    }
}

impl BrainClient {
    /// A client with a closed breaker. Call it where the actor is going to run.
    #[must_use]
    pub fn new(deps: BrainDeps) -> Self {
        let state = State::new(&deps);
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
        self.state = State::new(&self.deps);
    }
}

impl Child for BrainClient {
    const NAME: &'static str = "brain-client";

    fn state_name(&self) -> &'static str {
        self.state.breaker.borrow().state().as_str()
    }
}

impl<M: Ask> Handler<Admitted<M>> for BrainClient {
    type Result = ();

    fn handle(&mut self, msg: Admitted<M>, ctx: &mut Context<Self>) {
        let (ask, in_flight) = msg.open();
        self.state.lane(M::KIND).push(Box::new(Waiting { ask, in_flight }));
        self.serve_waiting(M::KIND, ctx);
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
    /// Starts waiting calls of a kind while there are places. Few run at a time, so each may be a future of this actor.
    fn serve_waiting(&mut self, kind: Kind, ctx: &mut Context<Self>) {
        while let Some(job) = self.state.lane(kind).next() {
            let caller = Caller {
                deps: self.deps.clone(),
                breaker: Rc::clone(&self.state.breaker),
                budget: Rc::clone(&self.state.lane(kind).budget),
            };
            ctx.spawn(job.run(caller).into_actor(self).map(move |(), this, ctx| {
                this.state.lane(kind).free();
                this.log_breaker();
                this.serve_waiting(kind, ctx);
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

/// One attempt past the breaker: it must see the server's return, and its failures say nothing about recalls.
async fn run_probe(deps: BrainDeps) -> HealthReport {
    deps.connection.refresh().await;
    let endpoint = Endpoint::Health;
    let begun = Instant::now();
    let request_id = Uuid::new_v4().to_string();
    let headers = deps.connection.headers(None, &request_id, None);
    let request = Request { endpoint, target: None, headers, body: None };
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
