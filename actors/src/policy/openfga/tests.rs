//! What an OpenFGA may do to us: whatever it is, it lets nobody in who is no member.

#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use prometheus::{Encoder as _, Registry, TextEncoder};
use serde_json::{Value, json};
use somaagent_test_services::wait::eventually;

use super::*;
use crate::loopback::{Play, Server};

fn settings(url: &str) -> FgaSettings {
    FgaSettings {
        api_url: Some(url.to_owned()),
        store_id: Some("01STORE".to_owned()),
        timeout_seconds: 20.0,
        cache_ttl_seconds: 0.0,
        breaker_failures: 3,
        breaker_cooldown_ms: 1,
        ..FgaSettings::default()
    }
}

fn membership(settings: &FgaSettings) -> Membership {
    Membership::from_settings(settings).unwrap().unwrap()
}

async fn ask(membership: &Membership, subject: &str) -> Result<bool, MembershipUnknown> {
    membership.is_member(&Tenant::new("acme").unwrap(), subject).await
}

fn told(server: &Server) -> (String, Value) {
    let seen = server.last();
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn it_is_asked_for_the_member_of_the_tenant_alone() {
    let server = Server::start(|_| Play::json(200, r#"{"allowed": true, "resolution": ""}"#)).await;
    assert!(ask(&membership(&settings(&server.url)), "ada").await.unwrap());
    let tuple = json!({"user": "user:ada", "relation": "member", "object": "tenant:acme"});
    let question = json!({"tuple_key": tuple, "context": {}, "authorization_model_id": null});
    assert_eq!(told(&server), ("POST /stores/01STORE/check HTTP/1.1".to_owned(), question));
    let pinned = FgaSettings { model_id: Some("01MODEL".to_owned()), ..settings(&server.url) };
    assert!(ask(&membership(&pinned), "ada").await.unwrap());
    assert_eq!(told(&server).1["authorization_model_id"], "01MODEL");
}

#[tokio::test]
async fn a_name_means_itself() {
    let server = Server::start(|_| Play::json(200, r#"{"allowed": false}"#)).await;
    let membership = membership(&settings(&server.url));
    for (subject, user) in [
        ("*", "user:%2A"),
        ("team#member", "user:team%23member"),
        ("github:ada", "user:github%3Aada"),
        ("a b\u{a0}c", "user:a%20b%C2%A0c"),
        ("%2A", "user:%252A"),
        ("Änne|🦜", "user:Änne|🦜"),
    ] {
        assert!(!ask(&membership, subject).await.unwrap());
        assert_eq!(told(&server).1["tuple_key"]["user"], user, "{subject}");
    }
}

#[tokio::test]
async fn no_answer_but_a_yes_is_one() {
    for play in [
        Play::json(200, "{}"),
        Play::json(200, r#"{"allowed": "true"}"#),
        Play::json(200, r#"{"allowed": 1}"#),
        Play::json(200, r#"{"allowed": null}"#),
        Play::json(200, r#"{"allowed": false, "allowed": true}"#),
        Play::json(200, "true"),
        Play::json(200, "<html>"),
        Play::json(200, &format!(r#"{{"allowed": true{}}}"#, " ".repeat(1 << 20))),
        Play::json(204, r#"{"allowed": true}"#),
        Play::json(400, r#"{"allowed": true}"#),
        Play::json(500, r#"{"allowed": true}"#),
        Play::raw(302, "location: /elsewhere\r\n", r#"{"allowed": true}"#),
        Play::Cut(Vec::new()),
        Play::Cut(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"allowed\": true}".to_vec()),
    ] {
        let play = std::sync::Mutex::new(Some(play));
        let server = Server::start(move |_| play.lock().unwrap().take().unwrap_or(Play::Hang)).await;
        let error = ask(&membership(&settings(&server.url)), "canary").await.unwrap_err();
        assert_eq!(server.seen().len(), 1);
        let words = format!("{error} {error:?}");
        assert!(!words.contains("canary") && !words.contains("acme") && !words.contains(&server.url), "{words}");
    }
    let server = Server::start(|_| Play::Hang).await;
    let impatient = FgaSettings { timeout_seconds: 0.1, ..settings(&server.url) };
    assert!(ask(&membership(&impatient), "ada").await.is_err());
    assert!(ask(&membership(&settings("http://127.0.0.1:1")), "ada").await.is_err());
}

#[tokio::test]
async fn an_answer_holds_for_its_person_and_a_fault_for_nobody() {
    let status = Arc::new(AtomicU16::new(500));
    let says = Arc::clone(&status);
    let server = Server::start(move |request| {
        let allowed = request.contains("user:ada\"");
        Play::json(says.load(Ordering::SeqCst), &json!({"allowed": allowed}).to_string())
    })
    .await;
    let registry = Registry::new();
    let kept = FgaSettings { cache_ttl_seconds: 60.0, ..settings(&server.url) };
    let membership = membership(&kept).with_metrics(PolicyMetrics::register(&registry).unwrap());
    assert!(ask(&membership, "ada").await.is_err());
    status.store(200, Ordering::SeqCst);
    assert!(ask(&membership, "ada").await.unwrap() && !ask(&membership, "eve").await.unwrap());
    assert!(!membership.is_member(&Tenant::new("ada").unwrap(), "acme").await.unwrap());
    status.store(500, Ordering::SeqCst);
    assert!(ask(&membership, "ada").await.unwrap() && !ask(&membership, "eve").await.unwrap());
    assert_eq!(server.seen().len(), 4);
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    for (outcome, count) in [("allow", 2), ("deny", 3), ("error", 1)] {
        let line = format!(r#"gateway_auth_fga_decisions_total{{enforced="true",outcome="{outcome}"}} {count}"#);
        assert!(text.lines().any(|known| known == line), "{line} is missing in {text}");
    }
}

#[tokio::test]
async fn it_is_left_alone_when_it_fails_and_is_heard_again_when_it_is_well() {
    let status = Arc::new(AtomicU16::new(503));
    let says = Arc::clone(&status);
    let server = Server::start(move |_| Play::json(says.load(Ordering::SeqCst), r#"{"allowed": true}"#)).await;
    let alone = membership(&FgaSettings { breaker_cooldown_ms: 3_600_000, ..settings(&server.url) });
    for _ in 0..9 {
        assert!(ask(&alone, "ada").await.is_err());
    }
    assert_eq!((server.seen().len(), alone.state()), (3, BreakerState::Open));
    let recovering = membership(&settings(&server.url));
    for _ in 0..3 {
        assert!(ask(&recovering, "ada").await.is_err());
    }
    status.store(200, Ordering::SeqCst);
    eventually("it is asked again", async || ask(&recovering, "ada").await.ok().filter(|allowed| *allowed)).await;
}

#[tokio::test]
async fn one_that_is_not_there_or_talks_nonsense_is_left_alone_and_one_that_refuses_a_question_is_not() {
    for (status, text, asked) in [(404, "{}", 3), (200, "{}", 3), (200, "<html>", 3), (400, "{}", 9)] {
        let server = Server::start(move |_| Play::json(status, text)).await;
        let alone = membership(&FgaSettings { breaker_cooldown_ms: 3_600_000, ..settings(&server.url) });
        for _ in 0..9 {
            assert!(ask(&alone, "ada").await.is_err());
        }
        assert_eq!((server.seen().len(), alone.left_alone_for().is_some()), (asked, asked == 3), "{status} {text}");
    }
}

#[test]
fn half_an_address_is_a_fault() {
    let with = |api_url: Option<&str>, store_id: Option<&str>, required| FgaSettings {
        api_url: api_url.map(str::to_owned),
        store_id: store_id.map(str::to_owned),
        required,
        ..FgaSettings::default()
    };
    let key = |settings: &FgaSettings| Membership::from_settings(settings).err().map(|fault| fault.key);
    assert!(matches!(Membership::from_settings(&FgaSettings::default()), Ok(None)));
    assert_eq!(key(&with(Some("http://f"), Some("01S"), true)), None);
    for (settings, fault) in [
        (with(None, None, true), "openfga.store_id"),
        (with(Some("http://f"), None, false), "openfga.store_id"),
        (with(None, Some("01S"), false), "openfga.api_url"),
        (with(Some("f:8080"), Some("01S"), false), "openfga.api_url"),
        (with(Some("http://f"), Some("../x"), false), "openfga.store_id"),
        (with(Some("http://f"), Some(""), false), "openfga.store_id"),
    ] {
        assert_eq!(key(&settings), Some(fault), "{settings:?}");
    }
}
