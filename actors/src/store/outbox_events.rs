//! The count of what happens to rows of table `message_outbox`: all who put rows there have part in it, and who sends them.

use std::ops::AddAssign;

use prometheus::{IntCounterVec, Opts, Registry};

/// What became of records that were to be put into the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Enqueued {
    /// They are there now.
    pub inserted: u64,
    /// The same record waited there already.
    pub deduped: u64,
}

impl Enqueued {
    /// Of `records`, `inserted` are there now.
    pub(super) fn of(records: usize, inserted: u64) -> Self {
        let records = u64::try_from(records).unwrap_or(u64::MAX);
        Self { inserted, deduped: records.saturating_sub(inserted) }
    }
}

impl AddAssign for Enqueued {
    fn add_assign(&mut self, other: Self) {
        self.inserted += other.inserted;
        self.deduped += other.deduped;
    }
}

/// The metric `outbox_events_total`, by the original's name and labels. By default nobody sees what it counts.
#[derive(Clone, Debug, Default)]
pub struct OutboxEvents {
    counter: Option<IntCounterVec>,
}

impl OutboxEvents {
    /// Makes the metric and registers it.
    ///
    /// # Errors
    /// When the registry has a metric of this name.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new("outbox_events_total", "What happened to rows of the outbox, by action and result.");
        let counter = IntCounterVec::new(opts, &["action", "result"])?;
        for (action, result) in [
            ("enqueue", "inserted"),
            ("enqueue", "deduped"),
            ("enqueue", "error"),
            ("claim", "claimed"),
            ("claim", "empty"),
            ("ack", "sent"),
            ("nack", "retry"),
            ("nack", "failed"),
        ] {
            counter.with_label_values(&[action, result]).reset();
        }
        registry.register(Box::new(counter.clone()))?;
        Ok(Self { counter: Some(counter) })
    }

    fn count(&self, action: &str, result: &str, times: u64) {
        if let Some(counter) = &self.counter {
            counter.with_label_values(&[action, result]).inc_by(times);
        }
    }

    /// Records were put into the outbox.
    pub fn enqueued(&self, put: Enqueued) {
        self.count("enqueue", "inserted", put.inserted);
        self.count("enqueue", "deduped", put.deduped);
    }

    /// Work that may have had records to put there failed, or nobody knows what became of it.
    pub fn not_enqueued(&self) {
        self.count("enqueue", "error", 1);
    }

    /// A claim took `rows` rows.
    pub fn claimed(&self, rows: usize) {
        self.count("claim", if rows == 0 { "empty" } else { "claimed" }, 1);
    }

    /// Rows of a claim were settled.
    pub fn settled(&self, sent: u64, retried: u64, failed: u64) {
        self.count("ack", "sent", sent);
        self.count("nack", "retry", retried);
        self.count("nack", "failed", failed);
    }
}
