//! Writes against a server on a loopback socket, without the actor around them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation ends the test")]

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use uuid::Uuid;

use super::super::testing::{asker, caller};
use super::*;
use crate::loopback::{Play, Server};

const SOON: Duration = Duration::from_mins(1);

fn space() -> MemorySpace {
    MemorySpace { universe: Some("somabrain_ns:acme".into()), namespace: "wm".into() }
}

fn tea() -> MemoryWrite {
    MemoryWrite::new("k1", json!({"content": "tea"}))
}

async fn write(server: &Server, space: &MemorySpace, memory: &MemoryWrite) -> Result<Remembered, BrainError> {
    one(&caller(server), &asker(SOON), space, memory).await
}

/// The paths and bodies of all requests.
fn sent(server: &Server) -> Vec<(String, Value)> {
    let read = |request: String| {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().to_owned(), serde_json::from_str(body).unwrap())
    };
    server.seen().into_iter().map(read).collect()
}

const NOW: &str = r#"{"ok": true, "tenant": "acme", "namespace": "wm", "key": "k1", "queued_for_ltm": true,
    "coordinate": [0.25, -1, 0.5], "deduplicated": false, "trace_id": "t", "request_id": "r",
    "warnings": ["ltm-persist:queued-async"], "promoted_to_wm": true}"#;

#[tokio::test]
async fn a_write_says_whose_memory_it_is_and_where_it_belongs() {
    let server = Server::start(|_| Play::json(200, NOW)).await;
    let extra = json!({"importance": 0.5, "tags": ["a"], "tenant": "other", "universe": "other"});
    let memory = MemoryWrite { extra: extra.as_object().unwrap().clone(), ..tea() };
    let written = write(&server, &space(), &memory).await.unwrap();
    let expected = json!({
        "tenant": "acme", "namespace": "wm", "universe": "somabrain_ns:acme", "key": "k1", "importance": 0.5,
        "tags": ["a"], "value": {"content": "tea", "universe": "somabrain_ns:acme"},
    });
    assert_eq!(sent(&server), [("/memory/remember".to_owned(), expected)]);
    let head = server.last().to_lowercase();
    assert!(head.contains("x-tenant-id: acme") && head.contains(&format!("x-request-id: {}", Uuid::max())), "{head}");
    assert_eq!(written.coordinate_text().as_deref(), Some("0.25,-1,0.5"));
    assert_eq!((written.trace_id.as_deref(), written.request_id.as_deref()), (Some("t"), Some("r")));
    assert_eq!(written.warnings, ["ltm-persist:queued-async"]);
    assert_eq!((&written.rest["queued_for_ltm"], written.deduplicated), (&json!(true), false));
}

#[tokio::test]
async fn an_absent_universe_is_not_sent_and_the_namespace_never_replaces_it() {
    let server = Server::start(|_| Play::json(200, NOW)).await;
    let none = MemorySpace { universe: None, ..space() };
    write(&server, &none, &tea()).await.unwrap();
    let body = &sent(&server)[0].1;
    assert_eq!((body.get("universe"), body["value"].get("universe"), &body["namespace"]), (None, None, &json!("wm")));
}

#[tokio::test]
async fn a_universe_the_memory_names_itself_stays_in_it() {
    let server = Server::start(|_| Play::json(200, NOW)).await;
    for (said, expected) in [(json!("mine"), "mine"), (Value::Null, "somabrain_ns:acme")] {
        let memory = MemoryWrite::new("k1", json!({"universe": said}));
        write(&server, &space(), &memory).await.unwrap();
        let body = sent(&server).pop().unwrap().1;
        assert_eq!((&body["value"]["universe"], &body["universe"]), (&json!(expected), &json!("somabrain_ns:acme")));
    }
}

