//! PostgreSQL: one file a table, functions named by verb that take a connection. Nothing here knows actix.
//!
//! [`Store`] is how the rest of the crate reaches a connection. It holds to rules that the embedded server needs and
//! that a real one profits from: work runs to its end even when its asker has gone, a connection on which
//! anything failed is closed and never reused, and the Journal never waits behind more than one other query.
//!
//! What is done for one caller goes through [`Store::read_for`] and [`Store::change_for`], which let nobody see more than one
//! tenant (see [`wall`]): its functions take a [`TenantTx`]. Those that take a connection are for what works for
//! all tenants, or are steps of both.

pub mod api_keys;
pub mod append;
pub mod attachment_blobs;
pub mod attachment_links;
pub mod attachment_pictures;
pub mod attachment_texts;
pub mod attachments;
pub mod audit_chain;
pub mod audit_event;
pub mod audit_server;
pub mod audit_takeover;
pub mod audit_trail;
pub mod audit_walk;
pub mod brain_memories;
pub mod dead_letters;
pub mod dlq_jobs;
pub mod erase;
mod error;
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
pub mod tus_uploads;
pub mod ui_settings;
pub mod ui_settings_versions;
pub mod wall;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use sqlx::{
    PgConnection, PgPool, Postgres,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, SemaphorePermit, oneshot},
    time::timeout,
};
use tracing::Instrument;

