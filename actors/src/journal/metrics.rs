//! What the Journal counts.

use prometheus::{Histogram, HistogramOpts, Registry};

/// Metrics of the Journal.
#[derive(Clone, Debug)]
pub struct JournalMetrics {
    /// Steps in a statement.
    pub batch_size: Histogram,
    /// Seconds a statement took.
    pub commit_seconds: Histogram,
}

impl JournalMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When the registry has metrics of these names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let sizes = vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];
        let times = vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
        let batch_size = Histogram::with_opts(
            HistogramOpts::new("journal_batch_size", "Steps committed in one statement.").buckets(sizes),
        )?;
        let commit_seconds = Histogram::with_opts(
            HistogramOpts::new("journal_commit_seconds", "Seconds from sending a statement to its answer.")
                .buckets(times),
        )?;
        registry.register(Box::new(batch_size.clone()))?;
        registry.register(Box::new(commit_seconds.clone()))?;
        Ok(Self { batch_size, commit_seconds })
    }
}
