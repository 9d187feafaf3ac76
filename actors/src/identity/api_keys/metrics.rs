//! What is counted of API keys.

use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// Metrics of API keys.
#[derive(Clone, Debug)]
pub struct ApiKeyMetrics {
    pub(super) known: IntCounter,
    pub(super) confirmed: IntCounter,
    pub(super) proved: IntCounter,
    pub(super) refused: IntCounter,
    pub(super) busy: IntCounter,
    pub(super) unavailable: IntCounter,
}

impl ApiKeyMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When the registry has metrics of these names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new(
            "identity_api_keys_total",
            "API keys that were shown: known from before, confirmed by the database, proved by their hash, refused; or not looked at, being too busy or without a database.",
        );
        let shown = IntCounterVec::new(opts, &["result"])?;
        registry.register(Box::new(shown.clone()))?;
        let counter = |result: &str| shown.with_label_values(&[result]);
        Ok(Self {
            known: counter("known"),
            confirmed: counter("confirmed"),
            proved: counter("proved"),
            refused: counter("refused"),
            busy: counter("busy"),
            unavailable: counter("unavailable"),
        })
    }
}
