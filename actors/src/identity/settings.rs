//! Whose tokens are taken.

use jsonwebtoken::{Algorithm, AlgorithmFamily};
use reqwest::Url;
use serde::Deserialize;

use super::keys::{KeyError, KeySet};
use crate::{base_url, secret::Secret};

/// The section `auth` of the configuration. With none of its keys set nobody can prove who they are.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthSettings {
    /// Secret of tokens signed by HMAC (`GATEWAY_JWT_SECRET`).
    pub jwt_secret: Option<Secret>,
    /// Public key in PEM of tokens signed by RSA, ECDSA or Ed25519 (`GATEWAY_JWT_PUBLIC_KEY`).
    pub jwt_public_key: Option<String>,
    /// Address of the keys that the issuer publishes (`GATEWAY_JWKS_URL`).
    pub jwks_url: Option<String>,
    /// Algorithms of signatures that are taken, with commas (`GATEWAY_JWT_ALGORITHMS`).
    pub jwt_algorithms: String,
    /// For whom a token must be made, if that is to be checked (`GATEWAY_JWT_AUDIENCE`).
    pub jwt_audience: Option<String>,
    /// Who must have made a token, if that is to be checked (`GATEWAY_JWT_ISSUER`).
    pub jwt_issuer: Option<String>,
    /// Seconds that clocks may differ (`GATEWAY_JWT_LEEWAY`).
    pub jwt_leeway_seconds: u64,
    /// Claims that may name the tenant, with commas (`GATEWAY_JWT_TENANT_CLAIMS`).
    pub jwt_tenant_claims: String,
    /// Seconds after which published keys are fetched again (`GATEWAY_JWKS_CACHE_SECONDS`).
    pub jwks_cache_seconds: u64,
    /// Seconds that one fetch may take (`GATEWAY_JWKS_TIMEOUT_SECONDS`).
    pub jwks_timeout_seconds: f64,
    /// Seconds beyond the cache's that keys are used while their issuer does not answer.
    pub jwks_stale_seconds: u64,
    /// Issuers besides the one that the keys above make.
    pub issuers: Vec<IssuerSettings>,
}

/// One more issuer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IssuerSettings {
    /// Its name, as tokens have it in `iss`.
    pub issuer: String,
    /// For whom its tokens must be made, if that is to be checked.
    pub audience: Option<String>,
    /// A public key in PEM.
    pub public_key: Option<String>,
    /// Address of the keys that it publishes.
    pub jwks_url: Option<String>,
    /// Algorithms of its signatures, with commas.
    pub algorithms: String,
    /// Claims that may name the tenant, with commas; those of the section if there are none.
    pub tenant_claims: Option<String>,
    /// Tenants that it may speak for, with commas; all, if there is no other issuer and it is not said. Whoever may speak
    /// for a tenant may speak for everybody in it, so no two may for one.
    pub tenants: Option<String>,
}

impl Default for AuthSettings {
    fn default() -> Self {
        Self {
            jwt_secret: None,
            jwt_public_key: None,
            jwks_url: None,
            jwt_algorithms: "HS256,RS256".to_owned(),
            jwt_audience: None,
            jwt_issuer: None,
            jwt_leeway_seconds: 10,
            jwt_tenant_claims: "tenant,org,customer".to_owned(),
            jwks_cache_seconds: 300,
            jwks_timeout_seconds: 3.0,
            jwks_stale_seconds: 3_600,
            issuers: Vec::new(),
        }
    }
}

/// What is wrong with a setting: its name, and words about it that never hold its value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting} {what}")]
pub struct SettingsError {
    /// The setting, inside its section.
    pub setting: String,
    /// What is wrong with it.
    pub what: String,
}

/// An issuer whose settings were read.
#[derive(Debug, Clone)]
pub(super) struct Issuer {
    pub name: Option<String>,
    pub audience: Option<String>,
    pub algorithms: Vec<Algorithm>,
    pub tenant_claims: Vec<String>,
    /// Tenants that it may speak for; nothing if for all but those of others.
    pub tenants: Option<Vec<String>>,
    /// Whether it is one of the list, and not that of the section's own keys.
    pub is_listed: bool,
    /// Tenants that others speak for.
    pub of_others: Vec<String>,
    /// The secret of its signatures, if it signs by one.
    pub secret: Option<Secret>,
    pub fixed: KeySet,
    pub published: Option<Url>,
}

