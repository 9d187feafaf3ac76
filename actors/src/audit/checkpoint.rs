//! Signed ends of chains, and signed takeovers: compact JWS (RFC 7515) with Ed25519 (RFC 8037).

use std::{fmt, sync::Arc};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode,
    jwk::{Jwk, ThumbprintHash},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use time::OffsetDateTime;

use crate::domain::{
    audit_chain::{Head, Stand, Sum},
    audit_walk::Vouched,
    hex::hex,
};

/// What the head of every checkpoint says that it is, so that nothing else signed by the key is taken for one.
const TYPE: &str = "audit-checkpoint+jwt";
/// The same of what vouches for a takeover.
const TAKEOVER_TYPE: &str = "audit-takeover+jwt";

/// The end of a public key in PEM.
const END: &str = "-----END PUBLIC KEY-----";

/// A key that cannot be used.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("is no Ed25519 key in PEM")]
pub struct KeyError;

impl From<jsonwebtoken::errors::Error> for KeyError {
    fn from(_: jsonwebtoken::errors::Error) -> Self {
        // What the library says may quote the key.
        Self
    }
}

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Whose chain.
    pub tenant: String,
    /// How many links it had.
    pub number: i64,
    /// The sum of the last one, in hexadecimal digits.
    pub hash: String,
    /// When, in seconds since 1970.
    pub iat: i64,
    /// How far the sealing of all chains was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealer: Option<Stand>,
}

impl Checkpoint {
    /// What somebody says who may not have the key.
    #[must_use]
    pub fn claimed(jws: &str) -> Option<Self> {
        let claims = URL_SAFE_NO_PAD.decode(jws.split('.').nth(1)?).ok()?;
        serde_json::from_slice(&claims).ok()
    }

    /// The end of the chain; `None` if the sum is none.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        let mut hash = Sum::default();
        if self.hash.len() != 2 * hash.len() || !self.hash.is_ascii() {
            return None;
        }
        for (place, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&self.hash[2 * place..2 * place + 2], 16).ok()?;
        }
        Some(Head { number: self.number, hash })
    }
}

/// Signs checkpoints and takeovers.
#[derive(Clone)]
pub struct CheckpointSigner {
    key: Arc<EncodingKey>,
    header: Arc<Header>,
    public: CheckpointKey,
}

impl fmt::Debug for CheckpointSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckpointSigner").field("kid", &self.header.kid).finish_non_exhaustive()
    }
}

impl CheckpointSigner {
    /// Signs with this private key, PKCS #8 in PEM. Checkpoints name the key by its thumbprint (RFC 7638).
    ///
    /// # Errors
    /// It is no such key.
    pub fn new(pem: &str) -> Result<Self, KeyError> {
        let key = EncodingKey::from_ed_pem(pem.as_bytes())?;
        // Of the two forms of such keys one has no public half in it.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key.as_bytes()).map_err(|_| KeyError)?;
        let public = DecodingKey::from_ed_components(&URL_SAFE_NO_PAD.encode(pair.public_key()))?;
        let name = Jwk::from_decoding_key(&public, Some(Algorithm::EdDSA))?.thumbprint(ThumbprintHash::SHA256)?;
        let header = Header { kid: Some(name), ..Header::new(Algorithm::EdDSA) };
        Ok(Self { key: Arc::new(key), header: Arc::new(header), public: CheckpointKey(vec![public]) })
    }

    /// By what the signatures are known.
    #[must_use]
    pub fn public(&self) -> CheckpointKey {
        self.public.clone()
    }

    /// A checkpoint of `tenant`'s chain. `None` if it could not be signed, which no key is known for.
    #[must_use]
    pub fn sign(&self, tenant: &str, head: &Head, sealer: Option<&Stand>, at: OffsetDateTime) -> Option<String> {
        let (tenant, hash, sealer) = (tenant.to_owned(), hex(&head.hash), sealer.cloned());
        let checkpoint = Checkpoint { tenant, number: head.number, hash, iat: at.unix_timestamp(), sealer };
        self.signed(TYPE, &checkpoint)
    }

