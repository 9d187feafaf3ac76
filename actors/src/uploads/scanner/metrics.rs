//! Metrics of the scanners.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntGauge, Registry, exponential_buckets};

use super::{ScanError, Verdict};

/// How scans end, as the metrics tell it.
const RESULTS: [&str; 5] = ["clean", "infected", "limits_exceeded", "error", "abandoned"];

/// What is counted of the scanners. Clones share the counts.
#[derive(Debug, Clone)]
pub struct ScannerMetrics {
    seconds: HistogramVec,
    busy: IntGauge,
    waiting: IntGauge,
    open: IntGauge,
}

impl ScannerMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// A name is taken.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let seconds = HistogramOpts::new(
            "clamav_scan_duration_seconds",
            "Time from clamd's readiness to its verdict, the upload's own time included, by result (clean, infected, limits_exceeded, error, abandoned)",
        );
        let metrics = Self {
            seconds: HistogramVec::new(seconds.buckets(exponential_buckets(0.001, 2.5, 14)?), &["result"])?,
            busy: IntGauge::new("upload_scanners_busy", "Scanners that have a scan")?,
            waiting: IntGauge::new("upload_scanners_waiting", "Uploads that wait for a scanner")?,
            open: IntGauge::new(
                "upload_scanner_breaker_open",
                "1 while clamd is left alone because it did not answer",
            )?,
        };
        // Of a count that begins above 0 no increase is seen.
        for result in RESULTS {
            metrics.seconds.with_label_values(&[result]);
        }
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.busy.clone()))?;
        registry.register(Box::new(metrics.waiting.clone()))?;
        registry.register(Box::new(metrics.open.clone()))?;
        Ok(metrics)
    }

    /// Nobody waits for the outcome `None` any more.
    pub(super) fn scanned(&self, outcome: Option<Result<&Verdict, &ScanError>>, took: Duration) {
        let result = match outcome {
            Some(Ok(Verdict::Clean)) => "clean",
            Some(Ok(Verdict::Infected { .. })) => "infected",
            Some(Ok(Verdict::LimitsExceeded { .. })) => "limits_exceeded",
            Some(Err(_)) => "error",
            None => "abandoned",
        };
        self.seconds.with_label_values(&[result]).observe(took.as_secs_f64());
    }

    pub(super) fn busy(&self, more: i64) {
        self.busy.add(more);
    }

    /// Counts somebody who waits, until what is returned is dropped.
    pub(super) fn waiting(&self) -> Waiting {
        self.waiting.inc();
        Waiting(self.waiting.clone())
    }

    pub(super) fn breaker(&self, is_open: bool) {
        self.open.set(is_open.into());
    }
}

/// Somebody who waits for a scanner.
pub(super) struct Waiting(IntGauge);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.dec();
    }
}
