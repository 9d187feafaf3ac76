//! Metrics of Vault.

use prometheus::{IntCounterVec, IntGauge, Opts, Registry};

/// What is counted of Vault. Clones share the counts.
#[derive(Debug, Clone)]
pub struct VaultMetrics {
    requests: IntCounterVec,
    exchanges: IntCounterVec,
    failures: IntGauge,
    token_seconds: IntGauge,
}

impl VaultMetrics {
    /// Registers them.
    ///
    /// # Errors
    /// A name is taken.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let requests = Opts::new("vault_requests_total", "Calls to Vault, by operation and outcome");
        let exchanges =
            Opts::new("vault_exchanges_total", "Secrets that had changed in Vault, by what became of the new one");
        let metrics = Self {
            requests: IntCounterVec::new(requests, &["operation", "outcome"])?,
            exchanges: IntCounterVec::new(exchanges, &["outcome"])?,
            failures: IntGauge::new("vault_failures", "Attempts in a row in which not every secret could be read")?,
            token_seconds: IntGauge::new(
                "vault_token_seconds",
                "How long the own token was good when that was last told; -1: for ever or unknown",
            )?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.exchanges.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        registry.register(Box::new(metrics.token_seconds.clone()))?;
        Ok(metrics)
    }

    pub(super) fn asked(&self, operation: &str, outcome: &str) {
        self.requests.with_label_values(&[operation, outcome]).inc();
    }

    pub(super) fn exchanged(&self, outcome: &str) {
        self.exchanges.with_label_values(&[outcome]).inc();
    }

    pub(super) fn failures(&self, in_a_row: u32) {
        self.failures.set(in_a_row.into());
    }

    pub(super) fn token_seconds(&self, left: Option<u64>) {
        self.token_seconds.set(left.and_then(|left| i64::try_from(left).ok()).unwrap_or(-1));
    }
}
