//! Proves tokens.

mod proven;
mod secret_keys;

use std::{future::Future, sync::Arc, time::Duration};

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, Validation, decode, errors::ErrorKind, get_current_timestamp,
};
use serde::de::IgnoredAny;
use serde_json::Value;
use somaagent_supervision::Port;
use tokio::{sync::watch, time::Instant};

use self::{
    proven::{Fingerprint, Proof, Proven},
    secret_keys::SecretKeys,
};
use super::{
    keeper::{Fetched, KeeperDeps, Refresh},
    keys::KeySet,
    published_keys::PublishedKeys,
    settings::{AuthSettings, Issuer, SettingsError},
    token::{self, Parts},
};
use crate::domain::identity::Identity;

/// How much longer than one fetch somebody waits for keys: another fetch may have been under way.
const GRACE: Duration = Duration::from_secs(1);
/// Tokens that last longer are taken to end after this.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// Why a token proves nothing. No text of it holds a part of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It has no head that can be read.
    #[error("the token's head cannot be read")]
    Unreadable,
    /// It is not taken; the words are for the log.
    #[error("the token is refused: {0}")]
    Invalid(&'static str),
    /// Its signature is right, and it does not say who it speaks of.
    #[error("the token names no tenant or no subject")]
    Nobody,
    /// The issuer has published no key that could prove any token.
    #[error("the issuer has no key for signatures")]
    NoKey,
    /// The issuer's keys cannot be had, or are older than allowed. Safe to try again.
    #[error("the issuer's keys cannot be fetched")]
    KeysUnavailable,
}

/// What a token has proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Who it speaks of.
    pub identity: Identity,
    /// When it ends, the leeway included.
    pub ends: Instant,
}

/// Proves tokens of the issuers that the settings name. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Verifier {
    issuers: Arc<[Trusted]>,
    leeway: u64,
    proven: Arc<Proven>,
}

/// An issuer, and where its keys are.
#[derive(Debug)]
struct Trusted {
    issuer: Issuer,
    secret: Option<SecretKeys>,
    published: Option<Published>,
}

/// The keys by which something was proved.
#[derive(Debug, Clone)]
enum By {
    /// Those of the settings, which stay.
    Fixed,
    /// A secret as it was then.
    Secret(Arc<KeySet>),
    /// Those that were published then.
    Published(Arc<KeySet>),
}

/// Keys that an issuer publishes, as the keeper last saw them.
#[derive(Debug)]
struct Published {
    fetched: watch::Receiver<Option<Fetched<KeySet>>>,
    refresh: Port<Refresh>,
    usable_for: Duration,
    patience: Duration,
}

impl Verifier {
    /// Makes ready to prove tokens. `keep` starts a keeper of keys and gives the way to it.
    ///
    /// # Errors
    /// That of the settings, or of `keep`.
    pub async fn start<E, F>(
        settings: &AuthSettings,
        mut keep: impl FnMut(KeeperDeps<PublishedKeys>) -> F,
    ) -> Result<Self, E>
    where
        E: From<SettingsError>,
        F: Future<Output = Result<Port<Refresh>, E>>,
    {
        let mut trusted = Vec::new();
        // Checked with the configuration, so the first of several faults will do.
        for issuer in settings.read().map_err(|mut faults| faults.remove(0))? {
            let published = match &issuer.published {
                Some(url) => {
                    let source = PublishedKeys::at(url.clone(), settings)?;
                    let deps = KeeperDeps::new(source, Duration::from_secs(settings.jwks_cache_seconds));
                    let fetched = deps.fetched();
                    let usable_for =
                        Duration::from_secs(settings.jwks_cache_seconds.saturating_add(settings.jwks_stale_seconds));
                    let patience = Duration::from_secs_f64(settings.jwks_timeout_seconds) + GRACE;
                    Some(Published { fetched, refresh: keep(deps).await?, usable_for, patience })
                }
                None => None,
            };
            let secret = issuer.secret.clone().map(SecretKeys::new);
            trusted.push(Trusted { issuer, secret, published });
        }
        Ok(Self { issuers: trusted.into(), leeway: settings.jwt_leeway_seconds, proven: Arc::new(Proven::new()) })
    }

