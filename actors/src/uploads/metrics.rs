//! What is counted of uploads.

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, exponential_buckets,
};

/// Metrics of uploads. The names are the original's, or those that its dashboards were promised.
#[derive(Clone, Debug)]
pub struct UploadMetrics {
    uploads: IntCounterVec,
    seconds: Histogram,
    quarantined: IntCounter,
    rescans: IntCounterVec,
    rescans_waiting: IntGauge,
    deleted: IntCounter,
    janitor_errors: IntCounter,
    janitor_last_run: Gauge,
}

impl UploadMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When the registry has metrics of these names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new(
            "gateway_uploads_total",
            "Files, by result: ok are kept, blocked are quarantined, error are not taken.",
        );
        let uploads = IntCounterVec::new(opts, &["result"])?;
        for result in ["ok", "blocked", "error"] {
            uploads.with_label_values(&[result]).reset();
        }
        let opts =
            Opts::new("attachment_rescans_total", "Attachments that were looked through again, by what was found.");
        let rescans = IntCounterVec::new(opts, &["result"])?;
        for result in ["clean", "infected", "limits_exceeded", "error"] {
            rescans.with_label_values(&[result]).reset();
        }
        let opts =
            HistogramOpts::new("gateway_upload_seconds", "Seconds that a request with files took that succeeded.");
        let metrics = Self {
            uploads,
            seconds: Histogram::with_opts(opts.buckets(exponential_buckets(0.005, 3.0, 10)?))?,
            quarantined: IntCounter::new("attachments_quarantined_total", "Attachments that nobody is to get.")?,
            rescans,
            rescans_waiting: IntGauge::new(
                "attachment_rescans_waiting",
                "Attachments that were to be looked through again when the last round began; 0 at its end.",
            )?,
            deleted: IntCounter::new(
                "attachments_deleted_total",
                "Attachments that were deleted because they were old.",
            )?,
            janitor_errors: IntCounter::new("uploads_janitor_errors_total", "Rounds of the janitor that failed.")?,
            janitor_last_run: Gauge::new(
                "uploads_janitor_last_run_timestamp",
                "When the janitor last came to the end of a round, in seconds since 1970.",
            )?,
        };
        registry.register(Box::new(metrics.uploads.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.quarantined.clone()))?;
        registry.register(Box::new(metrics.rescans.clone()))?;
        registry.register(Box::new(metrics.rescans_waiting.clone()))?;
        registry.register(Box::new(metrics.deleted.clone()))?;
        registry.register(Box::new(metrics.janitor_errors.clone()))?;
        registry.register(Box::new(metrics.janitor_last_run.clone()))?;
        Ok(metrics)
    }

    /// A file was kept.
    pub(super) fn kept(&self, is_quarantined: bool) {
        self.uploads.with_label_values(&[if is_quarantined { "blocked" } else { "ok" }]).inc();
        if is_quarantined {
            self.quarantined.inc();
        }
    }

    /// So many attachments were quarantined after they were kept.
    pub(super) fn quarantined(&self, count: usize) {
        self.quarantined.inc_by(count as u64);
    }

    /// An attachment was looked through again.
    pub(super) fn rescanned(&self, result: &'static str) {
        self.rescans.with_label_values(&[result]).inc();
    }

    /// So many attachments are to be looked through again.
    pub(super) fn rescans_waiting(&self, count: i64) {
        self.rescans_waiting.set(count);
    }

    /// A file was not taken.
    pub fn refused(&self) {
        self.uploads.with_label_values(&["error"]).inc();
    }

    /// A request with files succeeded.
    pub fn took(&self, seconds: f64) {
        self.seconds.observe(seconds);
    }

    /// So many attachments were deleted because they were old.
    pub(super) fn deleted(&self, count: u64) {
        self.deleted.inc_by(count);
    }

    #[cfg(test)]
    pub(super) fn count_quarantined(&self) -> u64 {
        self.quarantined.get()
    }

    #[cfg(test)]
    pub(super) fn count_deleted(&self) -> u64 {
        self.deleted.get()
    }

    /// A round of the janitor is over.
    pub(super) fn round(&self, succeeded: bool, at_seconds: f64) {
        if succeeded {
            self.janitor_last_run.set(at_seconds);
        } else {
            self.janitor_errors.inc();
        }
    }
}
