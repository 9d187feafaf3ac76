//! What an OPA makes of the shipped policy, and what becomes of its end.

use std::{path::Path, process::Command};

use somaagent_actors::{
    domain::ids::Tenant,
    policy::{Asker, Context, Decision, Policy, PolicySettings, Subject, decision::POLICY_ERROR},
};
use somaagent_test_services::{
    judge::{self, Judge},
    wait::eventually,
};

/// Where the shipped policy is, with its tests.
pub const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../config/policy");

/// Nothing is kept, so that the OPA itself is heard, and it is left alone for no time to speak of.
pub fn settings(judge: &Judge) -> PolicySettings {
    PolicySettings {
        opa_url: Some(judge.url().to_owned()),
        opa_timeout_seconds: 60.0,
        cache_ttl_seconds: 0.0,
        breaker_cooldown_ms: 10,
        ..PolicySettings::default()
    }
}

#[test]
fn the_shipped_policy_passes_the_checks_and_tests_of_opa() {
    let opa = judge::opa().unwrap();
    for words in [&["check", "--strict"][..], &["test", "--fail-on-empty"]] {
        let output = Command::new(&opa).args(words).arg(SHIPPED).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
    }
}

#[tokio::test]
async fn an_opa_that_is_gone_closes_and_one_that_is_back_decides_again() {
    let mut judge = Judge::opa(&[Path::new(SHIPPED)]).await.unwrap();
    let policy = Policy::from_settings(&settings(&judge)).unwrap();
    let tenant = Tenant::new("acme").unwrap();
    let ask = async || {
        let asker = Asker::Member { subject: "u-1", issuer: None, scope: Some("chat") };
        let subject = Subject { tenant: &tenant, persona_id: None, asker };
        policy.decide(&subject, "conversation.list", "/v1/sessions", &Context::default()).await
    };
    assert!(ask().await.allow);
    judge.kill().unwrap();
    for _ in 0..8 {
        let Decision { allow, rule, .. } = ask().await;
        assert!(!allow && &*rule == POLICY_ERROR, "{rule}");
    }
    judge.start().await.unwrap();
    eventually("the OPA is heard again", async || ask().await.allow.then_some(())).await;
}

#[tokio::test]
async fn a_document_that_is_no_decision_closes() {
    let judge = Judge::opa(&[Path::new(SHIPPED)]).await.unwrap();
    let tenant = Tenant::new("acme").unwrap();
    for path in ["/v1/data/soma/policy/allow", "/v1/data/soma/nothing", "/v1/data/soma/policy"] {
        let policy = PolicySettings { opa_decision_path: path.to_owned(), ..settings(&judge) };
        let asker = Asker::Member { subject: "u-1", issuer: None, scope: Some("admin") };
        let subject = Subject { tenant: &tenant, persona_id: None, asker };
        let policy = Policy::from_settings(&policy).unwrap();
        let decision = policy.decide(&subject, "conversation.list", "/v1/sessions", &Context::default()).await;
        assert!(!decision.allow && &*decision.rule == POLICY_ERROR, "{path}: {decision:?}");
    }
}
