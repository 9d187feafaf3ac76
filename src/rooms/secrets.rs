//! The keeper of what is kept in Vault, and its health.

use anyhow::Context;
use somaagent_actors::vault::{Condition as Of, Vault, VaultDeps, VaultKeeper, VaultMetrics};
use somaagent_http::door::{Component, Condition, Finding, Scope, Weight};
use somaagent_supervision::{Restart, Strategy, SupervisorSpec};

use crate::boot::Base;

/// Starts the subtree `secrets`, if some secret is kept in Vault, and gives its health.
pub(super) async fn look_after(base: &Base) -> anyhow::Result<Option<Component>> {
    let watched = base.config.watched();
    if watched.is_empty() {
        return Ok(None);
    }
    let vault = Vault::new(base.config.vault.clone()).context("Vault")?;
    let deps = VaultDeps::new(vault, watched, VaultMetrics::register(&base.registry)?);
    let health = deps.clone();
    let supervisor = base.root.supervisor(SupervisorSpec::new("secrets", Strategy::OneForOne).arbiters(1)).await?;
    let seat = supervisor.seat::<VaultKeeper>(Restart::Permanent);
    seat.start(move || VaultKeeper::new(deps)).await.context("keeper of what Vault keeps")?;
    // The process goes on with what it has, so it is no worse than degraded.
    Ok(Some(Component::new("vault", Weight::Helpful, Scope::Both, move || {
        let found = match health.condition() {
            Of::Fresh => Finding::ok(),
            Of::Failing => {
                Finding::not_ok(Condition::Degraded, "not all secrets can be read: what was read last is used")
            }
            Of::Stale => Finding::not_ok(Condition::Down, "secrets were confirmed too long ago to prove anything"),
        };
        async move { found }
    })))
}
