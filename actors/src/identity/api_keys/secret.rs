//! The text of a key: `sk_<id>_<random>`, where the id is a UUID in 32 hexadecimal digits and the random part 256 bits in
//! base64url. That of a login begins with `sl_`.

use std::num::NonZeroU32;

use aws_lc_rs::{
    error::Unspecified,
    pbkdf2::{self, PBKDF2_HMAC_SHA256},
    rand,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest as _, Sha256};
use uuid::{Builder, Uuid};

use crate::store::api_keys::SecretHash;

/// How every key begins; no token does.
pub const PREFIX: &str = "sk_";
/// How every login begins.
const LOGIN_PREFIX: &str = "sl_";
/// Characters of a key that are shown in lists.
const SHOWN: usize = 12;
/// Bytes of chance in a key.
const RANDOM_BYTES: usize = 32;
/// Bytes of chance that make two hashes of one secret differ.
const SALT_BYTES: usize = 16;
/// Bytes of a hash.
const HASH_BYTES: usize = 32;
/// How often the secret of a key is hashed.
const ROUNDS: u32 = 390_000;
/// How often that of a login is: it is all chance, so nothing is gained by making guesses dear.
const LOGIN_ROUNDS: u32 = 1;

/// What a secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A program shows it.
    Key,
    /// A browser keeps it while somebody is logged in.
    Login,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Key, Self::Login];

    const fn prefix(self) -> &'static str {
        match self {
            Self::Key => PREFIX,
            Self::Login => LOGIN_PREFIX,
        }
    }

    const fn rounds(self) -> u32 {
        match self {
            Self::Key => ROUNDS,
            Self::Login => LOGIN_ROUNDS,
        }
    }
}

/// What stands for a secret where it was seen before.
pub(super) type Digest = [u8; 32];

/// A key that nobody has seen yet.
pub(super) struct Fresh {
    pub key_id: Uuid,
    pub secret: SecretString,
}

impl Fresh {
    /// Makes one of the system's chance.
    ///
    /// # Errors
    /// The system has none.
    pub(super) fn new(kind: Kind) -> Result<Self, Unspecified> {
        let (mut id, mut random) = ([0; 16], [0; RANDOM_BYTES]);
        rand::fill(&mut id)?;
        rand::fill(&mut random)?;
        let key_id = Builder::from_random_bytes(id).into_uuid();
        let secret = format!("{}{}_{}", kind.prefix(), key_id.simple(), URL_SAFE_NO_PAD.encode(random)).into();
        Ok(Self { key_id, secret })
    }

    /// How it begins.
    pub(super) fn prefix(&self) -> String {
        self.secret.expose_secret().chars().take(SHOWN).collect()
    }
}

/// The id in the text of a key, and its kind; `None` if it is no key. There is one way to write each.
pub(super) fn key_id(secret: &str) -> Option<(Kind, Uuid)> {
    let (kind, rest) = Kind::ALL.into_iter().find_map(|kind| Some((kind, secret.strip_prefix(kind.prefix())?)))?;
    let (id, random) = rest.split_once('_')?;
    let is_simple = id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    // Longer ones are not even decoded.
    let is_whole = random.len() == (RANDOM_BYTES * 4).div_ceil(3)
        && URL_SAFE_NO_PAD.decode(random).is_ok_and(|bytes| bytes.len() == RANDOM_BYTES);
    (is_simple && is_whole).then(|| Some((kind, Uuid::try_parse(id).ok()?)))?
}

/// What stands for the secret.
pub(super) fn digest(secret: &str) -> Digest {
    Sha256::digest(secret.as_bytes()).into()
}

