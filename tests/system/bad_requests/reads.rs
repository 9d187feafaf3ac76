//! Reads, which change nothing: whoever makes a browser follow an address has done no harm.

use reqwest::Method;
use somaagent_test_services::wait::eventually;

use super::{fingerprint, prepare};
use crate::stack::Stack;

/// What the parts of a path stand for here.
const PARTS: [(&str, &str); 8] = [
    ("{upload_id}", "7b0d4cb2-5d3c-4f2e-9a55-8f3f3b1f6a01"),
    ("{attachment_id}", "7b0d4cb2-5d3c-4f2e-9a55-8f3f3b1f6a01"),
    ("{token}", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    ("{topic}", "memory.wal.dlq"),
    ("{path}", "index.html"),
    ("{id}", "1"),
    ("{job_id}", "1"),
    ("{event_id}", "7b0d4cb2-5d3c-4f2e-9a55-8f3f3b1f6a01"),
];

#[tokio::test]
async fn no_read_changes_anything() {
    let stack = Stack::start().await;
    let at = prepare(&stack).await;
    let pool = stack.database.pool().await.unwrap();
    eventually("the trail is sealed", async || {
        let open = "SELECT (SELECT count(*) FROM audit_event) - (SELECT count(*) FROM audit_seal)";
        (sqlx::query_scalar::<_, i64>(open).fetch_one(&pool).await.unwrap() == 0).then_some(())
    })
    .await;
    let before = fingerprint(&pool).await;
    let api = stack.get("/openapi.json").await;
    let reads = api["paths"].as_object().unwrap().iter().filter(|(_, item)| item["get"].is_object());
    // Streams of events never end by themselves.
    let reads = reads.filter(|(path, _)| !path.starts_with("/v1/session/") && *path != "/gateway_stream");
    let mut answered = 0;
    for (path, _) in reads {
        let path =
            PARTS.iter().fold(path.replace("{session_id}", &at.used), |path, (name, text)| path.replace(name, text));
        assert!(!path.contains('{'), "{path}");
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            let answer = stack.client.send(stack.client.request(method, &path)).await.unwrap();
            answered += usize::from(answer.status == 200);
        }
    }
    assert!(answered > 40, "{answered}");
    assert_eq!(fingerprint(&pool).await, before);
}
