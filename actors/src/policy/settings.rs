//! The section `policy` of the configuration.

use std::{path::PathBuf, time::Duration};

use reqwest::Url;
use serde::Deserialize;

use super::{files::PolicyFiles, rego::PolicyError, remote::Manners};
use crate::{base_url, breaker::BreakerRules};

/// Where the policy is, and what it is told about this installation.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicySettings {
    /// Folder with the policy's files; the shipped policy if there is none. Check them with `opa check --strict`. Definitions of one
    /// rule that contradict each other leave it undefined here, where OPA fails: name no such rule after a `not`. Of letters
    /// beyond ASCII the two may not agree which case they have.
    pub dir: Option<PathBuf>,
    /// Folder with a candidate: a policy that is asked too and changes nothing (`SA01_POLICY_SHADOW_DIR`).
    pub shadow_dir: Option<PathBuf>,
    /// Whether everybody of a tenant may see and change all of its sessions.
    pub tenant_sessions: bool,
    /// Address of an OPA, which then decides in place of the files (`OPA_URL`).
    pub opa_url: Option<String>,
    /// Path of the document that is asked for there; its answer is the rule `decision` (`OPA_DECISION_PATH`).
    pub opa_decision_path: String,
    /// Seconds that one question to it may take (`OPA_TIMEOUT_SECONDS`).
    pub opa_timeout_seconds: f64,
    /// Seconds that a decision of it holds; 0: every request asks (`POLICY_CACHE_TTL`).
    pub cache_ttl_seconds: f64,
    /// Questions in a row without an answer after which it is left alone.
    pub breaker_failures: u32,
    /// How long it is left alone, in milliseconds; all is refused meanwhile.
    pub breaker_cooldown_ms: u64,
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self {
            dir: None,
            shadow_dir: None,
            tenant_sessions: false,
            opa_url: None,
            opa_decision_path: "/v1/data/soma/policy/decision".to_owned(),
            opa_timeout_seconds: 3.0,
            cache_ttl_seconds: 2.0,
            breaker_failures: 5,
            breaker_cooldown_ms: 60_000,
        }
    }
}

impl PolicySettings {
    /// The text of the policy.
    ///
    /// # Errors
    /// The folder, or a file in it, cannot be read, or it has no policy.
    pub fn files(&self) -> Result<PolicyFiles, PolicyError> {
        self.dir.as_deref().map_or_else(|| Ok(PolicyFiles::shipped()), PolicyFiles::read)
    }

    /// Where an OPA is asked, if one decides.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(super) fn decision_url(&self) -> Result<Option<Url>, Vec<PolicyError>> {
        let Some(given) = &self.opa_url else { return Ok(None) };
        let mut faults = Vec::new();
        let path = self.opa_decision_path.trim();
        if !path.starts_with("/v1/data/") || path.contains(['?', '#']) {
            let what = "is no path of a document, such as /v1/data/soma/policy/decision";
            faults.push(PolicyError::Address { key: "policy.opa_decision_path", what });
        }
        match base_url::read(given) {
            Ok(mut url) if faults.is_empty() => {
                url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
                return Ok(Some(url));
            }
            Ok(_) => {}
            Err(what) => faults.push(PolicyError::Address { key: "policy.opa_url", what }),
        }
        Err(faults)
    }

    /// How long a decision of an OPA holds.
    pub(super) fn cache_ttl(&self) -> Duration {
        seconds(self.cache_ttl_seconds)
    }

    pub(super) fn manners(&self) -> Manners {
        Manners {
            timeout: seconds(self.opa_timeout_seconds),
            breaker: BreakerRules {
                failures: self.breaker_failures,
                cooldown: Duration::from_millis(self.breaker_cooldown_ms),
            },
        }
    }
}

/// A time that was checked; what is none is no time.
pub(super) fn seconds(given: f64) -> Duration {
    Duration::try_from_secs_f64(given).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    #[test]
    fn the_document_lies_behind_the_address() {
        let with = |url: &str, path: &str| PolicySettings {
            opa_url: Some(url.to_owned()),
            opa_decision_path: path.to_owned(),
            ..PolicySettings::default()
        };
        for (url, path, whole) in [
            ("http://opa:8181", "/v1/data/soma/policy/decision", "http://opa:8181/v1/data/soma/policy/decision"),
            ("https://opa.example/base/?q#f", "/v1/data/x", "https://opa.example/base/v1/data/x"),
        ] {
            assert_eq!(with(url, path).decision_url().unwrap().unwrap().as_str(), whole);
        }
        for (url, path, key) in [
            ("opa:8181", "/v1/data/x", "policy.opa_url"),
            ("", "/v1/data/x", "policy.opa_url"),
            ("http://u:canary@opa", "/v1/data/x", "policy.opa_url"),
            ("http://opa", "v1/data/x", "policy.opa_decision_path"),
            ("http://opa", "/v1/data/x?pretty", "policy.opa_decision_path"),
            ("http://opa", "/", "policy.opa_decision_path"),
        ] {
            let errors = with(url, path).decision_url().unwrap_err();
            let told: Vec<_> = errors.iter().map(PolicyError::key).collect();
            assert!(told == [key] && !format!("{errors:?}").contains("canary"), "{url} {path}: {errors:?}");
        }
        let both = with("opa:8181", "allow").decision_url().unwrap_err();
        assert_eq!(
            both.iter().map(PolicyError::key).collect::<Vec<_>>(),
            ["policy.opa_decision_path", "policy.opa_url"]
        );
        assert!(PolicySettings::default().decision_url().unwrap().is_none());
    }
}