    /// Proves a token, once: as long as it lasts and its issuer's keys stay the same, it needs no further proof. Keys are
    /// waited for where none are there yet, or the token names one that is not known; no more often than the keeper of keys
    /// allows.
    ///
    /// # Errors
    /// What is wrong with the token or with the keys.
    pub async fn verify(&self, token: &str) -> Result<Verified, TokenError> {
        let fingerprint = Fingerprint::of(token);
        if let Some(verified) = self.remembered(&fingerprint) {
            return Ok(verified);
        }
        let proof = self.proof(token).await?;
        let verified = proof.verified.clone();
        self.proven.keep(fingerprint, proof);
        Ok(verified)
    }

    /// What a token proves that was proved before. Nothing is proved, and nobody waits.
    #[must_use]
    pub fn known(&self, token: &str) -> Option<Verified> {
        self.remembered(&Fingerprint::of(token))
    }

    fn remembered(&self, token: &Fingerprint) -> Option<Verified> {
        self.proven.get(token, |proof| self.is_current(proof))
    }

    /// Whether the keys with which something was proved still are the issuer's.
    fn is_current(&self, proof: &Proof) -> bool {
        let Some(trusted) = self.issuers.get(proof.issuer) else { return false };
        match &proof.by {
            By::Fixed => true,
            By::Secret(then) => trusted.secrets().any(|now| Arc::ptr_eq(&now, then)),
            By::Published(then) => {
                let now = trusted.published.as_ref().and_then(Published::usable);
                now.is_some_and(|now| Arc::ptr_eq(&now, then))
            }
        }
    }

    async fn proof(&self, token: &str) -> Result<Proof, TokenError> {
        let parts = token::read(token)?;
        let (issuer, trusted) = self.issuer_of(&parts)?;
        if !trusted.issuer.algorithms.contains(&parts.algorithm) {
            return Err(TokenError::Invalid("its algorithm is not allowed"));
        }
        let validation = trusted.validation(parts.algorithm, self.leeway);
        let published = trusted.published(&parts).await?;
        let secrets: Vec<By> = trusted.secrets_for(&parts)?.map(By::Secret).collect();
        let mut refused = TokenError::Invalid("its key is unknown");
        for by in std::iter::once(By::Fixed).chain(secrets).chain(published.map(By::Published)) {
            for key in parts.keys_of(by.keys(&trusted.issuer)) {
                match prove(token, key, &validation) {
                    Ok(()) => {
                        let (verified, until) = trusted.verified(&parts, self.leeway)?;
                        return Ok(Proof { verified, issuer, by: by.clone(), until });
                    }
                    Err(error) => refused = error,
                }
            }
        }
        Err(refused)
    }

    /// The issuer that the token names, or the one whose name is not checked. What it names is not proved yet; its signature
    /// by that issuer's key will prove it.
    fn issuer_of(&self, parts: &Parts) -> Result<(usize, &Trusted), TokenError> {
        let named = parts.claims.get("iss").and_then(Value::as_str);
        let mut issuers = self.issuers.iter().enumerate();
        let by_name = issuers
            .clone()
            .find(|(_, trusted)| trusted.issuer.name.is_some() && trusted.issuer.name.as_deref() == named);
        let any = || issuers.find(|(_, trusted)| trusted.issuer.name.is_none());
        by_name.or_else(any).ok_or(TokenError::Invalid("its issuer is not known"))
    }
}

/// Checks signature, times, audience and issuer.
fn prove(token: &str, key: &DecodingKey, validation: &Validation) -> Result<(), TokenError> {
    match decode::<IgnoredAny>(token, key, validation) {
        Ok(_) => Ok(()),
        Err(error) => Err(TokenError::Invalid(match error.kind() {
            ErrorKind::InvalidSignature => "its signature is wrong",
            ErrorKind::ExpiredSignature => "it has expired",
            ErrorKind::ImmatureSignature => "it is not valid yet",
            ErrorKind::InvalidAudience => "it is for somebody else",
            ErrorKind::InvalidIssuer => "its issuer is another one",
            ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => "a claim is missing or malformed",
            _ => "it cannot be checked",
        })),
    }
}

/// The last second since 1970 for which a token that was proved is.
fn until(parts: &Parts, leeway: u64) -> u64 {
    let whole = |end: &Value| end.as_u64().map(Duration::from_secs);
    let given =
        parts.claims.get("exp").and_then(|end| whole(end).or_else(|| Duration::try_from_secs_f64(end.as_f64()?).ok()));
    given.unwrap_or_default().as_secs().saturating_add(leeway)
}

