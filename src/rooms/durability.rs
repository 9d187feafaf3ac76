//! What carries on what was committed: memories to the memory service, records to the log, what the log tells to the
//! replica; and what could not be carried on.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use somaagent_actors::{
    audit::{AuditMetrics, AuditSealer, SealerDeps, told::Book},
    bus::Log,
    dead_letters::{DeadLetterMetrics, DeadLetters, DlqKeeper, KeeperDeps, Ports, queries::LetterReads},
    domain::{dead_letter, ids::Tenant, wal::MEMORY_WAL},
    memory::{
        jobs::{ExportJobMetrics, ExportJobs, ExportRunner, RunnerDeps},
        queries::Memories,
        search_indexer::SearchIndexer,
    },
    outbox::{
        Finish, MemorySync, MemorySyncDeps, MemorySyncMetrics, OutboxMetrics, OutboxRelay, RelayDeps, WriteThrough,
    },
    policy::Policy,
    replicator::{LogKeeper, LogKeeperDeps, ReplicatorDeps, ReplicatorMetrics, WalReplicator},
    store::{Store, dead_letters::browse, memory_replica},
};
use somaagent_http::door::{Component, Condition, Finding, Scope, Weight};
use somaagent_supervision::{Port, Restart, Strategy, SupervisorRef, SupervisorSpec};
use time::OffsetDateTime;

use super::{
    Brain,
    log::{Opened, TABLE, audit_reader},
    now,
};
use crate::{
    boot::Base,
    roles::Role,
    shutdown::{Shutdown, Stage},
};

/// How long the replicator waits for records before it says that none wait.
const WAIT: Duration = Duration::from_secs(1);
/// Memories that requests may be waiting for.
const WRITE_THROUGH_CAPACITY: usize = 1_024;
/// Changes of dead letters that may be waiting; people ask for them one by one.
const CHANGES_CAPACITY: usize = 64;
/// Dead letters of memories that are counted for a health reply.
const MOST_LETTERS: i64 = 100_000;
/// Hints that may be waiting; one is as good as many.
const HINTS_CAPACITY: usize = 2;

/// The ways into the subtree.
#[derive(Clone)]
pub(super) struct Ways {
    /// To see what is remembered.
    pub(super) memories: Memories,
    /// To have memories exported.
    pub(super) export_jobs: ExportJobs,
    /// To have a memory written at once.
    pub(super) write_through: Port<WriteThrough>,
    /// To see and change dead letters.
    pub(super) dead_letters: DeadLetters,
}

/// Starts the subtree `durability`: of it what the process's roles need. A gateway gets the ways into it.
pub(super) async fn carry_on(
    base: &Base,
    store: Store,
    Opened { log, source }: Opened,
    (brain, policy): (Brain, Policy),
    crowded: Arc<dyn Fn() -> bool + Send + Sync>,
    shutdown: &mut Shutdown,
) -> anyhow::Result<Option<Ways>> {
    let role = &base.config.server.role;
    let spec = SupervisorSpec::new("durability", Strategy::RestForOne).arbiters(1);
    let supervisor = base.root.supervisor(spec).await?;
    let subtree = Subtree { base, supervisor, store, crowded };
    if role.has(Role::Outbox) {
        finish(shutdown, "outbox relay", subtree.relay(Arc::clone(&log), &brain).await?);
        let log = (source != TABLE).then(|| Arc::clone(&log));
        subtree.seal(log).await?;
    }
    let memories = subtree.memories(source, &brain);
    let write_through = subtree.remember(brain, policy, shutdown).await?;
    if role.has(Role::Replicator) {
        subtree.replicate(log, source).await?;
        if source == TABLE {
            subtree.keep_log().await?;
        }
        subtree.index().await?;
    }
    let (Some(write_through), true) = (write_through, role.has(Role::Gateway)) else { return Ok(None) };
    let dead_letters = subtree.keep_dead_letters().await?;
    let export_jobs = subtree.run_exports(memories.clone()).await?;
    Ok(Some(Ways { memories, export_jobs, write_through, dead_letters }))
}

