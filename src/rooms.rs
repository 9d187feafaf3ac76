//! How the rooms are built on the base: the stand-ins, the actors, the front door.

mod contents;
mod durability;
mod identity;
mod judges;
pub(crate) mod log;
mod scanners;
mod secrets;
mod settings;
mod uploads;

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use somaagent_actors::{
    audit::queries::Trail,
    contents::Contents,
    conversation::{Closing, ConversationMetrics, Conversations, Deps, PlantedPanic, SessionKeeper, queries::Reads},
    domain::memory::MemorySpace,
    identity::{ApiKeys, api_keys::ApiKeyMetrics},
    journal::{self, Journal, JournalMetrics, messages::Commit},
    llm::{LlmMetrics, ModelClient, ModelProbe, ModelSettings},
    policy::{Membership, Policy, PolicyMetrics},
    settings::Settings,
    somabrain::{
        BrainClient, BrainDeps, BrainMetrics, BrainSettings, Consult, HealthReader, HealthState, Recall, Remember,
        RememberBatch, deletion::DeleteByKey,
    },
    store::{
        Connections, Store, migrate,
        outbox_events::OutboxEvents,
        wall::{self, Wall, WallError},
    },
    uploads::downloads::Attachments,
};
use somaagent_http::{
    Door, DoorSettings, Draining, Facts,
    door::{Component, Condition, Finding, Scope, Weight},
    server::serve,
};
use somaagent_supervision::{Port, Restart, Strategy, SupervisorRef, SupervisorSpec};
use sqlx::{PgPool, migrate::Migrator};
use time::OffsetDateTime;
use tokio::{
    runtime::Handle,
    sync::{Mutex, Semaphore},
};

use durability::Ways;
use log::Opened;
use uploads::Files;

use crate::{
    boot::{Base, Rooms},
    config::Config,
    database::{is_passing, outlast},
    embedded::{
        brain::MemoryStandIn,
        responder,
        stand_in::{Address, StandIn, StandInKeeper},
    },
    listen::listen,
    open_files::{Needs, connections_a_worker, room},
    roles::Role,
    shutdown::{Shutdown, Stage},
};

/// Steps of all sessions that may be waiting for the Journal.
const JOURNAL_CAPACITY: usize = 8_192;
/// Recalls that may be waiting.
const RECALL_CAPACITY: usize = 1_024;
/// Writes of memories that may be waiting; what is to be written waits in the database.
const WRITES_CAPACITY: usize = 10_000;
/// Deletions that may be waiting; people ask for them one by one.
const DELETIONS_CAPACITY: usize = 64;
/// How much longer this side waits for a statement than the server works on it: its refusal is a sure answer.
const STATEMENT_GRACE: Duration = Duration::from_millis(500);

/// The rooms of this build. Each step leaves here what the next ones need.
#[derive(Default)]
pub struct Built {
    listener: Option<TcpListener>,
    store: Option<Store>,
    model: Option<ModelSettings>,
    brain: Option<BrainSettings>,
    policy: Option<Policy>,
    membership: Option<Membership>,
    contents: Option<Contents>,
    dialogue_model: Option<ModelProbe>,
    sessions: Option<Sessions>,
    files: Option<Files>,
    settings: Option<Settings>,
    components: Arc<[Component]>,
}

/// The ways to the memory service.
struct Brain {
    recall: Port<Recall>,
    remember: Port<Remember>,
    remember_batch: Port<RememberBatch>,
    forget: Port<Consult<DeleteByKey>>,
    health: HealthReader,
    /// Where memories of this deployment live.
    space: MemorySpace,
}

/// The actors that the door talks to.
#[derive(Clone)]
struct Sessions {
    conversations: Conversations,
    reads: Reads,
    ways: Ways,
}

impl Rooms for Built {
    fn migrator(&self) -> &Migrator {
        migrate::migrator()
    }

