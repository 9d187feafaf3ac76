//! What the relay and the memory sync count.

use std::time::Duration;

use prometheus::{Gauge, Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};

use super::through::Outcome;
use crate::store::outbox::Settled;

fn counter(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(name, help), labels)
}

/// How many rows met which fate.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fates {
    pub(super) sent: u64,
    pub(super) retried: u64,
    pub(super) failed: u64,
}

impl Fates {
    /// Of the rows of `settled` that pass `counts`.
    pub(super) fn of(settled: &Settled, counts: impl Fn(i64) -> bool) -> Self {
        let number = |ids: &mut dyn Iterator<Item = i64>| ids.filter(|id| counts(*id)).map(|_| 1).sum();
        let retried = settled.given_back.iter().filter(|row| row.error.is_some());
        Self {
            sent: number(&mut settled.sent.iter().copied()),
            retried: number(&mut retried.map(|row| row.id)),
            failed: number(&mut settled.failed.iter().map(|(id, _)| *id)),
        }
    }
}

/// Metrics of the outbox, by the original's names.
#[derive(Clone, Debug)]
pub struct OutboxMetrics {
    pub(super) batch_size: Gauge,
    pub(super) published: IntCounterVec,
    pub(super) durable: IntCounterVec,
    pub(super) seconds: Histogram,
    dead: IntCounterVec,
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
            dead: counter(
                "dlq_events_total",
                "Notices of dead letters for the log, by what became of a try.",
                &["result"],
            )?,
        };
        for result in ["success", "retry", "failed"] {
            metrics.published.with_label_values(&[result]).reset();
        }
        for result in ["published", "enqueued", "failed"] {
            metrics.durable.with_label_values(&[result]).reset();
        }
        for result in ["published", "pending_retry", "failed"] {
            metrics.dead.with_label_values(&[result]).reset();
        }
        registry.register(Box::new(metrics.batch_size.clone()))?;
        registry.register(Box::new(metrics.published.clone()))?;
        registry.register(Box::new(metrics.durable.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.dead.clone()))?;
        Ok(metrics)
    }

    /// What became of rows, and of the notices of dead letters among them.
    pub(super) fn settled(&self, all: Fates, notices: Fates) {
        for (published, durable, dead, rows, notices) in [
            ("success", "published", "published", all.sent, notices.sent),
            ("retry", "enqueued", "pending_retry", all.retried, notices.retried),
            ("failed", "failed", "failed", all.failed, notices.failed),
        ] {
            self.published.with_label_values(&[published]).inc_by(rows);
            self.durable.with_label_values(&[durable]).inc_by(rows);
            self.dead.with_label_values(&[dead]).inc_by(notices);
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
