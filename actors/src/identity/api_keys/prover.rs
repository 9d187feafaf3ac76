//! Proves API keys.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use secrecy::SecretString;
use somaagent_supervision::Directory;
use time::OffsetDateTime;
use tokio::{
    sync::{Mutex as AsyncMutex, Semaphore},
    task::spawn_blocking,
    time::{Instant, timeout},
};
use uuid::Uuid;

use super::{
    known::{Found, Known, Proof, Standing},
    metrics::ApiKeyMetrics,
    secret::{self, Digest, Kind},
};
use crate::{
    domain::{identity::Identity, ids::Tenant},
    store::{
        Store, StoreError,
        api_keys::{self, StoredApiKey},
    },
};

/// Requests that may wait at a time to have a key proved that is not known.
const MAX_WAITING: usize = 1_024;
/// How many of them for one key: guesses at one must not keep others out.
const MAX_WAITING_FOR_ONE: usize = 256;
/// How long each of them waits.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long it waits for the database.
const LOOK_WITHIN: Duration = Duration::from_secs(3);
/// Most threads that hash at a time.
const MAX_HASHING: usize = 4;

/// Why an API key proves nothing. No text of it holds a part of the key.
#[derive(Debug, thiserror::Error)]
pub enum ApiKeyError {
    /// It is not taken; the words are for the log.
    #[error("the API key is refused: {0}")]
    Invalid(&'static str),
    /// Too many keys are to be hashed. Safe to try again.
    #[error("too many API keys are being hashed")]
    Busy,
    /// The database could not be asked. Safe to try again.
    #[error("the database cannot be asked for the API key")]
    Unavailable(#[source] StoreError),
}

/// What a key has proved.
#[derive(Clone, Debug)]
pub struct ProvenKey {
    /// Whom it speaks for: who made it, with no more than their scopes.
    pub identity: Identity,
    /// As long as it may be believed.
    pub standing: Standing,
}

impl From<(Identity, Standing)> for ProvenKey {
    fn from((identity, standing): (Identity, Standing)) -> Self {
        Self { identity, standing }
    }
}

/// Proves API keys, makes, lists and revokes them. A cheap handle; what was found out is shared.
#[derive(Clone)]
pub struct ApiKeys {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub store: Store,
    pub clock: fn() -> OffsetDateTime,
    pub known: Mutex<Known>,
    pub metrics: ApiKeyMetrics,
    /// One request at a time for each key that is not known.
    turns: Directory<Uuid, Arc<AsyncMutex<()>>>,
    waiting: Semaphore,
    hashing: Arc<Semaphore>,
}

impl ApiKeys {
    /// Keys that are kept in `store`.
    #[must_use]
    pub fn new(store: Store, clock: fn() -> OffsetDateTime, metrics: ApiKeyMetrics) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let inner = Inner {
            store,
            clock,
            known: Mutex::default(),
            metrics,
            turns: Directory::new(),
            waiting: Semaphore::new(MAX_WAITING),
            hashing: Arc::new(Semaphore::new((cores / 2).clamp(1, MAX_HASHING))),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Proves a key. One that is known costs microseconds; another is looked up, and hashed if it exists.
    ///
    /// # Errors
    /// [`ApiKeyError`]. `Invalid` says nothing about whether there is such a key.
    pub async fn prove(&self, secret: &str) -> Result<ProvenKey, ApiKeyError> {
        self.prove_kind(secret, Kind::Key).await
    }

    pub(super) async fn prove_kind(&self, secret: &str, kind: Kind) -> Result<ProvenKey, ApiKeyError> {
        let proved = self.look_or_prove(secret, kind).await;
        let metrics = &self.inner.metrics;
        match &proved {
            Ok(_) => {}
            Err(ApiKeyError::Invalid(_)) => metrics.refused.inc(),
            Err(ApiKeyError::Busy) => metrics.busy.inc(),
            Err(ApiKeyError::Unavailable(_)) => metrics.unavailable.inc(),
        }
        proved
    }

    async fn look_or_prove(&self, secret: &str, wanted: Kind) -> Result<ProvenKey, ApiKeyError> {
        let named = secret::key_id(secret).filter(|(kind, _)| *kind == wanted);
        let (_, key_id) = named.ok_or(ApiKeyError::Invalid("it is no key"))?;
        let digest = secret::digest(secret);
        if let Some(found) = self.found(&digest) {
            return found;
        }
        let _place = self.inner.waiting.try_acquire().map_err(|_| ApiKeyError::Busy)?;
        timeout(PATIENCE, self.prove_unknown(secret, wanted, key_id, digest)).await.unwrap_or(Err(ApiKeyError::Busy))
    }

    /// What a key proves that was proved before. The database is not asked, and nobody waits.
    #[must_use]
    pub fn known(&self, secret: &str) -> Option<ProvenKey> {
        self.known_kind(secret, Kind::Key)
    }

    pub(super) fn known_kind(&self, secret: &str, wanted: Kind) -> Option<ProvenKey> {
        secret::key_id(secret).filter(|(kind, _)| *kind == wanted)?;
        self.found(&secret::digest(secret))?.ok()
    }

    /// What is known for sure.
    fn found(&self, digest: &Digest) -> Option<Result<ProvenKey, ApiKeyError>> {
        match self.inner.known.lock().look(digest, Instant::now()) {
            Found::Proved(identity, standing) => {
                self.inner.metrics.known.inc();
                Some(Ok(ProvenKey { identity, standing }))
            }
            Found::Refused => Some(Err(ApiKeyError::Invalid("it was refused before"))),
            Found::Stale(_) | Found::Nothing => None,
        }
    }

    async fn prove_unknown(
        &self,
        secret: &str,
        wanted: Kind,
        key_id: Uuid,
        digest: Digest,
    ) -> Result<ProvenKey, ApiKeyError> {
        let turn = Turn::of(&self.inner.turns, key_id);
        if Arc::strong_count(&turn.lock) > MAX_WAITING_FOR_ONE {
            return Err(ApiKeyError::Busy);
        }
        let _held = turn.lock.lock().await;
        // Whoever had the turn before may have found it out.
        if let Some(found) = self.found(&digest) {
            return found;
        }
        let asked = Instant::now();
        let Some(stored) = self.find(key_id).await? else { return Err(self.refuse(digest, "nobody has it")) };
        if stored.is_login != (wanted == Kind::Login) {
            return Err(self.refuse(digest, "it is of another kind"));
        }
        let ends = self.ends(&stored).map_err(|why| self.refuse(digest, why))?;
        let was_proved = match self.inner.known.lock().look(&digest, asked) {
            Found::Stale(hash) => hash == stored.hash,
            _ => false,
        };
        let counted = if was_proved {
            &self.inner.metrics.confirmed
        } else if self.has_hash(secret, &stored).await? {
            &self.inner.metrics.proved
        } else {
            return Err(self.refuse(digest, "its secret is wrong"));
        };
        let Some(proof) = proof(key_id, stored, ends) else {
            return Err(self.refuse(digest, "it belongs to nobody"));
        };
        counted.inc();
        Ok(self.inner.known.lock().prove(digest, proof, asked).into())
    }

    fn refuse(&self, digest: Digest, why: &'static str) -> ApiKeyError {
        self.inner.known.lock().refuse(digest, Instant::now());
        ApiKeyError::Invalid(why)
    }

    async fn find(&self, key_id: Uuid) -> Result<Option<StoredApiKey>, ApiKeyError> {
        let work =
            self.inner.store.run(move |connection| Box::pin(async move { api_keys::find(connection, key_id).await }));
        let found = timeout(LOOK_WITHIN, work).await.unwrap_or(Err(StoreError::TimedOut));
        found.map_err(ApiKeyError::Unavailable)
    }

    /// When a key ends, if it does.
    ///
    /// # Errors
    /// Why it has ended already.
    fn ends(&self, stored: &StoredApiKey) -> Result<Option<Instant>, &'static str> {
        if stored.revoked_at.is_some() {
            return Err("it was revoked");
        }
        let Some(expires_at) = stored.expires_at else { return Ok(None) };
        let left = Duration::try_from(expires_at - (self.inner.clock)()).ok().filter(|left| !left.is_zero());
        // What ends beyond all times does not end.
        Ok(Instant::now().checked_add(left.ok_or("it has expired")?))
    }

    async fn has_hash(&self, secret: &str, stored: &StoredApiKey) -> Result<bool, ApiKeyError> {
        let (secret, stored) = (SecretString::from(secret), stored.hash.clone());
        self.hash_apart(move || secret::is_of(&secret, &stored)).await
    }

    /// Does what takes a tenth of a second apart from everything else. It goes on, and keeps its place, when nobody waits
    /// for it any more.
    ///
    /// # Errors
    /// `Busy`.
    pub(super) async fn hash_apart<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiKeyError> {
        let place = Arc::clone(&self.inner.hashing).acquire_owned().await.map_err(|_| ApiKeyError::Busy)?;
        let hashed = spawn_blocking(move || {
            let done = work();
            drop(place);
            done
        });
        hashed.await.map_err(|_| ApiKeyError::Busy)
    }
}

/// What the key proves; `None` if what is stored of it is unusable.
fn proof(key_id: Uuid, stored: StoredApiKey, ends: Option<Instant>) -> Option<Proof> {
    let identity = Identity {
        tenant: Tenant::new(&stored.tenant)?,
        subject: stored.created_by,
        issuer: stored.issuer,
        scope: Some(stored.scopes.join(" ")),
    };
    Some(Proof { key_id, identity, hash: stored.hash, ends })
}

/// A request's turn with a key. The last one takes the key off the list.
struct Turn<'a> {
    turns: &'a Directory<Uuid, Arc<AsyncMutex<()>>>,
    key_id: Uuid,
    lock: Arc<AsyncMutex<()>>,
}

impl<'a> Turn<'a> {
    fn of(turns: &'a Directory<Uuid, Arc<AsyncMutex<()>>>, key_id: Uuid) -> Self {
        let (lock, _) = turns.get_or_insert_with(key_id, Arc::default);
        Self { turns, key_id, lock }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // The list's and this one: nobody else takes one while the list is looked at.
        self.turns.remove_if(&self.key_id, |lock| Arc::strong_count(lock) <= 2);
    }
}
