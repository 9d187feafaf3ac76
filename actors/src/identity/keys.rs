//! Keys, each with the kind of signature that it may prove. A key that was published is never a secret, so a signature by secret
//! is proved by a secret of the settings only (RFC 8725 §2.1, §3.2).

use std::collections::HashSet;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// Keys of one issuer at most.
pub(super) const MAX_KEYS: usize = 100;
/// Keys that are tried for one token. Each try costs a signature's check.
const MAX_TRIES: usize = 8;
/// Shortest secret, in bytes (RFC 7518 §3.2, for HS256).
const MIN_SECRET_BYTES: usize = 32;
/// Fewest different bytes in a secret: of 32 that chance made there are more, also in hexadecimal digits.
const MIN_SECRET_VARIETY: usize = 8;
/// Shortest modulus of RSA, in bytes (RFC 7518 §3.3: 2048 bits).
const MIN_MODULUS_BYTES: usize = 256;

/// Why keys cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The secret can be guessed.
    #[error("is shorter than {MIN_SECRET_BYTES} bytes")]
    Short,
    /// It is long, and can be guessed all the same.
    #[error("has fewer than {MIN_SECRET_VARIETY} different characters")]
    Monotonous,
    /// The text is no public key in PEM.
    #[error("is no public key in PEM of RSA with 2048 bits or more, of the curve P-256 or P-384, or of Ed25519")]
    NoPublicKey,
    /// Whoever has this file can sign.
    #[error("is a private key; only its public half belongs here")]
    Private,
    /// The document is no set of keys.
    #[error("is no set of keys")]
    NoSet,
    /// The set has too many keys.
    #[error("has more than {MAX_KEYS} keys")]
    TooMany,
}

/// What signatures a key proves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proves {
    /// All of its family.
    Family,
    /// This one only.
    One(Algorithm),
}

/// A key.
#[derive(Clone)]
struct Key {
    id: Option<String>,
    proves: Proves,
    decoding: DecodingKey,
}

/// The keys of one issuer.
#[derive(Clone, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| (&key.id, key.decoding.family()))).finish()
    }
}

impl KeySet {
    /// The set of one secret, for signatures by HMAC.
    ///
    /// # Errors
    /// It is too short, or repeats itself.
    pub(super) fn of_secret(secret: &str) -> Result<Self, KeyError> {
        let secret = secret.as_bytes();
        if secret.len() < MIN_SECRET_BYTES {
            return Err(KeyError::Short);
        }
        if secret.iter().collect::<HashSet<_>>().len() < MIN_SECRET_VARIETY {
            return Err(KeyError::Monotonous);
        }
        let key = Key { id: None, proves: Proves::Family, decoding: DecodingKey::from_secret(secret) };
        Ok(Self { keys: vec![key] })
    }

    /// Adds a public key in PEM.
    ///
    /// # Errors
    /// It is none.
    pub(super) fn add_pem(&mut self, pem: &str) -> Result<(), KeyError> {
        if pem.contains("PRIVATE KEY") {
            return Err(KeyError::Private);
        }
        let bytes = pem.trim().as_bytes();
        let readers = [DecodingKey::from_rsa_pem, DecodingKey::from_ec_pem, DecodingKey::from_ed_pem];
        let key = readers.iter().find_map(|read| read(bytes).ok()).filter(|_| !pem.contains("CERTIFICATE"));
        // Read back as an issuer would publish it: what is too short, or on another curve, is refused like there.
        let published = key.and_then(|key| Jwk::from_decoding_key(&key, None).ok()).and_then(Key::of);
        self.keys.push(published.ok_or(KeyError::NoPublicKey)?);
        Ok(())
    }

    /// Reads a set of keys (RFC 7517 §5). A key that cannot be used here is passed over: another kind, another use, too short.
    ///
    /// # Errors
    /// The document is no set, or has too many keys.
    pub(super) fn published(document: &[u8]) -> Result<Self, KeyError> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(document).map_err(|_| KeyError::NoSet)?;
        if set.keys.len() > MAX_KEYS {
            return Err(KeyError::TooMany);
        }
        Ok(Self { keys: set.keys.into_iter().filter_map(Key::published).collect() })
    }

    /// How many keys there are.
    pub(super) const fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether no signature can be proved at all.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether some signature of this algorithm might be proved.
    pub(super) fn has(&self, algorithm: Algorithm) -> bool {
        self.keys.iter().any(|key| key.fits(algorithm))
    }

    /// The keys that may have made a signature: the one that the token names, or those without a name. A token that names none
    /// may be signed by any of a few.
    pub(super) fn candidates<'a>(
        &'a self,
        algorithm: Algorithm,
        id: Option<&'a str>,
    ) -> impl Iterator<Item = &'a DecodingKey> {
        let fitting = self.keys.iter().filter(move |key| key.fits(algorithm));
        let (named, nameless): (Vec<&Key>, Vec<&Key>) = fitting
            .filter(move |key| id.is_none() || key.id.is_none() || key.id.as_deref() == id)
            .partition(|key| key.id.is_some());
        named.into_iter().chain(nameless).take(MAX_TRIES).map(|key| &key.decoding)
    }
}

impl Key {
    fn fits(&self, algorithm: Algorithm) -> bool {
        self.decoding.family() == algorithm.family()
            && match self.proves {
                Proves::Family => true,
                Proves::One(only) => only == algorithm,
            }
    }

    fn published(given: Value) -> Option<Self> {
        Self::of(serde_json::from_value(given).ok()?)
    }

