//! What an OPA may do to us: whatever it is, it opens no door.

#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::Duration,
};

use prometheus::Registry;
use serde_json::json;
use somaagent_test_services::wait::eventually;
use time::OffsetDateTime;

use crate::{
    breaker::BreakerState,
    domain::{caller::Reach, ids::Tenant},
    loopback::{Play, Server},
    policy::{
        Asker, Context, Decision, Policy, PolicyMetrics, PolicySettings, Subject,
        decision::{POLICY_ERROR, PUBLIC},
    },
};

const YES: &str = r#"{"result": {"allow": true, "rule": "r", "reason": "w", "reach": "tenant"}, "decision_id": "7"}"#;
const NO: &str = r#"{"result": {"allow": false, "rule": "r", "reason": "w", "reach": "own"}}"#;

type Answers = Box<dyn Fn() -> Play + Send + Sync>;

/// Nothing is kept, so that every question is seen, and it is left alone after three failures for no time to speak of.
fn settings(url: &str) -> PolicySettings {
    PolicySettings {
        opa_url: Some(url.to_owned()),
        opa_timeout_seconds: 20.0,
        cache_ttl_seconds: 0.0,
        breaker_failures: 3,
        breaker_cooldown_ms: 1,
        ..PolicySettings::default()
    }
}

fn policy(settings: &PolicySettings) -> Policy {
    Policy::from_settings(settings).unwrap()
}

async fn decide(policy: &Policy, action: &str) -> Decision {
    let tenant = Tenant::new("acme").unwrap();
    let asker = Asker::Member { subject: "u-1", issuer: None, scope: Some("chat") };
    let subject = Subject { tenant: &tenant, persona_id: None, asker };
    policy.decide(&subject, action, "/v1/sessions", &Context::default()).await
}

fn failed(decision: &Decision) -> bool {
    !decision.allow && &*decision.rule == POLICY_ERROR && decision.reach == Reach::Own
}

#[tokio::test]
async fn it_is_given_the_input_and_nothing_else() {
    let server = Server::start(|_| Play::json(200, YES)).await;
    let decision = decide(&policy(&settings(&server.url)), "conversation.list").await;
    assert!(decision.allow && decision.reach == Reach::Tenant && &*decision.rule == "r", "{decision:?}");
    let seen = server.last();
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /v1/data/soma/policy/decision HTTP/1.1\r\n"), "{head}");
    let names: Vec<&str> = head.lines().skip(1).filter_map(|line| line.split(':').next()).collect();
    for name in names {
        assert!(["content-type", "accept", "host", "content-length"].contains(&name), "{head}");
    }
    let told: serde_json::Value = serde_json::from_str(body).unwrap();
    let expected = json!({"input": {
        "tenant": "acme", "persona_id": null, "action": "conversation.list", "resource": "/v1/sessions",
        "context": {
            "auth_required": true, "authenticated": true, "worker": false, "tenant_sessions": false,
            "subject": "u-1", "scopes": ["chat"],
        },
    }});
    assert_eq!(told, expected);
    let inside = policy(&PolicySettings::default());
    assert_eq!(decide(&inside, "conversation.list").await.input_digest, decision.input_digest, "one input for both");
}

