//! The section `openfga` of the configuration.

use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;

use crate::{
    base_url,
    breaker::BreakerRules,
    policy::{remote::Manners, settings::seconds},
};

/// Where tenants' members are known. With none of its keys set nobody is asked for them.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FgaSettings {
    /// Address of an OpenFGA (`OPENFGA_API_URL`).
    pub api_url: Option<String>,
    /// The store there, by its id (`OPENFGA_STORE_ID`).
    pub store_id: Option<String>,
    /// The model of that store, by its id; the newest if there is none (`OPENFGA_MODEL_ID`).
    pub model_id: Option<String>,
    /// Whether a start without an OpenFGA is refused (`OPENFGA_REQUIRED`).
    pub required: bool,
    /// Seconds that one question may take.
    pub timeout_seconds: f64,
    /// Seconds that an answer holds; 0: every request asks.
    pub cache_ttl_seconds: f64,
    /// Questions in a row without an answer after which it is left alone.
    pub breaker_failures: u32,
    /// How long it is left alone, in milliseconds; all is refused meanwhile.
    pub breaker_cooldown_ms: u64,
}

impl Default for FgaSettings {
    fn default() -> Self {
        Self {
            api_url: None,
            store_id: None,
            model_id: None,
            required: false,
            timeout_seconds: 3.0,
            cache_ttl_seconds: 2.0,
            breaker_failures: 5,
            breaker_cooldown_ms: 60_000,
        }
    }
}

/// What is wrong with a setting; never its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct SettingsFault {
    /// The setting, with its section.
    pub key: &'static str,
    /// What is wrong with it.
    pub what: &'static str,
}

impl FgaSettings {
    /// Where members are asked for, if anywhere. Half an address is a fault: whoever gave it expects to be asked.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn check_url(&self) -> Result<Option<Url>, Vec<SettingsFault>> {
        if self.api_url.is_none() && self.store_id.is_none() && !self.required {
            return Ok(None);
        }
        match (self.address(), self.store()) {
            (Ok(mut url), Ok(store)) => {
                url.set_path(&format!("{}/stores/{store}/check", url.path().trim_end_matches('/')));
                Ok(Some(url))
            }
            (address, store) => Err(store.err().into_iter().chain(address.err()).collect()),
        }
    }

    fn address(&self) -> Result<Url, SettingsFault> {
        let fault = |what| SettingsFault { key: "openfga.api_url", what };
        let missing = if self.store_id.is_some() {
            "is not set, but a store of an OpenFGA is"
        } else {
            "is not set, and openfga.required is"
        };
        base_url::read(self.api_url.as_deref().ok_or(fault(missing))?).map_err(fault)
    }

    fn store(&self) -> Result<&str, SettingsFault> {
        let fault = |what| SettingsFault { key: "openfga.store_id", what };
        let missing = if self.api_url.is_some() {
            "is not set, but the address of an OpenFGA is"
        } else {
            "is not set, and openfga.required is"
        };
        let store = self.store_id.as_deref().ok_or(fault(missing))?.trim();
        let is_id = !store.is_empty() && store.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if is_id { Ok(store) } else { Err(fault("is no id of a store")) }
    }

    /// How long an answer holds.
    pub(super) fn cache_ttl(&self) -> Duration {
        seconds(self.cache_ttl_seconds)
    }

    pub(super) fn manners(&self) -> Manners {
        let cooldown = Duration::from_millis(self.breaker_cooldown_ms);
        Manners {
            timeout: seconds(self.timeout_seconds),
            breaker: BreakerRules { failures: self.breaker_failures, cooldown },
        }
    }
}
