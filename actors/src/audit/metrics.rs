//! What the audit trail counts.

use prometheus::{Gauge, IntCounter, IntGauge, Registry};

/// Metrics of the audit trail.
#[derive(Clone, Debug)]
pub struct AuditMetrics {
    lag: Gauge,
    stuck: IntGauge,
    set_back: IntCounter,
    sealed: IntCounter,
    checkpoints: IntCounter,
}

impl AuditMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When the registry has metrics of these names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            lag: Gauge::new(
                "audit_seal_lag_seconds",
                "Age of the oldest row of the audit trail that is not sealed; 0 when none is left.",
            )?,
            stuck: IntGauge::new(
                "audit_sealer_stuck",
                "1 while nothing can be sealed because what tells how far the sealing is, or where, is missing or wrong, else 0.",
            )?,
            set_back: IntCounter::new(
                "audit_sealer_set_back_total",
                "Times that the sealing was said to be less far than it had been here.",
            )?,
            sealed: IntCounter::new("audit_rows_sealed_total", "Rows of the audit trail that were sealed here.")?,
            checkpoints: IntCounter::new("audit_checkpoints_total", "Ends of chains that were signed here.")?,
        };
        registry.register(Box::new(metrics.lag.clone()))?;
        registry.register(Box::new(metrics.stuck.clone()))?;
        registry.register(Box::new(metrics.set_back.clone()))?;
        registry.register(Box::new(metrics.sealed.clone()))?;
        registry.register(Box::new(metrics.checkpoints.clone()))?;
        Ok(metrics)
    }

    pub(super) fn lag(&self, seconds: f64) {
        self.lag.set(seconds.max(0.0));
    }

    pub(super) fn stuck(&self, is_stuck: bool) {
        self.stuck.set(i64::from(is_stuck));
    }

    pub(super) fn set_back(&self) {
        self.set_back.inc();
    }

    pub(super) fn sealed(&self, rows: usize) {
        self.sealed.inc_by(u64::try_from(rows).unwrap_or(u64::MAX));
    }

    pub(super) fn told(&self, checkpoints: usize) {
        self.checkpoints.inc_by(u64::try_from(checkpoints).unwrap_or(u64::MAX));
    }
}
