//! How to reach SomaBrain and how patient to be with it.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use super::connection::{Connection, MAX_RETRY_AFTER};
use crate::{base_url, breaker::BreakerRules, domain::memory::MemorySpace, retry::RetryPolicy, secret::Secret};

/// Settings of the SomaBrain client: the section `brain` of the configuration.
///
/// The names of the environment are those of the original gateway; the composing room maps them to these fields.
/// The tenant is no setting of this client: every ask carries its own, and its deadline.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct BrainSettings {
    /// Where the server is, for example `http://brain:9696` (`SOMA_BASE_URL`). It is used as written: no port and no
    /// host is rewritten. Empty means that none is configured, and that the embedded one takes its place.
    pub base_url: String,
    /// Secret sent with every call (`SOMA_API_KEY`): as a bearer token in `Authorization`, bare in any other header.
    pub api_key: Option<Secret>,
    /// File with the secret (`SOMA_API_KEY_FILE`), which decides over `api_key` and is read again while the program
    /// runs, so that a new secret needs no restart.
    pub api_key_file: Option<PathBuf>,
    /// Header that carries the secret (`SOMA_AUTH_HEADER`).
    pub auth_header: String,
    /// Header that carries the tenant (`SOMA_TENANT_HEADER`).
    pub tenant_header: String,
    /// Whether the server must prove who it is (`SOMA_VERIFY_SSL`). Without it anybody in between can read the secret.
    pub verify_ssl: bool,
    /// File with the authorities that may vouch for the server, in PEM; they replace the system's (`SOMA_TLS_CA`).
    pub tls_ca: Option<PathBuf>,
    /// File with this client's certificate in PEM, for servers that ask for one (`SOMA_TLS_CERT`).
    pub tls_cert: Option<PathBuf>,
    /// File with the key of that certificate in PEM (`SOMA_TLS_KEY`).
    pub tls_key: Option<PathBuf>,
    /// The universe: which knowledge base as a whole (`SOMA_NAMESPACE`, whose name misleads). None: the server's own.
    pub universe: Option<String>,
    /// The namespace: the sub-space of a memory within its universe (`SOMA_MEMORY_NAMESPACE`).
    pub memory_namespace: String,
    /// Upper bound of one attempt in seconds, whatever its ask allows (`SOMA_TIMEOUT_SECONDS`).
    pub timeout_seconds: f64,
    /// Extra attempts of any call (`SOMA_MAX_RETRIES`).
    pub max_retries: u32,
    /// Base of the waits between attempts in milliseconds (`SOMA_RETRY_BASE_MS`).
    pub retry_base_ms: u64,
    /// Extra attempts of a recall, if `max_retries` allows as many. Somebody waits for its answer, hence fewer.
    pub recall_max_retries: u32,
    /// Recalls under way at a time; what comes on top waits inside its deadline.
    pub max_in_flight: usize,
    /// Writes under way at a time, besides the recalls, so that a flood of writes holds up no recall.
    pub max_writes_in_flight: usize,
    /// Failures in a row that open the breaker.
    pub breaker_failures: u32,
    /// How long the open breaker refuses calls, in milliseconds.
    pub breaker_cooldown_ms: u64,
    /// Time between two health probes in milliseconds.
    pub health_interval_ms: u64,
    /// Upper bound of one health probe in milliseconds.
    pub health_timeout_ms: u64,
}

impl BrainSettings {
    /// Calls of all kinds that may be under way at a time: recalls, as many questions, writes.
    #[must_use]
    pub const fn max_calls(&self) -> usize {
        2 * self.max_in_flight + self.max_writes_in_flight
    }
}

impl Default for BrainSettings {
    fn default() -> Self {
        Self {
            base_url: String::new(),
            api_key: None,
            api_key_file: None,
            auth_header: "Authorization".into(),
            tenant_header: "X-Tenant-ID".into(),
            verify_ssl: true,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            universe: None,
            memory_namespace: "wm".into(),
            timeout_seconds: 30.0,
            max_retries: 2,
            retry_base_ms: 150,
            recall_max_retries: 1,
            max_in_flight: 32,
            max_writes_in_flight: 16,
            breaker_failures: 3,
            breaker_cooldown_ms: 15_000,
            health_interval_ms: 5_000,
            health_timeout_ms: 2_000,
        }
    }
}

impl BrainSettings {
    /// Upper bound of every wait between attempts that the server did not ask for.
    const MAX_WAIT_MS: u64 = 10_000;

    /// Where memories live: universe and namespace, which are never mixed.
    #[must_use]
    pub fn space(&self) -> MemorySpace {
        MemorySpace { universe: self.universe.clone(), namespace: self.memory_namespace.clone() }
    }

    /// Upper bound of one attempt; an unusable number is the default's 30 s.
    #[must_use]
    pub fn attempt_timeout(&self) -> Duration {
        Duration::try_from_secs_f64(self.timeout_seconds)
            .ok()
            .filter(|timeout| !timeout.is_zero())
            .unwrap_or(Duration::from_secs(30))
    }

