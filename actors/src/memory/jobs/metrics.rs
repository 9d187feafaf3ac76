//! What is counted of export jobs.

use prometheus::{Histogram, HistogramOpts, IntCounterVec, Opts, Registry, exponential_buckets};

/// Metrics of export jobs, by the original's names.
#[derive(Clone, Debug)]
pub struct ExportJobMetrics {
    jobs: IntCounterVec,
    seconds: Histogram,
}

impl ExportJobMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When the registry has metrics of these names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new("gateway_export_jobs_total", "Export jobs that ended or were not taken, by result.");
        let jobs = IntCounterVec::new(opts, &["result"])?;
        for result in ["ok", "error", "rejected"] {
            jobs.with_label_values(&[result]).reset();
        }
        let opts = HistogramOpts::new("gateway_export_job_seconds", "Seconds from a job's first page to its end.");
        let seconds = Histogram::with_opts(opts.buckets(exponential_buckets(0.05, 3.0, 10)?))?;
        registry.register(Box::new(jobs.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        Ok(Self { jobs, seconds })
    }

    pub(super) fn rejected(&self) {
        self.jobs.with_label_values(&["rejected"]).inc();
    }

    /// A job is over that took so many seconds.
    pub(super) fn over(&self, completed: bool, seconds: f64) {
        self.jobs.with_label_values(&[if completed { "ok" } else { "error" }]).inc();
        self.seconds.observe(seconds);
    }
}
