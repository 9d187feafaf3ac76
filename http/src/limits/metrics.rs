//! What the limits count. No label names a caller.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// The metrics.
pub(super) struct LimitMetrics {
    results: IntCounterVec,
    /// Requests under way.
    pub(super) in_flight: IntGauge,
    /// Requests for which there was no place.
    pub(super) shed: IntCounter,
    /// Requests whose bodies have not come yet.
    pub(super) bodies: IntGauge,
    /// Requests whose bodies were not waited for.
    pub(super) bodies_refused: IntCounterVec,
    /// Open streams.
    pub(super) streams: IntGauge,
    /// Streams for which there was no place.
    pub(super) streams_refused: IntCounterVec,
}

impl LimitMetrics {
    /// Registers them.
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let results = IntCounterVec::new(
            Opts::new(
                "gateway_rate_limit_results_total",
                "Requests that a rate limit let through or refused, by outcome",
            ),
            &["result"],
        )?;
        for result in ["allowed", "limited", "admin_limited", "auth_limited"] {
            results.with_label_values(&[result]);
        }
        let in_flight = IntGauge::new(
            "http_requests_in_flight",
            "Requests under way, without probes, open streams and awaited bodies",
        )?;
        let shed = IntCounter::new("http_requests_shed_total", "Requests refused because too many were under way")?;
        let streams = IntGauge::new("http_streams_open", "Event streams being served")?;
        let streams_refused = IntCounterVec::new(
            Opts::new(
                "http_streams_refused_total",
                "Event streams refused because the caller, or all together, had as many as may be",
            ),
            &["reason"],
        )?;
        let bodies = IntGauge::new("http_bodies_awaited", "Requests whose bodies have not come yet")?;
        let bodies_refused = IntCounterVec::new(
            Opts::new(
                "http_bodies_refused_total",
                "Requests whose bodies were not waited for because as many of the caller, or of all, were awaited as may be",
            ),
            &["reason"],
        )?;
        for reason in ["caller", "all"] {
            streams_refused.with_label_values(&[reason]);
            bodies_refused.with_label_values(&[reason]);
        }
        registry.register(Box::new(bodies.clone()))?;
        registry.register(Box::new(bodies_refused.clone()))?;
        registry.register(Box::new(streams.clone()))?;
        registry.register(Box::new(streams_refused.clone()))?;
        registry.register(Box::new(results.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        registry.register(Box::new(shed.clone()))?;
        Ok(Self { results, in_flight, shed, bodies, bodies_refused, streams, streams_refused })
    }

    /// Counts a request at a limit.
    pub(super) fn count(&self, result: &str) {
        self.results.with_label_values(&[result]).inc();
    }
}