impl Issuer {
    /// Whether one of its own keys may have made a signature of this algorithm.
    pub(super) fn has(&self, algorithm: Algorithm) -> bool {
        self.fixed.has(algorithm) || self.secret.is_some() && algorithm.family() == AlgorithmFamily::Hmac
    }
}

impl AuthSettings {
    /// Whether tokens may be signed by this text, should it take the place of the present secret.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_secret(text: &str) -> Result<(), KeyError> {
        KeySet::of_secret(text).map(drop)
    }

    /// Whether somebody can prove who they are.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.own_keys() || !self.issuers.is_empty()
    }

    const fn own_keys(&self) -> bool {
        self.jwt_secret.is_some() || self.jwt_public_key.is_some() || self.jwks_url.is_some()
    }

    /// All that is wrong, so that it can be told at once.
    #[must_use]
    pub fn faults(&self) -> Vec<SettingsError> {
        self.read().err().unwrap_or_default()
    }

    /// The issuers whose tokens are taken.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub(super) fn read(&self) -> Result<Vec<Issuer>, Vec<SettingsError>> {
        let mut faults = Faults::default();
        let mut issuers = Vec::new();
        if self.own_keys() {
            issuers.push(self.own(&mut faults));
        }
        for (index, given) in self.issuers.iter().enumerate() {
            issuers.push(self.other(index, given, &mut faults));
        }
        for (index, issuer) in issuers.iter().enumerate() {
            if issuers[..index].iter().any(|earlier| earlier.name == issuer.name) {
                faults.add("issuers", "two issuers have one name, so nobody knows whose keys are meant");
            }
        }
        share_out(&mut issuers, &mut faults);
        if faults.0.is_empty() { Ok(issuers) } else { Err(faults.0) }
    }

    /// The issuer that the section's own keys make.
    fn own(&self, faults: &mut Faults) -> Issuer {
        let mut fixed = KeySet::default();
        let mut secret = self.jwt_secret.clone();
        if let Some(Err(error)) = secret.as_ref().map(|secret| Self::check_secret(secret.present().expose())) {
            faults.note("jwt_secret", Err(error));
            secret = None;
        }
        if let Some(pem) = &self.jwt_public_key {
            faults.note("jwt_public_key", fixed.add_pem(pem));
        }
        let issuer = Issuer {
            name: self.jwt_issuer.clone(),
            audience: self.jwt_audience.clone(),
            algorithms: faults.algorithms("jwt_algorithms", &self.jwt_algorithms),
            tenant_claims: faults.names("jwt_tenant_claims", &self.jwt_tenant_claims),
            tenants: None,
            is_listed: false,
            of_others: Vec::new(),
            secret,
            fixed,
            published: faults.address("jwks_url", self.jwks_url.as_deref()),
        };
        faults.usable("jwt_algorithms", &issuer);
        issuer
    }

    fn other(&self, index: usize, given: &IssuerSettings, faults: &mut Faults) -> Issuer {
        let key = |name: &str| format!("issuers[{index}].{name}");
        if given.issuer.trim().is_empty() {
            faults.add(&key("issuer"), "must be the name that tokens have in iss");
        }
        if given.public_key.is_none() && given.jwks_url.is_none() {
            faults.add(&key("jwks_url"), "or public_key must be set");
        }
        let mut fixed = KeySet::default();
        if let Some(pem) = &given.public_key {
            faults.note(&key("public_key"), fixed.add_pem(pem));
        }
        let tenant_claims = given.tenant_claims.as_deref().unwrap_or(&self.jwt_tenant_claims);
        let issuer = Issuer {
            name: Some(given.issuer.clone()),
            audience: given.audience.clone(),
            algorithms: faults.algorithms(&key("algorithms"), &given.algorithms),
            tenant_claims: faults.names(&key("tenant_claims"), tenant_claims),
            tenants: given.tenants.as_deref().map(|tenants| faults.names(&key("tenants"), tenants)),
            is_listed: true,
            of_others: Vec::new(),
            secret: None,
            fixed,
            published: faults.address(&key("jwks_url"), given.jwks_url.as_deref()),
        };
        faults.usable(&key("algorithms"), &issuer);
        issuer
    }
}