/// What every child of the subtree is made of.
struct Subtree<'a> {
    base: &'a Base,
    supervisor: SupervisorRef,
    store: Store,
    crowded: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Subtree<'_> {
    async fn relay(&self, log: Arc<dyn Log>, brain: &Brain) -> anyhow::Result<Port<Finish>> {
        let deps = RelayDeps {
            store: self.store.clone(),
            log,
            health: brain.health.clone(),
            crowded: Arc::clone(&self.crowded),
            settings: Arc::new(self.base.config.outbox.clone()),
            metrics: OutboxMetrics::register(&self.base.registry)?,
            clock: now,
        };
        let seat = self.supervisor.seat::<OutboxRelay>(Restart::Permanent);
        let port = seat.port("finish", 1);
        seat.start(move || OutboxRelay::new(deps)).await.context("outbox relay")?;
        Ok(port)
    }

    /// Chains the audit trail; the ends of the chains go the relay's way, into `log` or the one inside the database.
    async fn seal(&self, log: Option<Arc<dyn Log>>) -> anyhow::Result<()> {
        let settings = Arc::new(self.base.config.audit.clone());
        let signer = settings.signer().context("audit.checkpoint_key")?;
        if signer.is_none() {
            tracing::info!(
                "no checkpoints of the audit trail are signed: whoever owns the database could make it anew unseen (AUDIT_CHECKPOINT_KEY)"
            );
        }
        let deps = SealerDeps {
            store: self.store.clone(),
            crowded: Arc::clone(&self.crowded),
            settings,
            signer,
            book: match log {
                None => Book::Table(self.store.clone()),
                Some(log) => Book::Log(log, audit_reader()),
            },
            metrics: AuditMetrics::register(&self.base.registry)?,
            clock: now,
        };
        let seat = self.supervisor.seat::<AuditSealer>(Restart::Permanent);
        seat.start(move || AuditSealer::new(deps)).await.context("audit sealer")
    }

    fn memories(&self, source: &'static str, brain: &Brain) -> Memories {
        let (space, forget) = (brain.space.clone(), brain.forget.clone());
        Memories::new(self.store.clone(), source, space, forget, Arc::new(self.base.config.memory.clone()), now)
    }

    /// A gateway has one too, for what a request wants written at once; only the role looks for what waits.
    async fn remember(
        &self,
        brain: Brain,
        policy: Policy,
        shutdown: &mut Shutdown,
    ) -> anyhow::Result<Option<Port<WriteThrough>>> {
        let role = &self.base.config.server.role;
        let looks = role.has(Role::MemorySync);
        if !looks && !role.has(Role::Gateway) {
            return Ok(None);
        }
        let deps = MemorySyncDeps {
            store: self.store.clone(),
            remember: brain.remember,
            remember_batch: brain.remember_batch,
            policy,
            space: brain.space,
            crowded: Arc::clone(&self.crowded),
            looks,
            settings: Arc::new(self.base.config.memory_sync.clone()),
            metrics: MemorySyncMetrics::register(&self.base.registry)?,
            clock: now,
        };
        let seat = self.supervisor.seat::<MemorySync>(Restart::Permanent);
        let write_through = seat.port("write-through", WRITE_THROUGH_CAPACITY);
        let port = seat.port("finish", 1);
        seat.start(move || MemorySync::new(deps)).await.context("memory sync")?;
        finish(shutdown, "memory sync", port);
        Ok(Some(write_through))
    }

    async fn replicate(&self, log: Arc<dyn Log>, source: &'static str) -> anyhow::Result<()> {
        let tenant = Tenant::new(self.base.config.http.default_tenant.trim());
        let deps = ReplicatorDeps {
            store: self.store.clone(),
            log,
            source,
            tenant: tenant.ok_or_else(|| anyhow!("no default tenant"))?,
            crowded: Arc::clone(&self.crowded),
            settings: Arc::new(self.base.config.replicator.clone()),
            metrics: ReplicatorMetrics::register(&self.base.registry)?,
            wait: WAIT,
            clock: now,
        };
        let seat = self.supervisor.seat::<WalReplicator>(Restart::Permanent);
        seat.start(move || WalReplicator::new(deps)).await.context("replicator")
    }

    /// Keeps the log inside the database short.
    async fn keep_log(&self) -> anyhow::Result<()> {
        let retention = Duration::from_millis(self.base.config.event_log.retention_ms);
        let deps = LogKeeperDeps { store: self.store.clone(), retention, clock: now };
        let seat = self.supervisor.seat::<LogKeeper>(Restart::Permanent);
        seat.start(move || LogKeeper::new(deps)).await.context("log keeper")
    }

    /// Makes the index for searches, where that is wanted and the server can do so beside its other work.
    async fn index(&self) -> anyhow::Result<()> {
        match self.base.database.own_connection() {
            Some(server) if self.base.config.memory.search_index => {
                let seat = self.supervisor.seat::<SearchIndexer>(Restart::Transient);
                seat.start(move || SearchIndexer::new(server)).await.context("search indexer")
            }
            _ => Ok(()),
        }
    }

    async fn keep_dead_letters(&self) -> anyhow::Result<DeadLetters> {
        let settings = &self.base.config.dead_letters;
        let deps = KeeperDeps {
            store: self.store.clone(),
            crowded: Arc::clone(&self.crowded),
            settings: Arc::new(settings.clone()),
            metrics: DeadLetterMetrics::register(&self.base.registry)?,
            clock: now,
        };
        let seat = self.supervisor.seat::<DlqKeeper>(Restart::Permanent);
        let ports = Ports {
            reprocess: seat.port("reprocess", CHANGES_CAPACITY),
            reprocess_all: seat.port("reprocess-all", CHANGES_CAPACITY),
            cancel: seat.port("cancel", CHANGES_CAPACITY),
            discard: seat.port("discard", CHANGES_CAPACITY),
            purge: seat.port("purge", CHANGES_CAPACITY),
        };
        seat.start(move || DlqKeeper::new(deps)).await.context("keeper of dead letters")?;
        Ok(DeadLetters::new(LetterReads::new(self.store.clone(), settings.shown_topics()), ports))
    }

    async fn run_exports(&self, memories: Memories) -> anyhow::Result<ExportJobs> {
        let settings = Arc::new(self.base.config.export_jobs.clone());
        let metrics = ExportJobMetrics::register(&self.base.registry)?;
        let deps = RunnerDeps {
            memories: memories.clone(),
            crowded: Arc::clone(&self.crowded),
            settings: Arc::clone(&settings),
            metrics: metrics.clone(),
        };
        let seat = self.supervisor.seat::<ExportRunner>(Restart::Permanent);
        let changed = seat.port("export-jobs-changed", HINTS_CAPACITY);
        seat.start(move || ExportRunner::new(deps)).await.context("export runner")?;
        Ok(ExportJobs::new(memories, settings, metrics, changed))
    }
}

