//! What carries on what was committed: memories to the memory service, records to the log, what the log tells to the
//! replica.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use somaagent_actors::{
    domain::ids::Tenant,
    journal::messages::Commit,
    outbox::{MemorySync, MemorySyncDeps, MemorySyncMetrics, OutboxMetrics, OutboxRelay, RelayDeps, WriteThrough},
    replicator::{LogKeeper, LogKeeperDeps, ReplicatorDeps, ReplicatorMetrics, WalReplicator},
    store::{Store, memory_replica},
};
use somaagent_http::door::{Component, Condition, Finding, Scope, Weight};
use somaagent_supervision::{Port, Restart, Strategy, SupervisorSpec};
use time::OffsetDateTime;

use super::{
    Brain,
    log::{self, Opened, TABLE},
    now,
};
use crate::boot::Base;

/// How long the replicator waits for records before it says that none wait.
const WAIT: Duration = Duration::from_secs(1);

/// Memories that requests may be waiting for.
const WRITE_THROUGH_CAPACITY: usize = 1_024;

/// Starts the subtree `durability` and returns the way to have a memory written at once.
pub(super) async fn carry_on(
    base: &Base,
    store: Store,
    brain: Brain,
    journal: Port<Commit>,
) -> anyhow::Result<Port<WriteThrough>> {
    let Opened { log, source } = log::open(base, store.clone()).await.context("log")?;
    let spec = SupervisorSpec::new("durability", Strategy::RestForOne).arbiters(1);
    let supervisor = base.root.supervisor(spec).await?;
    let crowded: Arc<dyn Fn() -> bool + Send + Sync> = Arc::new(move || journal.depth() > 0);
    let deps = RelayDeps {
        store: store.clone(),
        log: Arc::clone(&log),
        health: brain.health,
        crowded: Arc::clone(&crowded),
        settings: Arc::new(base.config.outbox.clone()),
        metrics: OutboxMetrics::register(&base.registry)?,
        clock: now,
    };
    let seat = supervisor.seat::<OutboxRelay>(Restart::Permanent);
    seat.start(move || OutboxRelay::new(deps)).await.context("outbox relay")?;
    let deps = MemorySyncDeps {
        store: store.clone(),
        remember: brain.remember,
        remember_batch: brain.remember_batch,
        space: brain.space,
        crowded: Arc::clone(&crowded),
        settings: Arc::new(base.config.memory_sync.clone()),
        metrics: MemorySyncMetrics::register(&base.registry)?,
        clock: now,
    };
    let seat = supervisor.seat::<MemorySync>(Restart::Permanent);
    let write_through = seat.port("write-through", WRITE_THROUGH_CAPACITY);
    seat.start(move || MemorySync::new(deps)).await.context("memory sync")?;
    let keeper = LogKeeperDeps {
        store: store.clone(),
        retention: Duration::from_millis(base.config.event_log.retention_ms),
        clock: now,
    };
    let deps = ReplicatorDeps {
        store,
        log,
        source,
        tenant: Tenant::new(base.config.http.default_tenant.trim()).ok_or_else(|| anyhow!("no default tenant"))?,
        crowded,
        settings: Arc::new(base.config.replicator.clone()),
        metrics: ReplicatorMetrics::register(&base.registry)?,
        wait: WAIT,
        clock: now,
    };
    let seat = supervisor.seat::<WalReplicator>(Restart::Permanent);
    seat.start(move || WalReplicator::new(deps)).await.context("replicator")?;
    if source == TABLE {
        let seat = supervisor.seat::<LogKeeper>(Restart::Permanent);
        seat.start(move || LogKeeper::new(keeper)).await.context("log keeper")?;
    }
    Ok(write_through)
}

/// How old the newest record of the replica is. It grows while nothing is said, so it is only shown.
pub(super) fn component(store: Store) -> Component {
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
