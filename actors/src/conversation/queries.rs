//! Bounded reads for the door: they wake no actor.

use std::{fmt, str::FromStr};

use time::OffsetDateTime;
use uuid::Uuid;

pub use super::pages::Page;
pub use crate::store::{StoreError, session_envelopes::SessionSummary, timeline::TimelineEntry};
use crate::{
    domain::caller::Caller,
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

/// A position in the list of sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListCursor {
    /// When the last listed session had changed.
    pub updated_at: OffsetDateTime,
    /// That session's id.
    pub session_id: Uuid,
}

impl fmt::Display for ListCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The database keeps microseconds.
        write!(f, "{}-{}", self.updated_at.unix_timestamp_nanos() / 1_000, self.session_id.simple())
    }
}

/// The text is no list position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a list position")]
pub struct ListCursorError;

impl FromStr for ListCursor {
    type Err = ListCursorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (micros, id) = text.split_once('-').ok_or(ListCursorError)?;
        let micros: i64 = micros.parse().map_err(|_| ListCursorError)?;
        let updated_at =
            OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000).map_err(|_| ListCursorError)?;
        let session_id = Uuid::try_parse(id).map_err(|_| ListCursorError)?;
        Ok(Self { updated_at, session_id })
    }
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
                    let before = page.before.map(|at| (at.updated_at, at.session_id));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_position_reads_back_what_it_writes() {
        let at = OffsetDateTime::UNIX_EPOCH + time::Duration::microseconds(1_234_567);
        let cursor = ListCursor { updated_at: at, session_id: Uuid::from_u128(7) };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for bad in ["", "-", "1", "x-00000000000000000000000000000007", "1-7"] {
            assert_eq!(bad.parse::<ListCursor>(), Err(ListCursorError), "{bad:?} was taken");
        }
    }
}
