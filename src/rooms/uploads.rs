//! Taking files, looking through them, and letting old ones go.

use std::sync::Arc;

use anyhow::Context;
use somaagent_actors::{
    store::Store,
    uploads::{
        AttachmentJanitor, AttachmentRescanner, JanitorDeps, RescannerDeps, UploadMetrics, Uploads,
        external::{External, Networks},
        rules::InForce,
        scanner::Scanners,
    },
};
use somaagent_supervision::{Restart, Strategy, SupervisorSpec};

use super::{Brain, now, scanners};
use crate::{boot::Base, shutdown::Shutdown};

/// What the door needs of files.
#[derive(Clone)]
pub(super) struct Files {
    /// Takes them.
    pub(super) uploads: Uploads,
    /// Look through them.
    pub(super) scanners: Scanners,
}

/// Starts the subtree `uploads`, which is held to `rules`. What is sent is remembered by `brain` where requests have things
/// remembered at once.
pub(super) async fn take(
    base: &Base,
    store: Store,
    rules: InForce,
    brain: &Brain,
    shutdown: &mut Shutdown,
) -> anyhow::Result<Files> {
    let metrics = UploadMetrics::register(&base.registry)?;
    let supervisor = base.root.supervisor(SupervisorSpec::new("uploads", Strategy::OneForOne).arbiters(1)).await?;
    let scanners = scanners::start(base, &supervisor, rules.clone(), shutdown).await?;
    let deps = JanitorDeps {
        store: store.clone(),
        rules: rules.clone(),
        forget: brain.forget.clone(),
        metrics: metrics.clone(),
        clock: now,
    };
    let seat = supervisor.seat::<AttachmentJanitor>(Restart::Permanent);
    seat.start(move || AttachmentJanitor::new(deps)).await.context("janitor of attachments")?;
    let networks = Networks::parse(&base.config.uploads.external_ref_networks).map_err(anyhow::Error::msg)?;
    let external = External::new(networks).context("fetching of files elsewhere")?;
    let uploads =
        Uploads::new(store, rules, metrics, now).fetching_by(external).looked_through_by(Arc::new(scanners.clone()));
    let uploads = if base.config.write_through.enabled { uploads.remembering_in(brain.space.clone()) } else { uploads };
    let settings = base.config.antivirus.clone();
    let deps = RescannerDeps { uploads: uploads.clone(), scanners: scanners.clone(), settings };
    let seat = supervisor.seat::<AttachmentRescanner>(Restart::Permanent);
    seat.start(move || AttachmentRescanner::new(deps)).await.context("rescanner of attachments")?;
    Ok(Files { uploads, scanners })
}