pub use self::error::StoreError;
use self::{
    lane::Lane,
    outbox_events::{Enqueued, OutboxEvents},
    wall::{Entrance, Purpose, TenantTx, Wall},
};
use crate::domain::ids::Tenant;

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
    wall: Arc<Wall>,
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
        Self { inner, outbox_events: OutboxEvents::default(), wall: Arc::new(Wall::Up(Entrance::ASKING)) }
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

    /// The same store, of a database that keeps tenants apart as `wall` says. Unless that is said it must: else what is done for
    /// one tenant is refused.
    #[must_use]
    pub fn behind(self, wall: Wall) -> Self {
        Self { wall: Arc::new(wall), ..self }
    }

    /// Whether the database keeps tenants apart.
    #[must_use]
    pub fn wall(&self) -> &Wall {
        &self.wall
    }

    /// Reads something for `tenant`, behind the wall. The answer is told before the transaction ends.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn read_for<T, W>(&self, tenant: Tenant, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'r> FnOnce(&'r mut TenantTx<'_>) -> BoxFuture<'r, Result<T, sqlx::Error>> + Send + 'static,
    {
        self.look_for(tenant, Purpose::Read, work).await
    }

    /// The same by a filter, which is planned for anew.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn search_for<T, W>(&self, tenant: Tenant, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'r> FnOnce(&'r mut TenantTx<'_>) -> BoxFuture<'r, Result<T, sqlx::Error>> + Send + 'static,
    {
        self.look_for(tenant, Purpose::Search, work).await
    }

    /// Changes something for `tenant`, behind the wall, in one transaction: all of it or, after an error or
    /// [`undo`](TenantTx::undo), nothing.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn change_for<T, W>(&self, tenant: Tenant, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'r> FnOnce(&'r mut TenantTx<'_>) -> BoxFuture<'r, Result<T, sqlx::Error>> + Send + 'static,
    {
        self.write_for(tenant, Purpose::Change, work).await
    }

    /// Writes what counts for nothing until a later [change](Self::change_for) says that all of it is here. It does not wait for
    /// the disk: a database that crashes may forget it, but nothing that was written later stays without it.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn prepare_for<T, W>(&self, tenant: Tenant, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'r> FnOnce(&'r mut TenantTx<'_>) -> BoxFuture<'r, Result<T, sqlx::Error>> + Send + 'static,
    {
        self.write_for(tenant, Purpose::Prepare, work).await
    }

    async fn write_for<T, W>(&self, tenant: Tenant, purpose: Purpose, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'r> FnOnce(&'r mut TenantTx<'_>) -> BoxFuture<'r, Result<T, sqlx::Error>> + Send + 'static,
    {
        let wall = Arc::clone(&self.wall);
        let change = self.run(move |connection| {
            Box::pin(async move {
                let mut rows = TenantTx::begin(connection, &wall, &tenant, purpose).await?;
                let done = work(&mut rows).await?;
                rows.end().await?;
                Ok(done)
            })
        });
        change.await
    }

    /// The same with work that may put something into the outbox: that is counted.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn enqueue_for<T, W>(&self, tenant: Tenant, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'r> FnOnce(&'r mut TenantTx<'_>) -> BoxFuture<'r, Result<(T, Enqueued), sqlx::Error>> + Send + 'static,
    {
        let changed = self.change_for(tenant.clone(), work).await;
        self.counted(changed)
    }

    async fn look_for<T, W>(&self, tenant: Tenant, purpose: Purpose, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: for<'r> FnOnce(&'r mut TenantTx<'_>) -> BoxFuture<'r, Result<T, sqlx::Error>> + Send + 'static,
    {
        let wall = Arc::clone(&self.wall);
        self.detached(move |inner, tell| async move { inner.look((&wall, &tenant, purpose), work, tell).await }).await
    }

    /// Does `work` on a connection and waits for its result. It sees all tenants.
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
        let done = self.run(work).await;
        self.counted(done)
    }

    fn counted<T>(&self, done: Result<(T, Enqueued), StoreError>) -> Result<T, StoreError> {
        match done {
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

    /// Stands in line where there is only one connection.
    async fn turn(&self) -> Result<Option<SemaphorePermit<'_>>, StoreError> {
        let Some(line) = &self.back else { return Ok(None) };
        let turn = timeout(self.limit, line.acquire()).await;
        turn.ok().and_then(Result::ok).map(Some).ok_or(StoreError::Unavailable(sqlx::Error::PoolTimedOut))
    }

    async fn shared<T, W>(&self, work: W, tell: Tell<T>)
    where
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    {
        match self.turn().await {
            Ok(_turn) => self.on_pool(work, tell).await,
            Err(error) => drop(tell.send(Err(error))),
        }
    }

    async fn on_pool<T, W>(&self, work: W, tell: Tell<T>)
    where
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    {
        let mut connection = match self.pool.acquire().await {
            Ok(connection) => connection,
            Err(error) => return drop(tell.send(Err(StoreError::Unavailable(error)))),
        };
        let result = self.limited(work(&mut connection)).await;
        if result.is_err() {
            close(connection);
            return drop(tell.send(result));
        }
        drop(tell.send(result));
        self.give_back(connection).await;
    }

    /// Reads for one tenant, tells what was found, and ends the transaction then: nobody waits for that.
    async fn look<T, W>(&self, (wall, tenant, purpose): (&Wall, &Tenant, Purpose), work: W, tell: Tell<T>)
    where
        W: for<'r> FnOnce(&'r mut TenantTx<'_>) -> BoxFuture<'r, Result<T, sqlx::Error>>,
    {
        let _turn = match self.turn().await {
            Ok(turn) => turn,
            Err(error) => return drop(tell.send(Err(error))),
        };
        let mut connection = match self.pool.acquire().await {
            Ok(connection) => connection,
            Err(error) => return drop(tell.send(Err(StoreError::Unavailable(error)))),
        };
        let held = &mut *connection;
        let looked = self.limited(async move {
            let mut rows = TenantTx::begin(held, wall, tenant, purpose).await?;
            let found = work(&mut rows).await?;
            Ok((rows, found))
        });
        let is_whole = match looked.await {
            Ok((rows, found)) => {
                drop(tell.send(Ok(found)));
                let ended = self.limited(rows.end()).await;
                if let Err(error) = &ended {
                    let error = error as &dyn std::error::Error;
                    tracing::warn!(error, "a read of the database was not ended: its connection is closed");
                }
                ended.is_ok()
            }
            Err(error) => {
                drop(tell.send(Err(error)));
                false
            }
        };
        if is_whole {
            self.give_back(connection).await;
        } else {
            close(connection);
        }
    }

    async fn limited<T>(&self, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, StoreError> {
        timeout(self.statement_limit(), work).await.map_err(|_| StoreError::TimedOut)?.map_err(StoreError::from)
    }

    /// The pool tries a connection before it takes it back, for as long as that lasts. One that never answers must not hold its
    /// place for ever: it is closed instead.
    async fn give_back(&self, mut connection: PoolConnection<Postgres>) {
        if timeout(self.limit, connection.return_to_pool()).await.is_err() {
            tracing::warn!("a connection to the database did not come back and was closed");
        }
    }
}

/// Closed, not returned: nobody else may read the rest of this reply, and what the server keeps for this connection, such as a
/// statement that was damaged on its way, may be what failed.
fn close(connection: PoolConnection<Postgres>) {
    drop(connection.detach());
}