    /// A second process with this address, and so this name as an owner of sessions, does not get further than here.
    fn listen(&mut self, config: &Config) -> anyhow::Result<()> {
        if !config.server.role.has(Role::Gateway) {
            return Ok(());
        }
        let address = (config.server.address()?, config.server.port).into();
        self.listener = Some(listen(address, "GATEWAY_PORT")?);
        Ok(())
    }

    async fn stand_ins(&mut self, base: &Base, _: &mut Shutdown) -> anyhow::Result<()> {
        let connections = Connections { shared: base.database.pool(), journal: base.database.own_connection() };
        let limit = Duration::from_millis(base.config.database.statement_timeout_ms) + STATEMENT_GRACE;
        let events = OutboxEvents::register(&base.registry)?;
        let wall = raise_wall(base, &connections.shared).await?;
        wall.register(&base.registry)?;
        let store = Store::new(connections, limit, Handle::current()).counting(events).behind(wall);
        if base.config.server.role.has(Role::Gateway) {
            self.model = Some(model(base).await?);
        }
        let mut brain = base.config.brain.clone();
        if brain.base_url.is_empty() {
            brain.base_url =
                stand_in(&base.embedded, MemoryStandIn { store: store.clone(), clock: now, deletes: true }).await?;
        }
        self.brain = Some(brain);
        self.store = Some(store);
        Ok(())
    }

    async fn actors(&mut self, base: &Base, shutdown: &mut Shutdown) -> anyhow::Result<()> {
        let (store, settings) = self.grounds()?;
        let brain = remember(base, &settings).await?;
        let log = log::open(base, store.clone()).await.context("log")?;
        let judging = PolicyMetrics::register(&base.registry)?;
        let policy = Policy::from_settings(&base.config.policy)?.reporting(judging.clone(), now);
        let membership = Membership::from_settings(&base.config.openfga)?;
        self.membership = membership.map(|membership| membership.with_metrics(judging));
        let mut components = components(store.clone(), &log, brain.health.clone());
        components.extend(judges::components(&policy, self.membership.as_ref()));
        components.extend(secrets::look_after(base).await?);
        if base.config.server.role.has(Role::Gateway) {
            let settings = settings::watch(base, store.clone()).await?;
            components.push(settings::component(&settings));
            let files = uploads::take(base, store.clone(), settings.rules(), &brain, shutdown).await?;
            components.push(scanners::component(&files.scanners));
            (self.settings, self.files) = (Some(settings), Some(files));
        }
        self.components = components.into();
        self.policy = Some(policy.clone());
        let Some(model) = self.model.take() else {
            // No gateway: nobody waits for this process.
            durability::carry_on(base, store, log, (brain, policy), Arc::new(|| false), shutdown).await?;
            return Ok(());
        };
        self.dialogue_model = Some(ModelProbe::new(&model)?);
        let spec = SupervisorSpec::new("sessions", Strategy::OneForOne).arbiters(arbiters());
        let supervisor = base.root.supervisor(spec).await?;
        let journal = write(base, &supervisor, store.clone()).await?;
        let contents = contents::read(base, store.clone())?;
        let deps = deps(
            base,
            store.clone(),
            journal.clone(),
            (brain.recall.clone(), policy.clone(), contents.clone()),
            model,
            &settings,
        )?;
        self.contents = Some(contents);
        let (conversations, crashes) = Conversations::new(deps, supervisor.clone());
        let (kept, crashes) = (conversations.clone(), Arc::new(Mutex::new(crashes)));
        let seat = supervisor.seat::<SessionKeeper>(Restart::Permanent);
        seat.start(move || SessionKeeper::new(kept, crashes)).await.context("session keeper")?;
        drain(shutdown, &conversations, supervisor);
        let crowded = Arc::new(move || journal.depth() > 0);
        let ways = durability::carry_on(base, store.clone(), log, (brain, policy), crowded, shutdown).await?;
        let ways = ways.ok_or_else(|| anyhow!("a gateway has ways into the durability"))?;
        self.sessions = Some(Sessions { conversations, reads: Reads::new(store), ways });
        Ok(())
    }

