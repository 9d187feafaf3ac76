//! Proving who callers are: the keepers of published keys, what asks them, and the watcher over API keys.

use anyhow::Context;
use somaagent_actors::identity::{
    ApiKeys, Keeper, KeeperDeps, Refresh, Source, Verifier, api_keys::ApiKeyWatcher, sign_in::SignIn,
};
use somaagent_supervision::{Port, Restart, Strategy, SupervisorRef, SupervisorSpec};

use crate::boot::Base;

/// Requests that may wait for keys at a time; more are told to try again.
const REFRESH_CAPACITY: usize = 1_024;

/// Who proves who callers are.
pub(super) struct Provers {
    /// By tokens.
    pub(super) verifier: Verifier,
    /// By signing in, where people can.
    pub(super) sign_in: Option<SignIn>,
}

/// Starts the subtree `identity`, if callers must prove who they are.
pub(super) async fn prove(base: &Base, api_keys: &ApiKeys) -> anyhow::Result<Option<Provers>> {
    if !base.config.require_auth() {
        return Ok(None);
    }
    let spec = SupervisorSpec::new("identity", Strategy::OneForOne).arbiters(1);
    let supervisor = base.root.supervisor(spec).await?;
    let watched = api_keys.clone();
    let seat = supervisor.seat::<ApiKeyWatcher>(Restart::Permanent);
    seat.start(move || ApiKeyWatcher::new(watched)).await.context("watcher over API keys")?;
    let (auth, oidc) = (&base.config.auth, &base.config.oidc);
    let verifier = Verifier::start(auth, |deps| keep(supervisor.clone(), deps)).await?;
    let sign_in = if oidc.enabled {
        Some(SignIn::start(oidc, &auth.jwt_tenant_claims, |deps| keep(supervisor.clone(), deps)).await?)
    } else {
        None
    };
    Ok(Some(Provers { verifier, sign_in }))
}

async fn keep<S: Source>(supervisor: SupervisorRef, deps: KeeperDeps<S>) -> anyhow::Result<Port<Refresh>> {
    let seat = supervisor.seat::<Keeper<S>>(Restart::Permanent).labelled(deps.label());
    let port = seat.port("refresh", REFRESH_CAPACITY);
    seat.start(move || Keeper::new(deps)).await.context(S::ACTOR)?;
    Ok(port)
}
