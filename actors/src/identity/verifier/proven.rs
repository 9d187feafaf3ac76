//! Tokens that were proved and need no second proof: a signature costs more than the rest of a small request.

use std::sync::Arc;

use jsonwebtoken::get_current_timestamp;
use quick_cache::{Weighter, sync::Cache};
use sha2::{Digest as _, Sha256};

use super::{By, Verified};

/// What all entries may weigh, in bytes.
const CAPACITY_BYTES: u64 = 8 << 20;
/// What an entry weighs besides its texts, in bytes, roughly.
const ENTRY_BYTES: usize = 256;
/// How many entries of usual size fit.
const ENTRIES: usize = 16_384;

/// A token as the cache knows it: its SHA-256, so that no memory holds what could be shown again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(super) fn of(token: &str) -> Self {
        Self(Sha256::digest(token).into())
    }
}

/// What was proved, and for how long it is.
#[derive(Debug, Clone)]
pub(super) struct Proof {
    /// What.
    pub(super) verified: Verified,
    /// The issuer, by its place among those of the settings.
    pub(super) issuer: usize,
    /// By which keys: once they are not the issuer's any more the token may prove nothing.
    pub(super) by: By,
    /// The last second since 1970 for which it is, the leeway included. Not an instant: the machine's clock may be set, or may
    /// have slept.
    pub(super) until: u64,
}

/// The proofs that were given last. Only what was proved gets in, so no stranger can fill it.
#[derive(Debug)]
pub(super) struct Proven(Cache<Fingerprint, Arc<Proof>, Bytes>);

#[derive(Debug, Clone)]
struct Bytes;

impl Weighter<Fingerprint, Arc<Proof>> for Bytes {
    fn weight(&self, _: &Fingerprint, proof: &Arc<Proof>) -> u64 {
        let who = &proof.verified.identity;
        let texts =
            [Some(who.subject.as_str()), Some(who.tenant.as_str()), who.issuer.as_deref(), who.scope.as_deref()];
        let bytes: usize = texts.into_iter().flatten().map(str::len).sum();
        (bytes + ENTRY_BYTES) as u64
    }
}

impl Proven {
    pub(super) fn new() -> Self {
        Self(Cache::with_weighter(ENTRIES, CAPACITY_BYTES, Bytes))
    }

    /// What a token has proved, if its time has not run out and `is_current` says that its keys are still those of its
    /// issuer. What is not any more is forgotten.
    pub(super) fn get(&self, token: &Fingerprint, is_current: impl FnOnce(&Proof) -> bool) -> Option<Verified> {
        let proof = self.0.get(token)?;
        if get_current_timestamp() <= proof.until && is_current(&proof) {
            return Some(proof.verified.clone());
        }
        self.0.remove(token);
        None
    }

    pub(super) fn keep(&self, token: Fingerprint, proof: Proof) {
        self.0.insert(token, Arc::new(proof));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use tokio::time::Instant;

    use super::*;
    use crate::domain::{identity::Identity, ids::Tenant};

    fn proof(scope: String, until: u64) -> Proof {
        let identity = Identity {
            tenant: Tenant::new("acme").unwrap(),
            subject: "ada".to_owned(),
            issuer: None,
            scope: Some(scope),
        };
        Proof { verified: Verified { identity, ends: Instant::now() }, issuer: 0, by: By::Fixed, until }
    }

    #[test]
    fn what_was_proved_is_known_until_it_ends_or_its_keys_change() {
        let proven = Proven::new();
        let [good, late] = ["good", "late"].map(Fingerprint::of);
        proven.keep(good, proof("a".to_owned(), get_current_timestamp() + 60));
        proven.keep(late, proof("b".to_owned(), get_current_timestamp() - 1));
        assert_eq!(proven.get(&good, |_| true).unwrap().identity.scope.unwrap(), "a");
        assert_eq!(proven.get(&late, |_| true), None);
        assert_eq!(proven.get(&Fingerprint::of("other"), |_| true), None);
        assert_eq!(proven.get(&good, |_| false), None);
        assert_eq!(proven.get(&good, |_| true), None, "it was forgotten");
    }

    #[test]
    fn the_memory_of_many_tokens_is_bounded() {
        let proven = Proven::new();
        for n in 0..20_000 {
            let token = Fingerprint::of(&n.to_string());
            proven.keep(token, proof("x".repeat(1_000), u64::MAX));
            assert!(proven.0.weight() <= CAPACITY_BYTES);
        }
        assert!(proven.0.len() > 1_000, "and yet it is of use: {}", proven.0.len());
    }
}