#[tokio::test]
async fn no_answer_but_a_whole_decision_opens_the_door() {
    let member = |name: &str, value: serde_json::Value| {
        let mut answer: serde_json::Value = serde_json::from_str(YES).unwrap();
        answer["result"][name] = value;
        Play::json(200, &answer.to_string())
    };
    let elsewhere = Server::start(|_| Play::json(200, YES)).await;
    let there = format!("location: {}\r\n", elsewhere.url);
    let plays: Vec<(&str, Answers)> = vec![
        ("it is undefined", Box::new(|| Play::json(200, "{}"))),
        ("it is null", Box::new(|| Play::json(200, r#"{"result": null}"#))),
        ("it is true alone", Box::new(|| Play::json(200, r#"{"result": true}"#))),
        ("it is half", Box::new(|| Play::json(200, r#"{"result": {"allow": true}}"#))),
        ("it is twice", Box::new(|| Play::json(200, &format!(r#"{{"result": {{}}, {}"#, &YES[1..])))),
        ("it is a list", Box::new(|| Play::json(200, &format!("[{YES}]")))),
        ("it is no boolean", Box::new(move || member("allow", json!("true")))),
        ("it is a number", Box::new(move || member("allow", json!(1)))),
        ("its reach is odd", Box::new(move || member("reach", json!("world")))),
        ("it has a condition", Box::new(move || member("unless", json!("it rains")))),
        ("it is no JSON", Box::new(|| Play::json(200, "<html>allow</html>"))),
        ("it is cut", Box::new(|| Play::json(200, &YES[..YES.len() - 1]))),
        ("it is followed by more", Box::new(|| Play::json(200, &format!("{YES}{YES}")))),
        ("it is nothing", Box::new(|| Play::json(200, ""))),
        ("it is another success", Box::new(|| Play::json(201, YES))),
        ("it is an error", Box::new(|| Play::json(500, YES))),
        ("it is not found", Box::new(|| Play::json(404, YES))),
        ("it wants a token", Box::new(|| Play::json(401, YES))),
        ("it is elsewhere", Box::new(move || Play::raw(307, &there, YES))),
        ("it is no HTTP", Box::new(|| Play::Cut(b"allow\r\n\r\n".to_vec()))),
        ("it ends early", Box::new(|| Play::Cut(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{".to_vec()))),
        ("it hangs up", Box::new(|| Play::Cut(Vec::new()))),
        ("it is a flood", Box::new(|| Play::json(200, &format!("{YES}{}", " ".repeat(1 << 20))))),
    ];
    for (name, play) in plays {
        let server = Server::start(move |_| play()).await;
        let policy = policy(&settings(&server.url));
        for _ in 0..2 {
            let decision = decide(&policy, "conversation.list").await;
            assert!(failed(&decision) && decision.input_digest.len() == 64, "{name}: {decision:?}");
        }
        assert_eq!(server.seen().len(), 2, "{name}: a fault is asked anew, and once a time");
    }
    assert!(elsewhere.seen().is_empty(), "nobody follows");
}

#[tokio::test]
async fn what_does_not_come_in_time_is_refused() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n{".to_vec();
    for silent in [false, true] {
        let half = half.clone();
        let server = Server::start(move |_| if silent { Play::Hang } else { Play::Stall(half.clone()) }).await;
        let impatient = PolicySettings { opa_timeout_seconds: 0.1, ..settings(&server.url) };
        assert!(failed(&decide(&policy(&impatient), "conversation.list").await));
    }
    assert!(failed(&decide(&policy(&settings("http://127.0.0.1:1")), "conversation.list").await));
}

#[tokio::test]
async fn a_decision_holds_for_its_time_and_for_its_input_alone() {
    let yes = Arc::new(AtomicBool::new(true));
    let says = Arc::clone(&yes);
    let server = Server::start(move |_| Play::json(200, if says.load(Ordering::SeqCst) { YES } else { NO })).await;
    let kept = policy(&PolicySettings { cache_ttl_seconds: 60.0, ..settings(&server.url) });
    let fresh = policy(&settings(&server.url));
    assert!(decide(&kept, "conversation.list").await.allow && decide(&fresh, "conversation.list").await.allow);
    yes.store(false, Ordering::SeqCst);
    assert!(decide(&kept, "conversation.list").await.allow, "it holds");
    assert!(!decide(&kept, "conversation.read").await.allow, "another question");
    assert!(!decide(&fresh, "conversation.list").await.allow, "nothing is kept");
    assert_eq!(server.seen().len(), 4);
    yes.store(true, Ordering::SeqCst);
    assert!(!decide(&kept, "conversation.read").await.allow, "a refusal holds as well");
}

#[tokio::test]
async fn it_is_left_alone_when_it_fails_and_is_heard_again_when_it_is_well() {
    let status = Arc::new(AtomicU16::new(503));
    let says = Arc::clone(&status);
    let server = Server::start(move |_| Play::json(says.load(Ordering::SeqCst), YES)).await;
    let registry = Registry::new();
    let patient = PolicySettings { breaker_cooldown_ms: 3_600_000, ..settings(&server.url) };
    let alone = policy(&patient).reporting(PolicyMetrics::register(&registry).unwrap(), || OffsetDateTime::UNIX_EPOCH);
    for _ in 0..9 {
        assert!(failed(&decide(&alone, "conversation.list").await));
    }
    assert_eq!((server.seen().len(), alone.opa_state()), (3, Some(BreakerState::Open)));
    assert!(decide(&alone, PUBLIC).await.allow, "what is everybody's needs nobody's leave");
    let recovering = policy(&settings(&server.url));
    for _ in 0..3 {
        assert!(failed(&decide(&recovering, "conversation.list").await));
    }
    status.store(200, Ordering::SeqCst);
    eventually("it is asked again", async || decide(&recovering, "conversation.list").await.allow.then_some(())).await;
    assert_eq!(recovering.opa_state(), Some(BreakerState::Closed));
    let counted = registry.gather();
    let counts = |outcome: &str| {
        let family = counted.iter().find(|family| family.name() == "gateway_auth_opa_decisions_total").unwrap();
        let metric = family.get_metric().iter().find(|metric| metric.get_label()[0].value() == outcome).unwrap();
        metric.get_counter().get_value()
    };
    assert_eq!((counts("allow"), counts("deny"), counts("error")), (0.0, 0.0, 9.0));
}

#[tokio::test]
async fn a_question_that_it_refuses_does_not_close_the_door_to_others() {
    let server =
        Server::start(|request| if request.contains("odd") { Play::json(400, "{}") } else { Play::json(200, YES) })
            .await;
    let policy = policy(&settings(&server.url));
    for _ in 0..9 {
        assert!(failed(&decide(&policy, "odd").await));
    }
    assert!(decide(&policy, "conversation.list").await.allow);
}

#[tokio::test]
async fn a_judge_that_is_not_there_or_talks_nonsense_is_left_alone_and_one_without_a_decision_is_not() {
    for (status, text, asked) in [
        (404, YES, 3),
        (401, YES, 3),
        (403, YES, 3),
        (307, YES, 3),
        (201, YES, 3),
        (200, "<html>", 3),
        (200, "", 3),
        (200, "[]", 3),
        // These may be for what was asked.
        (200, "{}", 9),
        (200, r#"{"result": true}"#, 9),
        (400, YES, 9),
        (413, YES, 9),
        (429, YES, 9),
    ] {
        let server = Server::start(move |_| Play::json(status, text)).await;
        let policy = policy(&PolicySettings { breaker_cooldown_ms: 3_600_000, ..settings(&server.url) });
        assert_eq!(policy.left_alone_for(), None);
        for _ in 0..9 {
            assert!(failed(&decide(&policy, "conversation.list").await));
        }
        assert_eq!(server.seen().len(), asked, "{status} {text}");
        let hour = Duration::from_hours(1);
        let is_left_alone = policy.left_alone_for().is_some_and(|left| left <= hour && left > Duration::ZERO);
        assert_eq!(is_left_alone, asked == 3, "{status} {text}");
    }
}

#[tokio::test]
async fn a_trial_that_nobody_waits_for_lets_nobody_else_through() {
    let fails = Arc::new(AtomicBool::new(true));
    let says = Arc::clone(&fails);
    let server =
        Server::start(move |_| if says.load(Ordering::SeqCst) { Play::json(503, YES) } else { Play::Hang }).await;
    let policy = policy(&settings(&server.url));
    for _ in 0..3 {
        assert!(failed(&decide(&policy, "conversation.list").await));
    }
    fails.store(false, Ordering::SeqCst);
    let trial = async {
        loop {
            decide(&policy, "conversation.list").await;
            tokio::task::yield_now().await;
        }
    };
    let tried = eventually("it is tried", async || (server.seen().len() == 4).then_some(()));
    tokio::select! {
        () = trial => unreachable!("it is asked for ever"),
        () = tried => {}
    }
    assert_eq!(policy.opa_state(), Some(BreakerState::HalfOpen));
}