/// Hashes a secret with a salt of its own. For a key it takes about a tenth of a second.
///
/// # Errors
/// The system has no chance.
pub(super) fn hash(kind: Kind, secret: &SecretString) -> Result<SecretHash, Unspecified> {
    let (mut hash, mut salt) = (vec![0; HASH_BYTES], vec![0; SALT_BYTES]);
    rand::fill(&mut salt)?;
    let rounds = NonZeroU32::new(kind.rounds()).ok_or(Unspecified)?;
    pbkdf2::derive(PBKDF2_HMAC_SHA256, rounds, &salt, secret.expose_secret().as_bytes(), &mut hash);
    Ok(SecretHash { hash, salt, rounds: i32::try_from(kind.rounds()).map_err(|_| Unspecified)? })
}

/// Whether a secret has this hash, compared in constant time. It takes as long as [`hash`].
pub(super) fn is_of(secret: &SecretString, stored: &SecretHash) -> bool {
    let Some(rounds) = u32::try_from(stored.rounds).ok().and_then(NonZeroU32::new) else { return false };
    let secret = secret.expose_secret().as_bytes();
    // The beginning of a hash is the hash of that length.
    stored.hash.len() == HASH_BYTES
        && pbkdf2::verify(PBKDF2_HMAC_SHA256, rounds, &stored.salt, secret, &stored.hash).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    #[test]
    fn a_key_says_its_id_and_no_two_are_alike() {
        let (one, other) = (Fresh::new(Kind::Key).unwrap(), Fresh::new(Kind::Key).unwrap());
        let text = one.secret.expose_secret();
        assert_eq!((key_id(text), text.len()), (Some((Kind::Key, one.key_id)), 79));
        let login = Fresh::new(Kind::Login).unwrap();
        assert_eq!(key_id(login.secret.expose_secret()), Some((Kind::Login, login.key_id)));
        assert!(text.starts_with(&one.prefix()) && one.prefix().len() == 12);
        assert_ne!(one.key_id, other.key_id);
        assert_ne!(text[36..], other.secret.expose_secret()[36..]);
        assert!(!format!("{:?}", one.secret).contains(&text[36..]));
    }

    #[test]
    fn what_is_no_key_has_no_id() {
        let fresh = Fresh::new(Kind::Key).unwrap();
        let text = fresh.secret.expose_secret();
        let (id, random) = (&text[3..35], &text[36..]);
        for wrong in [
            String::new(),
            "sk_".to_owned(),
            "sk__".to_owned(),
            format!("SK_{id}_{random}"),
            format!("sk_{}_{random}", id.to_uppercase().replace(|letter: char| letter.is_ascii_digit(), "A")),
            format!("sk_{}_{random}", fresh.key_id),
            format!("sk_{id}-{random}"),
            format!("sk_{id}_"),
            format!("sk_{id}_{}", &random[1..]),
            format!("sk_{id}_{random}A"),
            format!("sk_{id}_{}=", &random[1..]),
            format!("sk_{id}_{}+", &random[1..]),
            // The last character has bits that mean nothing: only one way of writing them is taken.
            format!("sk_{id}_{}_", &random[..42]),
            format!(" {text}"),
        ] {
            assert_eq!(key_id(&wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_the_secret_has_its_hash_and_each_hash_its_salt() {
        let secret = Fresh::new(Kind::Key).unwrap().secret;
        let (one, other) = (hash(Kind::Key, &secret).unwrap(), hash(Kind::Key, &secret).unwrap());
        assert!(is_of(&secret, &one) && is_of(&secret, &other) && one != other);
        assert!(one.rounds >= 390_000 && one.salt.len() == 16 && one.hash.len() == 32);
        assert!(!is_of(&Fresh::new(Kind::Key).unwrap().secret, &one));
        let mut bent = one.clone();
        bent.hash[31] ^= 1;
        assert!(!is_of(&secret, &bent));
        for broken in [
            SecretHash { hash: Vec::new(), ..one.clone() },
            SecretHash { rounds: 0, ..one.clone() },
            SecretHash { rounds: -1, ..one.clone() },
            SecretHash { hash: one.hash[..31].to_vec(), ..one.clone() },
        ] {
            assert!(!is_of(&secret, &broken));
        }
        assert!(!format!("{one:?}").contains(&format!("{:?}", one.hash)));
    }
}
