//! The door's handle to uploads. It wakes no actor.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    Clock, Declared, Ingest, IngestError, UploadMetrics,
    external::External,
    ingest::scanning::Scanner,
    links::Links,
    rules::{InForce, Rules},
};
use crate::{
    domain::{caller::Caller, memory::MemorySpace, whose::Whose},
    store::{Store, StoreError, session_envelopes},
};

/// Takes files. A cheap handle.
#[derive(Clone)]
pub struct Uploads {
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) scanner: Option<Arc<dyn Scanner>>,
    pub(super) metrics: UploadMetrics,
    /// Where what was sent is remembered, if that is wanted.
    pub(super) remembers: Option<MemorySpace>,
    external: Option<External>,
    rules: InForce,
}

/// Why a file cannot be sent to a session.
#[derive(Debug, thiserror::Error)]
pub enum SessionRefused {
    /// It does not exist for the caller.
    #[error("the session does not exist for the caller")]
    NotFound,
    /// It was deleted.
    #[error("the session was deleted")]
    Deleted,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Uploads {
    /// A handle that is held to `rules`. Where these want files looked through and nobody does, none passes for clean.
    #[must_use]
    pub const fn new(store: Store, rules: InForce, metrics: UploadMetrics, clock: Clock) -> Self {
        Self { store, clock, scanner: None, metrics, remembers: None, external: None, rules }
    }

    /// The same; files are looked through by `scanner`, if the rules want that.
    #[must_use]
    pub fn looked_through_by(self, scanner: Arc<dyn Scanner>) -> Self {
        Self { scanner: Some(scanner), ..self }
    }

    /// The same; that a file was sent is remembered in `space`.
    #[must_use]
    pub fn remembering_in(self, space: MemorySpace) -> Self {
        Self { remembers: Some(space), ..self }
    }

    /// The same; files elsewhere are fetched by `external`, if the rules allow that.
    #[must_use]
    pub fn fetching_by(self, external: External) -> Self {
        Self { external: Some(external), ..self }
    }

    /// Who fetches files that are elsewhere, if anybody does.
    #[must_use]
    pub const fn external(&self) -> Option<&External> {
        self.external.as_ref()
    }

    /// What is in force now. A request is held to one and the same rules from its beginning to its end.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.borrow())
    }

    /// Links to what was sent.
    #[must_use]
    pub fn links(&self) -> Links {
        Links::new(self.store.clone(), self.rules.clone(), self.clock)
    }

    /// What is counted.
    #[must_use]
    pub const fn metrics(&self) -> &UploadMetrics {
        &self.metrics
    }

    /// Begins to take a file for `caller`.
    ///
    /// # Errors
    /// [`IngestError::MimeNotAllowed`], or [`IngestError::Scan`].
    pub async fn begin(&self, caller: &Caller, rules: Arc<Rules>, said: &Declared) -> Result<Ingest, IngestError> {
        Ingest::begin(self, caller.tenant.clone(), rules, said).await
    }

    /// Whether `caller` may send files to a session: to one that exists for them, or to one that nobody has begun yet, because
    /// files may come before the message that they belong to.
    ///
    /// # Errors
    /// [`SessionRefused`].
    pub async fn check_session(&self, caller: &Caller, session_id: Uuid) -> Result<(), SessionRefused> {
        let key = caller.session(session_id);
        let work = self.store.read_for(caller.tenant.clone(), move |rows| {
            Box::pin(async move { session_envelopes::get(rows, &key, None).await })
        });
        let Some(found) = work.await? else { return Ok(()) };
        if Whose::stored(found.last_seq, found.subject).is_hidden_from(caller) {
            return Err(SessionRefused::NotFound);
        }
        if found.deleted_at.is_some() { Err(SessionRefused::Deleted) } else { Ok(()) }
    }
}