#[tokio::test]
async fn an_old_server_is_written_to_the_old_way() {
    for refusal in [(404, r#"{"detail": "Not Found"}"#), (400, r#"{"detail": "memory pool unavailable"}"#)] {
        let server = Server::start(move |request| {
            if request.starts_with("POST /remember ") {
                Play::json(200, r#"{"success": true, "coordinate": "1, 2.5,3"}"#)
            } else {
                Play::json(refusal.0, refusal.1)
            }
        })
        .await;
        let written = write(&server, &space(), &tea()).await.unwrap();
        assert_eq!(written.coordinate, Some(vec![1.0, 2.5, 3.0]));
        assert_eq!(written.rest["success"], true);
        let payload = json!({"content": "tea", "universe": "somabrain_ns:acme"});
        let expected = json!({"payload": payload, "universe": "somabrain_ns:acme"});
        assert_eq!(sent(&server)[1], ("/remember".to_owned(), expected));
    }
}

#[tokio::test]
async fn a_refused_write_is_named_and_not_repeated() {
    let server = Server::start(|_| Play::json(422, r#"{"detail": "no key"}"#)).await;
    let Err(BrainError::Refused { status: 422, detail, endpoint }) = write(&server, &space(), &tea()).await else {
        panic!("it was taken");
    };
    assert_eq!((detail.as_str(), endpoint), ("no key", Endpoint::Remember));
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_write_is_tried_again_under_the_same_key_after_a_fault_and_a_plea_for_patience() {
    let calls = AtomicU32::new(0);
    let server = Server::start(move |_| match calls.fetch_add(1, Ordering::Relaxed) {
        0 => Play::Cut(Vec::new()),
        1 => Play::raw(429, "retry-after: 0\r\n", "{}"),
        _ => Play::json(200, NOW),
    })
    .await;
    write(&server, &space(), &tea()).await.unwrap();
    let bodies = sent(&server);
    assert_eq!(bodies.len(), 3);
    assert!(bodies.iter().all(|sent| sent == &bodies[0]));
}

#[tokio::test]
async fn an_answer_that_does_not_say_it_is_written_is_no_success() {
    for answer in ["[]", "<h1>", r#"{"ok": false}"#, r#"{"coordinate": 7}"#] {
        let server = Server::start(move |_| Play::json(200, answer)).await;
        let written = write(&server, &space(), &tea()).await;
        assert!(matches!(written, Err(BrainError::Broken { .. })), "{answer}: {written:?}");
    }
    let server = Server::start(|_| Play::raw(302, "location: /elsewhere\r\n", "{}")).await;
    assert!(matches!(write(&server, &space(), &tea()).await, Err(BrainError::Broken { .. })));
}

#[tokio::test]
async fn a_batch_brings_a_result_for_each_memory() {
    let server = Server::start(|_| {
        let results = json!([{"key": "k1", "request_id": "r:0"}, {"key": "k2", "coordinate": null}]);
        Play::json(200, &json!({"ok": true, "results": results}).to_string())
    })
    .await;
    let memories = [tea(), MemoryWrite::new("k2", json!({"content": "milk"}))];
    let written = many(&caller(&server), &asker(SOON), &space(), &memories).await.unwrap();
    assert_eq!(written[0].request_id.as_deref(), Some("r:0"));
    assert_eq!((written.len(), written[1].coordinate_text()), (2, None));
    let value = |content: &str| json!({"content": content, "universe": "somabrain_ns:acme"});
    let item = |key: &str, content: &str| json!({"key": key, "value": value(content), "universe": "somabrain_ns:acme"});
    let expected = json!({
        "tenant": "acme", "namespace": "wm", "universe": "somabrain_ns:acme",
        "items": [item("k1", "tea"), item("k2", "milk")],
    });
    assert_eq!(sent(&server), [("/memory/remember/batch".to_owned(), expected)]);
    for wrong in [&memories[..1], &[memories[1].clone(), memories[0].clone()]] {
        let written = many(&caller(&server), &asker(SOON), &space(), wrong).await;
        assert!(matches!(written, Err(BrainError::Broken { .. })), "{written:?}");
    }
}

#[tokio::test]
async fn a_server_without_batches_gets_the_memories_one_by_one_in_order() {
    let server = Server::start(|request| {
        if request.contains("/batch") { Play::json(404, "{}") } else { Play::json(200, r#"{"ok": true}"#) }
    })
    .await;
    let memories = ["a", "b", "c"].map(|key| MemoryWrite::new(key, json!({})));
    assert_eq!(many(&caller(&server), &asker(SOON), &space(), &memories).await.unwrap().len(), 3);
    let keys: Vec<_> = sent(&server)[1..].iter().map(|(_, body)| body["key"].clone()).collect();
    assert_eq!(keys, ["a", "b", "c"]);
}
