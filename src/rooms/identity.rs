//! Proving who callers are: the keepers of published keys, and what asks them.

use anyhow::Context;
use somaagent_actors::identity::{Keeper, KeeperDeps, Refresh, Source, Verifier};
use somaagent_supervision::{Port, Restart, Strategy, SupervisorRef, SupervisorSpec};

use crate::boot::Base;

/// Requests that may wait for keys at a time; more are told to try again.
const REFRESH_CAPACITY: usize = 1_024;

/// Starts the subtree `identity`, if callers must prove who they are.
pub(super) async fn prove(base: &Base) -> anyhow::Result<Option<Verifier>> {
    if !base.config.require_auth() {
        return Ok(None);
    }
    let spec = SupervisorSpec::new("identity", Strategy::OneForOne).arbiters(1);
    let supervisor = base.root.supervisor(spec).await?;
    Ok(Some(Verifier::start(&base.config.auth, |deps| keep(supervisor.clone(), deps)).await?))
}

async fn keep<S: Source>(supervisor: SupervisorRef, deps: KeeperDeps<S>) -> anyhow::Result<Port<Refresh>> {
    let seat = supervisor.seat::<Keeper<S>>(Restart::Permanent).labelled(deps.label());
    let port = seat.port("refresh", REFRESH_CAPACITY);
    seat.start(move || Keeper::new(deps)).await.context(S::ACTOR)?;
    Ok(port)
}
