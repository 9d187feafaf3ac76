//! Reads secrets of Vault, and keeps the own token alive.

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use reqwest::{Certificate, redirect::Policy};
use rustify::Endpoint;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::time::{Instant, timeout};
use vaultrs::api::{
    EndpointMiddleware, EndpointResult,
    kv2::requests::ReadSecretRequest,
    token::requests::{LookupTokenSelfRequest, RenewTokenSelfRequest},
};

use super::{
    lease::Lease,
    metrics::VaultMetrics,
    settings::{VaultSettings, is_header},
};
use crate::{
    base_url::{is_loopback, root_cause},
    bounded::{self, Unread},
};

/// Beyond the time of one call: what the client of the network does before and after it.
const GRACE: Duration = Duration::from_secs(1);
/// Longest answer that is read, in bytes. Vault's own storage takes a secret of one megabyte at most.
const MAX_BYTES: usize = 4 << 20;

/// Why something was not had of Vault. No text of it holds a token, a secret, or anything that Vault said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The client cannot be made.
    #[error("no client can be made for it: {0}")]
    Client(String),
    /// There is no token to show.
    #[error("the file with its token cannot be used: {0}")]
    Token(String),
    /// Nothing came, or not in time.
    #[error("Vault was not reached or fell silent: {0}")]
    Unreachable(String),
    /// It cannot answer now: it is sealed, a standby, or has too much to do.
    #[error("Vault cannot answer now: it is sealed, a standby, or overloaded (status {0})")]
    Unavailable(u16),
    /// It sends elsewhere, as a standby does that hands nothing on. A token is shown to the address of the settings alone.
    #[error(
        "Vault redirects to another address (status {0}), and its token is shown to that of VAULT_ADDR alone: name the active node there, or a load balancer"
    )]
    Redirected(u16),
    /// It does not let the token do this.
    #[error("Vault refuses the token, or what it asks for (status {0})")]
    Refused(u16),
    /// There is no such secret, or its version was deleted.
    #[error("Vault has nothing there")]
    Absent,
    /// What came is no answer of Vault's.
    #[error("what answers is no Vault, or says something that cannot be read")]
    Odd,
    /// So is what goes on and on.
    #[error("what answers is no Vault: it says more than {MAX_BYTES} bytes")]
    TooLong,
}

impl VaultError {
    /// Whether it may work later without anybody changing a setting.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        // Of several nodes another one may become the active one.
        matches!(self, Self::Unreachable(_) | Self::Unavailable(_) | Self::Redirected(_) | Self::Odd | Self::TooLong)
    }

    /// Its name in metrics.
    pub(super) const fn outcome(&self) -> &'static str {
        match self {
            Self::Client(_) | Self::Token(_) => "token",
            Self::Unreachable(_) => "unreachable",
            Self::Unavailable(_) => "unavailable",
            Self::Redirected(_) => "redirected",
            Self::Refused(_) => "refused",
            Self::Absent => "absent",
            Self::Odd | Self::TooLong => "odd",
        }
    }

    fn lost(error: &reqwest::Error) -> Self {
        Self::Unreachable(root_cause(error))
    }

    /// <https://developer.hashicorp.com/vault/api-docs#http-status-codes>, and those of its health.
    const fn of_status(code: u16) -> Self {
        match code {
            404 => Self::Absent,
            301 | 302 | 303 | 307 | 308 => Self::Redirected(code),
            412 | 429 | 472 | 473 | 500..=599 => Self::Unavailable(code),
            400..=499 => Self::Refused(code),
            _ => Self::Odd,
        }
    }
}

