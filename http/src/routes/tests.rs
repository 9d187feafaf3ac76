//! The door as its callers see it, while the database is away.

use std::fmt::Write as _;

use actix_web::{http::Method, test::TestRequest};
use serde_json::{Value, json};

use super::*;
use crate::{
    settings::DoorSettings,
    testing::{Answer, TestDoor, ask, request, with_body},
};

const MESSAGE: &str = "/v1/session/message";
const ID: &str = "7b0d4cb2-5d3c-4f2e-9a55-8f3f3b1f6a01";

fn post(body: &str) -> TestRequest {
    with_body(Method::POST, MESSAGE, body)
}

#[actix_web::test]
async fn a_wrong_body_is_refused_with_its_exact_code() {
    let door = TestDoor::new(&DoorSettings::default()).await;
    let long = json!({"message": "ä".repeat((128 << 10) + 1)}).to_string();
    let huge = json!({"message": "hi", "x": "y".repeat(1 << 20)}).to_string();
    let deep = format!(r#"{{"message":"hi","x":{}{}}}"#, "[".repeat(200), "]".repeat(200));
    let bodies = [
        ("", 400, "bad-json"),
        ("{", 400, "bad-json"),
        ("{\"message\":\"hi\"", 400, "bad-json"),
        ("{\"message\":\"hi\"} x", 400, "bad-json"),
        ("{'message':'hi'}", 400, "bad-json"),
        ("{\"message\":\"\\ud800\"}", 400, "bad-json"),
        ("{\"message\":\"a\u{1}b\"}", 400, "bad-json"),
        ("{\"message\":NaN}", 400, "bad-json"),
        (deep.as_str(), 400, "bad-json"),
        ("null", 422, "invalid-body"),
        ("[]", 422, "invalid-body"),
        ("[\"hi\"]", 422, "invalid-body"),
        ("\"hi\"", 422, "invalid-body"),
        ("{}", 422, "invalid-body"),
        ("{\"message\":null}", 422, "invalid-body"),
        ("{\"message\":7}", 422, "invalid-body"),
        ("{\"message\":[\"hi\"]}", 422, "invalid-body"),
        ("{\"message\":\"a\",\"message\":\"b\"}", 422, "invalid-body"),
        ("{\"message\":\"a\\u0000b\"}", 422, "invalid-body"),
        ("{\"message\":\"hi\",\"unknown\":\"\\u0000\"}", 422, "invalid-body"),
        ("{\"message\":\"hi\",\"session_id\":7}", 422, "invalid-body"),
        ("{\"message\":\"hi\",\"persona_id\":{}}", 422, "invalid-body"),
        ("{\"message\":\"hi\",\"attachments\":\"a\"}", 422, "invalid-body"),
        ("{\"message\":\"hi\",\"attachments\":[1]}", 422, "invalid-body"),
        ("{\"message\":\"hi\",\"attachments\":null}", 422, "invalid-body"),
        ("{\"message\":\"hi\",\"attachments\":[\"../etc/passwd\"]}", 422, "invalid-body"),
        ("{\"message\":\"hi\",\"metadata\":[]}", 422, "invalid-body"),
        ("{\"message\":\"hi\",\"metadata\":{\"a\":1}}", 422, "invalid-body"),
        ("{\"message\":\"hi\",\"metadata\":{\"tenant\":\"\"}}", 422, "invalid-body"),
        ("{\"message\":\"hi\",\"metadata\":{\"tenant\":\"a\\nb\"}}", 422, "invalid-body"),
        ("{\"message\":\"hi\",\"metadata\":{\"idempotency_key\":\"\"}}", 422, "invalid-body"),
        ("{\"message\":\"hi\",\"expected_head\":\"1\"}", 422, "invalid-body"),
        ("{\"message\":\"hi\",\"expected_head\":-1}", 422, "invalid-body"),
        ("{\"message\":\"hi\",\"expected_head\":1.5}", 422, "invalid-body"),
        ("{\"message\":\"hi\",\"on_busy\":\"wait\"}", 422, "invalid-body"),
        ("{\"message\":\"hi\",\"on_busy\":1}", 422, "invalid-body"),
        (long.as_str(), 422, "message-too-long"),
        (huge.as_str(), 413, "body-too-large"),
    ];
    for (body, status, code) in bodies {
        let answer = door.send(post(body)).await;
        let shown: String = body.chars().take(60).collect();
        assert_eq!(answer.problem(), (status, code.to_owned()), "{shown}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert!(answer.json()["detail"].as_str().is_some_and(|text| !text.is_empty()), "{shown}");
    }
}

#[actix_web::test]
async fn a_wrong_head_is_refused_with_its_exact_code() {
    let door = TestDoor::new(&DoorSettings::default()).await;
    let long_key = "k".repeat(256);
    let many = "t".repeat(201);
    for (name, value, status, code) in [
        ("Content-Type", "text/plain", 415, "unsupported-media-type"),
        ("Content-Type", "application/x-www-form-urlencoded", 415, "unsupported-media-type"),
        ("Content-Type", "multipart/form-data; boundary=x", 415, "unsupported-media-type"),
        ("Content-Type", "", 415, "unsupported-media-type"),
        ("Content-Encoding", "gzip", 415, "unsupported-media-type"),
        ("Content-Length", "1048577", 413, "body-too-large"),
        ("Idempotency-Key", long_key.as_str(), 422, "invalid-header"),
        ("Idempotency-Key", "", 422, "invalid-header"),
        ("Idempotency-Key", " ", 422, "invalid-header"),
        ("X-Tenant-Id", many.as_str(), 422, "invalid-header"),
        ("Origin", "https://evil.example", 403, "origin-not-allowed"),
        ("Origin", "null", 403, "origin-not-allowed"),
        ("Sec-Fetch-Site", "cross-site", 403, "origin-not-allowed"),
        ("Host", "evil.example", 403, "host-not-allowed"),
        ("Host", "127.0.0.1.evil.example:8010", 403, "host-not-allowed"),
    ] {
        let answer = door.send(post("{\"message\":\"hi\"}").insert_header((name, value))).await;
        assert_eq!(answer.problem(), (status, code.to_owned()), "{name}: {value}");
        assert_eq!(answer.header("access-control-allow-origin"), "", "no CORS, whatever is asked");
    }
}

#[actix_web::test]
async fn a_wrong_path_or_query_is_refused_with_its_exact_code() {
    let door = TestDoor::new(&DoorSettings::default()).await;
    let session = |rest: &str| format!("/v1/sessions/{ID}/{rest}");
    for (uri, status, code) in [
        ("/nothing".to_owned(), 404, "not-found"),
        ("/v1".to_owned(), 404, "not-found"),
        ("/v1/csrf".to_owned(), 404, "not-found"),
        ("/v1/ui/poll".to_owned(), 404, "not-found"),
        ("/metrics".to_owned(), 404, "not-found"),
        ("/ui/../Cargo.toml".to_owned(), 404, "not-found"),
        ("/ui/%2e%2e/Cargo.toml".to_owned(), 404, "not-found"),
        ("/ui/..%2fCargo.toml".to_owned(), 404, "not-found"),
        ("/ui//etc/passwd".to_owned(), 404, "not-found"),
        ("/ui/.hidden".to_owned(), 404, "not-found"),
        ("/ui/js".to_owned(), 404, "not-found"),
        ("/ui/nothing.js".to_owned(), 404, "not-found"),
        ("/v1/session/not-a-uuid/events".to_owned(), 404, "session-not-found"),
        ("/v1/sessions/not-a-uuid/events".to_owned(), 404, "session-not-found"),
        ("/v1/sessions/%00/history".to_owned(), 404, "session-not-found"),
        ("/v1/sessions/1/state".to_owned(), 404, "session-not-found"),
        ("/v1/sessions?limit=0".to_owned(), 422, "invalid-query"),
        ("/v1/sessions?limit=201".to_owned(), 422, "invalid-query"),
        ("/v1/sessions?limit=x".to_owned(), 422, "invalid-query"),
        ("/v1/sessions?limit=1&limit=2".to_owned(), 422, "invalid-query"),
        ("/v1/sessions?cursor=x".to_owned(), 422, "invalid-query"),
        ("/v1/sessions?q=%00".to_owned(), 422, "invalid-query"),
        ("/v1/sessions?tenant=%0a".to_owned(), 422, "invalid-query"),
        (session("events?limit=501"), 422, "invalid-query"),
        (session("events?after=-1"), 422, "invalid-query"),
        (session("events?after=99999999999999999999"), 422, "invalid-query"),
        (session("events?last=0"), 422, "invalid-query"),
        (session("events?last=501"), 422, "invalid-query"),
        (session("events?last=5&after=1"), 422, "invalid-query"),
        (session("events?last=5&limit=5"), 422, "invalid-query"),
        (session("events?before=5"), 422, "invalid-query"),
        (session("events?last=5&before=0"), 422, "invalid-query"),
        (session("events?render=pdf"), 422, "invalid-query"),
        (session("history?limit=2001"), 422, "invalid-query"),
        (session("context-window?limit=-5"), 422, "invalid-query"),
        (format!("/v1/session/{ID}/events?mode=full"), 422, "invalid-query"),
        (format!("/v1/session/{ID}/events?after=1.2"), 422, "invalid-query"),
        ("/gateway_stream".to_owned(), 422, "invalid-query"),
        ("/gateway_stream?sid=x".to_owned(), 404, "session-not-found"),
        ("/v1/admin/memory?limit=0".to_owned(), 422, "invalid-query"),
        ("/v1/admin/memory?limit=201".to_owned(), 422, "invalid-query"),
        ("/v1/admin/memory?after=-1".to_owned(), 422, "invalid-query"),
        ("/v1/admin/memory?min_ts=NaN".to_owned(), 422, "invalid-query"),
        ("/v1/admin/memory?max_ts=x".to_owned(), 422, "invalid-query"),
        ("/v1/admin/memory?q=%00".to_owned(), 422, "invalid-query"),
        ("/v1/admin/memory?min_offset=3".to_owned(), 422, "invalid-query"),
        ("/v1/admin/memory/e?min_offset=3:x".to_owned(), 422, "invalid-query"),
        ("/v1/admin/memory/%00".to_owned(), 404, "memory-not-found"),
        ("/v1/admin/memory/%ff".to_owned(), 404, "memory-not-found"),
        ("/v1/memory/%00/receipt".to_owned(), 404, "memory-not-found"),
        ("/v1/memory/export?limit_total=0".to_owned(), 422, "invalid-query"),
        ("/v1/memory/export?after=x".to_owned(), 422, "invalid-query"),
        ("/v1/memory/export?min_offset=-1:0".to_owned(), 422, "invalid-query"),
        ("/v1/memory/export/jobs?limit=201".to_owned(), 422, "invalid-query"),
        ("/v1/memory/export/jobs?after=x".to_owned(), 422, "invalid-query"),
        ("/v1/memory/export/jobs/0".to_owned(), 404, "job-not-found"),
        ("/v1/memory/export/jobs/x/download".to_owned(), 404, "job-not-found"),
        ("/v1/admin/actors?limit=501".to_owned(), 422, "invalid-query"),
        ("/v1/admin/actors?cursor=-1".to_owned(), 422, "invalid-query"),
    ] {
        let answer = door.send(request(Method::GET, &uri)).await;
        assert_eq!(answer.problem(), (status, code.to_owned()), "{uri}");
    }
    let rubbish = request(Method::GET, &format!("/v1/session/{ID}/events")).insert_header(("Last-Event-ID", "x"));
    assert_eq!(door.send(rubbish).await.problem(), (422, "invalid-header".to_owned()));
}

#[actix_web::test]
async fn a_problem_can_be_read_by_whoever_takes_compressed_replies() {
    let door = TestDoor::new(&DoorSettings::default()).await;
    for uri in ["/v1/sessions/x/events", "/v1/sessions/x/history", "/ui/nothing.js"] {
        let answer = door.send(request(Method::GET, uri).insert_header(("Accept-Encoding", "gzip"))).await;
        assert_eq!((answer.status.as_u16(), answer.header("content-encoding")), (404, ""), "{uri}");
        assert_eq!(answer.json()["status"], 404, "{uri}");
    }
    let page = door.send(request(Method::GET, "/ui/js/main.js").insert_header(("Accept-Encoding", "gzip"))).await;
    assert_eq!(page.header("content-encoding"), "gzip");
}

#[actix_web::test]
async fn changes_refuse_wrong_bodies() {
    let door = TestDoor::new(&DoorSettings::default()).await;
    let long = json!({"title": "x".repeat(81)}).to_string();
    let long_text = json!({"q": "x".repeat(4_097)}).to_string();
    let session = |rest: &str| format!("/v1/sessions/{ID}{rest}");
    for (method, uri, body, status, code) in [
        (Method::PATCH, session(""), "{}", 422, "invalid-body"),
        (Method::PATCH, session(""), "{\"title\":7}", 422, "invalid-body"),
        (Method::PATCH, session(""), "{\"title\":\"  \"}", 422, "invalid-body"),
        (Method::PATCH, session(""), "{\"title\":\"\\u202e\\n\"}", 422, "invalid-body"),
        (Method::PATCH, session(""), long.as_str(), 422, "invalid-body"),
        (Method::PATCH, "/v1/sessions/x".to_owned(), "{\"title\":\"a\"}", 404, "session-not-found"),
        (Method::POST, session("/pause"), "{}", 422, "invalid-body"),
        (Method::POST, session("/pause"), "{\"paused\":\"yes\"}", 422, "invalid-body"),
        (Method::POST, session("/pause"), "paused", 400, "bad-json"),
        (Method::POST, "/v1/session/action".to_owned(), "{}", 422, "invalid-body"),
        (Method::POST, "/v1/session/action".to_owned(), "{\"action\":\"dance\"}", 400, "unknown-action"),
        (Method::POST, "/v1/session/action".to_owned(), "{\"action\":[]}", 422, "invalid-body"),
        (Method::POST, "/v1/memory/batch".to_owned(), "{}", 422, "invalid-body"),
        (Method::POST, "/v1/memory/batch".to_owned(), "{\"items\":{}}", 422, "invalid-body"),
        (Method::POST, "/v1/memory/batch".to_owned(), "{\"items\":[{\"a\":\"\\u0000\"}]}", 422, "invalid-body"),
        (Method::POST, "/v1/memory/export/jobs".to_owned(), "", 400, "bad-json"),
        (Method::POST, "/v1/memory/export/jobs".to_owned(), "{\"role\":7}", 422, "invalid-body"),
        (Method::POST, "/v1/memory/export/jobs".to_owned(), "{\"tenant\":\"a\\nb\"}", 422, "invalid-body"),
        (Method::POST, "/v1/memory/export/jobs".to_owned(), "{\"q\":\"\\u0000\"}", 422, "invalid-body"),
        (Method::POST, "/v1/memory/export/jobs".to_owned(), "{\"min_ts\":\"1\"}", 422, "invalid-body"),
        (Method::POST, "/v1/memory/export/jobs".to_owned(), "{\"after\":-1}", 422, "invalid-body"),
        (Method::POST, "/v1/memory/export/jobs".to_owned(), "{\"limit_total\":0}", 422, "invalid-body"),
        (Method::POST, "/v1/memory/export/jobs".to_owned(), "{\"min_offset\":\"1\"}", 422, "invalid-body"),
        (Method::POST, "/v1/memory/export/jobs".to_owned(), long_text.as_str(), 422, "invalid-body"),
        (Method::DELETE, "/v1/memory/export/jobs/x".to_owned(), "", 404, "job-not-found"),
        (Method::POST, "/v1/sessions/x/stop".to_owned(), "{}", 404, "session-not-found"),
        (Method::DELETE, "/v1/sessions/x".to_owned(), "", 404, "session-not-found"),
    ] {
        let answer = door.send(with_body(method.clone(), &uri, body)).await;
        assert_eq!(answer.problem(), (status, code.to_owned()), "{method} {uri} {body}");
    }
}

#[actix_web::test]
async fn without_a_database_everything_that_needs_it_says_so() {
    let door = TestDoor::new(&DoorSettings::default()).await;
    let session = |rest: &str| format!("/v1/sessions/{ID}{rest}");
    for request in vec![
        request(Method::GET, "/v1/sessions"),
        request(Method::GET, &session("/events")),
        request(Method::GET, &session("/history")),
        request(Method::GET, &session("/context-window")),
        request(Method::GET, &session("/state")),
        request(Method::GET, "/readyz"),
        request(Method::GET, "/v1/admin/memory?q=a"),
        request(Method::GET, "/v1/admin/memory/e?min_offset=0:1"),
        request(Method::GET, "/v1/memory/export"),
        with_body(Method::POST, "/v1/memory/batch", "{\"items\":[{\"id\":\"e\"}]}"),
        request(Method::GET, "/v1/memory/e/receipt").insert_header(("Prefer", "wait=30")),
        request(Method::DELETE, "/v1/memory/e"),
        with_body(Method::POST, "/v1/memory/export/jobs", "{\"q\":\"a\",\"role\":\"\"}"),
        request(Method::GET, "/v1/memory/export/jobs?limit=1"),
        request(Method::GET, "/v1/memory/export/jobs/1"),
        request(Method::DELETE, "/v1/memory/export/jobs/1"),
        request(Method::GET, "/v1/memory/export/jobs/1/download"),
        request(Method::DELETE, &session("")),
        request(Method::POST, &session("/stop")),
        request(Method::POST, &session("/reset")),
        with_body(Method::POST, &session("/pause"), "{\"paused\":true}"),
        with_body(Method::PATCH, &session(""), "{\"title\":\"a\"}"),
        with_body(Method::POST, MESSAGE, "{\"message\":\"hi\",\"unknown\":1}"),
        with_body(Method::POST, "/message_async", "{\"message\":\"hi\",\"on_busy\":null}"),
        with_body(Method::POST, "/v1/session/action", "{\"action\":\"nudge\"}"),
        request(Method::GET, &format!("/v1/session/{ID}/events?mode=delta&after=3.1.7")),
    ] {
        let answer = door.send(request).await;
        assert_eq!(answer.problem(), (503, "unavailable".to_owned()), "{}", answer.text);
        assert_eq!(answer.header("retry-after"), "1");
        assert!(!answer.text.contains("127.0.0.1"), "an inner detail got out: {}", answer.text);
    }
}

#[actix_web::test]
async fn a_draining_door_takes_no_new_work() {
    let door = TestDoor::new(&DoorSettings::default()).await;
    door.draining.begin();
    for request in [
        post("{\"message\":\"hi\"}"),
        with_body(Method::POST, "/v1/session/action", "{\"action\":\"nudge\"}"),
        with_body(Method::POST, "/v1/memory/batch", "{\"items\":[]}"),
        request(Method::GET, "/v1/memory/export"),
        with_body(Method::POST, "/v1/memory/export/jobs", "{}"),
        request(Method::GET, "/v1/memory/export/jobs/1/download"),
        request(Method::GET, &format!("/v1/session/{ID}/events")),
        request(Method::GET, "/readyz"),
    ] {
        let answer = door.send(request).await;
        assert_eq!((answer.problem(), answer.header("retry-after")), ((503, "draining".to_owned()), "5"));
    }
    assert_eq!(door.send(request(Method::GET, "/healthz")).await.status, 200);
}

#[actix_web::test]
async fn every_path_names_its_methods() {
    let door = TestDoor::new(&DoorSettings::default()).await;
    for resource in TABLE {
        let uri = resource.pattern.replace("{session_id}", ID).replace("{path:.*}", "index.html");
        let uri = uri.replace("{event_id}", "e");
        let known: Vec<&Method> = resource.methods.iter().map(|(method, ..)| method).collect();
        let wrong = [Method::PUT, Method::TRACE, Method::GET].into_iter().find(|method| !known.contains(&method));
        let answer = door.send(request(wrong.unwrap_or(Method::PUT), &uri)).await;
        assert_eq!(answer.problem(), (405, "method-not-allowed".to_owned()), "{uri}");
        let allow: Vec<&str> = answer.header("allow").split(", ").collect();
        assert!(known.iter().all(|method| allow.contains(&method.as_str())), "{uri}: {allow:?}");
        let options = door.send(request(Method::OPTIONS, &uri)).await;
        assert_eq!((options.status.as_u16(), options.header("allow")), (204, answer.header("allow")), "{uri}");
    }
    let stream = door.send(request(Method::HEAD, &format!("/v1/session/{ID}/events"))).await;
    assert_eq!((stream.status.as_u16(), stream.header("allow")), (405, "GET, OPTIONS"));
    assert_eq!(door.send(request(Method::HEAD, "/healthz")).await.status, 200);
}

#[actix_web::test]
async fn every_reply_names_its_request_and_has_the_common_headers() {
    let door = TestDoor::new(&DoorSettings::default()).await;
    let given = request(Method::GET, "/v1/sessions?limit=x").insert_header(("X-Request-ID", ID));
    let answer = door.send(given).await;
    assert_eq!(
        (answer.header("x-request-id"), answer.json()["instance"].as_str()),
        (ID, Some(&*format!("urn:uuid:{ID}")))
    );
    for uri in ["/healthz", "/nothing", "/ui/config.json", "/openapi.json"] {
        let answer = door.send(request(Method::GET, uri).insert_header(("X-Request-ID", "rubbish"))).await;
        assert!(uuid::Uuid::try_parse(answer.header("x-request-id")).is_ok(), "{uri}");
        let twice =
            request(Method::GET, uri).append_header(("X-Request-ID", ID)).append_header(("X-Request-ID", "rubbish"));
        assert_ne!(door.send(twice).await.header("x-request-id"), ID, "{uri}");
        for (name, value) in [
            ("x-api-version", "v1"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(answer.header(name), value, "{uri}");
        }
    }
    assert_eq!(door.send(request(Method::GET, "/healthz")).await.header("cache-control"), "no-store");
}

#[actix_web::test]
async fn health_shows_its_parts_and_never_fails_as_a_request() {
    let settings = DoorSettings { health_timeout_ms: 20, ..DoorSettings::default() };
    let door = TestDoor::new(&settings).await;
    let healthz = door.send(request(Method::GET, "/healthz")).await;
    assert_eq!(
        (healthz.status.as_u16(), healthz.json()),
        (
            200,
            json!({"status": "degraded", "components": {
                "postgres": {"status": "ok"},
                "somabrain_http": {"status": "down", "detail": "connection refused"},
            }})
        )
    );
    for uri in ["/health", "/v1/health"] {
        let health = door.send(request(Method::GET, uri)).await.json();
        assert_eq!(health["status"], "ok", "what is only shown changes nothing");
        assert_eq!(health["components"]["memory_replicator"], json!({"status": "down", "detail": "no answer in time"}));
    }
}

#[actix_web::test]
async fn the_configuration_is_shown_without_secrets() {
    let settings = DoorSettings { disable_sse: true, ..DoorSettings::default() };
    let door = TestDoor::new(&settings).await;
    let page = door.send(request(Method::GET, "/ui/config.json")).await.json();
    assert_eq!(
        (&page["api_base"], &page["version"], &page["responder"]),
        (&json!("/v1"), &json!("1.2.3"), &json!("offline"))
    );
    assert_eq!(page["features"]["sse_enabled"], false);
    // A file that is larger than either limit is not kept.
    let limits = json!({"max_bytes": 16 << 20, "max_files": 10, "allowed_mime": [], "denied_mime": []});
    assert_eq!((&page["uploads_enabled"], &page["uploads"]), (&json!(true), &limits));
    let runtime = door.send(request(Method::GET, "/v1/runtime-config")).await.json();
    assert_eq!(runtime["sse"], json!({"enabled": false}));
    let stream = door.send(request(Method::GET, &format!("/v1/session/{ID}/events"))).await;
    assert_eq!(
        (stream.problem(), stream.json()["detail"].as_str()),
        ((503, "sse-disabled".to_owned()), Some("SSE disabled"))
    );
}

#[actix_web::test]
async fn the_page_comes_under_a_strict_policy() {
    let door = TestDoor::new(&DoorSettings::default()).await;
    for uri in ["/", &format!("/s/{ID}"), "/ui/index.html"] {
        let page = door.send(request(Method::GET, uri)).await;
        assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html; charset=utf-8"), "{uri}");
        let policy = page.header("content-security-policy");
        for part in [
            "default-src 'self'",
            "require-trusted-types-for 'script'",
            "object-src 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{uri}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(!has_inline_code(&page), "{uri} has code of its own");
    }
}

#[actix_web::test]
async fn an_address_that_names_no_session_shows_the_page_that_says_so() {
    let door = TestDoor::new(&DoorSettings::default()).await;
    let known = door.send(request(Method::GET, "/")).await;
    for given in [None, Some(("If-None-Match", known.header("etag")))] {
        let asked = request(Method::GET, "/s/not-a-uuid");
        let page = door.send(given.into_iter().fold(asked, TestRequest::insert_header)).await;
        assert_eq!((page.status.as_u16(), page.header("content-type")), (404, "text/html; charset=utf-8"));
        assert_eq!(
            (page.header("content-security-policy"), &page.text),
            (known.header("content-security-policy"), &known.text)
        );
    }
}

fn has_inline_code(page: &Answer) -> bool {
    page.text.contains("style=")
        || page.text.contains("<style")
        || page.text.contains("<script>")
        || page.text.contains(" onload=")
}

#[actix_web::test]
async fn a_file_is_sent_once_as_long_as_it_is_the_same() {
    let door = TestDoor::new(&DoorSettings::default()).await;
    for (uri, media_type) in
        [("/ui/js/main.js", "text/javascript; charset=utf-8"), ("/ui/css/tokens.css", "text/css; charset=utf-8")]
    {
        let first = door.send(request(Method::GET, uri)).await;
        assert_eq!((first.status.as_u16(), first.header("content-type")), (200, media_type));
        assert_eq!(first.header("cache-control"), "no-cache");
        let tag = first.header("etag").to_owned();
        let again = door.send(request(Method::GET, uri).insert_header(("If-None-Match", tag.as_str()))).await;
        assert_eq!((again.status.as_u16(), again.text.as_str(), again.header("etag")), (304, "", tag.as_str()));
        let other = door.send(request(Method::GET, uri).insert_header(("If-None-Match", "\"x\""))).await;
        assert_eq!(other.status, 200);
    }
}

#[actix_web::test]
async fn the_description_is_served_as_committed() {
    let served = ask(request(Method::GET, "/openapi.json")).await;
    let committed: Value = serde_json::from_str(include_str!("../../openapi.json")).unwrap_or_default();
    assert!(served.json() == committed, "what is served is not what is committed");
    assert_eq!(served.json()["info"]["version"], "1.0.0");
}

#[actix_web::test]
async fn the_actors_are_listed_in_pages() {
    let door = TestDoor::new(&DoorSettings::default()).await;
    let all = door.send(request(Method::GET, "/v1/admin/actors")).await.json();
    assert_eq!((&all["actors"][0]["path"], &all["next_cursor"]), (&json!("root"), &Value::Null));
    let none = door.send(request(Method::GET, "/v1/admin/actors?cursor=9999&limit=1")).await.json();
    assert_eq!(none["actors"], json!([]));
    let unknown = door.send(request(Method::GET, "/v1/admin/actors?group=root/none")).await.json();
    assert_eq!(unknown["actors"], json!([]));
}

#[actix_web::test]
async fn with_authentication_on_other_host_names_are_served() {
    let settings = DoorSettings { require_auth: true, ..DoorSettings::default() };
    let door = TestDoor::new(&settings).await;
    let answer = door.send(request(Method::GET, "/healthz").insert_header(("Host", "agent.example"))).await;
    assert_eq!(answer.status, 200);
}

#[test]
fn the_list_of_paths_is_the_contracts() {
    let mut list = String::new();
    for resource in TABLE {
        for (method, ..) in resource.methods {
            let _infallible = writeln!(list, "{method} {}", resource.pattern);
        }
    }
    for expected in [
        "POST /v1/session/message",
        "POST /message_async",
        "POST /v1/session/action",
        "GET /v1/session/{session_id}/events",
        "GET /gateway_stream",
        "POST /v1/sessions/{session_id}/stop",
        "GET /v1/sessions",
        "GET /v1/sessions/{session_id}/events",
        "GET /v1/sessions/{session_id}/history",
        "GET /v1/sessions/{session_id}/context-window",
        "PATCH /v1/sessions/{session_id}",
        "GET /v1/sessions/{session_id}/state",
        "DELETE /v1/sessions/{session_id}",
        "POST /v1/sessions/{session_id}/reset",
        "POST /v1/sessions/{session_id}/pause",
        "GET /healthz",
        "GET /readyz",
        "GET /v1/health",
        "GET /health",
        "GET /ui/config.json",
        "GET /v1/runtime-config",
        "GET /openapi.json",
        "GET /docs",
        "GET /v1/admin/actors",
        "GET /v1/memory/{event_id}/receipt",
        "GET /",
        "GET /s/{session_id}",
        "GET /ui/{path:.*}",
    ] {
        assert!(list.lines().any(|line| line == expected), "{expected} is not served");
    }
}
