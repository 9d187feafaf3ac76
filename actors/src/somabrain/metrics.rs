//! What the client tells Prometheus. The names are those that dashboards already use.

use std::time::Duration;

use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

use super::{endpoint::Endpoint, health::HealthState};

/// Upper bounds in seconds, as dashboards expect them.
const BUCKETS: [f64; 14] = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];
/// The status of a call that got no answer.
const NO_ANSWER: &str = "error";
const LABELS: [&str; 3] = ["method", "path", "status"];

/// Metrics of calls to SomaBrain and of its health. Clones count into the same place.
#[derive(Debug, Clone)]
pub struct BrainMetrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    writes: IntCounterVec,
    write_seconds: HistogramVec,
    health: GaugeVec,
}

impl BrainMetrics {
    /// Registers the metrics; once per registry.
    ///
    /// # Errors
    /// A name is taken already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let requests = IntCounterVec::new(
            Opts::new("somabrain_requests_total", "Calls to SomaBrain that reached the network, retries not counted"),
            &LABELS,
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new("somabrain_request_seconds", "Whole calls to SomaBrain, retries and waits included")
                .buckets(BUCKETS.to_vec()),
            &LABELS,
        )?;
        let writes = IntCounterVec::new(
            Opts::new("somabrain_memory_write_total", "Memories given to SomaBrain, by what came of the write"),
            &["result"],
        )?;
        let write_seconds = HistogramVec::new(
            HistogramOpts::new("somabrain_memory_write_seconds", "Whole writes to SomaBrain, a batch being one")
                .buckets(BUCKETS.to_vec()),
            &["result"],
        )?;
        let health = GaugeVec::new(
            Opts::new("somabrain_health_state", "1 for the state SomaBrain is in, 0 for the others"),
            &["state"],
        )?;
        for state in HealthState::ALL {
            health.with_label_values(&[state.as_str()]).set(0.0);
        }
        // What is expected and what is feared: of a count that begins above 0 no increase is seen.
        for endpoint in Endpoint::ALL {
            for status in ["200", NO_ANSWER] {
                requests.with_label_values(&[endpoint.method(), endpoint.path(), status]);
            }
        }
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(writes.clone()))?;
        registry.register(Box::new(write_seconds.clone()))?;
        registry.register(Box::new(health.clone()))?;
        Ok(Self { requests, seconds, writes, write_seconds, health })
    }

    /// Counts one call; `status` is the code of its last answer, or `None` when the last attempt got none.
    pub(super) fn called(&self, endpoint: Endpoint, status: Option<u16>, took: Duration) {
        let status = status.map_or_else(|| NO_ANSWER.to_owned(), |code| code.to_string());
        let labels = [endpoint.method(), endpoint.path(), &status];
        self.requests.with_label_values(&labels).inc();
        self.seconds.with_label_values(&labels).observe(took.as_secs_f64());
    }

    /// Counts a write of so many memories.
    pub(super) fn wrote(&self, result: &str, memories: usize, took: Duration) {
        self.writes.with_label_values(&[result]).inc_by(memories as u64);
        self.write_seconds.with_label_values(&[result]).observe(took.as_secs_f64());
    }

    /// Shows the state of the server.
    pub(super) fn healthy(&self, now: HealthState) {
        for state in HealthState::ALL {
            self.health.with_label_values(&[state.as_str()]).set(f64::from(u8::from(state == now)));
        }
    }
}
