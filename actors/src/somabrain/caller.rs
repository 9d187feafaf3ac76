//! One call on behalf of an ask: request, attempts, metrics. What is common to all calls but the probe.

use std::{cell::RefCell, rc::Rc};

use reqwest::header::{HeaderValue, IF_MATCH};
use tokio::time::Instant;
use tracing::debug;

use super::{
    budget::RetryBudget,
    client::BrainDeps,
    connection::Request,
    endpoint::Endpoint,
    exchange::{Answer, Outcome, Terms, exchange},
    messages::{Asker, BrainError},
};
use crate::{breaker::Breaker, retry::RetryPolicy};

/// The way to the server for one call.
#[derive(Clone)]
pub(super) struct Caller {
    pub deps: BrainDeps,
    pub breaker: Rc<RefCell<Breaker>>,
    pub budget: Rc<RefCell<RetryBudget>>,
}

/// What is called, and how its answer is taken.
pub(super) struct Call {
    pub endpoint: Endpoint,
    /// Path and query, where they are not the endpoint's own.
    pub target: Option<String>,
    /// The version of the document that the caller knows.
    pub if_match: Option<String>,
    pub body: Option<Vec<u8>>,
    /// Statuses above 399 that are an answer, not a refusal.
    pub accepts: &'static [u16],
    pub retry: RetryPolicy,
}

impl Call {
    /// A call with a JSON body.
    pub fn of(endpoint: Endpoint, body: &impl serde::Serialize, retry: RetryPolicy) -> Result<Self, BrainError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| BrainError::Broken { endpoint, reason: format!("unusable request: {error}") })?;
        Ok(Self { body: Some(body), ..Self::bare(endpoint, retry) })
    }

    /// A call without a body.
    pub const fn bare(endpoint: Endpoint, retry: RetryPolicy) -> Self {
        Self { endpoint, target: None, if_match: None, body: None, accepts: &[], retry }
    }

    /// Takes a 404 as an answer: the server does not know the path.
    pub const fn or_404(mut self) -> Self {
        self.accepts = &[404];
        self
    }
}

impl Caller {
    /// Calls the server inside the asker's deadline.
    pub async fn call(&self, asker: &Asker, call: Call) -> Result<Answer, BrainError> {
        let Call { endpoint, target, if_match, body, accepts, retry } = call;
        let deadline = asker.deadline;
        let begun = Instant::now();
        if begun >= deadline {
            return Err(BrainError::TimedOut { endpoint });
        }
        let connection = &self.deps.connection;
        let request_id = asker.correlation_id.to_string();
        let mut headers = connection.headers(Some(&asker.tenant), &request_id, asker.trace.as_ref());
        if let Some(version) = if_match {
            let version = HeaderValue::try_from(version)
                .map_err(|_| BrainError::Broken { endpoint, reason: "the version is no ETag".into() })?;
            headers.insert(IF_MATCH, version);
        }
        let request = Request { endpoint, target, headers, body };
        let terms = Terms { endpoint, accepts, retry, deadline };
        let attempt = async || connection.attempt(&request, deadline).await;
        let outcome = exchange(terms, &self.breaker, &self.budget, attempt).await;
        if outcome.sent {
            self.deps.metrics.called(endpoint, outcome.status, begun.elapsed());
        }
        trace(endpoint, &outcome, begun, &request_id);
        outcome.result
    }
}

fn trace(endpoint: Endpoint, outcome: &Outcome, begun: Instant, request_id: &str) {
    debug!(
        method = endpoint.method(),
        path = endpoint.path(),
        status = outcome.status,
        took_ms = begun.elapsed().as_secs_f64() * 1e3,
        correlation_id = request_id,
        "SomaBrain was asked",
    );
}
