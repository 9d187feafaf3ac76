//! PostgreSQL: one file a table, functions named by verb that take a connection. Nothing here knows actix.
//!
//! [`Store`] is how the rest of the crate reaches a connection. It holds to rules that the embedded server needs and
//! that a real one profits from: work runs to its end even when its asker has gone, a connection on which
//! anything failed is closed and never reused, and the Journal never waits behind more than one other query.

pub mod api_keys;
pub mod append;
pub mod audit_chain;
pub mod audit_event;
pub mod audit_trail;
pub mod audit_walk;
pub mod brain_memories;
pub mod dead_letters;
pub mod dlq_jobs;
pub mod erase;
pub mod event_log;
pub mod event_log_groups;
pub mod export_chunks;
pub mod export_jobs;
pub mod forget;
mod lane;
mod memory_lock;
pub mod memory_replica;
pub mod memory_write_outbox;
pub mod message_outbox;
pub mod migrate;
pub mod outbox;
pub mod outbox_events;
pub mod outbox_leases;
pub mod purge;
pub mod receipt;
pub mod session_envelopes;
pub mod session_events;
pub mod timeline;
pub mod turns;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use sqlx::{
    PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, oneshot},
    time::timeout,
};
use tracing::Instrument;

use self::{
    lane::Lane,
    outbox_events::{Enqueued, OutboxEvents},
};

/// How reads by a filter begin: a plan for any filter would look at every row of the tenant, where one for this filter has an
/// index.
const PLANNED: &str = "BEGIN READ ONLY; SET LOCAL plan_cache_mode = force_custom_plan";

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

    /// Whether the content was at fault: classes 22 (data exception), 23 (integrity constraint violation) and 54 (program
    /// limit exceeded, such as too long a text for an index).
    #[must_use]
    pub fn is_bad_data(&self) -> bool {
        self.sqlstate().is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
    }

    /// Whether the database undid the work because of others at the same time (`serialization_failure`, `deadlock_detected`):
    /// the same may succeed now.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self.sqlstate().as_deref(), Some("40001" | "40P01"))
    }

    /// What the database said, for whoever may see the content too: it may be quoted.
    #[must_use]
    pub fn refusal(&self) -> String {
        match self {
            Self::Rejected(sqlx::Error::Database(error)) => format!("the database refused it: {}", error.message()),
            other => other.to_string(),
        }
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
            sqlx::Error::RowNotFound => Self::Rejected(error),
            // A reply that cannot be read tells nothing of what was done.
            _ => Self::Interrupted(error),
        }
    }
}

/// The connections a [`Store`] works with.
#[derive(Clone, Debug)]
pub struct Connections {
    /// For everybody.
    pub shared: PgPool,
    /// How the Journal reaches the server on a connection of its own; `None` where the server takes only one connection,
    /// which the Journal shares with everybody.
    pub journal: Option<PgConnectOptions>,
}

impl Connections {
    /// Both ways through `pool`'s server.
    #[must_use]
    pub fn of_pool(pool: PgPool) -> Self {
        let journal = Some(pool.connect_options().as_ref().clone());
        Self { shared: pool, journal }
    }

    /// Connections to a server that nobody runs: every piece of work ends as [`StoreError::Unavailable`]. For tests of how
    /// a room answers without a database.
    ///
    /// # Errors
    /// Never; the address is a constant.
    pub fn nowhere() -> Result<Self, sqlx::Error> {
        let soon = PgPoolOptions::new().acquire_timeout(Duration::from_millis(20));
        Ok(Self::of_pool(soon.connect_lazy("postgres://nobody@127.0.0.1:1/none?sslmode=disable")?))
    }
}

/// A cheap handle to the database.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
    outbox_events: OutboxEvents,
}

#[derive(Debug)]
struct Inner {
    pool: PgPool,
    journal: Option<Lane>,
    /// Lets one query at a time stand in line for the only connection, so that the Journal is next after it.
    back: Option<Semaphore>,
    runtime: Handle,
    limit: Duration,
}

