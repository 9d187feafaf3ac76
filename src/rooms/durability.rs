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
    outbox::{MemorySync, MemorySyncDeps, MemorySyncMetrics, OutboxMetrics, OutboxRelay, RelayDeps, WriteThrough},
    store::Store,
};
use somaagent_supervision::{Port, Restart, Strategy, SupervisorSpec};

use super::{Brain, now};
use crate::boot::Base;

/// Memories that requests may be waiting for.
const WRITE_THROUGH_CAPACITY: usize = 1_024;

/// Starts the subtree `durability` and returns the way to have a memory written at once.
pub(super) async fn carry_on(
    base: &Base,
    store: Store,
    brain: Brain,
    journal: Port<Commit>,
) -> anyhow::Result<Port<WriteThrough>> {
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
    let write_through = seat.port("write-through", WRITE_THROUGH_CAPACITY);
    seat.start(move || MemorySync::new(deps)).await.context("memory sync")?;
    Ok(write_through)
}