/// When the process ends, lets an actor of the outbox finish what it holds: else the next process waits until its lease is over.
fn finish(shutdown: &mut Shutdown, name: &'static str, port: Port<Finish>) {
    shutdown.at(Stage::Queues, name, move |within| async move {
        if port.call(|reply| Finish { reply }, within).await.is_err() {
            tracing::warn!(actor = name, "what is under way is left to the end of its lease");
        }
    });
}

/// How many memories could not be carried on. They wait for somebody, and keep nobody from working.
pub(super) fn dead_letters(store: Store) -> Component {
    Component::new("memory_dlq", Weight::Shown, Scope::Health, move || {
        let store = store.clone();
        async move {
            let topic = dead_letter::topic_of(MEMORY_WAL);
            let count = store
                .run(move |connection| Box::pin(async move { browse::depth(connection, &topic, MOST_LETTERS).await }));
            match count.await {
                Ok(depth) => Finding { detail: Some(format!("depth={depth}")), ..Finding::ok() },
                Err(error) => Finding::not_ok(Condition::Down, error.to_string()),
            }
        }
    })
}

/// How old the newest record of the replica is. It grows while nothing is said, so it is only shown.
pub(super) fn replica(store: Store) -> Component {
    Component::new("memory_replicator", Weight::Shown, Scope::Health, move || {
        let store = store.clone();
        async move {
            let newest = store.run(|connection| Box::pin(memory_replica::newest_timestamp(connection))).await;
            let now = (now() - OffsetDateTime::UNIX_EPOCH).as_seconds_f64();
            match newest {
                Ok(Some(newest)) => {
                    let detail = Some(format!("lag_seconds={:.3}", (now - newest).max(0.0)));
                    Finding { detail, ..Finding::ok() }
                }
                Ok(None) => Finding::not_ok(Condition::Degraded, "no WAL observed"),
                Err(error) => Finding::not_ok(Condition::Down, error.to_string()),
            }
        }
    })
}
