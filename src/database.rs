//! The database: a PostgreSQL server named by `database.dsn`, or the one inside the process.

pub(crate) mod tls;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use somaagent_actors::store::StoreError;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};
use thiserror::Error;
use tokio::time::{Instant, timeout_at};

use crate::config::{DatabaseSettings, DsnError};
use crate::embedded::postgres::EmbeddedServer;
use crate::roles::{Role, Roles};

/// The oldest server that has everything our SQL uses, as the server itself writes its version.
pub(crate) const VERSION_MIN: i32 = 150_000;

/// What the names of our connections begin with; the roles of the process follow.
pub(crate) const APPLICATION: &str = "somaagent ";

/// Rest before a server that does not answer yet is tried again.
const RETRY_EVERY: Duration = Duration::from_millis(200);

/// Rest after which a connection of a pool is tried before it is used.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// The database of the process.
#[derive(Debug, Clone)]
pub struct Database {
    options: PgConnectOptions,
    settings: DatabaseSettings,
    embedded: Option<Embedded>,
    /// Every pool that was handed out, to be closed at the end.
    pools: Arc<Mutex<Vec<PgPool>>>,
}

/// The one inside the process has one connection, so there is one pool, and everybody shares it.
#[derive(Debug, Clone)]
struct Embedded {
    server: Arc<EmbeddedServer>,
    pool: PgPool,
}

