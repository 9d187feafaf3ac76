//! The start, step by step: each step has a name and a deadline, and a failure says which step it was.
//!
//! The ports → data folder and its lock → database → migrations → tree → stand-ins → actors → metrics → door. The
//! configuration and the log come before, the ready line after. What is started says at once how it is stopped, so that
//! a start that fails half-way, or is interrupted, is undone by the same [`Shutdown`] as a whole one.

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use prometheus::Registry;
use somaagent_http::door::Component;
use somaagent_supervision::{Restart, Strategy, SupervisorRef, SupervisorSpec, Tree};
use sqlx::migrate::Migrator;
use thiserror::Error;
use tokio::time::Instant;

use crate::config::Config;
use crate::data_dir::DataDir;
use crate::database::Database;
use crate::embedded::postgres::{EmbeddedPostgres, EmbeddedServer};
use crate::listen::listen;
use crate::roles::Role;
use crate::shutdown::{Shutdown, Stage};
use crate::telemetry::metrics;

/// What a step that keeps a deadline itself gets beyond it.
const GRACE: Duration = Duration::from_millis(500);

/// A step of the start failed.
#[derive(Debug, Error)]
pub enum BootError {
    /// It could not do its work.
    #[error("the start failed at the step `{step}`")]
    Failed {
        /// Its name.
        step: &'static str,
        /// What went wrong.
        source: anyhow::Error,
    },
    /// It did not end in time.
    #[error("the step `{step}` of the start took longer than {} ms", .within.as_millis())]
    Late {
        /// Its name.
        step: &'static str,
        /// What it was given.
        within: Duration,
    },
}

/// What every room is built on.
pub struct Base {
    /// The configuration of the process.
    pub config: Arc<Config>,
    /// Where rooms register their metrics.
    pub registry: Registry,
    /// The database, reached and up to date.
    pub database: Database,
    /// The tree of actors.
    pub tree: Tree,
    /// Its root: supervisors of rooms are its children.
    pub root: SupervisorRef,
    /// The supervisor of the stand-ins.
    pub embedded: SupervisorRef,
}

impl Base {
    /// Until when a part of a step may wait that begins now: a little less than the step has, so that it can say what it met.
    #[must_use]
    pub fn patience(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.config.boot.step_ms).saturating_sub(GRACE)
    }
}

/// The rooms that stand on the base, started in the order of these functions. Each may keep in itself what the next one
/// needs, and registers with `shutdown` how it ends.
pub trait Rooms {
    /// The tables of the rooms.
    fn migrator(&self) -> &Migrator;

    /// Opens the front door's port, if there is to be one, so that a taken one is told before anything is made; nothing is
    /// answered yet.
    ///
    /// # Errors
    /// It cannot be opened.
    fn listen(&mut self, config: &Config) -> anyhow::Result<()>;

    /// Starts the stand-ins of outside systems that are not configured; the database is there already.
    fn stand_ins(&mut self, base: &Base, shutdown: &mut Shutdown) -> impl Future<Output = anyhow::Result<()>>;

    /// Starts the actors.
    fn actors(&mut self, base: &Base, shutdown: &mut Shutdown) -> impl Future<Output = anyhow::Result<()>>;

    /// The parts whose health is told, once the actors are there.
    fn components(&self) -> Arc<[Component]>;

    /// Opens the front door, if the process has one, and says where it listens.
    fn door(
        &mut self,
        base: &Base,
        shutdown: &mut Shutdown,
    ) -> impl Future<Output = anyhow::Result<Option<SocketAddr>>>;
}

/// Starts everything, and tells where the process is reached. Must be called on the thread of an actix system.
///
/// # Errors
/// The step that failed. Whatever was started until then is registered with `shutdown`.
pub async fn start(
    config: Arc<Config>,
    rooms: &mut impl Rooms,
    shutdown: &mut Shutdown,
) -> Result<(Base, Option<SocketAddr>), BootError> {
    let within = Duration::from_millis(config.boot.step_ms);
    let patience = Duration::from_millis(config.boot.migrations_ms);
    let registry = Registry::new();
    let metrics = step("ports", within, async {
        rooms.listen(&config)?;
        listen_for_metrics(&config)
    });
    let metrics = metrics.await?;
    // It waits for the database itself, and so can say what it met.
    let database = step("database", within + GRACE, open_database(&config, shutdown, within)).await?;
    let until = Instant::now() + patience.saturating_sub(GRACE);
    step("migrations", patience, async { Ok(database.migrate(rooms.migrator(), until).await?) }).await?;
    let base = step("tree", within, plant(config, registry, database, shutdown)).await?;
    step("stand-ins", within, rooms.stand_ins(&base, shutdown)).await?;
    step("actors", within, rooms.actors(&base, shutdown)).await?;
    let metrics =
        step("metrics", within, async { serve_metrics(metrics, &base, rooms.components(), shutdown) }).await?;
    let door = step("door", within, rooms.door(&base, shutdown)).await?;
    tell_missing_roles(&base, within).await;
    Ok((base, door.or(metrics)))
}

