//! What is to be said of keys without any token: for whoever sets them up. Nothing is kept.

use std::time::Duration;

use jsonwebtoken::{Algorithm, AlgorithmFamily};
use serde::Deserialize;
use serde_json::Value;
use time::OffsetDateTime;

use super::{
    fetching::{self, FetchError},
    keys::KeySet,
    published_keys::PublishedKeys,
    settings::{AuthSettings, Issuer, SettingsError},
};

/// Every algorithm that some key could prove.
const KNOWN: [Algorithm; 12] = [
    Algorithm::HS256,
    Algorithm::HS384,
    Algorithm::HS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// An issuer of the settings.
#[derive(Debug, Clone)]
pub struct IssuerLook {
    /// Its name, if that is checked.
    pub name: Option<String>,
    /// Whether it is checked for whom a token was made.
    pub checks_audience: bool,
    /// Allowed algorithms that the keys of the settings prove.
    pub proved: Vec<String>,
    /// Allowed algorithms by HMAC for which the secret is shorter than their sums, with the bytes it should have (RFC 7518 §3.2).
    pub weak: Vec<(String, usize)>,
    /// The host at which it publishes keys, if it does.
    pub publishes_at: Option<String>,
    issuer: Issuer,
}

/// The keys that an issuer publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysLook {
    /// Keys in the document.
    pub given: usize,
    /// Of these, keys that can be used here.
    pub usable: usize,
    /// Allowed algorithms that they prove.
    pub proved: Vec<String>,
    /// Algorithms that they could prove and that are not allowed.
    pub forbidden: Vec<String>,
    /// How long some cache on the way has kept the document.
    pub age: Option<Duration>,
    /// The time at the issuer, in whole seconds.
    pub date: Option<OffsetDateTime>,
}

/// The issuers of the settings.
///
/// # Errors
/// Everything that is wrong with them.
pub fn issuers(settings: &AuthSettings) -> Result<Vec<IssuerLook>, Vec<SettingsError>> {
    let secret_bytes = settings.jwt_secret.as_ref().map(|secret| secret.present().expose().len());
    let looked = settings.read()?.into_iter().map(|issuer| {
        let names = |pick: &dyn Fn(&Algorithm) -> bool| names(issuer.algorithms.iter().copied().filter(pick));
        IssuerLook {
            name: issuer.name.clone(),
            checks_audience: issuer.audience.is_some(),
            proved: names(&|algorithm| issuer.has(*algorithm)),
            weak: secret_bytes.filter(|_| !issuer.is_listed).map(|bytes| weak(&issuer, bytes)).unwrap_or_default(),
            publishes_at: issuer.published.as_ref().and_then(|url| url.host_str().map(str::to_owned)),
            issuer,
        }
    });
    Ok(looked.collect())
}

fn weak(issuer: &Issuer, secret_bytes: usize) -> Vec<(String, usize)> {
    let needs = [(Algorithm::HS256, 32), (Algorithm::HS384, 48), (Algorithm::HS512, 64)];
    let short =
        needs.into_iter().filter(|(algorithm, bytes)| issuer.algorithms.contains(algorithm) && secret_bytes < *bytes);
    short.map(|(algorithm, bytes)| (name(algorithm), bytes)).collect()
}

impl IssuerLook {
    /// Fetches what it publishes; nothing if it publishes nothing.
    ///
    /// # Errors
    /// It cannot be had, or holds no set of keys.
    pub async fn published(&self, settings: &AuthSettings) -> Result<Option<KeysLook>, FetchError> {
        let Some(url) = &self.issuer.published else { return Ok(None) };
        let source = PublishedKeys::at(url.clone(), settings).map_err(|error| FetchError::Transport(error.what))?;
        let answer = source.answer().await?;
        let keys = KeySet::published(&answer.body)?;
        let algorithms = &self.issuer.algorithms;
        let proved = algorithms.iter().copied().filter(|algorithm| keys.has(*algorithm));
        // A key of RSA could prove six, and one of them is enough.
        let could = KNOWN.into_iter().filter(|known| keys.has(*known));
        let unmet = could.filter(|could| !algorithms.iter().any(|known| alike(*known, *could) && keys.has(*known)));
        Ok(Some(KeysLook {
            given: count(&answer.body),
            usable: keys.len(),
            proved: names(proved),
            forbidden: names(unmet),
            age: fetching::age(&answer.headers),
            date: fetching::date(&answer.headers),
        }))
    }
}

/// Whether keys of one kind prove both.
fn alike(one: Algorithm, other: Algorithm) -> bool {
    one == other || one.family() == AlgorithmFamily::Rsa && other.family() == AlgorithmFamily::Rsa
}

fn count(document: &[u8]) -> usize {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<Value>,
    }
    serde_json::from_slice::<Set>(document).map_or(0, |set| set.keys.len())
}

fn names(algorithms: impl Iterator<Item = Algorithm>) -> Vec<String> {
    algorithms.map(name).collect()
}

fn name(algorithm: Algorithm) -> String {
    format!("{algorithm:?}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use serde_json::json;
    use somaagent_test_services::tokens::{SECRET, ec_signer, rsa_signer};

    use super::*;
    use crate::loopback::{Play, Server};

    fn publishing(url: &str, algorithms: &str) -> AuthSettings {
        AuthSettings {
            jwks_url: Some(url.to_owned()),
            jwt_algorithms: algorithms.to_owned(),
            ..AuthSettings::default()
        }
    }

    #[tokio::test]
    async fn published_keys_are_told_by_what_they_prove_and_what_is_allowed() {
        let server = Server::start(|_| {
            let odd = json!({"kty": "oct", "k": "AQAB"});
            let keys = json!({"keys": [rsa_signer().jwk("r"), ec_signer().jwk("e"), odd]}).to_string();
            let headers = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\nage: 77\r\ncontent-type: application/json\r\n";
            Play::raw(200, headers, &keys)
        })
        .await;
        let settings = publishing(&server.url, "RS256");
        let issuer = issuers(&settings).unwrap().remove(0);
        assert_eq!((&*issuer.proved, issuer.publishes_at.as_deref()), (&[][..], Some("127.0.0.1")));
        let keys = issuer.published(&settings).await.unwrap().unwrap();
        assert_eq!((keys.given, keys.usable), (3, 2));
        assert_eq!((keys.proved, keys.forbidden), (vec!["RS256".to_owned()], vec!["ES256".to_owned()]));
        assert_eq!(keys.age, Some(Duration::from_secs(77)));
        assert_eq!(keys.date.unwrap().unix_timestamp(), 784_111_777);
        let settings = publishing(&server.url, "ES256,PS256");
        let keys = issuers(&settings).unwrap().remove(0).published(&settings).await.unwrap().unwrap();
        assert!(keys.forbidden.is_empty(), "a key of RSA has its algorithm: {keys:?}");
    }

    #[test]
    fn a_secret_is_weak_for_sums_that_are_longer() {
        let settings = AuthSettings {
            jwt_secret: Some(SECRET.into()),
            jwt_algorithms: "HS256,HS512,RS256".to_owned(),
            ..AuthSettings::default()
        };
        let issuer = issuers(&settings).unwrap().remove(0);
        assert_eq!(issuer.proved, ["HS256", "HS512"]);
        assert_eq!(issuer.weak, [("HS512".to_owned(), 64)]);
    }
}