/// The database cannot be used.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// The DSN, or a file that it names, cannot be read; a checked configuration has no such DSN.
    #[error(transparent)]
    Dsn(#[from] DsnError),
    /// It did not answer in time.
    #[error("the database did not answer within {} ms", .within.as_millis())]
    Unreachable {
        /// How long it was waited for.
        within: Duration,
        /// What the last attempt met, if one ended.
        source: Option<sqlx::Error>,
    },
    /// TLS is not there as it is asked for, or the server does not prove who it is.
    #[error("there is no safe connection to the database ({advice})")]
    Unsafe {
        /// What to do.
        advice: &'static str,
        /// What the handshake met.
        source: sqlx::Error,
    },
    /// It does not let us in.
    #[error("the database refuses us")]
    Refused(#[source] sqlx::Error),
    /// Its version is too old.
    #[error("the database is PostgreSQL {}, and 15 is the oldest that will do", .0 / 10_000)]
    TooOld(i32),
    /// The migrations failed. What one of them did was undone.
    #[error("the database cannot be brought up to date")]
    Migrate(#[source] MigrateError),
}

impl DatabaseError {
    /// Whether waiting may help.
    fn is_passing(&self) -> bool {
        match self {
            Self::Refused(error)
            | Self::Migrate(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
                is_passing(error)
            }
            _ => false,
        }
    }
}

impl Database {
    /// The server that the settings name, where this process will be known by its roles. Nothing is opened yet.
    ///
    /// # Errors
    /// If the DSN cannot be read.
    pub fn configured(settings: &DatabaseSettings, roles: &Roles) -> Result<Option<Self>, DatabaseError> {
        let Some(options) = settings.server()? else { return Ok(None) };
        let options = options.application_name(&format!("{APPLICATION}{roles}"));
        Ok(Some(Self { options, settings: settings.clone(), embedded: None, pools: Arc::default() }))
    }

    /// The one inside the process, which must run before the first query.
    #[must_use]
    pub fn embedded(settings: &DatabaseSettings, server: Arc<EmbeddedServer>) -> Self {
        let options = server.connect_options();
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_millis(settings.acquire_timeout_ms))
            .max_lifetime(None)
            .idle_timeout(None)
            .test_before_acquire(false)
            .connect_lazy_with(options.clone());
        Self { options, settings: settings.clone(), embedded: Some(Embedded { server, pool }), pools: Arc::default() }
    }

    /// A pool. With a server each call makes a new one, whose statements have a timeout; inside the process it is always
    /// the same one. Must be called inside a runtime.
    #[must_use]
    pub fn pool(&self) -> PgPool {
        if let Some(embedded) = &self.embedded {
            return embedded.pool.clone();
        }
        let pool = PgPoolOptions::new()
            .max_connections(self.settings.pool_size)
            .acquire_timeout(Duration::from_millis(self.settings.acquire_timeout_ms))
            // A round trip before every use is too dear; one after a rest finds the connections that a restart of the
            // server left behind.
            .test_before_acquire(false)
            .after_connect(|connection, _| Box::pin(built_ins_first(connection)))
            .before_acquire(|connection, used| {
                Box::pin(async move {
                    if used.idle_for > TRUSTED_FOR {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(self.timed());
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).push(pool.clone());
        pool
    }

    /// How an actor that must never wait for others opens a connection of its own. `None` inside the process, where
    /// everybody shares one.
    #[must_use]
    pub fn own_connection(&self) -> Option<PgConnectOptions> {
        self.embedded.is_none().then(|| self.timed())
    }

    /// The server inside the process, if that is what this is.
    #[must_use]
    pub fn server(&self) -> Option<&Arc<EmbeddedServer>> {
        self.embedded.as_ref().map(|embedded| &embedded.server)
    }

    /// Waits until the database answers. A server that is not up yet is waited for, at most `within`.
    ///
    /// # Errors
    /// If it lets nobody in, is too old, or does not answer in time.
    pub async fn reach(&self, within: Duration) -> Result<(), DatabaseError> {
        if self.embedded.is_none() && tls::is_left_to_chance(&self.options) {
            tracing::warn!(
                advice = tls::GUARD,
                "whoever is between here and the database can read everything: SA01_DB_DSN does not ask for TLS"
            );
        }
        let mut met = None;
        let reached = timeout_at(Instant::now() + within, self.answers(&mut met)).await;
        reached.unwrap_or(Err(DatabaseError::Unreachable { within, source: met }))
    }

    /// As [`Self::reach`], without end; `met` is what the last attempt ended with.
    async fn answers(&self, met: &mut Option<sqlx::Error>) -> Result<(), DatabaseError> {
        loop {
            match self.version().await {
                Ok(version) if version < VERSION_MIN => return Err(DatabaseError::TooOld(version)),
                Ok(_) => return Ok(()),
                // Not there yet, starting up, shutting down, or busy with the recovery after a kill.
                Err(error) if is_passing(&error) => {
                    tracing::info!(error = &error as &dyn std::error::Error, "the database does not answer yet");
                    *met = Some(error);
                    tokio::time::sleep(RETRY_EVERY).await;
                }
                Err(source) => {
                    return Err(match tls::advice(&source) {
                        Some(advice) => DatabaseError::Unsafe { advice, source },
                        None => DatabaseError::Refused(source),
                    });
                }
            }
        }
    }

    /// Brings the tables up to date under an advisory lock, so that of several processes one does it and the others
    /// wait. With a server it uses a connection of its own, whose statements may take as long as they need; a server that
    /// goes away meanwhile is waited for, but not after `until`.
    ///
    /// # Errors
    /// If a migration fails, or the database has one that this program does not know.
    pub async fn migrate(&self, migrator: &Migrator, until: Instant) -> Result<(), DatabaseError> {
        if let Some(embedded) = &self.embedded {
            return migrator.run(&embedded.pool).await.map_err(DatabaseError::Migrate);
        }
        outlast(("migrations", until), DatabaseError::is_passing, async || self.migrate_once(migrator).await).await
    }

    async fn migrate_once(&self, migrator: &Migrator) -> Result<(), DatabaseError> {
        let mut connection = PgConnection::connect_with(&self.options).await.map_err(DatabaseError::Refused)?;
        let done = migrator.run(&mut connection).await.map_err(DatabaseError::Migrate);
        // The lock ends with the connection at the latest.
        drop(connection.close().await);
        done
    }

    /// The roles of all processes that are connected to this database now, as the names of their connections tell.
    ///
    /// # Errors
    /// The database's.
    pub async fn roles_connected(&self) -> Result<BTreeSet<Role>, sqlx::Error> {
        let query = sqlx::query_scalar(
            "SELECT DISTINCT application_name FROM pg_stat_activity
             WHERE datname = current_database() AND starts_with(application_name, $1)",
        );
        let mut connection = PgConnection::connect_with(&self.options).await?;
        let names: Vec<String> = query.bind(APPLICATION).fetch_all(&mut connection).await?;
        drop(connection.close().await);
        let roles = names.iter().filter_map(|name| name.strip_prefix(APPLICATION)?.parse::<Roles>().ok());
        Ok(roles.flat_map(|roles| roles.iter().collect::<Vec<_>>()).collect())
    }

    /// Closes every pool, waiting for the statements under way, and ends the server inside the process after that, so
    /// that it leaves a checkpoint behind and the next start has nothing to repair.
    pub async fn close(&self, within: Duration) {
        let deadline = Instant::now() + within;
        let mut pools = std::mem::take(&mut *self.pools.lock().unwrap_or_else(PoisonError::into_inner));
        pools.extend(self.embedded.iter().map(|embedded| embedded.pool.clone()));
        for pool in pools {
            if timeout_at(deadline, pool.close()).await.is_err() {
                tracing::warn!("a pool of the database did not close in time");
            }
        }
        if let Some(Embedded { server, .. }) = &self.embedded
            && !server.stop(deadline.saturating_duration_since(Instant::now())).await
        {
            tracing::warn!("the embedded PostgreSQL did not stop in time");
        }
    }

    fn timed(&self) -> PgConnectOptions {
        let timeout = format!("{}ms", self.settings.statement_timeout_ms);
        self.options.clone().options([("statement_timeout", timeout)])
    }

    async fn version(&self) -> Result<i32, sqlx::Error> {
        let query = sqlx::query_scalar("SELECT current_setting('server_version_num')::int");
        if let Some(embedded) = &self.embedded {
            return query.fetch_one(&embedded.pool).await;
        }
        let mut connection = PgConnection::connect_with(&self.options).await?;
        let version = query.fetch_one(&mut connection).await;
        drop(connection.close().await);
        version
    }
}

/// Does `work` again as long as it fails because the server went away or is not ready, but not after `until`: a process that
/// starts while its server does waits.
///
/// # Errors
/// Those of `work` that waiting does not help, and the last one when there is no time left.
pub(crate) async fn outlast<T, E: std::error::Error + 'static>(
    (what, until): (&'static str, Instant),
    is_passing: impl Fn(&E) -> bool,
    mut work: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, E> {
    loop {
        match work().await {
            Err(error) if is_passing(&error) && Instant::now() + RETRY_EVERY < until => {
                tracing::info!(what, error = &error as &dyn std::error::Error, "the database went away: once more");
                tokio::time::sleep(RETRY_EVERY).await;
            }
            done => return done,
        }
    }
}

/// How a connection is opened on which nothing can be written; `None` if no server is configured. It is known there as
/// `application`.
///
/// # Errors
/// What is wrong with the DSN; a checked configuration has no such DSN.
pub(crate) fn read_only(settings: &DatabaseSettings, application: &str) -> Result<Option<PgConnectOptions>, DsnError> {
    let Some(options) = settings.server()? else { return Ok(None) };
    let timeout = format!("{}ms", settings.statement_timeout_ms);
    let options = options.application_name(application);
    Ok(Some(options.options([("default_transaction_read_only", "on"), ("statement_timeout", timeout.as_str())])))
}

/// Has PostgreSQL's own functions found before others of the same names, whatever the search path says: whoever owns the database
/// can set one for its user, and a function of theirs in front would say who the server is, or whether rows fit.
///
/// # Errors
/// The database's.
pub(crate) async fn built_ins_first(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    // They are, unless they are named behind others.
    let path = "SELECT pg_catalog.set_config('search_path', pg_catalog.array_to_string(ARRAY(
                    SELECT pg_catalog.quote_ident(name::pg_catalog.text)
                    FROM pg_catalog.unnest(pg_catalog.current_schemas(false)) AS name
                    WHERE name OPERATOR(pg_catalog.<>) 'pg_catalog'::pg_catalog.name
                ), ', '), false)";
    sqlx::raw_sql(path).execute(connection).await.map(drop)
}

/// Whether waiting may help: nobody listens, the line broke, or the server says that it is not ready (class 57P). A server that
/// does not prove who it is will not do so later.
pub(crate) fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => tls::advice(error).is_none(),
        sqlx::Error::PoolTimedOut => true,
        sqlx::Error::Database(refusal) => refusal.code().is_some_and(|code| code.starts_with("57P")),
        _ => false,
    }
}

/// The same of what the store met.
pub(crate) fn may_pass(error: &StoreError) -> bool {
    match error {
        StoreError::Unavailable(source) | StoreError::Interrupted(source) => is_passing(source),
        StoreError::TimedOut => true,
        StoreError::Rejected(_) => false,
    }
}