impl Store {
    /// A store on `connections`. A statement may take `limit`; the server's own timeout should be a little shorter, because
    /// its refusal says for sure that nothing was done. Where there is only one connection it may take much longer: such a
    /// server cannot be interrupted half-way. Work runs on `runtime`, which must outlast the store.
    #[must_use]
    pub fn new(connections: Connections, limit: Duration, runtime: Handle) -> Self {
        let Connections { shared: pool, journal } = connections;
        let journal = journal.map(Lane::new);
        let back = journal.is_none().then(|| Semaphore::new(1));
        let inner = Arc::new(Inner { pool, journal, back, runtime, limit });
        Self { inner, outbox_events: OutboxEvents::default() }
    }

    /// The same store; what happens to rows of the outbox is counted by `outbox_events`.
    #[must_use]
    pub fn counting(self, outbox_events: OutboxEvents) -> Self {
        Self { outbox_events, ..self }
    }

    /// The count of what happens to rows of the outbox.
    #[must_use]
    pub const fn outbox_events(&self) -> &OutboxEvents {
        &self.outbox_events
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
        self.detached(|inner, tell| async move { inner.shared(work, tell).await }).await
    }

    /// The same with work that commits what it may have put into the outbox: that is counted.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_enqueuing<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<(T, Enqueued), sqlx::Error>> + Send + 'static,
    {
        match self.run(work).await {
            Ok((result, put)) => {
                self.outbox_events.enqueued(put);
                Ok(result)
            }
            Err(error) => {
                self.outbox_events.not_enqueued();
                Err(error)
            }
        }
    }

    /// The same as [`run`](Self::run) on the Journal's own connection, or ahead of the line where there is only one.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn run_journal<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send + 'static,
    {
        self.detached(|inner, tell| async move {
            match &inner.journal {
                Some(lane) => drop(tell.send(lane.run(inner.limit, work).await)),
                None => inner.on_pool(work, tell).await,
            }
        })
        .await
    }

    /// Runs `work` apart from its asker: a query is never cancelled half-way because a client hung up.
    async fn detached<T, F>(&self, work: impl FnOnce(Arc<Inner>, Tell<T>) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        // A free task on purpose. If it panics, its answer never comes, and whether anything was done is not known.
        self.inner.runtime.spawn(work(Arc::clone(&self.inner), tell).in_current_span());
        told.await.unwrap_or_else(|_| Err(StoreError::Interrupted(sqlx::Error::WorkerCrashed)))
    }
}

/// A server with only one connection that works on a statement for longer will never answer it.
const HANGS_AFTER: Duration = Duration::from_mins(1);

/// Where the result of a piece of work goes; nobody may be waiting for it any more.
type Tell<T> = oneshot::Sender<Result<T, StoreError>>;

impl Inner {
    fn statement_limit(&self) -> Duration {
        if self.back.is_some() { self.limit.max(HANGS_AFTER) } else { self.limit }
    }

    async fn shared<T, W>(&self, work: W, tell: Tell<T>)
    where
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    {
        let _turn = match &self.back {
            Some(line) => match timeout(self.limit, line.acquire()).await {
                Ok(turn) => Some(turn),
                Err(_) => return drop(tell.send(Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)))),
            },
            None => None,
        };
        self.on_pool(work, tell).await;
    }

    async fn on_pool<T, W>(&self, work: W, tell: Tell<T>)
    where
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    {
        let mut connection = match self.pool.acquire().await {
            Ok(connection) => connection,
            Err(error) => return drop(tell.send(Err(StoreError::Unavailable(error)))),
        };
        let result = match timeout(self.statement_limit(), work(&mut connection)).await {
            Ok(result) => result.map_err(StoreError::from),
            Err(_) => Err(StoreError::TimedOut),
        };
        if result.is_err() {
            // Closed, not returned: nobody else may read the rest of this reply, and what the server keeps for this
            // connection, such as a statement that was damaged on its way, may be what failed.
            drop(connection.detach());
            drop(tell.send(result));
            return;
        }
        drop(tell.send(result));
        // The pool tries a connection before it takes it back, for as long as that lasts. One that never answers must not
        // hold its place for ever: it is closed instead.
        if timeout(self.limit, connection.return_to_pool()).await.is_err() {
            tracing::warn!("a connection to the database did not come back and was closed");
        }
    }
}
