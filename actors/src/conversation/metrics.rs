//! What conversations count.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::domain::event::EventType;

/// Metrics of conversations.
#[derive(Clone, Debug)]
pub struct ConversationMetrics {
    /// Conversations in memory.
    pub live: IntGauge,
    /// Turns ended, by terminal event.
    pub turns: IntCounterVec,
    /// Seconds from the start of an attempt to its end.
    pub turn_seconds: Histogram,
    /// Seconds from the start of an attempt to its first piece.
    pub first_delta_seconds: Histogram,
    /// Readers of streams.
    pub readers: IntGauge,
    /// Readers dropped because they did not read.
    pub dropped: IntCounter,
}

impl ConversationMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When the registry has metrics of these names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let seconds = |name: &str, help: &str| {
            let buckets = vec![0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0];
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))
        };
        let metrics = Self {
            live: IntGauge::new("sessions_live", "Conversations in memory.")?,
            turns: IntCounterVec::new(Opts::new("turns_total", "Turns ended, by outcome."), &["outcome"])?,
            turn_seconds: seconds("turn_seconds", "Seconds from the start of an attempt to its end.")?,
            first_delta_seconds: seconds(
                "turn_time_to_first_delta_seconds",
                "Seconds from the start of an attempt to its first piece.",
            )?,
            readers: IntGauge::new("sse_subscribers", "Readers of streams.")?,
            dropped: IntCounter::new("sse_dropped_total", "Readers dropped because they did not read.")?,
        };
        // What has not happened yet is counted as zero times, not as unknown.
        for outcome in [EventType::Final, EventType::Stopped, EventType::Error] {
            metrics.turns.with_label_values(&[outcome.as_str()]).reset();
        }
        registry.register(Box::new(metrics.live.clone()))?;
        registry.register(Box::new(metrics.turns.clone()))?;
        registry.register(Box::new(metrics.turn_seconds.clone()))?;
        registry.register(Box::new(metrics.first_delta_seconds.clone()))?;
        registry.register(Box::new(metrics.readers.clone()))?;
        registry.register(Box::new(metrics.dropped.clone()))?;
        Ok(metrics)
    }
}
