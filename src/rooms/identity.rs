//! Proving who callers are: the keepers of published keys, what asks them, and the watcher over API keys.

use anyhow::Context;
use somaagent_actors::identity::{ApiKeys, Keeper, KeeperDeps, Refresh, Source, Verifier, api_keys::ApiKeyWatcher};
use somaagent_supervision::{Port, Restart, Strategy, SupervisorRef, SupervisorSpec};

use crate::boot::Base;

/// Requests that may wait for keys at a time; more are told to try again.
const REFRESH_CAPACITY: usize = 1_024;

/// Starts the subtree `identity`, if callers must prove who they are.
pub(super) async fn prove(base: &Base, api_keys: &ApiKeys) -> anyhow::Result<Option<Verifier>> {
    if !base.config.require_auth() {
        return Ok(None);
    }
    let spec = SupervisorSpec::new("identity", Strategy::OneForOne).arbiters(1);
    let supervisor = base.root.supervisor(spec).await?;
    let watched = api_keys.clone();
    let seat = supervisor.seat::<ApiKeyWatcher>(Restart::Permanent);
    seat.start(move || ApiKeyWatcher::new(watched)).await.context("watcher over API keys")?;
    Ok(Some(Verifier::start(&base.config.auth, |deps| keep(supervisor.clone(), deps)).await?))
}

async fn keep<S: Source>(supervisor: SupervisorRef, deps: KeeperDeps<S>) -> anyhow::Result<Port<Refresh>> {
    let seat = supervisor.seat::<Keeper<S>>(Restart::Permanent).labelled(deps.label());
    let port = seat.port("refresh", REFRESH_CAPACITY);
    seat.start(move || Keeper::new(deps)).await.context(S::ACTOR)?;
    Ok(port)
}