    fn components(&self) -> Arc<[Component]> {
        Arc::clone(&self.components)
    }

    async fn door(&mut self, base: &Base, shutdown: &mut Shutdown) -> anyhow::Result<Option<SocketAddr>> {
        if !base.config.server.role.has(Role::Gateway) {
            return Ok(None);
        }
        let sessions = self.sessions.clone().ok_or_else(|| anyhow!("the door opens after the actors"))?;
        let files = self.files.clone().ok_or_else(|| anyhow!("the door opens after the actors"))?;
        let config = &base.config;
        let needs = Needs {
            turns: config.turns.max_running,
            database: usize::try_from(config.database.pool_size)?,
            memory: config.brain.max_calls(),
            scanners: config.antivirus.scanners,
            extractions: config.extraction.at_once(),
        };
        let (store, _) = self.grounds()?;
        let api_keys = ApiKeys::new(store.clone(), now, ApiKeyMetrics::register(&base.registry)?);
        let settings = DoorSettings {
            write_through: config.write_through.clone(),
            headers: config.headers.clone(),
            limits: config.limits.clone(),
            cors: config.cors.clone(),
            require_auth: config.require_auth(),
            max_connections: connections_a_worker(config.http.max_connections, config.http.threads(), room(needs)),
            ..config.http.clone()
        };
        let draining = Draining::default();
        let provers = identity::prove(base, &api_keys).await?;
        let (verifier, sign_in) = provers.map(|identity::Provers { verifier, sign_in }| (verifier, sign_in)).unzip();
        let sign_in = sign_in.flatten();
        let door = Door {
            attachments: Attachments::new(store.clone()),
            contents: self.contents.clone().ok_or_else(|| anyhow!("the door opens after the actors"))?,
            trail: Trail::new(store),
            conversations: sessions.conversations,
            components: Arc::clone(&self.components),
            reads: sessions.reads,
            uploads: files.uploads,
            memories: sessions.ways.memories,
            export_jobs: sessions.ways.export_jobs,
            write_through: sessions.ways.write_through,
            dead_letters: sessions.ways.dead_letters,
            verifier,
            api_keys,
            sign_in,
            is_seen_by_tls: config.oidc.is_seen_by_tls(),
            settings: self.settings.clone().ok_or_else(|| anyhow!("the door opens after the actors"))?,
            policy: self.policy.clone().ok_or_else(|| anyhow!("the door opens after the actors"))?,
            scanners: files.scanners,
            dialogue_model: self.dialogue_model.clone().ok_or_else(|| anyhow!("the door opens after the actors"))?,
            membership: self.membership.clone(),
            tree: base.tree.clone(),
            facts: Arc::new(facts(base)),
            draining: draining.clone(),
        };
        let listener = self.listener.take().ok_or_else(|| anyhow!("the port is opened before the door"))?;
        let serving = serve(&settings, door, &base.registry, listener)?;
        #[expect(clippy::disallowed_methods, reason = "the server ends by its handle, which the shutdown awaits")]
        actix_rt::spawn(serving.server);
        let stop = serving.stop;
        shutdown.at(Stage::Accepting, "door", |_| async move { draining.begin() });
        shutdown.at(Stage::Server, "door", |_| async move { stop.stop().await });
        Ok(Some(serving.address))
    }
}

impl Built {
    fn grounds(&self) -> anyhow::Result<(Store, BrainSettings)> {
        let grounds = self.store.clone().zip(self.brain.clone());
        grounds.ok_or_else(|| anyhow!("the actors start after the stand-ins"))
    }
}

/// The wall between tenants inside the database. A server that does not have it is worked with all the same: queries name their
/// tenants there, too.
async fn raise_wall(base: &Base, pool: &PgPool) -> anyhow::Result<Wall> {
    let may_pass = |error: &WallError| matches!(error, WallError::Database(source) if is_passing(source));
    let raise = async || wall::raise(&mut *pool.acquire().await?).await;
    let wall = outlast(("wall between tenants", base.patience()), may_pass, raise).await?;
    if let Wall::Absent(why) = &wall {
        tracing::warn!(why, "row-level security does not keep tenants apart: only the queries do");
    }
    Ok(wall)
}

