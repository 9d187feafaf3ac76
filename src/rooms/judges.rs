//! The health of those who decide outside of the process: without them nobody is let in.

use somaagent_actors::{
    breaker::BreakerState,
    policy::{Membership, Policy},
};
use somaagent_http::door::{Component, Condition, Finding, Scope, Weight};

/// A part for each judge that is configured.
pub(super) fn components(policy: &Policy, membership: Option<&Membership>) -> Vec<Component> {
    let policy = policy.opa_state().map(|_| policy.clone());
    let opa = policy.map(|policy| judge("opa", move || policy.opa_state().unwrap_or(BreakerState::Closed)));
    let membership = membership.cloned();
    let openfga = membership.map(|membership| judge("openfga", move || membership.state()));
    opa.into_iter().chain(openfga).collect()
}

/// A judge is not asked for its health: that would cost it more than it tells, and what it did last is known.
fn judge(name: &'static str, state: impl Fn() -> BreakerState + Send + Sync + 'static) -> Component {
    Component::new(name, Weight::Vital, Scope::Both, move || {
        let found = match state() {
            BreakerState::Closed => Finding::ok(),
            BreakerState::HalfOpen => Finding::not_ok(Condition::Degraded, "being tried again"),
            BreakerState::Open => Finding::not_ok(Condition::Down, "gave no answer when it was last asked"),
        };
        async move { found }
    })
}
