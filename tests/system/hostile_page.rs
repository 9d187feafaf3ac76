//! A web page of somebody else, in a browser on this machine, while authentication is off.

use reqwest::Method;
use serde_json::json;
use somaagent_test_services::client::{Answer, Post, Raw};

use crate::stack::{Stack, new_session};

/// What a hostile page may try: read, write, listen.
const TRIES: [(Method, &str); 8] = [
    (Method::GET, "/v1/sessions"),
    (Method::GET, "/v1/session/{id}/events"),
    (Method::GET, "/v1/sessions/{id}/history"),
    (Method::GET, "/v1/admin/actors"),
    (Method::GET, "/ui/config.json"),
    (Method::POST, "/v1/session/message"),
    (Method::POST, "/v1/sessions/{id}/stop"),
    (Method::DELETE, "/v1/sessions/{id}"),
];

async fn try_as(stack: &Stack, session: &str, method: &Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = stack.client.request(method.clone(), &path.replace("{id}", session));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    if *method == Method::POST {
        request = request.json(&json!({"message": "planted", "session_id": session}));
    }
    stack.client.send(request).await.unwrap()
}

fn no_cors(answer: &Answer) {
    let cors = answer.headers.keys().find(|name| name.as_str().starts_with("access-control-"));
    assert_eq!(cors, None, "an answer lets other sites read it");
}

#[tokio::test]
async fn a_page_of_another_site_can_neither_read_nor_write() {
    let stack = Stack::start().await;
    let session = new_session();
    stack.post(&Post::new("private").to(&session)).await;
    stack.ended_turns(&session, 1).await;
    let other_port = format!("http://127.0.0.1:{}", stack.app.port().wrapping_add(1));
    for origin in ["https://evil.example", "null", "http://127.0.0.1.evil.example", &other_port, "file://"] {
        for (method, path) in &TRIES {
            let answer = try_as(&stack, &session, method, path, &[("origin", origin)]).await;
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (403, "origin-not-allowed"),
                "{origin}: {method} {path}"
            );
            assert!(!answer.text.contains("private"));
            no_cors(&answer);
        }
    }
    assert_eq!(stack.client.history(&session).await.unwrap().len(), 2, "a foreign page changed the history");
}

#[tokio::test]
async fn a_rebinding_host_name_is_not_served() {
    let stack = Stack::start().await;
    let session = new_session();
    stack.post(&Post::new("private").to(&session)).await;
    stack.ended_turns(&session, 1).await;
    let port = stack.app.port();
    for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "0.0.0.0"] {
        let host = format!("{host}:{port}");
        for (method, path) in &TRIES {
            let answer = try_as(&stack, &session, method, path, &[("host", &host)]).await;
            assert_eq!((answer.status, answer.code().as_str()), (403, "host-not-allowed"), "{host}: {method} {path}");
            assert!(!answer.text.contains("private"));
        }
    }
    assert_eq!(stack.client.history(&session).await.unwrap().len(), 2);
}

#[tokio::test]
async fn the_page_served_here_may_do_everything() {
    let stack = Stack::start().await;
    let session = new_session();
    let port = stack.app.port();
    for host in ["127.0.0.1", "localhost", "[::1]"] {
        let (host, origin) = (format!("{host}:{port}"), format!("http://{host}:{port}"));
        let headers = [("host", host.as_str()), ("origin", origin.as_str())];
        let answer = try_as(&stack, &session, &Method::POST, "/v1/session/message", &headers).await;
        assert_eq!(answer.status, 200, "{host}: {}", answer.text);
        let answer = try_as(&stack, &session, &Method::GET, "/v1/sessions", &headers).await;
        assert_eq!(answer.status, 200, "{host}: {}", answer.text);
        no_cors(&answer);
    }
    stack.ended_turns(&session, 3).await;
}

#[tokio::test]
async fn a_preflight_is_granted_nothing() {
    let stack = Stack::start().await;
    let request = stack
        .client
        .request(Method::OPTIONS, "/v1/session/message")
        .header("origin", "https://evil.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "content-type");
    let answer = stack.client.send(request).await.unwrap();
    assert!(answer.status >= 400, "{}", answer.status);
    no_cors(&answer);
}

#[tokio::test]
async fn a_form_that_needs_no_preflight_is_refused() {
    let stack = Stack::start().await;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        // Browsers send no Origin with some of these; the media type alone must be enough.
        let body = r#"{"message":"planted"}"#;
        let request = stack.client.request(Method::POST, "/v1/session/message").header("content-type", kind).body(body);
        let answer = stack.client.send(request).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (415, "unsupported-media-type"), "{kind}");
    }
    assert_eq!(stack.get("/v1/sessions").await, json!([]));
}

#[tokio::test]
async fn a_page_cannot_be_framed_and_runs_no_foreign_script() {
    let stack = Stack::start().await;
    for path in ["/", &format!("/s/{}", new_session()), "/docs"] {
        let page = stack.client.get(path).await.unwrap();
        assert_eq!(page.status, 200, "{path}");
        let policy = page.header("content-security-policy");
        for part in ["default-src 'self'", "object-src 'none'", "base-uri 'none'", "frame-ancestors 'none'"] {
            assert!(policy.contains(part), "{path}: {part} is missing in {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert_eq!(page.header("x-frame-options"), "DENY");
        assert_eq!(page.header("referrer-policy"), "no-referrer");
    }
}

#[tokio::test]
async fn a_request_without_a_host_is_refused() {
    let stack = Stack::start().await;
    let mut raw = Raw::connect(stack.app.url(), None).await.unwrap();
    raw.send(b"GET /v1/sessions HTTP/1.1\r\nConnection: close\r\n\r\n").await.unwrap();
    let answer = String::from_utf8_lossy(&raw.read_to_end().await).into_owned();
    let status = answer.split(' ').nth(1).unwrap_or_default();
    assert!(["400", "403"].contains(&status), "{answer}");
}