/// Asks one Vault. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    settings: Arc<VaultSettings>,
    base: String,
    http: reqwest::Client,
    metrics: Option<VaultMetrics>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Vault {
    /// A client for these settings, which were checked. It reads the file of authorities, so it is for the start; nothing is sent.
    ///
    /// # Errors
    /// [`VaultError::Client`].
    pub fn new(settings: VaultSettings) -> Result<Self, VaultError> {
        let base = settings.address().map_err(|what| VaultError::Client(what.to_owned()))?;
        // As with every client here: no redirect, which could carry the token elsewhere, and no proxy of the environment.
        let mut http = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .http1_only()
            .timeout(settings.timeout())
            .tls_danger_accept_invalid_certs(settings.skip_verify);
        if base.scheme() == "http" && is_loopback(&base) {
            http = http.tls_certs_only([]);
        } else if let Some(file) = &settings.ca_cert {
            http = http.tls_certs_only(authorities(file)?);
        }
        let http = http.build().map_err(|error| VaultError::Client(root_cause(&error)))?;
        Ok(Self { settings: Arc::new(settings), base: base.to_string(), http, metrics: None })
    }

    /// The same, counting into `metrics`.
    #[must_use]
    pub fn with_metrics(self, metrics: VaultMetrics) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// The settings it was made from.
    pub(super) fn settings(&self) -> &VaultSettings {
        &self.settings
    }

    /// The fields of a secret that are texts, in its newest version.
    ///
    /// # Errors
    /// [`VaultError`]. Safe to repeat.
    pub async fn read(&self, mount: &str, path: &str) -> Result<HashMap<String, SecretString>, VaultError> {
        let wanted = ReadSecretRequest { mount: mount.to_owned(), path: path.to_owned(), version: None };
        let fields = self.ask("read", wanted, |told| match told.data?.data {
            Value::Object(fields) => Some(fields),
            _ => None,
        });
        let fields = fields.await?;
        let texts = fields.into_iter().filter_map(|(name, value)| match value {
            Value::String(text) => Some((name, text.into())),
            _ => None,
        });
        Ok(texts.collect())
    }

    /// How long the own token is good.
    pub(super) async fn look_up(&self) -> Result<Lease, VaultError> {
        let told = self.ask("lookup", LookupTokenSelfRequest::default(), |told| told.data).await?;
        Ok(Lease::told(told.ttl, told.renewable.unwrap_or(false), Instant::now()))
    }

    /// Makes the own token good for longer.
    pub(super) async fn renew(&self) -> Result<Lease, VaultError> {
        let told = self.ask("renew", RenewTokenSelfRequest::default(), |told| told.auth).await?;
        Ok(Lease::told(told.lease_duration, told.renewable, Instant::now()))
    }

    /// Asks once, and takes out of the answer what was wanted.
    async fn ask<E: Endpoint, T>(
        &self,
        operation: &'static str,
        wanted: E,
        part: impl FnOnce(EndpointResult<E::Response>) -> Option<T>,
    ) -> Result<T, VaultError> {
        let token = self.token().await?;
        // The client has a time of its own; this one is for what it might forget.
        let answer = timeout(self.settings.timeout() + GRACE, self.exchange(wanted, &token)).await;
        let answer = answer.unwrap_or_else(|_| Err(VaultError::Unreachable("it took too long".to_owned())));
        let answer = answer.and_then(|answer| part(answer).ok_or(VaultError::Odd));
        if let Some(metrics) = &self.metrics {
            metrics.asked(operation, answer.as_ref().err().map_or("ok", VaultError::outcome));
        }
        answer
    }

    /// The library knows what to ask for and what an answer looks like. Its own client reads answers of any length.
    async fn exchange<E: Endpoint>(
        &self,
        wanted: E,
        token: &SecretString,
    ) -> Result<EndpointResult<E::Response>, VaultError> {
        let middle = EndpointMiddleware {
            token: token.expose_secret().to_owned(),
            version: "v1".to_owned(),
            wrap: None,
            namespace: self.settings.namespace.clone(),
        };
        let request = wanted.with_middleware(&middle).request(&self.base).map_err(|_| VaultError::Odd)?;
        let request = reqwest::Request::try_from(request).map_err(|_| VaultError::Odd)?;
        let reply = self.http.execute(request).await.map_err(|error| VaultError::lost(&error))?;
        if !reply.status().is_success() {
            return Err(VaultError::of_status(reply.status().as_u16()));
        }
        let body = bounded::body(reply, MAX_BYTES).await.map_err(|unread| match unread {
            Unread::TooLong(_) => VaultError::TooLong,
            Unread::Lost(error) => VaultError::lost(&error),
        })?;
        serde_json::from_slice(&body).map_err(|_| VaultError::Odd)
    }

    /// The token of the settings, or what its file holds now.
    pub(super) async fn token(&self) -> Result<SecretString, VaultError> {
        let Some(file) = self.settings.token_file.clone() else {
            return self.settings.token.clone().ok_or_else(|| VaultError::Token("there is none".to_owned()));
        };
        let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(file)).await;
        let text = read.map_err(|_| VaultError::Token("it was not read".to_owned()))?;
        let text = text.map_err(|error| VaultError::Token(error.kind().to_string()))?;
        // The library would end the process by a token that no header can carry.
        Some(text.trim())
            .filter(|token| is_header(token))
            .map(SecretString::from)
            .ok_or_else(|| VaultError::Token("it holds no token".to_owned()))
    }
}

fn authorities(file: &Path) -> Result<Vec<Certificate>, VaultError> {
    let pem = std::fs::read(file).map_err(|error| VaultError::Client(format!("vault.ca_cert: {error}")))?;
    let read = Certificate::from_pem_bundle(&pem).ok().filter(|certificates| !certificates.is_empty());
    read.ok_or_else(|| VaultError::Client("vault.ca_cert holds no certificate in PEM".to_owned()))
}

#[cfg(test)]
mod tests;
