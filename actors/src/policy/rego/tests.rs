//! The shipped policy decides as it should, whoever runs it, and a policy that fails has denied.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation ends the test")]

use std::{io, sync::PoisonError, thread};

use futures_util::FutureExt as _;
use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::{
    domain::{caller::Reach, ids::Tenant},
    policy::{
        Asker, Context, Policy, PolicySettings, Subject,
        decision::{ADMIN_SCOPE, POLICY_ERROR},
    },
};

const TESTS: &str = include_str!("../../../../config/policy/soma_test.rego");

const NOBODY: Asker<'_> = Asker::Nobody { auth_required: true };
const AUTH_OFF: Asker<'_> = Asker::Nobody { auth_required: false };
const WORKER: Asker<'_> = Asker::Worker { subject: Some("u-1") };

const fn member(scope: &str) -> Asker<'_> {
    Asker::Member { subject: "u-1", issuer: None, scope: Some(scope) }
}

fn shipped() -> Policy {
    Policy::from_settings(&PolicySettings::default()).unwrap()
}

fn decide_with(policy: &Policy, asker: Asker<'_>, action: &str, resource: &str, context: &Context<'_>) -> Decision {
    let tenant = Tenant::new("acme").unwrap();
    let subject = Subject { tenant: &tenant, persona_id: None, asker };
    // Inside the process nothing is waited for.
    policy.decide(&subject, action, resource, context).now_or_never().unwrap()
}

fn decide(policy: &Policy, asker: Asker<'_>, action: &str, resource: &str) -> Decision {
    decide_with(policy, asker, action, resource, &Context::default())
}

#[test]
fn the_shipped_policy_decides_as_it_should() {
    let policy = shipped();
    let (own, tenant) = (Some(Reach::Own), Some(Reach::Tenant));
    for (asker, action, resource, rule, reach) in [
        (NOBODY, "public", "page", "public", own),
        (AUTH_OFF, "public", "page", "public", tenant),
        (AUTH_OFF, "conversation.send", "message", "auth-off", tenant),
        (AUTH_OFF, "memory.delete", "memories", "auth-off", tenant),
        (AUTH_OFF, "admin.dlq.purge", "dlq", "auth-off", tenant),
        (AUTH_OFF, "brew.coffee", "pot", "unknown-action", None),
        (NOBODY, "conversation.read", "session", "authentication", None),
        (NOBODY, "admin.dlq.read", "dlq", "authentication", None),
        (NOBODY, "brew.coffee", "pot", "authentication", None),
        (member(""), "conversation.send", "message", "member", own),
        (member("chat"), "config.read", "config", "member", own),
        (member("chat"), "memory.receipt", "receipt", "member", own),
        (member("chat sessions:tenant"), "conversation.read", "session", "member", tenant),
        (member("keys:manage"), "conversation.read", "session", "member", tenant),
        (member("chat"), "memory.read", "memories", ADMIN_SCOPE, None),
        (member("administrator sessions:tenant"), "memory.write", "memories", ADMIN_SCOPE, None),
        (member("chat"), "memory.export.read", "export", ADMIN_SCOPE, None),
        (member("chat"), "admin.actors.read", "actors", ADMIN_SCOPE, None),
        (member("chat admin"), "memory.read", "memories", ADMIN_SCOPE, tenant),
        (member("keys:manage"), "admin.dlq.edit", "dlq", ADMIN_SCOPE, tenant),
        (member("admin"), "brew.coffee", "pot", "unknown-action", None),
        (WORKER, "conversation.send", "message", "worker", tenant),
        (WORKER, "memory.write", "somabrain", "worker", tenant),
        (WORKER, "memory.recall", "somabrain", "worker", tenant),
        (member("admin"), "memory.recall", "somabrain", "unknown-action", None),
        (WORKER, "attachments.show", "6a1c0000-0000-4000-8000-000000000000", "worker", tenant),
        (member("admin"), "attachments.show", "6a1c0000-0000-4000-8000-000000000000", "unknown-action", None),
        (WORKER, "memory.write", "conversation_memory", "worker", tenant),
        (WORKER, "memory.write", "memories", "worker", None),
        (WORKER, "conversation.read", "session", "worker", None),
        (WORKER, "tool.execute", "echo", "tool", tenant),
        (WORKER, "tool.execute", "shell", "tool", None),
        (WORKER, "tool.execute", "document_ingest", "tool", None),
        (member("chat"), "tool.execute", "timestamp", "tool", own),
        (NOBODY, "tool.execute", "echo", "authentication", None),
    ] {
        let decision = decide(&policy, asker, action, resource);
        assert_eq!(&*decision.rule, rule, "{asker:?} {action}: {decision:?}");
        assert_eq!(decision.allow.then_some(decision.reach), reach, "{asker:?} {action}: {decision:?}");
        assert_eq!(decision.input_digest.len(), 64, "{decision:?}");
    }
}