/// Threads for conversations: half the cores, for the other half serves requests.
fn arbiters() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
}

/// The model of the settings, or the offline responder, which is started.
async fn model(base: &Base) -> anyhow::Result<ModelSettings> {
    let mut model = base.config.model.clone();
    if model.base_url.is_empty() {
        model.base_url = stand_in(&base.embedded, base.config.responder).await?;
        responder::MODEL_NAME.clone_into(&mut model.model);
        model.sees_images = false;
    }
    Ok(model)
}

async fn stand_in<S: StandIn>(embedded: &SupervisorRef, stand_in: S) -> anyhow::Result<String> {
    let address = Address::default();
    let told = address.clone();
    let seat = embedded.seat::<StandInKeeper<S>>(Restart::Permanent);
    seat.start(move || StandInKeeper::new(stand_in, told)).await.context(S::NAME)?;
    address.base_url().ok_or_else(|| anyhow!("{} could not open a port", S::NAME))
}

/// The client of the memory service, in a subtree of its own.
async fn remember(base: &Base, brain: &BrainSettings) -> anyhow::Result<Brain> {
    let metrics = BrainMetrics::new(&base.registry)?;
    let deps = BrainDeps::new(brain, metrics).context("memory service")?;
    let health = deps.health();
    let spec = SupervisorSpec::new("somabrain", Strategy::OneForOne).arbiters(1);
    let supervisor = base.root.supervisor(spec).await?;
    let seat = supervisor.seat::<BrainClient>(Restart::Permanent);
    let asks = Brain {
        recall: seat.port("recall", RECALL_CAPACITY),
        remember: seat.port("remember", WRITES_CAPACITY),
        remember_batch: seat.port("remember-batch", WRITES_CAPACITY),
        forget: seat.port("forget", DELETIONS_CAPACITY),
        health,
        space: brain.space(),
    };
    seat.start(move || BrainClient::new(deps)).await.context("memory client")?;
    Ok(asks)
}

async fn write(base: &Base, supervisor: &SupervisorRef, store: Store) -> anyhow::Result<Port<Commit>> {
    let deps = journal::Deps { store, metrics: JournalMetrics::register(&base.registry)? };
    let seat = supervisor.seat::<Journal>(Restart::Permanent);
    let port = seat.port::<Commit>("commit", JOURNAL_CAPACITY);
    seat.start(move || Journal::new(deps)).await.context("journal")?;
    Ok(port)
}

fn deps(
    base: &Base,
    store: Store,
    journal: Port<Commit>,
    (recall, policy, contents): (Port<Recall>, Policy, Contents),
    model: ModelSettings,
    brain: &BrainSettings,
) -> anyhow::Result<Deps> {
    let config = &base.config;
    let planted = &config.faults;
    Ok(Deps {
        store,
        journal,
        recall,
        policy,
        contents,
        context_budget: model.context_budget(),
        model_name: model.model.as_str().into(),
        model: ModelClient::new(model)?.with_metrics(LlmMetrics::register(&base.registry)?),
        slots: Arc::new(Semaphore::new(config.turns.max_running)),
        sessions: Arc::new(config.sessions.clone()),
        turns: Arc::new(config.turns.clone()),
        metrics: ConversationMetrics::register(&base.registry)?,
        node: node_name(base)?.into(),
        space: Arc::new(MemorySpace { universe: brain.universe.clone(), namespace: brain.memory_namespace.clone() }),
        draining: Arc::default(),
        closing: Closing::default(),
        clock: now,
        tenant_sessions: config.policy.tenant_sessions,
        planted: (planted.conversation_panic_at_piece > 0).then(|| {
            Arc::new(PlantedPanic::at_piece(planted.conversation_panic_at_piece, planted.conversation_panics))
        }),
    })
}

