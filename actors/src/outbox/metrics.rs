//! What the relay and the memory sync count.

use std::time::Duration;

use prometheus::{Gauge, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};

use super::through::Outcome;

fn counter(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(name, help), labels)
}

/// Metrics of the outbox, by the original's names.
#[derive(Clone, Debug)]
pub struct OutboxMetrics {
    pub(super) batch_size: Gauge,
    pub(super) published: IntCounterVec,
    pub(super) durable: IntCounterVec,
    pub(super) seconds: Histogram,
    pub(super) events: IntCounterVec,
}

impl OutboxMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When the registry has metrics of these names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            batch_size: Gauge::new("outbox_sync_effective_batch_size", "Rows that the next round may take.")?,
            published: counter("outbox_sync_publish_total", "Rows tried, by result.", &["result"])?,
            durable: counter("durable_publish_total", "Records for the log, by what became of a try.", &["result"])?,
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
        for result in ["published", "enqueued", "failed"] {
            metrics.durable.with_label_values(&[result]).reset();
        }
        let pairs = [("claim", "claimed"), ("claim", "empty"), ("ack", "sent"), ("nack", "retry"), ("nack", "failed")];
        for (action, result) in pairs {
            metrics.events.with_label_values(&[action, result]).reset();
        }
        registry.register(Box::new(metrics.batch_size.clone()))?;
        registry.register(Box::new(metrics.published.clone()))?;
        registry.register(Box::new(metrics.durable.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.events.clone()))?;
        Ok(metrics)
    }

    pub(super) fn claimed(&self, rows: usize) {
        let result = if rows == 0 { "empty" } else { "claimed" };
        self.events.with_label_values(&["claim", result]).inc();
    }

    pub(super) fn settled(&self, sent: usize, retried: usize, failed: usize) {
        for (published, durable, action, result, rows) in [
            ("success", "published", "ack", "sent", sent),
            ("retry", "enqueued", "nack", "retry", retried),
            ("failed", "failed", "nack", "failed", failed),
        ] {
            let rows = u64::try_from(rows).unwrap_or(u64::MAX);
            self.published.with_label_values(&[published]).inc_by(rows);
            self.durable.with_label_values(&[durable]).inc_by(rows);
            self.events.with_label_values(&[action, result]).inc_by(rows);
        }
    }
}

/// Metrics of the way of memories, by the original's names.
#[derive(Clone, Debug)]
pub struct MemorySyncMetrics {
    jobs: IntCounterVec,
    seconds: Histogram,
    backlog: IntGauge,
    pending: IntGauge,
    through_asked: IntCounterVec,
    through_results: IntCounterVec,
    through_records: IntCounterVec,
}

impl MemorySyncMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When the registry has metrics of these names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            jobs: counter("memory_sync_jobs_total", "Memories tried, by result.", &["result"])?,
            seconds: Histogram::with_opts(HistogramOpts::new(
                "memory_sync_seconds",
                "Seconds that a write of one session's memories took.",
            ))?,
            backlog: IntGauge::new("memory_sync_backlog", "Memories that are not remembered yet.")?,
            pending: IntGauge::new("memory_write_outbox_pending", "Memories that are not remembered yet.")?,
            through_asked: counter(
                "gateway_write_through_attempts_total",
                "Memories that a request wanted written at once, by its route.",
                &["path"],
            )?,
            through_results: counter(
                "gateway_write_through_results_total",
                "What became of them until the request stopped waiting, by its route.",
                &["path", "result"],
            )?,
            through_records: counter(
                "gateway_write_through_wal_results_total",
                "Their records for the log, by route.",
                &["path", "result"],
            )?,
        };
        for result in ["ok", "retry", "failed"] {
            metrics.jobs.with_label_values(&[result]).reset();
        }
        registry.register(Box::new(metrics.jobs.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.backlog.clone()))?;
        registry.register(Box::new(metrics.pending.clone()))?;
        registry.register(Box::new(metrics.through_asked.clone()))?;
        registry.register(Box::new(metrics.through_results.clone()))?;
        registry.register(Box::new(metrics.through_records.clone()))?;
        Ok(metrics)
    }

    pub(super) fn settled(&self, ok: usize, retried: usize, failed: usize, took: Duration) {
        for (result, rows) in [("ok", ok), ("retry", retried), ("failed", failed)] {
            self.jobs.with_label_values(&[result]).inc_by(u64::try_from(rows).unwrap_or(u64::MAX));
        }
        self.seconds.observe(took.as_secs_f64());
    }

    pub(super) fn asked_through(&self, path: &str) {
        self.through_asked.with_label_values(&[path]).inc();
    }

    /// A memory that was taken has its record for the log in the same transaction.
    pub(super) fn written_through(&self, path: &str, outcome: Outcome) {
        self.through_results.with_label_values(&[path, outcome.label()]).inc();
        let recorded = if outcome == Outcome::Remembered { "ok" } else { "error" };
        self.through_records.with_label_values(&[path, recorded]).inc();
    }

    pub(super) fn pending(&self, rows: i64) {
        self.backlog.set(rows);
        self.pending.set(rows);
    }
}
