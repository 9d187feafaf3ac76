//! One policy, one input, one decision: inside the process and in an OPA.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};
use somaagent_actors::{
    domain::ids::Tenant,
    policy::{Asker, Context, Decision, Policy, PolicySettings, Subject, decision::POLICY_ERROR},
};
use somaagent_test_services::judge::Judge;
use uuid::Uuid;

use crate::opa::{SHIPPED, settings};

const API: &str = include_str!("../../../http/openapi.json");

/// What no operation asks for, near misses among it.
const ODD_ACTIONS: [&str; 17] = [
    "",
    " ",
    "Public",
    "public ",
    "admin",
    "admin.",
    "adminactors.read",
    "ADMIN.actors.read",
    "conversation.send.more",
    "memory.recall",
    "tool.execute",
    "tool.catalog.update",
    "settings.update",
    "0",
    "\u{202e}nimda",
    "admin\u{200b}.actors.read",
    "ádmin.äctors.🦜",
];

const RESOURCES: [&str; 10] = [
    "message",
    "somabrain",
    "conversation_memory",
    "echo",
    "timestamp",
    "document_ingest",
    "/v1/sessions/{session_id}",
    "",
    "\"\\\u{7}\u{2028}",
    "ｅｃｈｏ",
];

const TENANTS: [&str; 4] = ["acme", "public", "Public", "größe \"7\" 🦜"];

const SCOPES: [Option<&str>; 10] = [
    None,
    Some(""),
    Some("chat"),
    Some(" chat  sessions:tenant "),
    Some("admin"),
    Some("Admin administrator xadmin"),
    Some("keys:manage"),
    Some("a\u{a0}admin"),
    Some("\u{61}dm\u{69}n"),
    Some("ａｄｍｉｎ 🦜"),
];

fn askers() -> Vec<Asker<'static>> {
    let mut all = vec![
        Asker::Nobody { auth_required: true },
        Asker::Nobody { auth_required: false },
        Asker::Worker { subject: None },
        Asker::Worker { subject: Some("u-1") },
    ];
    for scope in SCOPES {
        all.push(Asker::Member { subject: "u-1", issuer: None, scope });
    }
    all.push(Asker::Member {
        subject: "ü\u{0}\n\"'🦜",
        issuer: Some("https://id.example/ä"),
        scope: Some("admin chat"),
    });
    all
}

