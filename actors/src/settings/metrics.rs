//! What is shown of settings in numbers.

use prometheus::{IntGauge, Registry};

/// Metrics of settings.
#[derive(Clone, Debug)]
pub struct SettingsMetrics {
    pub(super) version: IntGauge,
    pub(super) readable: IntGauge,
}

impl SettingsMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When the registry has metrics of these names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let version = IntGauge::new(
            "settings_version_in_force",
            "The version of the saved settings by which the process works: 0 before anything was saved, -1 if none could be read.",
        )?;
        let readable =
            IntGauge::new("settings_readable", "1 if what was found saved at the last look can be read, else 0.")?;
        version.set(-1);
        for gauge in [&version, &readable] {
            registry.register(Box::new(gauge.clone()))?;
        }
        Ok(Self { version, readable })
    }
}