impl By {
    fn keys<'a>(&'a self, issuer: &'a Issuer) -> &'a KeySet {
        match self {
            Self::Fixed => &issuer.fixed,
            Self::Secret(keys) | Self::Published(keys) => keys,
        }
    }
}

impl Trusted {
    /// The keys of the secret, and of the one before while that counts.
    fn secrets(&self) -> impl Iterator<Item = Arc<KeySet>> {
        self.secret.iter().flat_map(SecretKeys::usable)
    }

    /// Those of them that may have made the signature.
    ///
    /// # Errors
    /// There is a secret, and it was confirmed too long ago to prove anything.
    fn secrets_for(&self, parts: &Parts) -> Result<impl Iterator<Item = Arc<KeySet>>, TokenError> {
        let is_meant = self.secret.is_some() && parts.algorithm.family() == AlgorithmFamily::Hmac;
        let mut usable = is_meant.then(|| self.secrets()).into_iter().flatten().peekable();
        if is_meant && usable.peek().is_none() {
            return Err(TokenError::KeysUnavailable);
        }
        Ok(usable)
    }

    /// What is checked besides the signature: the end always, so that no token is valid for ever.
    fn validation(&self, algorithm: Algorithm, leeway: u64) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = leeway;
        validation.validate_nbf = true;
        let mut required = vec!["exp"];
        // A claim that the library cannot read would pass if it were not required.
        match &self.issuer.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        if let Some(name) = &self.issuer.name {
            validation.set_issuer(&[name]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation
    }

    /// The published keys, if there are any and they may be tried. They are asked for anew where none of them could have made
    /// the signature; a fixed key that could have is tried at once while they cannot be had.
    ///
    /// # Errors
    /// The keys cannot be had, or none of them is for signatures, and no fixed key could prove the token either.
    async fn published(&self, parts: &Parts) -> Result<Option<Arc<KeySet>>, TokenError> {
        let Some(published) = &self.published else { return Ok(None) };
        let has_fixed = self.issuer.has(parts.algorithm);
        let may_be_published =
            parts.algorithm.family() != AlgorithmFamily::Hmac && (parts.key_id.is_some() || !has_fixed);
        let mut keys = published.usable();
        if may_be_published && keys.as_deref().is_none_or(|keys| parts.keys_of(keys).next().is_none()) {
            published.refreshed().await;
            keys = published.usable();
        }
        match keys {
            None if !has_fixed => Err(TokenError::KeysUnavailable),
            Some(keys) if !has_fixed && keys.is_empty() => Err(TokenError::NoKey),
            keys => Ok(keys),
        }
    }

    /// What a token whose signature is right has proved, and until when.
    fn verified(&self, parts: &Parts, leeway: u64) -> Result<(Verified, u64), TokenError> {
        let claims = &parts.claims;
        let identity = Identity::from_claims(claims, self.issuer.tenant_claims.iter().map(String::as_str));
        let identity = identity.ok_or(TokenError::Nobody)?;
        let tenants = self.issuer.tenants.as_ref();
        let named = |tenants: &Vec<String>| tenants.iter().any(|tenant| tenant == identity.tenant.as_str());
        if tenants.is_some_and(|tenants| !named(tenants)) || named(&self.issuer.of_others) {
            return Err(TokenError::Invalid("its issuer may not speak for this tenant"));
        }
        let until = until(parts, leeway);
        let left = Duration::from_secs(until.saturating_sub(get_current_timestamp()));
        Ok((Verified { identity, ends: Instant::now() + left.min(LONGEST) }, until))
    }
}

impl Parts {
    /// Those of `keys` that may have made the signature.
    fn keys_of<'a>(&'a self, keys: &'a KeySet) -> impl Iterator<Item = &'a DecodingKey> {
        keys.candidates(self.algorithm, self.key_id.as_deref())
    }
}

impl Published {
    /// The keys, unless they are older than allowed.
    fn usable(&self) -> Option<Arc<KeySet>> {
        let fetched = self.fetched.borrow();
        fetched
            .as_ref()
            .filter(|fetched| fetched.at.elapsed() <= self.usable_for)
            .map(|fetched| Arc::clone(&fetched.document))
    }

    /// Waits until the keeper has looked whether there are newer keys, if it does. Whether it did shows in the keys.
    async fn refreshed(&self) {
        if let Err(error) = self.refresh.call(|reply| Refresh { reply }, self.patience).await {
            tracing::debug!(%error, "the keeper of keys did not answer");
        }
    }
}

#[cfg(test)]
mod tests;
