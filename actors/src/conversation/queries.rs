//! Bounded reads for the door: they wake no actor.

use uuid::Uuid;

pub use super::pages::Page;
pub use crate::store::{StoreError, session_envelopes::SessionSummary, timeline::TimelineEntry};
use crate::{
    domain::{caller::Caller, list_cursor::ListCursor},
    store::{Store, session_envelopes, timeline},
};

/// Reads history and lists.
#[derive(Clone, Debug)]
pub struct Reads {
    pub(super) store: Store,
}

/// What is known of an id.
#[derive(Clone, Debug)]
pub enum Lookup<T> {
    /// It exists.
    Found(T),
    /// It existed.
    Deleted,
    /// Nobody has used it.
    Unknown,
}

/// Which part of a list.
#[derive(Clone, Debug, Default)]
pub struct SessionPage {
    /// At most this many.
    pub limit: i64,
    /// After this position.
    pub before: Option<ListCursor>,
    /// Only titles that contain this, in either case.
    pub containing: Option<String>,
}

impl Reads {
    /// Reads from `store`.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Lists the sessions that exist for `caller`, the latest changed first.
    ///
    /// # Errors
    /// The store's.
    pub async fn sessions(&self, caller: &Caller, page: SessionPage) -> Result<Vec<SessionSummary>, StoreError> {
        let caller = caller.clone();
        self.store
            .read_for(caller.tenant.clone(), move |rows| {
                Box::pin(async move {
                    let before = page.before.map(|at| (at.at, at.id));
                    let (tenant, limit, containing) = (&caller.tenant, page.limit, page.containing.as_deref());
                    match caller.only() {
                        None => session_envelopes::list(rows, tenant, limit, before, containing).await,
                        Some([]) => Ok(vec![]),
                        Some([subject, ..]) => {
                            session_envelopes::list_of(rows, tenant, subject, limit, before, containing).await
                        }
                    }
                })
            })
            .await
    }

    /// Reads one session. One that does not exist for `caller` is unknown, whatever became of it.
    ///
    /// # Errors
    /// The store's.
    pub async fn session(&self, caller: &Caller, session_id: Uuid) -> Result<Lookup<SessionSummary>, StoreError> {
        let caller = caller.clone();
        let found = self
            .store
            .read_for(caller.tenant.clone(), move |rows| {
                Box::pin(async move { session_envelopes::get(rows, &caller.session(session_id), caller.only()).await })
            })
            .await?;
        Ok(match found {
            None => Lookup::Unknown,
            Some(summary) if summary.deleted_at.is_some() => Lookup::Deleted,
            Some(summary) => Lookup::Found(summary),
        })
    }

    /// Reads what happened in a session, the oldest first: of each kind the newest, at most `limit`. Nothing of one that does
    /// not exist for `caller`.
    ///
    /// # Errors
    /// The store's.
    pub async fn timeline(
        &self,
        caller: &Caller,
        session_id: Uuid,
        limit: i64,
        with_audit: bool,
    ) -> Result<Vec<TimelineEntry>, StoreError> {
        let caller = caller.clone();
        let work = self.store.read_for(caller.tenant.clone(), move |rows| {
            Box::pin(async move {
                let key = caller.session(session_id);
                timeline::timeline(rows, &key, caller.only(), limit, with_audit).await
            })
        });
        work.await
    }

    /// Asks the database for a sign of life.
    ///
    /// # Errors
    /// The store's.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.store.run(|connection| Box::pin(sqlx::Connection::ping(connection))).await
    }
}
