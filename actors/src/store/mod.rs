//! PostgreSQL: one file a table, functions named by verb that take a connection. Nothing here knows actix.
//!
//! [`Store`] is how the rest of the crate reaches a connection. It holds to rules that the embedded server needs and
//! that a real one profits from: work runs to its end even when its asker has gone, a connection that failed or timed
//! out is closed and never reused, and the Journal never waits behind more than one other query.

pub mod append;
pub mod brain_memories;
pub mod erase;
pub mod migrate;
pub mod session_envelopes;
pub mod session_events;
pub mod turns;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use sqlx::{PgConnection, PgPool, postgres::PgPoolOptions};
use tokio::{runtime::Handle, sync::Semaphore, time::timeout};

/// Why a piece of work on the database has no result.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection could be had: nothing was sent.
    #[error("the database is not reachable")]
    Unavailable(#[source] sqlx::Error),
    /// The connection broke: what was sent may have been done.
    #[error("the connection to the database broke")]
    Interrupted(#[source] sqlx::Error),
    /// The database did not answer in time. What was sent may have been done.
    #[error("the database did not answer in time")]
    TimedOut,
    /// The database answered with an error and did nothing.
    #[error("the database refused a statement")]
    Rejected(#[source] sqlx::Error),
}

impl StoreError {
    /// The SQLSTATE of a refusal, five characters (PostgreSQL documentation, appendix A).
    #[must_use]
    pub fn sqlstate(&self) -> Option<String> {
        let Self::Rejected(sqlx::Error::Database(error)) = self else { return None };
        error.code().map(std::borrow::Cow::into_owned)
    }

    /// Whether the content was at fault: classes 22 (data exception) and 23 (integrity constraint violation).
    #[must_use]
    pub fn is_bad_data(&self) -> bool {
        self.sqlstate().is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            // Class 57 says that the server is going away, class 08 that the connection is: neither tells what was done.
            sqlx::Error::Database(inner)
                if !inner.code().is_some_and(|code| code.starts_with("08") || code.starts_with("57P")) =>
            {
                Self::Rejected(error)
            }
            sqlx::Error::RowNotFound | sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
                Self::Rejected(error)
            }
            _ => Self::Interrupted(error),
        }
    }
}

/// The connections a [`Store`] works with.
#[derive(Clone, Debug)]
pub struct Connections {
    /// For everybody.
    pub shared: PgPool,
    /// For the Journal: a connection of its own, or the same pool again where the server takes only one connection.
    pub journal: PgPool,
    /// Whether both are one connection.
    pub single: bool,
}

impl Connections {
    /// Connections to no server at all: every use fails at once. For tests of rooms that must not name the database.
    ///
    /// # Errors
    /// Never; the address is a constant.
    pub fn nowhere() -> Result<Self, sqlx::Error> {
        let soon = PgPoolOptions::new().acquire_timeout(Duration::from_millis(20));
        let pool = soon.connect_lazy("postgres://nobody@127.0.0.1:1/none?sslmode=disable")?;
        Ok(Self { shared: pool.clone(), journal: pool, single: false })
    }
}

/// A cheap handle to the database.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    pool: PgPool,
    journal: PgPool,
    /// Lets one query at a time stand in line for the only connection, so that the Journal is next after it.
    back: Option<Semaphore>,
    runtime: Handle,
    limit: Duration,
}

impl Store {
    /// A store on `connections`. A statement may take `limit`; the server's own timeout should be a little shorter, because
    /// its refusal says for sure that nothing was done. Work runs on `runtime`, which must outlast the store.
    #[must_use]
    pub fn new(connections: Connections, limit: Duration, runtime: Handle) -> Self {
        let Connections { shared: pool, journal, single } = connections;
        let back = single.then(|| Semaphore::new(1));
        Self { inner: Arc::new(Inner { pool, journal, back, runtime, limit }) }
    }

    /// Does `work` on a connection and waits for its result.
    ///
    /// # Errors
    /// [`StoreError`]; after `Interrupted` and `TimedOut` the work may still have had its effect.
    pub async fn run<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        self.detached(async move {
            let _turn = match &inner.back {
                Some(line) => Some(
                    timeout(inner.limit, line.acquire())
                        .await
                        .map_err(|_| StoreError::Unavailable(sqlx::Error::PoolTimedOut))?,
                ),
                None => None,
            };
            on_connection(&inner.pool, inner.limit, work).await
        })
        .await
    }

    /// The same on the Journal's own connection, or ahead of the line where there is only one.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_journal<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send + 'static,
    {
        let inner = Arc::clone(&self.inner);
        self.detached(async move { on_connection(&inner.journal, inner.limit, work).await }).await
    }

    /// Runs `work` apart from its asker: a query is never cancelled half-way because a client hung up.
    async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        // The one place where work is not tied to its asker: a query must not be cancelled half-way. It is joined below.
        let task = self.inner.runtime.spawn(work);
        task.await
            .unwrap_or_else(|failure| Err(StoreError::Interrupted(sqlx::Error::Io(std::io::Error::other(failure)))))
    }
}

async fn on_connection<T, W>(pool: &PgPool, limit: Duration, work: W) -> Result<T, StoreError>
where
    W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
{
    let mut connection = pool.acquire().await.map_err(StoreError::Unavailable)?;
    let result = match timeout(limit, work(&mut connection)).await {
        Ok(result) => result.map_err(StoreError::from),
        Err(_) => Err(StoreError::TimedOut),
    };
    if matches!(result, Err(StoreError::Interrupted(_) | StoreError::TimedOut)) {
        // Closed, not returned: nobody else may read the rest of this reply.
        drop(connection.detach());
    }
    result
}