    fn of(jwk: Jwk) -> Option<Self> {
        let is_for_signatures =
            jwk.common.public_key_use.as_ref().is_none_or(|given| *given == PublicKeyUse::Signature);
        let verifies = jwk.common.key_operations.as_ref().is_none_or(|given| given.contains(&KeyOperations::Verify));
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(rsa) => {
                let modulus = URL_SAFE_NO_PAD.decode(&rsa.n).ok()?;
                let length = modulus.iter().skip_while(|byte| **byte == 0).count();
                (length >= MIN_MODULUS_BYTES).then_some(Proves::Family)
            }
            AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
                EllipticCurve::P256 => Some(Proves::One(Algorithm::ES256)),
                EllipticCurve::P384 => Some(Proves::One(Algorithm::ES384)),
                _ => None,
            },
            AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
                Some(Proves::One(Algorithm::EdDSA))
            }
            // A secret that was published is none.
            _ => None,
        }?;
        let key = DecodingKey::from_jwk(&jwk).ok().filter(|key| key.family() != AlgorithmFamily::Hmac)?;
        let stated = jwk.common.key_algorithm.map(|stated| Algorithm::try_from(stated).ok());
        let proves = match (stated, algorithm) {
            (None, proves) => proves,
            (Some(Some(stated)), Proves::Family) if stated.family() == key.family() => Proves::One(stated),
            (Some(Some(stated)), Proves::One(only)) if stated == only => Proves::One(only),
            _ => return None,
        };
        (is_for_signatures && verifies).then_some(Self { id: jwk.common.key_id, proves, decoding: key })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;
    use serde_json::json;
    use somaagent_test_services::tokens::{ec_signer, ed_signer, rsa_signer};

    fn set(keys: &[Value]) -> KeySet {
        KeySet::published(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    fn count(set: &KeySet, algorithm: Algorithm, id: Option<&str>) -> usize {
        set.candidates(algorithm, id).count()
    }

    #[test]
    fn a_public_key_is_never_a_secret() {
        for signer in [rsa_signer(), ec_signer(), ed_signer()] {
            let mut fixed = KeySet::default();
            fixed.add_pem(&signer.public_pem).unwrap();
            for set in [fixed, set(&[signer.jwk("k")])] {
                assert_eq!(count(&set, signer.algorithm, Some("k")), 1);
                for secret in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
                    assert_eq!(count(&set, secret, None), 0, "{:?}", signer.algorithm);
                }
            }
        }
        let published = set(&[json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode([7; 64]), "alg": "HS256", "kid": "k"})]);
        assert!(published.is_empty());
    }

    #[test]
    fn a_published_key_proves_what_it_is_for_and_nothing_else() {
        let with = |name: &str, value: Value| {
            let mut key = rsa_signer().jwk("k");
            key[name] = value;
            set(&[key])
        };
        assert_eq!(count(&with("alg", json!("RS256")), Algorithm::RS256, None), 1);
        assert_eq!(count(&with("alg", json!("RS256")), Algorithm::PS256, None), 0);
        for (name, value) in [
            ("alg", json!("ES256")),
            ("alg", json!("RSA-OAEP")),
            ("alg", json!("none")),
            ("use", json!("enc")),
            ("key_ops", json!(["sign"])),
            ("n", json!("AQAB")),
            ("n", json!("not base64!")),
            ("kty", json!("EC")),
        ] {
            assert!(with(name, value.clone()).is_empty(), "{name} {value}");
        }
        let mut curve = ec_signer().jwk("k");
        assert_eq!(count(&set(&[curve.clone()]), Algorithm::ES384, None), 0);
        curve["crv"] = json!("secp256k1");
        assert!(set(&[curve, json!(7), json!({}), json!({"kty": "RSA"})]).is_empty());
    }

    #[test]
    fn a_token_is_proved_by_the_key_that_it_names() {
        let keys = set(&[rsa_signer().jwk("a"), rsa_signer().jwk("b"), ec_signer().jwk("c")]);
        assert_eq!(count(&keys, Algorithm::RS256, Some("a")), 1);
        assert_eq!(count(&keys, Algorithm::RS256, Some("c")), 0, "of another kind");
        assert_eq!(count(&keys, Algorithm::RS256, Some("../../etc/passwd")), 0);
        assert_eq!(count(&keys, Algorithm::RS256, None), 2);
        let many: Vec<Value> = (0..MAX_KEYS).map(|n| rsa_signer().jwk(&n.to_string())).collect();
        assert_eq!(count(&set(&many), Algorithm::RS256, None), MAX_TRIES);
    }

    #[test]
    fn what_is_no_set_or_no_key_is_refused_in_words() {
        for document in ["", "[]", "{}", r#"{"keys":{}}"#, "<html>"] {
            assert_eq!(KeySet::published(document.as_bytes()).unwrap_err(), KeyError::NoSet, "{document}");
        }
        let many = json!({ "keys": vec![json!({}); MAX_KEYS + 1] }).to_string();
        assert_eq!(KeySet::published(many.as_bytes()).unwrap_err(), KeyError::TooMany);
        let secret = |text: String| KeySet::of_secret(&text).map(|set| set.has(Algorithm::HS256));
        assert_eq!(secret("a".repeat(MIN_SECRET_BYTES - 1)), Err(KeyError::Short));
        assert_eq!(secret("secret".repeat(20)), Err(KeyError::Monotonous));
        assert_eq!(secret("01234567".repeat(8)), Ok(true));
        let mut set = KeySet::default();
        assert_eq!(set.add_pem("rubbish"), Err(KeyError::NoPublicKey));
        assert_eq!(set.add_pem(&rsa_signer().private_pem), Err(KeyError::Private));
        assert!(set.is_empty());
    }
}
