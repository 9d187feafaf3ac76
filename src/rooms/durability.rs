//! What carries on what was committed: memories to the memory service, records to the log.

use std::sync::Arc;

use anyhow::Context;
use somaagent_actors::{
    bus::table::TableLog,
    domain::{
        session::{INBOUND, OUTBOUND},
        wal::MEMORY_WAL,
    },
    journal::messages::Commit,
    outbox::{MemorySync, MemorySyncDeps, MemorySyncMetrics, OutboxMetrics, OutboxRelay, RelayDeps},
    store::Store,
};
use somaagent_supervision::{Port, Restart, Strategy, SupervisorSpec};

use super::{Brain, now};
use crate::boot::Base;

/// Starts the subtree `durability`.
pub(super) async fn carry_on(base: &Base, store: Store, brain: Brain, journal: Port<Commit>) -> anyhow::Result<()> {
    let log = TableLog::new(store.clone(), now);
    log.ensure_topics(&[INBOUND, OUTBOUND, MEMORY_WAL]).await.context("topics of the log")?;
    let spec = SupervisorSpec::new("durability", Strategy::RestForOne).arbiters(1);
    let supervisor = base.root.supervisor(spec).await?;
    let crowded: Arc<dyn Fn() -> bool + Send + Sync> = Arc::new(move || journal.depth() > 0);
    let deps = RelayDeps {
        store: store.clone(),
        log: Arc::new(log),
        health: brain.health,
        crowded: Arc::clone(&crowded),
        settings: Arc::new(base.config.outbox.clone()),
        metrics: OutboxMetrics::register(&base.registry)?,
        clock: now,
    };
    let seat = supervisor.seat::<OutboxRelay>(Restart::Permanent);
    seat.start(move || OutboxRelay::new(deps)).await.context("outbox relay")?;
    let deps = MemorySyncDeps {
        store,
        remember: brain.remember,
        remember_batch: brain.remember_batch,
        space: brain.space,
        crowded,
        settings: Arc::new(base.config.memory_sync.clone()),
        metrics: MemorySyncMetrics::register(&base.registry)?,
        clock: now,
    };
    let seat = supervisor.seat::<MemorySync>(Restart::Permanent);
    seat.start(move || MemorySync::new(deps)).await.context("memory sync")?;
    Ok(())
}