/// The name under which this process owns sessions. A process that starts again has the same name and takes its sessions
/// up at once, so no two processes may share one: the embedded database admits one process, and of several on one server
/// each has an address of its own. Without a fixed port the name is new each time, and old leases must run out.
fn node_name(base: &Base) -> anyhow::Result<String> {
    let (server, given) = (&base.config.server, &base.config.sessions.node);
    if !given.is_empty() {
        return Ok(given.clone());
    }
    if base.database.server().is_some() {
        return Ok("embedded".to_owned());
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(match server.port {
        0 => format!("{host}/{}", uuid::Uuid::new_v4()),
        port => format!("{host}/{}", SocketAddr::from((server.address()?, port))),
    })
}

/// What time it is: the one place that asks the machine.
#[expect(clippy::disallowed_methods, reason = "the clock of the process, handed to everybody who needs one")]
pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// Turns may end; then conversations stop, which ends their streams, and their sessions are given back.
fn drain(shutdown: &mut Shutdown, conversations: &Conversations, supervisor: SupervisorRef) {
    let (draining, left) = (conversations.clone(), conversations.clone());
    shutdown.at(Stage::Drain, "sessions", |within| async move {
        if !draining.drain(within).await {
            tracing::warn!("turns are left for the next start");
        }
    });
    shutdown.at(Stage::Streams, "sessions", |within| async move {
        supervisor.stop(within).await;
        if let Err(error) = left.release_all().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "sessions were not given back: their leases run out"
            );
        }
    });
}

fn components(store: Store, log: &Opened, brain: HealthReader) -> Vec<Component> {
    let reads = Reads::new(store.clone());
    let postgres = Component::new("postgres", Weight::Vital, Scope::Both, move || {
        let reads = reads.clone();
        async move {
            reads
                .ping()
                .await
                .map_or_else(|error| Finding::not_ok(Condition::Down, error.to_string()), |()| Finding::ok())
        }
    });
    let somabrain = Component::new("somabrain_http", Weight::Helpful, Scope::Healthz, move || {
        let report = brain.last();
        async move {
            match report.map(|report| report.state) {
                Some(HealthState::Normal) => Finding::ok(),
                Some(HealthState::Degraded) => Finding::not_ok(Condition::Degraded, "degraded"),
                Some(HealthState::Down) => Finding::not_ok(Condition::Down, "no answer"),
                None => Finding::not_ok(Condition::Degraded, "not asked yet"),
            }
        }
    });
    let wall = tenant_wall(&store);
    vec![
        postgres,
        log::component(log),
        somabrain,
        durability::replica(store.clone()),
        durability::dead_letters(store),
        wall,
    ]
}

/// Whether the database itself keeps tenants apart. Without that everything works, so it is only shown; why it does not is in the
/// log.
fn tenant_wall(store: &Store) -> Component {
    let found = match store.wall() {
        Wall::Up(_) => Finding::ok(),
        Wall::Gaping(_) => Finding::not_ok(Condition::Degraded, "has gaps"),
        Wall::Absent(_) => Finding::not_ok(Condition::Degraded, "absent"),
    };
    Component::new("tenant_wall", Weight::Shown, Scope::Health, move || {
        let found = found.clone();
        async move { found }
    })
}

fn facts(base: &Base) -> Facts {
    let config = &base.config;
    let offline = config.model.base_url.is_empty();
    Facts {
        deployment_mode: config.deployment.name().to_owned(),
        version: config.server.version.clone(),
        responder: if offline { "offline" } else { "model" },
        model: (!offline).then(|| config.model.model.clone()),
        universe_default: config.brain.universe.clone(),
        namespace_default: config.brain.memory_namespace.clone(),
        opa_configured: config.policy.opa_url.is_some(),
        somabrain_base_url: Some(config.brain.base_url.clone()).filter(|url| !url.is_empty()),
        ..Facts::default()
    }
}
