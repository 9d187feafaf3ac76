//! The scanners of uploads, and the health of the clamd they ask.

use anyhow::Context;
use somaagent_actors::uploads::{
    rules::InForce,
    scanner::{ScanError, ScannerMetrics, Scanners},
};
use somaagent_http::door::{Component, Condition, Finding, Scope, Weight};
use somaagent_supervision::SupervisorRef;

use super::now;
use crate::{
    boot::Base,
    shutdown::{Shutdown, Stage},
};

/// Starts them under `uploads`. Also while the antivirus is off, for it may be switched on.
pub(super) async fn start(
    base: &Base,
    uploads: &SupervisorRef,
    rules: InForce,
    shutdown: &mut Shutdown,
) -> anyhow::Result<Scanners> {
    let settings = &base.config.antivirus;
    let metrics = ScannerMetrics::register(&base.registry)?;
    let scanners = Scanners::start(uploads, settings, rules, metrics, now).await.context("scanners of uploads")?;
    let draining = scanners.clone();
    shutdown.at(Stage::Queues, "scanners", |within| async move {
        if !draining.drain(within).await {
            tracing::warn!("scans are given up");
        }
    });
    Ok(scanners)
}

/// Whether clamd is there, and tells of what it does not look at, while uploads are scanned. Without it they wait, or are kept from everybody: nothing else is worse.
pub(super) fn component(scanners: &Scanners) -> Component {
    let (asked, switch) = (scanners.clone(), scanners.clone());
    let clamav = Component::new("clamav", Weight::Helpful, Scope::Both, move || {
        let scanners = asked.clone();
        async move {
            match scanners.ping().await {
                Ok(()) => match scanners.blind_spot() {
                    Some(blind) => Finding::not_ok(Condition::Degraded, blind),
                    None => Finding::ok(),
                },
                Err(ScanError::Off) => Finding::ok(),
                Err(_) => Finding::not_ok(Condition::Down, "no answer"),
            }
        }
    });
    clamav.while_true(move || switch.in_force().enabled)
}