/// Sees to it that each tenant has one issuer: a name that two vouch for would be two people.
fn share_out(issuers: &mut [Issuer], faults: &mut Faults) {
    let several = issuers.len() > 1;
    let mut taken: Vec<String> = Vec::new();
    for issuer in issuers.iter() {
        match &issuer.tenants {
            Some(tenants) => {
                if tenants.iter().any(|tenant| taken.contains(tenant)) {
                    faults.add("issuers", "two issuers speak for one tenant");
                }
                taken.extend(tenants.iter().cloned());
            }
            // Only the issuer of the section's own keys may speak for whomever nobody else speaks for.
            None if several && issuer.is_listed => {
                faults.add("issuers", "beside another issuer each must say for which tenants it speaks");
            }
            None => {}
        }
    }
    for issuer in issuers.iter_mut().filter(|issuer| issuer.tenants.is_none()) {
        issuer.of_others.clone_from(&taken);
    }
}

#[derive(Default)]
struct Faults(Vec<SettingsError>);

impl Faults {
    fn add(&mut self, setting: &str, what: impl Into<String>) {
        self.0.push(SettingsError { setting: setting.to_owned(), what: what.into() });
    }

    fn note(&mut self, setting: &str, outcome: Result<(), KeyError>) {
        if let Err(error) = outcome {
            self.add(setting, error.to_string());
        }
    }

    /// Texts between commas.
    fn names(&mut self, setting: &str, given: &str) -> Vec<String> {
        let names: Vec<String> = given.split(',').map(|name| name.trim().to_owned()).collect();
        if names.iter().any(String::is_empty) {
            self.add(setting, "has an empty name between its commas");
        }
        names
    }

    fn algorithms(&mut self, setting: &str, given: &str) -> Vec<Algorithm> {
        let mut algorithms = Vec::new();
        for name in self.names(setting, given).into_iter().filter(|name| !name.is_empty()) {
            match name.parse() {
                Ok(algorithm) => algorithms.push(algorithm),
                Err(_) => self.add(setting, format!("has {name:?}, which is no algorithm of signatures")),
            }
        }
        algorithms
    }

    /// Keys come from where nobody can exchange them on their way: by TLS, or from this machine.
    fn address(&mut self, setting: &str, given: Option<&str>) -> Option<Url> {
        match base_url::whole(given?) {
            Ok(url) if url.scheme() == "https" || base_url::is_loopback(&url) => return Some(url),
            Ok(_) => self.add(setting, "must start with https://, except on this machine"),
            Err(what) => self.add(setting, what),
        }
        None
    }

    /// An algorithm that no key can prove is a mistake of whoever wrote it.
    fn usable(&mut self, setting: &str, issuer: &Issuer) {
        // Published keys are public keys.
        let published =
            |algorithm: &Algorithm| issuer.published.is_some() && algorithm.family() != AlgorithmFamily::Hmac;
        let usable = issuer.algorithms.iter().any(|algorithm| issuer.has(*algorithm) || published(algorithm));
        let has_keys = issuer.secret.is_some() || !issuer.fixed.is_empty() || issuer.published.is_some();
        if has_keys && !usable {
            self.add(setting, "has no algorithm that fits the key");
        }
    }
}

#[cfg(test)]
mod tests {
    use somaagent_test_services::tokens::{SECRET, ec_signer, rsa_signer};

    use super::*;

    fn faults(settings: &AuthSettings) -> Vec<String> {
        settings.faults().iter().map(|fault| fault.setting.clone()).collect()
    }

    #[test]
    fn without_a_key_nobody_is_anybody() {
        let settings = AuthSettings::default();
        assert!(!settings.has_keys() && settings.faults().is_empty());
        assert!(AuthSettings { jwt_secret: Some(SECRET.into()), ..AuthSettings::default() }.has_keys());
    }