/// Every action of the API, and odd ones.
fn actions() -> Vec<String> {
    let api: Value = serde_json::from_str(API).unwrap();
    let operations = api["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    let known: BTreeSet<&str> = operations.filter_map(|operation| operation["x-action"].as_str()).collect();
    assert!(known.len() > 15 && known.contains("public"), "{known:?}");
    known.into_iter().chain(ODD_ACTIONS).map(str::to_owned).collect()
}

/// Arguments of tools, and values that JSON readers disagree about.
fn arguments() -> Vec<Value> {
    let values = [
        json!("DENY"),
        json!("deny"),
        json!("DENY\u{0}"),
        json!("\u{44}ENY"),
        json!(["DENY"]),
        json!({"DENY": "DENY"}),
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(9_007_199_254_740_993_u64),
        json!(0.1),
        json!(-0.0),
        json!(1e-7),
        // Twice of it is still a number; beyond, OPA goes on and the policy inside the process closes.
        json!(1e300),
        json!(5e-324),
        json!(3.0),
        json!("🦜\u{2028}ß"),
    ];
    values.into_iter().map(|value| json!({"format": value, "deep": [{"api_key": "k", "n": value}]})).collect()
}

/// Who decides inside of the process and outside.
struct Pair {
    inside: Policy,
    outside: Policy,
    asked: usize,
}

impl Pair {
    fn new(inside: &PolicySettings, outside: &PolicySettings) -> Self {
        let policy = |settings| Policy::from_settings(settings).unwrap();
        Self { inside: policy(inside), outside: policy(outside), asked: 0 }
    }

    /// What both decide.
    async fn decide(
        &mut self,
        tenant: &str,
        asker: Asker<'_>,
        (action, resource): (&str, &str),
        context: &Context<'_>,
    ) -> Decision {
        let tenant = Tenant::new(tenant).unwrap();
        let subject =
            Subject { tenant: &tenant, persona_id: (self.asked.is_multiple_of(3)).then_some("pérsona"), asker };
        let inside = self.inside.decide(&subject, action, resource, context).await;
        let outside = self.outside.decide(&subject, action, resource, context).await;
        assert_eq!(inside, outside, "{subject:?} {action} {resource} {context:?}");
        assert_ne!(&*inside.rule, POLICY_ERROR, "{subject:?} {action} {resource} {context:?}");
        self.asked += 1;
        inside
    }
}

#[tokio::test]
async fn both_decide_alike_about_everything_that_may_be_asked() {
    let judge = Judge::opa(&[Path::new(SHIPPED)]).await.unwrap();
    let (mut rules, mut asked) = (BTreeSet::new(), 0);
    for tenant_sessions in [false, true] {
        let inside = PolicySettings { tenant_sessions, ..PolicySettings::default() };
        let mut pair = Pair::new(&inside, &PolicySettings { tenant_sessions, ..settings(&judge) });
        for action in actions() {
            for asker in askers() {
                // What actors may do, they may do to the first two.
                for resource in ["message", "somabrain", RESOURCES[pair.asked % RESOURCES.len()]] {
                    let n = pair.asked;
                    let tenant = TENANTS[n % TENANTS.len()];
                    let context = Context {
                        session_id: n.is_multiple_of(2).then(|| Uuid::from_u128(n as u128)),
                        message_length: [None, Some(0), Some(u64::MAX)][n % 3],
                        payload_type: [None, Some("user"), Some("ä\"")][n % 3],
                        role: [None, Some("assistant")][n % 2],
                        args: None,
                    };
                    let decision = pair.decide(tenant, asker, (&action, resource), &context).await;
                    rules.insert((decision.rule.to_string(), decision.allow));
                }
            }
        }
        for args in arguments() {
            for (asker, resource) in askers().into_iter().step_by(3).flat_map(|asker| RESOURCES.map(|of| (asker, of))) {
                let context = Context { args: args.as_object(), ..Context::default() };
                let tenant = TENANTS[pair.asked % TENANTS.len()];
                let decision = pair.decide(tenant, asker, ("tool.execute", resource), &context).await;
                rules.insert((decision.rule.to_string(), decision.allow));
            }
        }
        asked += pair.asked;
    }
    assert!(asked >= 500, "{asked} inputs");
    // Every line of the policy was heard.
    let lines = [
        ("admin-scope", false),
        ("admin-scope", true),
        ("auth-off", true),
        ("authentication", false),
        ("member", true),
        ("public", true),
        ("tool", false),
        ("tool", true),
        ("unknown-action", false),
        ("worker", false),
        ("worker", true),
    ];
    assert_eq!(rules, lines.map(|(rule, allow)| (rule.to_owned(), allow)).into());
}

/// Reasons that tell what the policy read.
const READING: &str = r#"package soma.policy

import rego.v1

default decision := {"allow": true, "rule": "other", "reason": "w", "reach": "own"}

decision := {"allow": true, "rule": rule, "reason": concat("|", [n | some n in found]), "reach": "tenant"} if count(found) > 0

rule := lower(input.context.args.text)

found contains "above" if input.context.args.n > 2.5

found contains "three" if input.context.args.n == 3

found contains "six" if input.context.args.n * 2 == 6

found contains "below" if input.context.args.n < 0

found contains "text" if is_string(input.context.args.n)

found contains "number" if is_number(input.context.args.n)

found contains "truth" if is_boolean(input.context.args.n)

found contains "list" if is_array(input.context.args.n)

found contains "exact" if input.context.args.n == 9007199254740993

found contains "inexact" if input.context.args.n == 9007199254740992

found contains "tenth" if input.context.args.n == 0.1

found contains "longer" if count(input.context.args.text) > 3
"#;

#[tokio::test]
async fn numbers_and_texts_are_read_alike() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("reading.rego"), READING).unwrap();
    let judge = Judge::opa(&[dir.path()]).await.unwrap();
    let inside = PolicySettings { dir: Some(dir.path().to_owned()), ..PolicySettings::default() };
    let mut pair = Pair::new(&inside, &settings(&judge));
    let mut reasons = BTreeSet::new();
    for arguments in arguments() {
        for text in ["Abc", "ÄÖÜ", "🦜🦜🦜🦜", "e\u{301}e\u{301}", "\u{0}\u{7f}\u{2029}x", "日本語 \\ \""]
        {
            let args = json!({"n": arguments["format"], "text": text});
            let context = Context { args: args.as_object(), ..Context::default() };
            let asker = Asker::Worker { subject: None };
            reasons.insert(pair.decide("acme", asker, ("tool.execute", "reading"), &context).await.reason);
        }
    }
    assert!(reasons.len() > 8, "{reasons:?}");
}
