//! What operators save while the process runs: the watcher over it, and its health.

use anyhow::Context;
use somaagent_actors::{
    settings::{Condition as Of, Operators, Settings, SettingsMetrics, SettingsWatcher},
    store::Store,
};
use somaagent_http::door::{Component, Condition, Finding, Scope, Weight};
use somaagent_supervision::{Restart, Strategy, SupervisorSpec};

use super::now;
use crate::{
    boot::Base,
    database::{may_pass, outlast},
};

/// Reads what is saved and starts the subtree `settings`, which goes on reading it.
pub(super) async fn watch(base: &Base, store: Store) -> anyhow::Result<Settings> {
    let config = &base.config;
    let operators = if config.require_auth() {
        Operators::AdminsOf(config.settings.tenants().map_err(anyhow::Error::msg)?)
    } else {
        Operators::Everybody
    };
    let metrics = SettingsMetrics::register(&base.registry)?;
    let configured = config.uploads.rules(&config.antivirus);
    let settings = Settings::new(store, now, operators, configured, metrics);
    let look = async || settings.look().await;
    outlast(("saved settings", base.patience()), may_pass, look).await.context("saved settings")?;
    let supervisor = base.root.supervisor(SupervisorSpec::new("settings", Strategy::OneForOne).arbiters(1)).await?;
    let (watched, seat) = (settings.clone(), supervisor.seat::<SettingsWatcher>(Restart::Permanent));
    seat.start(move || SettingsWatcher::new(watched)).await.context("watcher over settings")?;
    Ok(settings)
}

/// How it stands with them. Everything but uploads goes on in any case, so it is no worse than degraded.
pub(super) fn component(settings: &Settings) -> Component {
    let settings = settings.clone();
    Component::new("settings", Weight::Helpful, Scope::Health, move || {
        let degraded = |detail: &str| Finding::not_ok(Condition::Degraded, detail);
        let found = match settings.condition() {
            Of::Current => Finding::ok(),
            Of::Unknown => degraded("not known whether they were changed: those in force go on"),
            Of::Unreadable => degraded("what is saved cannot be read: what was in force goes on"),
            Of::Closed => degraded("what is saved cannot be read: no uploads are taken"),
        };
        async move { found }
    })
}