async fn step<T>(
    name: &'static str,
    within: Duration,
    work: impl Future<Output = anyhow::Result<T>>,
) -> Result<T, BootError> {
    let started = Instant::now();
    let done = tokio::time::timeout(within, work).await.map_err(|_| BootError::Late { step: name, within })?;
    let done = done.map_err(|source| BootError::Failed { step: name, source })?;
    tracing::debug!(step = name, took_ms = started.elapsed().as_millis(), "step of the start done");
    Ok(done)
}

/// The configured database, else the one inside the process on the data folder, which only that one needs.
async fn open_database(config: &Config, shutdown: &mut Shutdown, within: Duration) -> anyhow::Result<Database> {
    let started = Instant::now();
    let database = if let Some(database) = Database::configured(&config.database, &config.server.role)? {
        database
    } else {
        let server = Arc::new(EmbeddedServer::new(DataDir::open(&config.data)?)?);
        server.start()?;
        tracing::info!(folder = %server.data().path().display(), "no database is configured: the embedded one is used");
        Database::embedded(&config.database, server)
    };
    let closed = database.clone();
    shutdown.at(Stage::Database, "database", |within| async move { closed.close(within).await });
    database.reach(within.saturating_sub(started.elapsed())).await?;
    Ok(database)
}

/// The tree with its root, and the child that keeps the embedded database alive.
async fn plant(
    config: Arc<Config>,
    registry: Registry,
    database: Database,
    shutdown: &mut Shutdown,
) -> anyhow::Result<Base> {
    let tree = Tree::new(&registry).context("metrics of the tree")?;
    let root = tree.root(SupervisorSpec::new("root", Strategy::OneForOne));
    let stopped = root.clone();
    shutdown.at(Stage::Tree, "tree", |within| async move { stopped.stop(within).await });
    let embedded = root.supervisor(SupervisorSpec::new("embedded", Strategy::OneForOne)).await?;
    if let Some(server) = database.server() {
        let (server, pool) = (Arc::clone(server), database.pool());
        let seat = embedded.seat(Restart::Permanent);
        seat.start(move || EmbeddedPostgres::new(server, pool)).await.context("embedded PostgreSQL")?;
    }
    Ok(Base { config, registry, database, tree, root, embedded })
}

/// Opens the metrics' port, unless there is to be none, as early as the door's and for the same reason.
fn listen_for_metrics(config: &Config) -> anyhow::Result<Option<TcpListener>> {
    let Some((host, port, variable)) = config.server.metrics_address() else { return Ok(None) };
    Ok(Some(listen((host, port).into(), variable)?))
}

/// Answers on the metrics' port, if there is one, and says where that is.
#[expect(clippy::disallowed_methods, reason = "the server ends by its handle, which the shutdown awaits")]
fn serve_metrics(
    listener: Option<TcpListener>,
    base: &Base,
    components: Arc<[Component]>,
    shutdown: &mut Shutdown,
) -> anyhow::Result<Option<SocketAddr>> {
    let Some(listener) = listener else { return Ok(None) };
    let address = listener.local_addr()?;
    let health = (components, base.config.http.health_timeout());
    let (server, handle) = metrics::server(listener, base.registry.clone(), health)?;
    actix_rt::spawn(server);
    shutdown.at(Stage::Server, "metrics", |_| async move { handle.stop(false).await });
    Ok(Some(address))
}

/// Says which roles no process has that is connected to the database now. They may come later; that nobody has one for long
/// is for the operator to notice, so it is no failure.
async fn tell_missing_roles(base: &Base, within: Duration) {
    let missing: Vec<Role> = base.config.server.role.missing().collect();
    if missing.is_empty() {
        return;
    }
    match tokio::time::timeout(within, base.database.roles_connected()).await {
        Err(_) => {
            tracing::warn!("it is not known which roles other processes have: the database did not answer in time");
        }
        Ok(Ok(connected)) => {
            for role in missing.into_iter().filter(|role| !connected.contains(role)) {
                tracing::warn!(
                    role = role.name(),
                    "no process that is connected to the database has this role: its work waits"
                );
            }
        }
        Ok(Err(error)) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "it is not known which roles other processes have");
        }
    }
}
