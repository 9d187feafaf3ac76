//! What the relay counts.

use prometheus::{Gauge, Histogram, HistogramOpts, IntCounterVec, Opts, Registry};

/// Metrics of the outbox, by the original's names.
#[derive(Clone, Debug)]
pub struct OutboxMetrics {
    pub(super) batch_size: Gauge,
    pub(super) published: IntCounterVec,
    pub(super) seconds: Histogram,
    pub(super) events: IntCounterVec,
}

impl OutboxMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When the registry has metrics of these names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let metrics = Self {
            batch_size: Gauge::new("outbox_sync_effective_batch_size", "Rows that the next round may take.")?,
            published: counter("outbox_sync_publish_total", "Rows tried, by result.", &["result"])?,
            seconds: Histogram::with_opts(HistogramOpts::new(
                "outbox_publish_seconds",
                "Seconds that an append to the log took.",
            ))?,
            events: counter(
                "outbox_events_total",
                "What happened to rows, by action and result.",
                &["action", "result"],
            )?,
        };
        for result in ["success", "retry", "failed"] {
            metrics.published.with_label_values(&[result]).reset();
        }
        let pairs = [("claim", "claimed"), ("claim", "empty"), ("ack", "sent"), ("nack", "retry"), ("nack", "failed")];
        for (action, result) in pairs {
            metrics.events.with_label_values(&[action, result]).reset();
        }
        registry.register(Box::new(metrics.batch_size.clone()))?;
        registry.register(Box::new(metrics.published.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.events.clone()))?;
        Ok(metrics)
    }

    pub(super) fn claimed(&self, rows: usize) {
        let result = if rows == 0 { "empty" } else { "claimed" };
        self.events.with_label_values(&["claim", result]).inc();
    }

    pub(super) fn settled(&self, sent: usize, retried: usize, failed: usize) {
        for (published, action, result, rows) in [
            ("success", "ack", "sent", sent),
            ("retry", "nack", "retry", retried),
            ("failed", "nack", "failed", failed),
        ] {
            let rows = u64::try_from(rows).unwrap_or(u64::MAX);
            self.published.with_label_values(&[published]).inc_by(rows);
            self.events.with_label_values(&[action, result]).inc_by(rows);
        }
    }
}
