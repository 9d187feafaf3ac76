//! Taking files, and letting old ones go.

use std::sync::Arc;

use anyhow::Context;
use somaagent_actors::{
    store::Store,
    uploads::{AttachmentJanitor, JanitorDeps, UploadMetrics, Uploads},
};
use somaagent_supervision::{Restart, Strategy, SupervisorSpec};
use tokio::sync::watch;

use super::now;
use crate::boot::Base;

/// Starts what looks after attachments, and returns the door's handle.
pub(super) async fn take(base: &Base, store: Store) -> anyhow::Result<Uploads> {
    let rules = Arc::new(base.config.uploads.rules(&base.config.antivirus));
    let (_, rules) = watch::channel(rules);
    let metrics = UploadMetrics::register(&base.registry)?;
    let supervisor = base.root.supervisor(SupervisorSpec::new("uploads", Strategy::OneForOne)).await?;
    let deps = JanitorDeps { store: store.clone(), rules: rules.clone(), metrics: metrics.clone(), clock: now };
    let seat = supervisor.seat::<AttachmentJanitor>(Restart::Permanent);
    seat.start(move || AttachmentJanitor::new(deps)).await.context("janitor of attachments")?;
    Ok(Uploads::new(store, rules, metrics, now))
}
