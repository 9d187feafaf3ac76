//! One policy, one input, one decision: inside the process and in an OPA.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::{Value, json};
use somaagent_actors::{
    domain::ids::Tenant,
    policy::{
        Asker, Context, Decision, Policy, PolicySettings, Subject,
        decision::POLICY_ERROR,
        parity::{arguments, compare, questions},
    },
};
use somaagent_test_services::judge::Judge;

use crate::opa::{SHIPPED, settings};

const API: &str = include_str!("../../../http/openapi.json");

/// Every action of the API.
fn actions() -> BTreeSet<String> {
    let api: Value = serde_json::from_str(API).unwrap();
    let operations = api["paths"].as_object().unwrap().values().flat_map(|item| item.as_object().unwrap().values());
    let known: BTreeSet<String> =
        operations.filter_map(|operation| operation["x-action"].as_str()).map(str::to_owned).collect();
    assert!(known.len() > 15 && known.contains("public"), "{known:?}");
    known
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
        let pair = Pair::new(&inside, &PolicySettings { tenant_sessions, ..settings(&judge) });
        for answers in compare(&pair.inside, &pair.outside, questions(&actions())).await {
            assert_eq!(answers.one, answers.other, "{answers:?}");
            let Some(decision) = &answers.one else { panic!("nobody decided: {answers:?}") };
            rules.insert((decision.rule.to_string(), decision.allow));
            asked += 1;
        }
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
