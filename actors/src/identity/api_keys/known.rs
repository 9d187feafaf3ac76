//! What was found out about keys that were shown. Secrets are not kept, only their SHA-256; of what was used longest ago, most
//! is forgotten when there is no room.
//!
//! That is why other caches will not do here: what is forgotten ends what goes on by it, so it must be what was used longest ago and
//! no guess at what is of least use, and each round goes through all entries and changes them.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use hashlink::LruCache;
use time::OffsetDateTime;
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use super::{BELIEVED_FOR, secret::Digest};
use crate::{
    domain::identity::Identity,
    store::api_keys::{Named, SecretHash},
};

/// Keys that are remembered because they were proved.
pub(super) const MAX_PROVED: usize = 10_000;
/// Secrets that are remembered because they were refused.
const MAX_REFUSED: usize = 10_000;
/// How long a refused one is.
const REFUSED_FOR: Duration = Duration::from_mins(1);
/// How often the use of a key is written down.
const NOTED_EVERY: Duration = Duration::from_mins(1);

/// As long as a key that was proved may be believed. What the key began ends with it.
#[derive(Clone, Debug)]
pub struct Standing(watch::Receiver<()>);

impl Standing {
    /// Done once the key may not be believed any more: it was revoked or has expired, nobody knows whether it was, or too many
    /// others were used since.
    pub async fn ended(mut self) {
        // Nothing is ever sent; it fails when the key is forgotten.
        while self.0.changed().await.is_ok() {}
    }
}

/// A key as it was proved.
pub(super) struct Proof {
    pub key_id: Uuid,
    pub identity: Identity,
    /// What was stored of its secret.
    pub hash: SecretHash,
    /// When it expires.
    pub ends: Option<Instant>,
}

struct Entry {
    proof: Proof,
    /// The database said that it stands, or was asked about it, no earlier than this.
    asked: Instant,
    /// Used since the last round.
    used: bool,
    /// When it was used, if that is not written down.
    unnoted: Option<OffsetDateTime>,
    noted: Option<Instant>,
    standing: watch::Sender<()>,
}

impl Entry {
    fn is_over(&self, now: Instant) -> bool {
        self.proof.ends.is_some_and(|ends| ends <= now)
    }

    fn is_believed(&self, now: Instant) -> bool {
        now.duration_since(self.asked) <= BELIEVED_FOR
    }

    fn is_in_use(&self) -> bool {
        self.used || self.standing.receiver_count() > 0
    }
}

/// What is known of a secret.
pub(super) enum Found {
    /// Whom it speaks for.
    Proved(Identity, Standing),
    /// It was proved, but not lately: if what is stored is still this, it need not be hashed again.
    Stale(SecretHash),
    /// It was refused.
    Refused,
    /// Nothing.
    Nothing,
}

/// What one round of the watcher is about.
#[derive(Default)]
pub(super) struct Round {
    /// Keys in use: whether they stand is to be asked.
    pub in_use: Named,
    /// Keys whose use is to be written down …
    pub used: Named,
    /// … and when it was.
    pub used_at: Vec<OffsetDateTime>,
}

pub(super) struct Known {
    proved: LruCache<Digest, Entry>,
    refused: LruCache<Digest, Instant>,
}

impl Default for Known {
    fn default() -> Self {
        Self { proved: LruCache::new(MAX_PROVED), refused: LruCache::new(MAX_REFUSED) }
    }
}

impl Known {
    pub(super) fn look(&mut self, digest: &Digest, now: Instant) -> Found {
        match self.proved.get_mut(digest) {
            Some(entry) if entry.is_over(now) => {
                self.refuse(*digest, now);
                Found::Refused
            }
            Some(entry) if entry.is_believed(now) => {
                entry.used = true;
                Found::Proved(entry.proof.identity.clone(), Standing(entry.standing.subscribe()))
            }
            Some(entry) => Found::Stale(entry.proof.hash.clone()),
            None => match self.refused.get(digest) {
                Some(at) if now.duration_since(*at) <= REFUSED_FOR => Found::Refused,
                _ => Found::Nothing,
            },
        }
    }

    /// Remembers that a key was proved by what the database said at `asked` or later.
    pub(super) fn prove(&mut self, digest: Digest, proof: Proof, asked: Instant) -> (Identity, Standing) {
        // What goes on by this key goes on.
        let before = self.proved.remove(&digest);
        let (unnoted, noted) = before.as_ref().map_or((None, None), |entry| (entry.unnoted, entry.noted));
        let standing = before.map_or_else(|| watch::Sender::new(()), |entry| entry.standing);
        let found = (proof.identity.clone(), Standing(standing.subscribe()));
        self.proved.insert(digest, Entry { proof, asked, used: true, unnoted, noted, standing });
        found
    }

    /// Remembers that a secret proves nothing.
    pub(super) fn refuse(&mut self, digest: Digest, now: Instant) {
        self.proved.remove(&digest);
        self.refused.insert(digest, now);
    }

