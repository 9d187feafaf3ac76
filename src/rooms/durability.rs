//! What carries committed records on: the log and the relay that fills it.

use std::sync::Arc;

use anyhow::Context;
use somaagent_actors::{
    bus::table::TableLog,
    domain::session::{INBOUND, OUTBOUND},
    journal::messages::Commit,
    outbox::{OutboxMetrics, OutboxRelay, RelayDeps},
    somabrain::HealthReader,
    store::Store,
};
use somaagent_supervision::{Port, Restart, Strategy, SupervisorSpec};

use super::now;
use crate::boot::Base;

/// Starts the subtree `durability`.
pub(super) async fn carry_on(
    base: &Base,
    store: Store,
    health: HealthReader,
    journal: Port<Commit>,
) -> anyhow::Result<()> {
    let log = TableLog::new(store.clone(), now);
    log.ensure_topics(&[INBOUND, OUTBOUND]).await.context("topics of the log")?;
    let spec = SupervisorSpec::new("durability", Strategy::RestForOne).arbiters(1);
    let supervisor = base.root.supervisor(spec).await?;
    let deps = RelayDeps {
        store,
        log: Arc::new(log),
        health,
        crowded: Arc::new(move || journal.depth() > 0),
        settings: Arc::new(base.config.outbox.clone()),
        metrics: OutboxMetrics::register(&base.registry)?,
        clock: now,
    };
    let seat = supervisor.seat::<OutboxRelay>(Restart::Permanent);
    seat.start(move || OutboxRelay::new(deps)).await.context("outbox relay")?;
    Ok(())
}
