//! What the replicator counts.

use std::time::Duration;

use prometheus::{Gauge, Histogram, HistogramOpts, IntCounterVec, Opts, Registry};

/// Metrics of the replicator, by the original's names.
#[derive(Clone, Debug)]
pub struct ReplicatorMetrics {
    events: IntCounterVec,
    seconds: Histogram,
    lag: Gauge,
}

impl ReplicatorMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When the registry has metrics of these names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            events: IntCounterVec::new(
                Opts::new("memory_replicator_events_total", "Records of the log that were done with, by result."),
                &["result"],
            )?,
            seconds: Histogram::with_opts(HistogramOpts::new(
                "memory_replicator_replication_seconds",
                "Seconds that applying a batch of records took.",
            ))?,
            lag: Gauge::new(
                "memory_replicator_lag_seconds",
                "Age of the newest applied record, or of the oldest one that cannot be applied now; 0 when nothing waits.",
            )?,
        };
        for result in ["ok", "error"] {
            metrics.events.with_label_values(&[result]).reset();
        }
        registry.register(Box::new(metrics.events.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.lag.clone()))?;
        Ok(metrics)
    }

    pub(super) fn applied(&self, ok: usize, error: usize) {
        for (result, records) in [("ok", ok), ("error", error)] {
            self.events.with_label_values(&[result]).inc_by(u64::try_from(records).unwrap_or(u64::MAX));
        }
    }

    pub(super) fn took(&self, time: Duration) {
        self.seconds.observe(time.as_secs_f64());
    }

    /// Clocks of several machines may differ: a record of the future is as old as one of now.
    pub(super) fn lag(&self, seconds: f64) {
        self.lag.set(seconds.max(0.0));
    }
}