    /// Forgets keys that were revoked.
    pub(super) fn forget(&mut self, key_ids: &[Uuid]) {
        let key_ids: HashSet<&Uuid> = key_ids.iter().collect();
        self.proved.retain(|_, entry| !key_ids.contains(&entry.proof.key_id));
    }

    /// Begins a round: what may not go on ends, and what is in use is listed. `at` is what time it is.
    pub(super) fn begin_round(&mut self, now: Instant, at: OffsetDateTime) -> Round {
        let mut round = Round::default();
        let add = |named: &mut Named, proof: &Proof| {
            named.tenants.push(proof.identity.tenant.as_str().to_owned());
            named.key_ids.push(proof.key_id);
        };
        for (_, entry) in &mut self.proved {
            if entry.is_in_use() {
                add(&mut round.in_use, &entry.proof);
            }
            if std::mem::take(&mut entry.used) {
                entry.unnoted = Some(at);
            }
            let due = entry.noted.is_none_or(|noted| now.duration_since(noted) >= NOTED_EVERY);
            if let (Some(at), true) = (entry.unnoted, due) {
                add(&mut round.used, &entry.proof);
                round.used_at.push(at);
            }
        }
        round
    }

    /// Ends what may not go on: keys that have expired, and those of which nobody knows any more whether they stand.
    pub(super) fn end_old(&mut self, now: Instant) {
        let goes_on = |entry: &Entry| {
            // A key with which nothing goes on is kept: when it comes back, the database is asked.
            !entry.is_over(now) && (entry.is_believed(now) || entry.standing.receiver_count() == 0)
        };
        self.proved.retain(|_, entry| goes_on(entry));
    }

    /// What the database said about `asked` at the time `at` or later: these stand, the others do not.
    pub(super) fn confirm(&mut self, asked: &Named, standing: Vec<Uuid>, at: Instant) {
        let asked: HashSet<Uuid> = asked.key_ids.iter().copied().collect();
        let standing: HashSet<Uuid> = standing.into_iter().collect();
        self.proved.retain(|_, entry| {
            let (was_asked, stands) = (asked.contains(&entry.proof.key_id), standing.contains(&entry.proof.key_id));
            if was_asked && stands {
                entry.asked = entry.asked.max(at);
            }
            !was_asked || stands
        });
    }