#[test]
fn a_setting_gives_members_the_sessions_of_their_tenant() {
    let settings = PolicySettings { tenant_sessions: true, ..PolicySettings::default() };
    let policy = Policy::from_settings(&settings).unwrap();
    let decision = decide(&policy, member("chat"), "conversation.read", "session");
    assert!(decision.allow && decision.reach == Reach::Tenant, "{decision:?}");
    assert!(!decide(&policy, NOBODY, "conversation.read", "session").allow);
    assert!(!decide(&policy, member("chat"), "memory.read", "memories").allow);
}

#[test]
fn arguments_of_a_tool_count() {
    let policy = shipped();
    for (format, allow) in [("iso", true), ("DENY", false)] {
        let args = json!({"format": format});
        let context = Context { args: args.as_object(), ..Context::default() };
        let decision = decide_with(&policy, WORKER, "tool.execute", "timestamp", &context);
        assert_eq!(decision.allow, allow, "{format}: {decision:?}");
    }
}

#[test]
fn the_digest_tells_inputs_apart() {
    let policy = shipped();
    let digest = |asker, action: &str, resource: &str| decide(&policy, asker, action, resource).input_digest;
    let first = digest(member("chat"), "conversation.send", "message");
    assert_eq!(digest(member("chat"), "conversation.send", "message"), first);
    assert_eq!(digest(member(" chat "), "conversation.send", "message"), first, "blanks are no scopes");
    for other in [
        digest(member("chat admin"), "conversation.send", "message"),
        digest(member("chat"), "conversation.stop", "message"),
        digest(member("chat"), "conversation.send", "session"),
        digest(NOBODY, "conversation.send", "message"),
    ] {
        assert_ne!(other, first);
    }
}

#[test]
fn threads_decide_side_by_side() {
    let rego = Rego::new(&PolicyFiles::shipped()).unwrap();
    thread::scope(|scope| {
        for worker in 0..8 {
            let rego = &rego;
            scope.spawn(move || {
                for round in 0..200 {
                    let (action, allow) = if (worker + round) % 2 == 0 { ("public", true) } else { ("other", false) };
                    let decision = rego.decide(Value::from(json!({"action": action})), "").unwrap();
                    assert_eq!(decision.allow, allow, "{decision:?}");
                }
            });
        }
    });
    let idle = rego.idle.lock().len();
    assert!((1..=8).contains(&idle), "{idle} machines are kept");
}

/// An engine with the shipped policy and its tests, which interprets them as they are written.
fn interpreter() -> Engine {
    let mut engine = Engine::new();
    // Like the compiled form and OPA: what a builtin cannot do is undefined.
    engine.set_strict_builtin_errors(false);
    for (name, text) in PolicyFiles::shipped().iter() {
        engine.add_policy(name.clone(), text.clone()).unwrap();
    }
    engine.add_policy("soma_test.rego".to_owned(), TESTS.to_owned()).unwrap();
    engine
}

#[test]
fn the_policys_own_tests_pass() {
    let mut engine = interpreter();
    let names: Vec<_> =
        TESTS.lines().filter(|line| line.starts_with("test_")).filter_map(|line| line.split(' ').next()).collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let answer = engine.eval_rule(format!("data.soma.policy_test.{name}")).unwrap();
        assert_eq!(answer, Value::from(true), "{name}");
    }
}

#[test]
fn the_compiled_policy_answers_as_it_is_written() {
    let mut engine = interpreter();
    let compiled = Rego::new(&PolicyFiles::shipped()).unwrap();
    let mut machine = compiled.machine().unwrap();
    let flags = [json!(true), json!(false), json!("true")];
    let scopes = [json!(["chat"]), json!(["admin"]), json!(["sessions:tenant"]), json!("admin"), json!({"a": "admin"})];
    let actions = ["public", "conversation.send", "memory.read", "memory.write", "admin.x", "tool.execute", "x", ""];
    let mut contexts = vec![json!({}), json!(null), json!("admin"), json!(["admin"])];
    for (authenticated, auth_required) in flags.iter().flat_map(|one| flags.iter().map(move |other| (one, other))) {
        let plain = json!({"authenticated": authenticated, "auth_required": auth_required});
        contexts.push(plain.clone());
        for scopes in &scopes {
            for (name, value) in [("worker", true), ("worker", false), ("tenant_sessions", true)] {
                let mut context = plain.clone();
                context["scopes"] = scopes.clone();
                context[name] = json!(value);
                contexts.push(context);
            }
        }
    }
    let resources = [json!("message"), json!("somabrain"), json!("timestamp"), json!(null), json!(["message"])];
    let mut inputs =
        vec![json!(null), json!({}), json!([]), json!("public"), json!({"action": 7}), json!({"action": []})];
    for (context, action) in contexts.iter().flat_map(|context| actions.iter().map(move |action| (context, action))) {
        let resource = &resources[inputs.len() % resources.len()];
        inputs.push(json!({"tenant": "public", "action": action, "resource": resource, "context": context}));
    }
    assert!(inputs.len() > 1_000);
    for input in inputs {
        let value = Value::from(input.clone());
        machine.set_input(value.clone());
        let compiled = machine.execute().unwrap();
        engine.set_input(value);
        assert_eq!(compiled, engine.eval_rule(ENTRY.to_owned()).unwrap(), "{input}");
        assert!(Decision::read(&compiled, "").is_some(), "{input}: {compiled:?}");
    }
}