    /// Vouches for a takeover. `None` as above.
    #[must_use]
    pub fn vouch(&self, takeover: &Vouched) -> Option<String> {
        self.signed(TAKEOVER_TYPE, takeover)
    }

    fn signed(&self, what: &str, claims: &impl Serialize) -> Option<String> {
        let header = Header { typ: Some(what.to_owned()), ..Header::clone(&self.header) };
        encode(&header, claims, &self.key).ok()
    }
}

/// By what the signatures of checkpoints are known: one key, or those that were in use one after the other.
#[derive(Clone)]
pub struct CheckpointKey(Vec<DecodingKey>);

impl fmt::Debug for CheckpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CheckpointKey")
    }
}

impl CheckpointKey {
    /// This public key, in PEM, or several of them one behind the other.
    ///
    /// # Errors
    /// It is no such key.
    pub fn new(pem: &str) -> Result<Self, KeyError> {
        let blocks = pem.split_inclusive(END).filter(|block| !block.trim().is_empty());
        let keys: Vec<DecodingKey> =
            blocks.map(|block| DecodingKey::from_ed_pem(block.trim().as_bytes())).collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(KeyError) } else { Ok(Self(keys)) }
    }

    /// Both this key and `other`.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// What `jws` says, if it is a checkpoint that was signed by a key of these.
    #[must_use]
    pub fn read(&self, jws: &str) -> Option<Checkpoint> {
        self.signed(TYPE, jws).filter(|checkpoint: &Checkpoint| checkpoint.head().is_some())
    }

    /// For which takeover `jws` vouches, if a key of these signed it.
    #[must_use]
    pub fn vouched(&self, jws: &str) -> Option<Vouched> {
        self.signed(TAKEOVER_TYPE, jws)
    }

    fn signed<T: DeserializeOwned>(&self, what: &str, jws: &str) -> Option<T> {
        let mut rules = Validation::new(Algorithm::EdDSA);
        // What is signed is for everybody and does not end.
        rules.required_spec_claims.clear();
        (rules.validate_exp, rules.validate_aud) = (false, false);
        let read = self.0.iter().find_map(|key| decode::<T>(jws, key, &rules).ok())?;
        (read.header.typ.as_deref() == Some(what)).then_some(read.claims)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use somaagent_test_services::tokens::{ed_signer, other_ed_signer};

    use super::*;
    use crate::domain::audit_chain::Signing;

    const HEAD: Head = Head { number: 7, hash: [0xab; 32] };

    #[test]
    fn a_checkpoint_is_known_by_the_public_half_of_its_key_alone() {
        let (pair, other) = (ed_signer(), other_ed_signer());
        let signer = CheckpointSigner::new(&pair.private_pem).unwrap();
        let jws = signer.sign("t", &HEAD, None, OffsetDateTime::UNIX_EPOCH).unwrap();
        for key in [signer.public(), CheckpointKey::new(&pair.public_pem).unwrap()] {
            let read = key.read(&jws).unwrap();
            assert_eq!((read.tenant.as_str(), read.head(), read.iat), ("t", Some(HEAD), 0));
        }
        let stranger = CheckpointKey::new(&other.public_pem).unwrap();
        assert_eq!(stranger.read(&jws), None);
        // After a change of keys both are known.
        let both = CheckpointKey::new(&format!("{}\n{}\n", other.public_pem, pair.public_pem)).unwrap();
        assert!(both.read(&jws).is_some() && stranger.and(signer.public()).read(&jws).is_some());
        for odd in ["", "key", &pair.private_pem, &format!("{}rest", pair.public_pem)] {
            assert!(CheckpointKey::new(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_checkpoint_tells_how_far_the_sealing_was_unless_it_is_older_than_that() {
        let signer = CheckpointSigner::new(&ed_signer().private_pem).unwrap();
        let stand = |signing| Stand { server: "s".into(), xact: 5, id: 6, next: 8, signing };
        let signing = Signing { is_first: true, is_whole: false, chains: 3 };
        for sealer in [None, Some(stand(None)), Some(stand(Some(signing)))] {
            let jws = signer.sign("t", &HEAD, sealer.as_ref(), OffsetDateTime::UNIX_EPOCH).unwrap();
            assert_eq!(signer.public().read(&jws).unwrap().sealer, sealer);
        }
    }

    #[test]
    fn a_private_key_without_its_public_half_is_the_same_key() {
        let pair = ed_signer();
        let whole = EncodingKey::from_ed_pem(pair.private_pem.as_bytes()).unwrap();
        // RFC 8410 §7: version 0, the algorithm, and the key in two octet strings.
        let mut half = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        half.extend(&whole.as_bytes()[16..48]);
        let half = base64::engine::general_purpose::STANDARD.encode(half);
        let [begin, end] = ["BEGIN", "END"].map(|word| format!("-----{word} PRIVATE KEY-----"));
        let signer = CheckpointSigner::new(&format!("{begin}\n{half}\n{end}\n")).unwrap();
        let jws = signer.sign("t", &HEAD, None, OffsetDateTime::UNIX_EPOCH).unwrap();
        assert!(CheckpointKey::new(&pair.public_pem).unwrap().read(&jws).is_some());
    }

    #[test]
    fn what_vouches_for_a_takeover_is_no_checkpoint_and_the_other_way_round() {
        let signer = CheckpointSigner::new(&ed_signer().private_pem).unwrap();
        let stranger = CheckpointSigner::new(&other_ed_signer().private_pem).unwrap();
        let takeover = Vouched::behind(&HEAD, "t", (None, "there"), 2, 5);
        let jws = signer.vouch(&takeover).unwrap();
        assert_eq!(signer.public().vouched(&jws), Some(takeover.clone()));
        assert_eq!((signer.public().read(&jws), stranger.public().vouched(&jws)), (None, None));
        let checkpoint = signer.sign("t", &HEAD, None, OffsetDateTime::UNIX_EPOCH).unwrap();
        assert_eq!(signer.public().vouched(&checkpoint), None);
        // The same claims under the other name.
        let named = signer.signed(TYPE, &takeover).unwrap();
        assert_eq!(signer.public().vouched(&named), None);
        assert_eq!(
            Checkpoint::claimed(&checkpoint),
            stranger.public().read(&checkpoint).or(signer.public().read(&checkpoint))
        );
        assert_eq!((Checkpoint::claimed("rubbish"), Checkpoint::claimed(&jws)), (None, None));
    }

    #[test]
    fn nothing_else_is_a_checkpoint() {
        let pair = ed_signer();
        let signer = CheckpointSigner::new(&pair.private_pem).unwrap();
        let key = signer.public();
        let jws = signer.sign("t", &HEAD, None, OffsetDateTime::UNIX_EPOCH).unwrap();
        let [head, claims, signature] = jws.split('.').collect::<Vec<_>>()[..] else { unreachable!() };
        let same = serde_json::json!({"tenant": "t", "number": 7, "hash": "ab".repeat(32), "iat": 0});
        let token = pair.sign(&same);
        for odd in [String::new(), format!("{head}.{claims}."), format!("{claims}.{head}.{signature}"), token] {
            assert_eq!(key.read(&odd), None, "{odd}");
        }
        let short = Checkpoint { tenant: "t".into(), number: 1, hash: "ab".into(), iat: 0, sealer: None };
        assert_eq!(short.head(), None);
    }

    #[test]
    fn a_key_that_is_none_is_refused_and_never_shown() {
        for odd in ["", "key", &ed_signer().public_pem] {
            assert!(CheckpointSigner::new(odd).is_err(), "{odd}");
        }
        let pair = ed_signer();
        let shown = format!("{:?}", CheckpointSigner::new(&pair.private_pem).unwrap());
        assert!(pair.private_pem.lines().all(|line| !shown.contains(line)), "{shown}");
    }
}