    /// These uses are written down.
    pub(super) fn noted(&mut self, used: &Named, at: &[OffsetDateTime], now: Instant) {
        let at: HashMap<Uuid, OffsetDateTime> = used.key_ids.iter().copied().zip(at.iter().copied()).collect();
        for (_, entry) in &mut self.proved {
            let Some(at) = at.get(&entry.proof.key_id) else { continue };
            entry.noted = Some(now);
            // A later use is for the next time.
            if entry.unnoted == Some(*at) {
                entry.unnoted = None;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> (usize, usize) {
        (self.proved.len(), self.refused.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation ends the test")]

    use futures_util::FutureExt as _;

    use super::*;
    use crate::domain::ids::Tenant;

    const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn digest(n: usize) -> Digest {
        super::super::secret::digest(&n.to_string())
    }

    fn proof(n: usize) -> Proof {
        let identity =
            Identity { tenant: Tenant::new("acme").unwrap(), subject: n.to_string(), issuer: None, scope: None };
        let hash = SecretHash { hash: vec![], salt: vec![], rounds: 1 };
        Proof { key_id: Uuid::from_u128(n as u128), identity, hash, ends: None }
    }

    fn proved(found: &Found) -> bool {
        matches!(found, Found::Proved(..))
    }

    fn goes_on(standing: &Standing) -> bool {
        standing.clone().ended().now_or_never().is_none()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_believed_for_a_while_and_then_asked_for() {
        let (mut known, now) = (Known::default(), Instant::now());
        assert!(matches!(known.look(&digest(1), now), Found::Nothing));
        let (identity, standing) = known.prove(digest(1), proof(1), now);
        assert_eq!(identity.subject, "1");
        assert!(proved(&known.look(&digest(1), now + BELIEVED_FOR)));
        let late = now + BELIEVED_FOR + Duration::from_millis(1);
        assert!(matches!(known.look(&digest(1), late), Found::Stale(_)));
        known.prove(digest(1), proof(1), late);
        assert!(proved(&known.look(&digest(1), late)) && goes_on(&standing), "what went on by it goes on");
        assert!(matches!(known.look(&digest(2), now), Found::Nothing));
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_in_use_is_asked_for_before_it_is_too_old() {
        let (mut known, now) = (Known::default(), Instant::now());
        drop(known.prove(digest(1), proof(1), now));
        let (_, streams) = known.prove(digest(2), proof(2), now);
        drop(known.prove(digest(3), proof(3), now));
        known.begin_round(now, AT);
        drop(known.look(&digest(1), now));
        let round = known.begin_round(now, AT);
        assert_eq!(round.in_use.key_ids.len(), 2, "one was used, one streams");
        let later = now + BELIEVED_FOR;
        known.confirm(&round.in_use, vec![Uuid::from_u128(1), Uuid::from_u128(2)], later);
        let late = later + Duration::from_secs(1);
        assert!(proved(&known.look(&digest(1), late)) && proved(&known.look(&digest(2), late)));
        assert!(matches!(known.look(&digest(3), late), Found::Stale(_)));
        // An answer that comes late makes nothing older.
        known.confirm(&round.in_use, vec![Uuid::from_u128(1), Uuid::from_u128(2)], now);
        assert!(proved(&known.look(&digest(1), late)) && goes_on(&streams));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_revoked_ends_at_once_and_the_rest_goes_on() {
        let (mut known, now) = (Known::default(), Instant::now());
        let (_, one) = known.prove(digest(1), proof(1), now);
        let (_, two) = known.prove(digest(2), proof(2), now);
        let (_, three) = known.prove(digest(3), proof(3), now);
        let round = known.begin_round(now, AT);
        drop(known.prove(digest(4), proof(4), now));
        known.confirm(&round.in_use, vec![Uuid::from_u128(2), Uuid::from_u128(3)], now);
        assert!(!goes_on(&one) && goes_on(&two));
        assert!(matches!(known.look(&digest(1), now), Found::Nothing));
        assert!(proved(&known.look(&digest(4), now)), "nobody asked for it");
        known.forget(&[Uuid::from_u128(3)]);
        assert!(!goes_on(&three) && goes_on(&two));
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_can_ask_about_ends_in_time() {
        let (mut known, now) = (Known::default(), Instant::now());
        let (_, streams) = known.prove(digest(1), proof(1), now);
        drop(known.prove(digest(2), proof(2), now));
        known.end_old(now + BELIEVED_FOR);
        assert!(goes_on(&streams));
        known.end_old(now + BELIEVED_FOR + Duration::from_millis(1));
        assert!(!goes_on(&streams));
        assert!(matches!(known.look(&digest(2), now + 2 * BELIEVED_FOR), Found::Stale(_)), "nothing goes on by it");
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_expired_is_refused_and_ends() {
        let (mut known, now) = (Known::default(), Instant::now());
        let ends = now + Duration::from_secs(1);
        let of = |n| Proof { ends: Some(ends), ..proof(n) };
        let (_, shown) = known.prove(digest(1), of(1), now);
        let (_, streams) = known.prove(digest(2), of(2), now);
        assert!(proved(&known.look(&digest(1), ends - Duration::from_millis(1))));
        assert!(matches!(known.look(&digest(1), ends), Found::Refused) && !goes_on(&shown));
        known.end_old(ends);
        assert!(!goes_on(&streams));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_secret_is_remembered_for_a_while() {
        let (mut known, now) = (Known::default(), Instant::now());
        known.refuse(digest(1), now);
        assert!(matches!(known.look(&digest(1), now + REFUSED_FOR), Found::Refused));
        assert!(matches!(known.look(&digest(1), now + REFUSED_FOR + Duration::from_millis(1)), Found::Nothing));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded_and_the_latest_stays() {
        let (mut known, now) = (Known::default(), Instant::now());
        let (_, first) = known.prove(digest(0), proof(0), now);
        for n in 1..=MAX_PROVED {
            drop(known.prove(digest(n), proof(n), now));
        }
        for n in 0..=MAX_REFUSED {
            known.refuse(digest(MAX_PROVED + 1 + n), now);
        }
        assert_eq!(known.count(), (MAX_PROVED, MAX_REFUSED));
        assert!(!goes_on(&first) && proved(&known.look(&digest(MAX_PROVED), now)));
        assert!(matches!(known.look(&digest(0), now), Found::Nothing));
    }

    #[tokio::test(start_paused = true)]
    async fn the_use_of_a_key_is_written_down_once_a_minute() {
        let (mut known, now) = (Known::default(), Instant::now());
        drop(known.prove(digest(1), proof(1), now));
        let round = known.begin_round(now, AT);
        assert_eq!((round.used.key_ids.len(), round.used_at.clone()), (1, vec![AT]));
        assert_eq!(known.begin_round(now, AT).used.key_ids.len(), 1, "it was not written down");
        known.noted(&round.used, &round.used_at, now);
        let minute = now + NOTED_EVERY;
        drop(known.look(&digest(1), now));
        let next = AT + Duration::from_secs(1);
        assert!(known.begin_round(now, next).used.key_ids.is_empty(), "too soon");
        assert_eq!(known.begin_round(minute, next + NOTED_EVERY).used_at, vec![next], "but not forgotten");
        known.noted(&round.used, &[next], minute);
        assert!(known.begin_round(minute + NOTED_EVERY, next).used.key_ids.is_empty(), "nobody used it since");
    }
}