    #[test]
    fn every_fault_is_told_at_once_and_none_repeats_a_secret() {
        let settings = AuthSettings {
            jwt_secret: Some("hunter2-hunter2".into()),
            jwt_public_key: Some("rubbish".to_owned()),
            jwks_url: Some("http://keys.example/jwks".to_owned()),
            jwt_algorithms: "HS256,none".to_owned(),
            jwt_tenant_claims: "tenant,,org".to_owned(),
            issuers: vec![IssuerSettings::default()],
            ..AuthSettings::default()
        };
        let found = settings.faults();
        assert!(!format!("{found:?}").contains("hunter2"));
        for setting in [
            "jwt_secret",
            "jwt_public_key",
            "jwks_url",
            "jwt_algorithms",
            "jwt_tenant_claims",
            "issuers[0].issuer",
            "issuers[0].jwks_url",
            "issuers[0].algorithms",
        ] {
            assert!(found.iter().any(|fault| fault.setting == setting), "{setting} is not in {found:?}");
        }
    }

    #[test]
    fn keys_are_fetched_by_tls_or_from_this_machine() {
        for (url, fine) in [
            ("https://id.example/keys?p=a", true),
            ("http://127.0.0.1:9/keys", true),
            ("http://[::1]:9/keys", true),
            ("http://localhost/keys", true),
            ("http://localhost.evil.example/keys", false),
            ("http://10.0.0.1/keys", false),
            ("https://user:pass@id.example/keys", false),
            ("file:///etc/passwd", false),
            ("", false),
        ] {
            let settings = AuthSettings { jwks_url: Some(url.to_owned()), ..AuthSettings::default() };
            assert_eq!(faults(&settings).is_empty(), fine, "{url}");
        }
    }

    #[test]
    fn an_algorithm_must_fit_its_key() {
        let with = |algorithms: &str, pem: String| AuthSettings {
            jwt_public_key: Some(pem),
            jwt_algorithms: algorithms.to_owned(),
            ..AuthSettings::default()
        };
        assert!(faults(&with("RS256", rsa_signer().public_pem.clone())).is_empty());
        assert_eq!(faults(&with("HS256", rsa_signer().public_pem.clone())), ["jwt_algorithms"]);
        assert_eq!(faults(&with("HS256,RS256", ec_signer().public_pem.clone())), ["jwt_algorithms"]);
    }

    #[test]
    fn each_name_and_each_tenant_has_one_issuer() {
        let other = |name: &str, tenants: Option<&str>| IssuerSettings {
            issuer: name.to_owned(),
            algorithms: "RS256".to_owned(),
            jwks_url: Some("https://id.example/keys".to_owned()),
            tenants: tenants.map(str::to_owned),
            ..IssuerSettings::default()
        };
        let with = |issuers| AuthSettings { issuers, ..AuthSettings::default() };
        assert!(faults(&with(vec![other("a", None)])).is_empty());
        assert!(faults(&with(vec![other("a", Some("s,t")), other("b", Some("u"))])).is_empty());
        assert_eq!(faults(&with(vec![other("a", Some("t")), other("a", Some("u"))])), ["issuers"]);
        assert_eq!(faults(&with(vec![other("a", Some("s,t")), other("b", Some("t"))])), ["issuers"]);
        assert_eq!(faults(&with(vec![other("a", Some("t")), other("b", None)])), ["issuers"]);
        let beside = AuthSettings { jwt_secret: Some(SECRET.into()), ..with(vec![other("a", None)]) };
        assert_eq!(faults(&beside), ["issuers"]);
    }

    #[test]
    fn keys_that_can_prove_nothing_are_refused() {
        let published = |algorithms: &str| AuthSettings {
            jwks_url: Some("https://id.example/keys".to_owned()),
            jwt_algorithms: algorithms.to_owned(),
            ..AuthSettings::default()
        };
        assert!(faults(&published("HS256,RS256")).is_empty());
        assert_eq!(faults(&published("HS256")), ["jwt_algorithms"]);
        let curve = AuthSettings {
            jwt_public_key: Some(ec_signer().public_pem.clone()),
            jwt_algorithms: "ES384".to_owned(),
            ..AuthSettings::default()
        };
        assert_eq!(faults(&curve), ["jwt_algorithms"]);
        assert_eq!(
            faults(&AuthSettings {
                jwt_algorithms: "HS256,,".to_owned(),
                jwt_secret: Some(SECRET.into()),
                ..AuthSettings::default()
            }),
            ["jwt_algorithms"]
        );
    }
}
