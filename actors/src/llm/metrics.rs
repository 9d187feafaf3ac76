//! Metrics `llm_*`.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry, exponential_buckets};
use tokio::time::Instant;

use super::{ModelError, Piece, Usage};

/// The counters of every model client of the process; clones share them.
#[derive(Debug, Clone)]
pub struct LlmMetrics {
    tokens: IntCounterVec,
    answer_seconds: Histogram,
    first_piece_seconds: Histogram,
    failures: IntCounterVec,
    retries: IntCounter,
}

impl LlmMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// They are registered there already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let seconds = |name: &str, help: &str| {
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(exponential_buckets(0.005, 2.0, 18)?))
        };
        let counters = |name: &str, help: &str, label: &str| IntCounterVec::new(Opts::new(name, help), &[label]);
        let metrics = Self {
            tokens: counters(
                "llm_tokens_total",
                "Tokens of all answers, by direction (input, output); estimated where the endpoint does not count.",
                "direction",
            )?,
            answer_seconds: seconds("llm_answer_seconds", "Time from the request to the end of a whole answer.")?,
            first_piece_seconds: seconds(
                "llm_first_piece_seconds",
                "Time from the request to the first text or thought of an answer, retries included.",
            )?,
            failures: counters("llm_failures_total", "Answers that failed, by error code.", "code")?,
            retries: IntCounter::new("llm_retries_total", "Requests made again before an answer began.")?,
        };
        // Of a count that begins above 0 no increase is seen.
        for direction in ["input", "output"] {
            metrics.tokens.with_label_values(&[direction]);
        }
        for code in ModelError::CODES {
            metrics.failures.with_label_values(&[code]);
        }
        registry.register(Box::new(metrics.tokens.clone()))?;
        registry.register(Box::new(metrics.answer_seconds.clone()))?;
        registry.register(Box::new(metrics.first_piece_seconds.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.retries.clone()))?;
        Ok(metrics)
    }
}

/// Watches one answer. Tokens are added when it is dropped, so that a stopped answer counts too.
#[derive(Debug)]
pub(super) struct Meter {
    metrics: Option<LlmMetrics>,
    started: Instant,
    begun: bool,
    usage: Usage,
}

impl Meter {
    pub(super) fn start(metrics: Option<LlmMetrics>) -> Self {
        Self { metrics, started: Instant::now(), begun: false, usage: Usage::default() }
    }

    pub(super) fn retried(&self) {
        self.with(|metrics| metrics.retries.inc());
    }

    pub(super) fn failed(&self, error: &ModelError) {
        self.with(|metrics| metrics.failures.with_label_values(&[error.code()]).inc());
    }

    pub(super) fn note(&mut self, piece: &Piece) {
        let elapsed = self.started.elapsed();
        match piece {
            Piece::Text(_) | Piece::Thinking(_) if !std::mem::replace(&mut self.begun, true) => {
                self.with(|metrics| metrics.first_piece_seconds.observe(elapsed.as_secs_f64()));
            }
            Piece::Text(_) | Piece::Thinking(_) => {}
            Piece::Usage(usage) => self.usage = *usage,
            Piece::Finished(_) => {
                self.with(|metrics| metrics.answer_seconds.observe(elapsed.as_secs_f64()));
            }
        }
    }

    fn with(&self, count: impl FnOnce(&LlmMetrics)) {
        if let Some(metrics) = &self.metrics {
            count(metrics);
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let Usage { input_tokens, output_tokens, .. } = self.usage;
        self.with(|metrics| {
            metrics.tokens.with_label_values(&["input"]).inc_by(input_tokens);
            metrics.tokens.with_label_values(&["output"]).inc_by(output_tokens);
        });
    }
}