    /// When and how often a recall is tried again.
    pub(super) fn recall_retry(&self) -> RetryPolicy {
        RetryPolicy { max_retries: self.recall_max_retries.min(self.max_retries), ..self.retry() }
    }

    /// When and how often any other call is tried again.
    pub(super) fn retry(&self) -> RetryPolicy {
        RetryPolicy {
            max_retries: self.max_retries,
            first_wait_ms: self.retry_base_ms,
            max_wait_ms: Self::MAX_WAIT_MS,
            max_retry_after_ms: u64::try_from(MAX_RETRY_AFTER.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Checks what can be checked without a connection, files included.
    ///
    /// # Errors
    /// The first fault, naming its key.
    pub fn validate(&self) -> Result<(), SettingsError> {
        Connection::new(self).map(drop)
    }

    /// The address that paths are put behind: without trailing slash, query and fragment.
    pub(super) fn base(&self) -> Result<String, SettingsError> {
        let url = base_url::read(&self.base_url).map_err(SettingsError::BaseUrl)?;
        Ok(url.as_str().trim_end_matches('/').to_owned())
    }

    pub(super) const fn breaker_rules(&self) -> BreakerRules {
        BreakerRules { failures: self.breaker_failures, cooldown: Duration::from_millis(self.breaker_cooldown_ms) }
    }
}

/// A client cannot be made from these settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The base URL is not usable; the text never holds the URL, which could carry a secret.
    #[error("brain.base_url {0}")]
    BaseUrl(&'static str),
    /// No header can have this name.
    #[error("brain.{0} is not the name of a header")]
    HeaderName(&'static str),
    /// The key has characters that no HTTP header can carry.
    #[error("brain.api_key has characters that a header cannot carry")]
    ApiKey,
    /// The file with the key cannot be read.
    #[error("brain.api_key_file names a file that cannot be read: {0}")]
    ApiKeyFile(#[source] std::io::Error),
    /// A setting of TLS is unusable.
    #[error("brain.{0} {1}")]
    Tls(&'static str, &'static str),
    /// A file of the TLS settings cannot be read.
    #[error("brain.{0} names a file that cannot be read: {1}")]
    TlsFile(&'static str, #[source] std::io::Error),
    /// The HTTP client could not be built (certificates of the system unreadable, for example).
    #[error("HTTP client of SomaBrain cannot be built")]
    Client(#[source] reqwest::Error),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    #[test]
    fn defaults_are_those_of_the_contract() {
        let settings: BrainSettings = serde_json::from_str("{}").unwrap();
        assert_eq!(settings.auth_header, "Authorization");
        assert_eq!(settings.tenant_header, "X-Tenant-ID");
        assert_eq!((settings.universe.as_deref(), settings.memory_namespace.as_str()), (None, "wm"));
        assert_eq!(settings.attempt_timeout(), Duration::from_secs(30));
        assert_eq!((settings.max_retries, settings.retry_base_ms), (2, 150));
        assert_eq!(settings.breaker_rules(), BreakerRules { failures: 3, cooldown: Duration::from_secs(15) });
    }

    #[test]
    fn a_secret_does_not_show_in_debug_output() {
        let settings: BrainSettings = serde_json::from_str(r#"{"api_key": "sk-canary"}"#).unwrap();
        assert!(!format!("{settings:?}").contains("canary"));
    }

    #[test]
    fn a_base_url_is_used_as_written_but_for_its_end() {
        let base = |base_url: &str| BrainSettings { base_url: base_url.into(), ..BrainSettings::default() }.base();
        assert_eq!(base(" http://localhost:9595/ ").unwrap(), "http://localhost:9595");
        assert_eq!(base("https://brain/api//?a=1#b").unwrap(), "https://brain/api");
        for unusable in ["", "brain:9696", "ftp://brain", "http://me:pass@brain", "http://"] {
            let error = base(unusable).unwrap_err().to_string();
            assert!(error.starts_with("brain.base_url ") && !error.contains("pass@"), "{unusable:?}: {error}");
        }
    }

    #[test]
    fn validation_names_the_key_that_is_unusable() {
        let usable = BrainSettings { base_url: "http://brain".into(), ..BrainSettings::default() };
        assert!(usable.validate().is_ok());
        let key = Some(Secret::from("sk-canary\n"));
        let cases = [
            (BrainSettings::default(), "brain.base_url"),
            (BrainSettings { tenant_header: "X Tenant".into(), ..usable.clone() }, "brain.tenant_header"),
            (BrainSettings { auth_header: String::new(), ..usable.clone() }, "brain.auth_header"),
            (BrainSettings { api_key: key, ..usable }, "brain.api_key"),
        ];
        for (settings, named) in cases {
            let error = settings.validate().unwrap_err().to_string();
            assert!(error.starts_with(named) && !error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn an_unusable_timeout_is_the_default() {
        for timeout_seconds in [f64::NAN, -1.0, 0.0, f64::INFINITY] {
            let settings = BrainSettings { timeout_seconds, ..BrainSettings::default() };
            assert_eq!(settings.attempt_timeout(), Duration::from_secs(30));
        }
    }
}
