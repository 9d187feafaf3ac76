//! What actors ask before they act for a session.

use super::{
    deciding::Policy,
    decision::{Decision, POLICY_ERROR},
    request::{Asker, Context, Subject},
};
use crate::domain::ids::Tenant;

/// What an actor is about to do.
#[derive(Debug, Clone, Copy)]
pub struct Act<'a> {
    /// The tenant whose data would be touched.
    pub tenant: &'a Tenant,
    /// Who the session belongs to, if that is known.
    pub subject: Option<&'a str>,
    /// The persona that answers, if one does.
    pub persona_id: Option<&'a str>,
    /// What is to be done, such as `memory.recall`.
    pub action: &'a str,
    /// To what, such as `somabrain`.
    pub resource: &'a str,
}

/// Whether an actor may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// It may.
    Granted,
    /// It may not.
    Denied,
    /// Nobody can say now: it may not, and may ask again.
    Unknown,
}

impl Policy {
    /// Asks on behalf of an actor that acts for a session. Counted by action; a refusal is logged here and nowhere else.
    pub async fn leave(&self, act: Act<'_>, context: &Context<'_>) -> Leave {
        let Act { tenant, subject, persona_id, action, resource } = act;
        let asks = Subject { tenant, persona_id, asker: Asker::Worker { subject } };
        let decision = self.decide(&asks, action, resource, context).await;
        let leave = Leave::of(&decision);
        if let Some(metrics) = self.metrics() {
            metrics.acted(action, leave);
        }
        if leave == Leave::Denied {
            let Decision { rule, input_digest, .. } = &decision;
            tracing::info!(action, resource, %rule, input_digest, "an actor may not do this");
        }
        leave
    }
}

impl Leave {
    fn of(decision: &Decision) -> Self {
        match decision {
            Decision { allow: true, .. } => Self::Granted,
            Decision { rule, .. } if &**rule == POLICY_ERROR => Self::Unknown,
            Decision { .. } => Self::Denied,
        }
    }

    /// Its label.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Granted => "allowed",
            Self::Denied => "denied",
            Self::Unknown => "error",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use prometheus::{Encoder as _, Registry, TextEncoder};
    use time::OffsetDateTime;

    use super::*;
    use crate::policy::{PolicyFiles, PolicyMetrics};

    /// Allows what the shipped policy does to actors, but denies recall and has no opinion on what assistants said.
    const PICKY: &str = r#"package soma.policy

import rego.v1

decision := {"allow": input.action != "memory.recall", "rule": "picky", "reason": "w", "reach": "own"} if {
	not input.context.role == "assistant"
}
"#;

    #[tokio::test]
    async fn an_actor_may_may_not_or_asks_again() {
        let registry = Registry::new();
        let files = PolicyFiles::new(vec![("picky.rego".to_owned(), PICKY.to_owned())]);
        let metrics = PolicyMetrics::register(&registry).unwrap();
        let policy = Policy::load(&files, false).unwrap().reporting(metrics, || OffsetDateTime::UNIX_EPOCH);
        let tenant = Tenant::new("acme").unwrap();
        for (action, role, leave) in [
            ("memory.write", "user", Leave::Granted),
            ("memory.recall", "user", Leave::Denied),
            ("memory.write", "assistant", Leave::Unknown),
        ] {
            let act = Act { tenant: &tenant, subject: Some("u-1"), persona_id: None, action, resource: "somabrain" };
            let context = Context { role: Some(role), ..Context::default() };
            assert_eq!(policy.leave(act, &context).await, leave, "{action} {role}");
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        for (action, result, count) in [
            ("memory.write", "allowed", 1),
            ("memory.write", "denied", 0),
            ("memory.write", "error", 1),
            ("memory.recall", "allowed", 0),
            ("memory.recall", "denied", 1),
        ] {
            let line = format!(r#"policy_actor_decisions_total{{action="{action}",result="{result}"}} {count}"#);
            assert!(text.lines().any(|known| known == line), "{line} is missing in {text}");
        }
    }

    #[tokio::test]
    async fn the_shipped_policy_lets_actors_recall_and_remember_and_nothing_like_it() {
        let policy = Policy::load(&PolicyFiles::shipped(), false).unwrap();
        let tenant = Tenant::new("acme").unwrap();
        for (action, resource, leave) in [
            ("memory.recall", "somabrain", Leave::Granted),
            ("memory.write", "somabrain", Leave::Granted),
            ("memory.recall", "memories", Leave::Denied),
            ("memory.read", "somabrain", Leave::Denied),
            ("memory.delete", "somabrain", Leave::Denied),
        ] {
            let act = Act { tenant: &tenant, subject: None, persona_id: None, action, resource };
            assert_eq!(policy.leave(act, &Context::default()).await, leave, "{action} {resource}");
        }
    }
}
