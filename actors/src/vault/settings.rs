//! The section `vault` of the configuration.

use std::{path::PathBuf, time::Duration};

use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::base_url;

/// Where Vault is and how this process shows who it is. It is asked only if some secret is kept there.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VaultSettings {
    /// Address of the server (`VAULT_ADDR`).
    pub addr: Option<String>,
    /// The own token (`VAULT_TOKEN`).
    pub token: Option<SecretString>,
    /// File with the own token (`VAULT_TOKEN_FILE`), which decides over `token` and is read again before every call, so that a
    /// program may exchange it.
    pub token_file: Option<PathBuf>,
    /// The namespace, where the server has several (`VAULT_NAMESPACE`).
    pub namespace: Option<String>,
    /// Whether the server need not prove who it is (`VAULT_SKIP_VERIFY`). Anybody in between can then read every secret.
    pub skip_verify: bool,
    /// File with the authorities that may vouch for the server, in PEM; they replace the system's (`VAULT_CA_CERT`).
    pub ca_cert: Option<PathBuf>,
    /// Where the secret of tokens signed by HMAC is (`GATEWAY_JWT_VAULT_PATH`): the same as `GATEWAY_JWT_SECRET_VAULT` in three
    /// parts.
    pub jwt_path: Option<String>,
    /// Its field there (`GATEWAY_JWT_VAULT_SECRET_KEY`).
    pub jwt_secret_key: Option<String>,
    /// The mount (`GATEWAY_JWT_VAULT_MOUNT`).
    pub jwt_mount: String,
    /// Seconds that one call may take.
    pub timeout_seconds: f64,
    /// Seconds that a start waits for a Vault that does not answer.
    pub start_seconds: u64,
    /// Seconds between two looks whether a secret has changed.
    pub refresh_seconds: u64,
    /// Seconds that a secret proves something which Vault has not confirmed.
    pub stale_seconds: u64,
    /// Seconds that the secret of tokens, or the internal token, counts on when another has taken its place; 0: not at all.
    pub grace_seconds: u64,
}

impl Default for VaultSettings {
    fn default() -> Self {
        Self {
            addr: None,
            token: None,
            token_file: None,
            namespace: None,
            skip_verify: false,
            ca_cert: None,
            jwt_path: None,
            jwt_secret_key: None,
            jwt_mount: "secret".to_owned(),
            timeout_seconds: 5.0,
            start_seconds: 30,
            refresh_seconds: 30,
            stale_seconds: 86_400,
            grace_seconds: 300,
        }
    }
}

impl VaultSettings {
    /// All that is wrong: the name of a setting, and words that never hold its value.
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if let Err(what) = self.address() {
            faults.push(("addr", what.to_owned()));
        }
        if self.token.is_none() && self.token_file.is_none() {
            faults.push(("token", "is not set, but a secret is to be read from Vault".to_owned()));
        }
        if self.token.as_ref().is_some_and(|token| !is_header(token.expose_secret())) {
            faults.push(("token", "is no token".to_owned()));
        }
        if self.namespace.as_deref().is_some_and(|namespace| !is_header(namespace)) {
            faults.push(("namespace", "is no name of a namespace".to_owned()));
        }
        if let Some(Err(error)) = self.ca_cert.as_ref().map(std::fs::read) {
            faults.push(("ca_cert", format!("cannot be read: {error}")));
        }
        faults
    }

    /// The server's address. Secrets travel by TLS, or stay on this machine.
    pub(super) fn address(&self) -> Result<Url, &'static str> {
        let given = self.addr.as_deref().ok_or("is not set, but a secret is to be read from Vault")?;
        match base_url::read(given)? {
            url if url.scheme() == "https" || base_url::is_loopback(&url) => Ok(url),
            _ => Err("must start with https://, except on this machine"),
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::try_from_secs_f64(self.timeout_seconds).unwrap_or_default()
    }

    /// How long a start waits for a Vault that does not answer.
    #[must_use]
    pub const fn patience(&self) -> Duration {
        Duration::from_secs(self.start_seconds)
    }

    pub(super) const fn refresh(&self) -> Duration {
        Duration::from_secs(self.refresh_seconds)
    }

    pub(super) const fn stale(&self) -> Duration {
        Duration::from_secs(self.stale_seconds)
    }

    pub(super) const fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_seconds)
    }
}

/// Whether a header can carry it.
pub(super) fn is_header(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(settings: &VaultSettings) -> Vec<&'static str> {
        settings.faults().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn every_fault_is_told_at_once_and_none_repeats_a_secret() {
        assert_eq!(faults(&VaultSettings::default()), ["addr", "token"]);
        let settings = VaultSettings {
            addr: Some("http://vault.example:8200".to_owned()),
            token: Some("hvs.can\nary".into()),
            namespace: Some(String::new()),
            ca_cert: Some("/nowhere".into()),
            ..VaultSettings::default()
        };
        assert_eq!(faults(&settings), ["addr", "token", "namespace", "ca_cert"]);
        assert!(!format!("{:?} {settings:?}", settings.faults()).contains("hvs."));
        for addr in ["https://vault.example", "http://127.0.0.1:8200", "http://localhost:8200/"] {
            let settings = VaultSettings {
                addr: Some(addr.to_owned()),
                token_file: Some("/run/token".into()),
                ..VaultSettings::default()
            };
            assert_eq!(faults(&settings), [""; 0], "{addr}");
        }
    }
}
