//! Metrics `extraction_*`.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, exponential_buckets};

use super::ExtractError;

/// The counters of every extractor of the process; clones share them.
#[derive(Debug, Clone)]
pub struct ExtractionMetrics {
    seconds: HistogramVec,
    failures: IntCounterVec,
}

impl ExtractionMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// They are registered there already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let seconds = HistogramOpts::new(
            "extraction_seconds",
            "Time to read one file, without the wait for a place, by what was wanted (text, thumbnail, picture for a model).",
        );
        let metrics = Self {
            seconds: HistogramVec::new(seconds.buckets(exponential_buckets(0.02, 2.0, 12)?), &["wanted"])?,
            failures: IntCounterVec::new(
                Opts::new("extraction_failures_total", "Files that gave no text or thumbnail, by error code."),
                &["code"],
            )?,
        };
        // Of a count that begins above 0 no increase is seen.
        for code in ExtractError::CODES {
            metrics.failures.with_label_values(&[code]);
        }
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        Ok(metrics)
    }

    pub(super) fn took(&self, wanted: &str, seconds: f64) {
        self.seconds.with_label_values(&[wanted]).observe(seconds);
    }

    pub(super) fn failed(&self, error: &ExtractError) {
        self.failures.with_label_values(&[error.code()]).inc();
    }
}