/// A policy that has an opinion on public pages alone, and these rules besides.
fn policy_with(rules: &str) -> Result<Policy, PolicyError> {
    let text = format!("package soma.policy\n\nimport rego.v1\n\n{FINE} if input.action == \"public\"\n\n{rules}\n");
    Policy::load(&PolicyFiles::new(vec![("a.rego".to_owned(), text)]), false)
}

const FINE: &str = r#"decision := {"allow": true, "rule": "r", "reason": "w", "reach": "tenant"}"#;

#[derive(Clone, Default)]
struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[test]
fn a_policy_that_fails_has_denied_and_is_logged_once_without_the_input() {
    let with = |answer: &str| format!("decision := {answer} if input.resource == \"r\"");
    let endless = "numbers := [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20]\n\n\
                   many if { some a in numbers; some b in numbers; some c in numbers; some d in numbers; a * b * c * d < 0 }\n\n\
                   decision := {\"allow\": true, \"rule\": \"r\", \"reason\": \"w\", \"reach\": \"tenant\"} if not many";
    let odd = "does not answer with a decision";
    for (rules, fault) in [
        (String::new(), odd),
        (with("true"), odd),
        (with("input"), odd),
        (with(r#"{"allow": true}"#), odd),
        (with(r#"{"allow": "yes", "rule": "r", "reason": "w", "reach": "own"}"#), odd),
        (with(r#"{"allow": true, "rule": "r", "reason": "w", "reach": "own", "unless": "x"}"#), odd),
        (format!("{FINE} if input.resource == \"r\"\n\n{}", with("input")), odd),
        (endless.to_owned(), "fails: InstructionLimitExceeded"),
    ] {
        let policy = policy_with(&rules).unwrap();
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt().json().with_writer(log.clone()).finish();
        let asker = Asker::Member { subject: "canary", issuer: Some("canary"), scope: Some("canary") };
        let decision = tracing::subscriber::with_default(subscriber, || {
            let context = Context { role: Some("canary"), ..Context::default() };
            decide_with(&policy, asker, "conversation.read", "r", &context)
        });
        let failed = !decision.allow && &*decision.rule == POLICY_ERROR && decision.reach == Reach::Own;
        assert!(failed && decision.input_digest.len() == 64, "{rules}: {decision:?}");
        let told = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert_eq!(told.lines().count(), 1, "{rules}: {told}");
        assert!(told.contains("ERROR") && told.contains(&decision.input_digest), "{rules}: {told}");
        assert!(told.contains(fault) && !told.contains("canary"), "{rules}: {told}");
        let next = decide(&policy, NOBODY, "public", "page");
        assert!(next.allow, "{rules}: a fault has spoilt the next decision: {next:?}");
    }
}

#[test]
fn what_is_no_policy_is_refused_at_start() {
    let load = |text: &str| Policy::load(&PolicyFiles::new(vec![("a.rego".to_owned(), text.to_owned())]), false);
    for text in ["", "package soma.policy\n\nallow := true\n", "package other\n\ndecision := true\n", "decision {"] {
        let refused = load(text).unwrap_err();
        assert!(matches!(refused, PolicyError::Compile(_)), "{text}: {refused:?}");
    }
    for text in ["decision := true", "decision := input.nothing", "decision := {\"allow\": true}"] {
        let refused = load(&format!("package soma.policy\n\nimport rego.v1\n\n{text}\n")).unwrap_err();
        assert!(matches!(refused, PolicyError::NoDecision(_)), "{text}: {refused:?}");
        assert!(refused.to_string().contains("data.soma.policy.decision"), "{refused}");
    }
    assert!(Policy::load(&PolicyFiles::new(Vec::new()), false).is_err());
}

#[test]
fn a_policy_of_ones_own_takes_the_place_of_the_shipped_one() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("package soma.policy\n\nimport rego.v1\n\nimport data.soma.more\n\n{FINE} if not more.closed\n");
    std::fs::write(dir.path().join("a.rego"), text).unwrap();
    let more = "package soma.more\n\nimport rego.v1\n\nclosed if input.action == \"memory.read\"\n";
    std::fs::write(dir.path().join("more.rego"), more).unwrap();
    let settings = PolicySettings { dir: Some(dir.path().to_owned()), ..PolicySettings::default() };
    let policy = Policy::from_settings(&settings).unwrap();
    assert!(decide(&policy, NOBODY, "conversation.read", "r").allow);
    assert_eq!(&*decide(&policy, NOBODY, "memory.read", "r").rule, POLICY_ERROR);
    let settings: PolicySettings = serde_json::from_value(json!({"dir": "/nowhere", "tenant_sessions": true})).unwrap();
    assert!(matches!(Policy::from_settings(&settings), Err(PolicyError::Unreadable { .. })));
}
