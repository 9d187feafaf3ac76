//! Forms that do not come to their end.

use serde_json::json;
use somaagent_test_services::client::Raw;
use somaagent_test_services::wait::eventually;

use super::{BOUNDARY, Form, counts, noise, upload};
use crate::stack::{Setup, Stack};

/// The head of a request that says to be so long.
fn head(length: u64) -> Vec<u8> {
    format!(
        "POST /v1/uploads HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n\
         Content-Length: {length}\r\n\r\n"
    )
    .into_bytes()
}

/// A form that begins with so many bytes of a file.
fn beginning(length: usize) -> Vec<u8> {
    let whole = Form::default().file("large.bin", "a/b", &noise(length, 9));
    whole.0
}

/// Sends a part of a form and waits until some of it is in the database.
async fn half(stack: &Stack) -> Raw {
    let mut raw = Raw::connect(stack.app.url(), None).await.unwrap();
    raw.send(&head(20_000_000)).await.unwrap();
    raw.send(&beginning(3_000_000)).await.unwrap();
    let pool = stack.database.pool().await.unwrap();
    eventually("a part of the file is here", async || {
        let sql = "SELECT count(*) FROM attachment_chunks";
        (sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap() >= 5).then_some(())
    })
    .await;
    raw
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing() {
    let stack = Stack::start().await;
    let pool = stack.database.pool().await.unwrap();
    let raw = half(&stack).await;
    assert_eq!(counts(&pool).await.0, 0, "nothing is seen of it before its end");
    drop(raw);
    eventually("what came is given up", async || {
        let sql = "SELECT count(*) FROM attachment_blobs WHERE state = 'arriving'";
        (sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap() == 0).then_some(())
    })
    .await;
    assert_eq!(counts(&pool).await.0, 0);
}

#[tokio::test]
async fn a_form_that_began_under_other_rules_is_to_be_sent_again() {
    let stack = Stack::start().await;
    let pool = stack.database.pool().await.unwrap();
    let body = Form::default().file("large.txt", "a/b", &noise(2_000_000, 9)).end();
    let head = String::from_utf8(head(body.len() as u64)).unwrap();
    let head = head.replace("Host:", "Connection: close\r\nHost:");
    let (first, rest) = body.split_at(1_500_000);
    let mut raw = Raw::connect(stack.app.url(), None).await.unwrap();
    raw.send(head.as_bytes()).await.unwrap();
    raw.send(first).await.unwrap();
    eventually("a part of the file is here", async || {
        let sql = "SELECT count(*) FROM attachment_chunks";
        (sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap() >= 2).then_some(())
    })
    .await;
    let fields = json!([{"id": "uploads_denied_mime", "value": "a/b"}]);
    let settings = json!({"sections": [{"id": "uploads", "fields": fields}]});
    let saved = stack.client.post("/v1/ui/settings/sections", &settings).await.unwrap();
    assert_eq!(saved.status, 200, "{}", saved.text);
    raw.send(rest).await.unwrap();
    let answer = String::from_utf8_lossy(&raw.read_to_end().await).into_owned();
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.to_lowercase().contains("retry-after:"), "{answer}");
    assert_eq!(counts(&pool).await.0, 0);
}

#[tokio::test]
async fn what_a_killed_process_took_is_never_seen_and_swept() {
    let mut stack = Stack::start().await;
    let pool = stack.database.pool().await.unwrap();
    let _raw = half(&stack).await;
    stack.app.kill().await.unwrap();
    assert_eq!(counts(&pool).await, (0, 0, 1));
    sqlx::query("UPDATE attachment_blobs SET touched_at = now() - interval '1 hour'").execute(&pool).await.unwrap();
    stack.restart().await;
    eventually("it is swept", async || (counts(&pool).await == (0, 0, 0)).then_some(())).await;
    let sql = "SELECT count(*) FROM attachment_chunks";
    assert_eq!(sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap(), 0);
}

#[tokio::test]
async fn a_body_is_cut_where_a_file_gets_too_large_and_the_connection_closed() {
    let stack = Setup::default().set("GATEWAY_UPLOAD_MAX_MB", 1).start().await;
    // Nobody reads ten gigabytes to say no …
    let mut raw = Raw::connect(stack.app.url(), None).await.unwrap();
    raw.send(&head(10_000_000_000)).await.unwrap();
    let answer = String::from_utf8_lossy(&raw.read_to_end().await).into_owned();
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("body-too-large"), "{answer}");
    // … nor as much as the head allows.
    let mut raw = Raw::connect(stack.app.url(), None).await.unwrap();
    raw.send(&head(9_000_000)).await.unwrap();
    raw.send(&beginning(1_500_000)).await.unwrap();
    let answer = String::from_utf8_lossy(&raw.read_to_end().await).into_owned();
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("File too large (max 1048576 bytes)"), "{answer}");
    assert_eq!(upload(&stack.client, Form::default().file("a", "a/b", b"x")).await.status, 200);
}
