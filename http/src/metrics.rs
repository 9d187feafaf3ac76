//! What the door counts. Labels are route templates, methods and statuses; never ids.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, exponential_buckets};

use crate::{problem::Code, routes::TABLE};

/// The door's metrics, shared by all workers.
#[derive(Clone)]
pub(crate) struct Metrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    decisions: IntCounterVec,
}

impl Metrics {
    /// Registers the metrics.
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let requests = IntCounterVec::new(
            Opts::new("http_requests_total", "Requests answered, by route template, method and status"),
            &["route", "method", "status"],
        )?;
        let buckets = exponential_buckets(0.0005, 2.0, 16)?;
        let seconds = HistogramVec::new(
            HistogramOpts::new("http_request_seconds", "Seconds from a request's head to its reply's head")
                .buckets(buckets),
            &["route", "method"],
        )?;
        for resource in TABLE {
            for (method, ..) in resource.methods {
                // A request that fails by our own fault: of a count that begins above 0 no increase is seen.
                requests.with_label_values(&[resource.pattern, method.as_str(), "500"]);
            }
        }
        let decisions = IntCounterVec::new(
            Opts::new("auth_decisions_total", "Requests by action and by what was decided about their sender"),
            &["action", "result"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(decisions.clone()))?;
        Ok(Self { requests, seconds, decisions })
    }

    /// Counts one decision: with which code the sender was refused, if so.
    pub(crate) fn decided(&self, action: &str, refused: Option<Code>) {
        let result = match refused.map(Code::status) {
            None => "allowed",
            Some(401) => "unauthenticated",
            Some(403) => "denied",
            Some(429) => "limited",
            Some(_) => "error",
        };
        self.decisions.with_label_values(&[action, result]).inc();
    }

    /// Counts one answered request.
    pub(crate) fn answered(&self, route: &str, method: &str, status: u16, took: Duration) {
        self.requests.with_label_values(&[route, method, status.to_string().as_str()]).inc();
        self.seconds.with_label_values(&[route, method]).observe(took.as_secs_f64());
    }
}
