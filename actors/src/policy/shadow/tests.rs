//! The candidate is heard, and changes nothing.

#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::path::Path;

use futures_util::FutureExt as _;
use prometheus::Registry;

use super::*;
use crate::policy::{Asker, Context, Policy, PolicyError, PolicySettings, Subject};

/// A candidate that lets nobody but admins list sessions, and breaks where the resource says so.
const CANDIDATE: &str = r#"package soma.policy

import rego.v1

decision := {"allow": true, "rule": "public", "reason": "w", "reach": "own"} if input.action == "public"

decision := {"allow": false, "rule": "stricter", "reason": "w", "reach": "own"} if {
	input.action == "conversation.list"
	input.resource != "endless"
}

decision := {"allow": true, "rule": "member", "reason": "other words", "reach": "own"} if input.action == "config.read"

numbers := [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]

many if {
	input.resource == "endless"
	some a in numbers
	some b in numbers
	some c in numbers
	some d in numbers
	a * b * c * d < 0
}

decision := {"allow": true, "rule": "many", "reason": "w", "reach": "own"} if many
"#;

fn candidate(text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("candidate.rego"), text).unwrap();
    dir
}

fn settings(dir: &Path) -> PolicySettings {
    PolicySettings { shadow_dir: Some(dir.to_owned()), ..PolicySettings::default() }
}

fn noon() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + time::Duration::hours(12)
}

struct Watched {
    policy: Policy,
    registry: Registry,
}

impl Watched {
    fn new(settings: &PolicySettings) -> Self {
        let registry = Registry::new();
        let metrics = PolicyMetrics::register(&registry).unwrap();
        Self { policy: Policy::from_settings(settings).unwrap().reporting(metrics, noon), registry }
    }

    fn decide(&self, tenant: &str, action: &str, resource: &str) -> Decision {
        let tenant = Tenant::new(tenant).unwrap();
        let asker = Asker::Member { subject: "canary", issuer: Some("canary"), scope: Some("chat") };
        let subject = Subject { tenant: &tenant, persona_id: Some("canary"), asker };
        self.policy.decide(&subject, action, resource, &Context::default()).now_or_never().unwrap()
    }

    fn differences(&self, tenant: &str) -> Vec<Difference> {
        self.policy.differences(&Tenant::new(tenant).unwrap()).unwrap()
    }

    fn counted(&self, result: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == "policy_shadow_decisions_total").unwrap();
        let metric = family.get_metric().iter().find(|metric| metric.get_label()[0].value() == result).unwrap();
        metric.get_counter().get_value()
    }
}

#[test]
fn what_the_candidate_would_decide_otherwise_is_counted_and_listed_for_its_tenant() {
    let dir = candidate(CANDIDATE);
    let (watched, alone) = (Watched::new(&settings(dir.path())), Watched::new(&PolicySettings::default()));
    for (tenant, action, resource) in [
        ("acme", "conversation.list", "/v1/sessions"),
        ("acme", "conversation.list", "/v1/sessions"),
        ("acme", "config.read", "/v1/runtime-config"),
        ("acme", "conversation.read", "/v1/sessions/{session_id}"),
        ("umbrella", "conversation.list", "/v1/sessions"),
    ] {
        assert_eq!(watched.decide(tenant, action, resource), alone.decide(tenant, action, resource), "{action}");
    }
    assert_eq!((watched.counted("same"), watched.counted("different"), watched.counted("failed")), (1.0, 3.0, 1.0));
    let found = watched.differences("acme");
    assert_eq!(found.len(), 2, "{found:?}");
    let [listed, read] = ["conversation.list", "conversation.read"]
        .map(|action| found.iter().find(|difference| difference.action == action).unwrap());
    assert_eq!((listed.count, listed.last_seen, listed.resource.as_str()), (2, noon(), "/v1/sessions"));
    assert_eq!((listed.live.allow, &*listed.live.rule), (true, "member"));
    assert_eq!(listed.candidate, Some(Outcome { allow: false, rule: "stricter".into(), reach: Reach::Own }));
    assert_eq!(listed.input_digest, alone.decide("acme", "conversation.list", "/v1/sessions").input_digest);
    assert_eq!((read.count, &read.candidate), (1, &None), "the candidate has no opinion");
    assert!(!format!("{found:?}").contains("canary"));
    assert_eq!(watched.differences("umbrella").len(), 1);
    assert!(watched.differences("nobody").is_empty());
    assert!(alone.policy.differences(&Tenant::new("acme").unwrap()).is_none(), "there is no candidate");
}

#[test]
fn a_candidate_that_breaks_harms_nobody() {
    let dir = candidate(CANDIDATE);
    let watched = Watched::new(&settings(dir.path()));
    for _ in 0..3 {
        assert!(watched.decide("acme", "conversation.list", "endless").allow);
    }
    assert_eq!((watched.counted("same"), watched.counted("different"), watched.counted("failed")), (0.0, 0.0, 3.0));
    assert_eq!(watched.differences("acme")[0].candidate, None);
}

#[test]
fn a_candidate_that_cannot_decide_is_refused_at_start() {
    let nowhere = Policy::from_settings(&settings(Path::new("/nowhere"))).unwrap_err();
    let broken = Policy::from_settings(&settings(candidate("decision {").path())).unwrap_err();
    let closed = "package soma.policy\n\nimport rego.v1\n\ndecision := {\"allow\": false, \"rule\": \"r\", \"reason\": \"w\", \"reach\": \"own\"}\n";
    let closed = Policy::from_settings(&settings(candidate(closed).path())).unwrap_err();
    for error in [nowhere, broken, closed] {
        assert!(matches!(error, PolicyError::Candidate(_)), "{error:?}");
        assert_eq!(error.key(), "policy.shadow_dir");
    }
}

#[test]
fn no_more_differences_are_kept_than_may_be() {
    let dir = candidate(CANDIDATE);
    let watched = Watched::new(&settings(dir.path()));
    for number in 0..MOST + 20 {
        watched.decide("acme", "conversation.list", &format!("r-{number}"));
    }
    assert_eq!(watched.differences("acme").len(), MOST);
    let last = format!("r-{}", MOST + 19);
    assert!(watched.differences("acme").iter().any(|difference| difference.resource == last));
}
