//! What is no HTTP at all, on bare connections.

use somaagent_test_services::client::Raw;

use super::{fingerprint, prepare};
use crate::stack::Stack;

/// What is no HTTP, by name, with the status it is answered with before the connection is closed.
fn rubbish() -> Vec<(&'static str, Vec<u8>, u16)> {
    let get = |rest: &str| format!("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n{rest}\r\n").into_bytes();
    let post = |rest: &str| {
        let head = "POST /v1/session/message HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n";
        format!("{head}{rest}").into_bytes()
    };
    let many = "X-Name: y\r\n".repeat(200);
    vec![
        ("a greeting in TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), 400),
        ("zeros", vec![0; 64], 400),
        ("bytes above 127", (128..=255).collect(), 400),
        ("a greeting in HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), 400),
        ("a version nobody knows", b"GET /healthz HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n".to_vec(), 400),
        ("no path", b"GET\r\n\r\n".to_vec(), 400),
        ("no host", b"GET /healthz HTTP/1.1\r\n\r\n".to_vec(), 400),
        ("two hosts", get("Host: evil.example\r\n"), 400),
        ("a header without a colon", get("nothing\r\n"), 400),
        ("a header with a NUL", get("X-Name: a\0b\r\n"), 400),
        ("a header whose name ends with a space", get("X-Name : a\r\n"), 400),
        ("a length that is no number", post("Content-Length: x\r\n\r\n"), 400),
        ("a length below zero", post("Content-Length: -1\r\n\r\n"), 400),
        ("two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"), 400),
        ("a length and chunks", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400),
        ("an encoding nobody knows", post("Transfer-Encoding: gzip\r\n\r\nhello"), 400),
        ("a chunk whose length is no number", post("Transfer-Encoding: chunked\r\n\r\nzz\r\n"), 400),
        ("a chunk longer than any", post("Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n"), 400),
        ("too many headers", get(&many), 431),
        ("a header without end", get(&format!("X-Long: {}", "x".repeat(1_000_000))), 431),
        ("a path without end", format!("GET /{}", "x".repeat(1_000_000)).into_bytes(), 431),
    ]
}

#[tokio::test]
async fn what_is_no_http_gets_its_status_once_and_changes_nothing() {
    let stack = Stack::start().await;
    // Something to change, and nothing left that a start does in the background.
    prepare(&stack).await;
    let pool = stack.database.pool().await.unwrap();
    let before = fingerprint(&pool).await;
    for (name, bytes, status) in rubbish() {
        let mut raw = Raw::connect(stack.app.url(), None).await.unwrap();
        // What is too long is not taken to its end.
        let sent = raw.send(&bytes).await;
        assert!(sent.is_ok() || status == 431, "{name}: {sent:?}");
        // To the end: the connection is closed after the one answer.
        let answer = String::from_utf8_lossy(&raw.read_to_end().await).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: `{answer}`");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{name}: {answer}");
    }
    assert_eq!(fingerprint(&pool).await, before, "rubbish changed the database");
    assert_eq!(stack.client.get("/healthz").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_client_that_ends_in_the_middle_of_a_head_gets_no_answer() {
    let stack = Stack::start().await;
    for bytes in [&b""[..], b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Na"] {
        let mut raw = Raw::connect(stack.app.url(), None).await.unwrap();
        raw.send(bytes).await.unwrap();
        raw.finish().await.unwrap();
        let answer = raw.read_to_end().await;
        assert!(answer.is_empty(), "nothing was asked: {}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(stack.client.get("/healthz").await.unwrap().status, 200);
}
