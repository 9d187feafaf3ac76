//! Case 9: bad requests. Each gets its exact status and code, and changes nothing in the database.

mod dead_letters;
mod reads;
mod rubbish;

use reqwest::Method;
use serde_json::{Value, json};
use somaagent_test_services::client::Post;
use somaagent_test_services::wait::eventually;
use sqlx::{AssertSqlSafe, PgPool};

use crate::stack::{Stack, new_session};

/// One bad request.
struct Bad {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
    expected: (u16, &'static str),
}

impl Bad {
    fn new(method: Method, path: &str, status: u16, code: &'static str) -> Self {
        Self { method, path: path.to_owned(), headers: Vec::new(), body: None, expected: (status, code) }
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    fn json(self, body: &Value) -> Self {
        self.bytes(body.to_string().as_bytes())
    }

    fn bytes(mut self, body: &[u8]) -> Self {
        self.body = Some(body.to_vec());
        self.header("content-type", "application/json")
    }

    fn bare(mut self, body: &str) -> Self {
        self.body = Some(body.as_bytes().to_vec());
        self
    }
}

fn get(path: &str, status: u16, code: &'static str) -> Bad {
    Bad::new(Method::GET, path, status, code)
}

fn post(path: &str, body: &Value, status: u16, code: &'static str) -> Bad {
    Bad::new(Method::POST, path, status, code).json(body)
}

fn message(body: &Value, status: u16, code: &'static str) -> Bad {
    post("/v1/session/message", body, status, code)
}

fn text(body: &[u8], status: u16, code: &'static str) -> Bad {
    Bad::new(Method::POST, "/v1/session/message", status, code).bytes(body)
}

/// The sessions the table speaks of.
struct Places {
    used: String,
    deleted: String,
    paused: String,
    unused: String,
}

fn bodies() -> Vec<Bad> {
    let plain = || Bad::new(Method::POST, "/v1/session/message", 415, "unsupported-media-type");
    let long = "x".repeat(262_145);
    let huge = format!("{{\"message\":\"{}\"}}", "x".repeat(1_100_000));
    vec![
        plain().bare("{\"message\":\"x\"}"),
        plain().header("content-type", "text/plain").bare("{\"message\":\"x\"}"),
        plain().header("content-type", "application/x-www-form-urlencoded").bare("message=x"),
        plain().header("content-type", "application/json").header("content-encoding", "gzip").bare("x"),
        text(b"", 400, "bad-json"),
        text(b"{", 400, "bad-json"),
        text(b"{\"message\": \"x\"} x", 400, "bad-json"),
        text(b"{\"message\": 'x'}", 400, "bad-json"),
        text(b"{\"message\": \"\xff\xfe\"}", 400, "bad-json"),
        text(b"{\"message\": \"\\ud800\"}", 400, "bad-json"),
        text(&[b"[".repeat(100_000), b"]".repeat(100_000)].concat(), 400, "bad-json"),
        text(b"[]", 422, "invalid-body"),
        text(b"\"x\"", 422, "invalid-body"),
        text(b"null", 422, "invalid-body"),
        text(b"{\"message\":\"a\",\"message\":\"b\"}", 422, "invalid-body"),
        text(huge.as_bytes(), 413, "body-too-large"),
        message(&json!({}), 422, "invalid-body"),
        message(&json!({"message": null}), 422, "invalid-body"),
        message(&json!({"message": 5}), 422, "invalid-body"),
        message(&json!({"message": ["x"]}), 422, "invalid-body"),
        message(&json!({"message": "a\0b"}), 422, "invalid-body"),
        message(&json!({"message": "x", "metadata": {"a": "y".repeat(16 * 1024)}}), 422, "invalid-body"),
        message(&json!({"message": long}), 422, "message-too-long"),
        message(&json!({"message": "x", "attachments": "x"}), 422, "invalid-body"),
        message(&json!({"message": "x", "attachments": [5]}), 422, "invalid-body"),
        message(
            &json!({"message": "x", "attachments": ["att://00000000-0000-4000-8000-000000000000"]}),
            422,
            "attachment-not-found",
        ),
        message(
            &json!({"message": "x", "attachments": ["/v1/attachments/00000000-0000-4000-8000-000000000000"]}),
            422,
            "attachment-not-found",
        ),
        message(&json!({"message": "x", "metadata": "x"}), 422, "invalid-body"),
        message(&json!({"message": "x", "metadata": []}), 422, "invalid-body"),
        message(&json!({"message": "x", "metadata": {"a": 5}}), 422, "invalid-body"),
        message(&json!({"message": "x", "metadata": {"a": "\0"}}), 422, "invalid-body"),
        message(&json!({"message": "x", "metadata": {"a\0": "x"}}), 422, "invalid-body"),
        message(&json!({"message": "x", "persona_id": 5}), 422, "invalid-body"),
        message(&json!({"message": "x", "persona_id": "p".repeat(129)}), 422, "invalid-body"),
        message(&json!({"message": "x", "session_id": 5}), 422, "invalid-body"),
        message(&json!({"message": "x", "expected_head": "x"}), 422, "invalid-body"),
        message(&json!({"message": "x", "expected_head": 1.5}), 422, "invalid-body"),
        message(&json!({"message": "x", "expected_head": -1}), 422, "invalid-body"),
        message(&json!({"message": "x", "on_busy": "later"}), 422, "invalid-body"),
        message(&json!({"message": "x", "on_busy": 5}), 422, "invalid-body"),
    ]
}

fn headers() -> Vec<Bad> {
    let body = json!({"message": "x"});
    vec![
        message(&body, 422, "invalid-header").header("idempotency-key", &"k".repeat(256)),
        message(&body, 422, "invalid-header").header("idempotency-key", ""),
        message(&body, 422, "invalid-header").header("idempotency-key", "schlüssel"),
        message(&body, 422, "invalid-header").header("x-tenant-id", &"t".repeat(201)),
        message(&body, 422, "invalid-header").header("x-persona-id", &"p".repeat(129)),
        message(&body, 403, "origin-not-allowed").header("origin", "https://evil.example"),
        message(&body, 403, "host-not-allowed").header("host", "evil.example"),
    ]
}

fn conflicts(at: &Places) -> Vec<Bad> {
    let to = |session: &str| json!({"message": "x", "session_id": session});
    let with = |name: &str, value: Value| {
        let mut body = to(&at.used);
        body[name] = value;
        body
    };
    vec![
        message(&to(&at.deleted), 410, "session-deleted"),
        message(&to(&at.paused), 409, "session-paused"),
        message(&with("expected_head", json!(1)), 409, "head-moved"),
        message(&with("expected_head", json!(99)), 409, "head-ahead"),
        message(&to(&at.used), 422, "idempotency-key-reused").header("idempotency-key", "taken"),
        message(&json!({"message": "hi", "session_id": at.used}), 422, "idempotency-key-reused")
            .header("idempotency-key", "taken")
            .header("x-persona-id", "another"),
        post("/message_async", &json!({}), 422, "invalid-body"),
        post("/v1/session/action", &json!({"action": "dance"}), 400, "unknown-action"),
        post("/v1/session/action", &json!({}), 422, "invalid-body"),
        post("/v1/session/action", &json!({"action": 5}), 422, "invalid-body"),
        post("/v1/session/action", &json!({"action": "nudge", "persona_id": "p".repeat(129)}), 422, "invalid-body"),
        post("/v1/session/action", &json!({"action": "nudge", "session_id": at.deleted}), 410, "session-deleted"),
    ]
}

fn streams(at: &Places) -> Vec<Bad> {
    let events = |query: &str| format!("/v1/session/{}/events{query}", at.used);
    vec![
        get("/v1/session/not-a-uuid/events", 404, "session-not-found"),
        get(&format!("/v1/session/{}/events", at.deleted), 410, "session-deleted"),
        get(&events("?after=x"), 422, "invalid-query"),
        get(&events("?after=-1"), 422, "invalid-query"),
        get(&events("?after=1&after=2"), 422, "invalid-query"),
        get(&events("?mode=loud"), 422, "invalid-query"),
        get("/gateway_stream", 422, "invalid-query"),
        get("/gateway_stream?session_id=", 422, "invalid-query"),
        Bad::new(Method::POST, &events(""), 405, "method-not-allowed").json(&json!({})),
    ]
}

fn reads(at: &Places) -> Vec<Bad> {
    let used = |rest: &str| format!("/v1/sessions/{}/{rest}", at.used);
    let mut table = vec![
        get("/v1/sessions?limit=0", 422, "invalid-query"),
        get("/v1/sessions?limit=201", 422, "invalid-query"),
        get("/v1/sessions?limit=x", 422, "invalid-query"),
        get("/v1/sessions?limit=1&limit=2", 422, "invalid-query"),
        get("/v1/sessions?cursor=x", 422, "invalid-query"),
        get("/v1/sessions?q=%00", 422, "invalid-query"),
        get(&used("events?limit=0"), 422, "invalid-query"),
        get(&used("events?limit=501"), 422, "invalid-query"),
        get(&used("events?after=-1"), 422, "invalid-query"),
        get(&used("events?after=99999999999999999999"), 422, "invalid-query"),
        get(&used("history?limit=2001"), 422, "invalid-query"),
        get(&used("context-window?limit=0"), 422, "invalid-query"),
        get("/v1/admin/memory?after=-1", 422, "invalid-query"),
        get("/v1/admin/memory?min_ts=soon", 422, "invalid-query"),
        get("/v1/admin/memory?min_offset=1", 422, "invalid-query"),
        get("/v1/admin/memory/no-such-memory", 404, "memory-not-found"),
        get("/v1/admin/memory/%00", 404, "memory-not-found"),
        get("/v1/memory/export?limit_total=0", 422, "invalid-query"),
        get("/v1/memory/export?min_offset=0:-1", 422, "invalid-query"),
        get("/v1/memory/export/jobs?after=-1", 422, "invalid-query"),
        get("/v1/memory/export/jobs/1", 404, "job-not-found"),
        get("/v1/memory/export/jobs/x", 404, "job-not-found"),
        get("/v1/memory/export/jobs/99999999999999999999/download", 404, "job-not-found"),
    ];
    for rest in ["events", "history", "context-window", "state"] {
        table.push(get(&format!("/v1/sessions/not-a-uuid/{rest}"), 404, "session-not-found"));
        table.push(get(&format!("/v1/sessions/{}/{rest}", at.unused), 404, "session-not-found"));
        table.push(get(&format!("/v1/sessions/{}/{rest}", at.deleted), 410, "session-deleted"));
    }
    table
}

fn changes(at: &Places) -> Vec<Bad> {
    let unused = |rest: &str| format!("/v1/sessions/{}{rest}", at.unused);
    let used = |rest: &str| format!("/v1/sessions/{}{rest}", at.used);
    let patch = |path: &str, body: &Value, status, code| Bad::new(Method::PATCH, path, status, code).json(body);
    let delete = |path: &str, status, code| Bad::new(Method::DELETE, path, status, code);
    vec![
        patch(&unused(""), &json!({"title": "x"}), 404, "session-not-found"),
        patch(&used(""), &json!({}), 422, "invalid-body"),
        patch(&used(""), &json!({"title": 5}), 422, "invalid-body"),
        patch(&used(""), &json!({"title": "a\0"}), 422, "invalid-body"),
        patch(&used(""), &json!({"title": " \n "}), 422, "invalid-body"),
        patch(&used(""), &json!({"title": "\u{202e}\u{200b}\u{2066}"}), 422, "invalid-body"),
        patch(&used(""), &json!({"title": "x".repeat(81)}), 422, "invalid-body"),
        Bad::new(Method::PATCH, &used(""), 400, "bad-json").bytes(b"{"),
        Bad::new(Method::PATCH, &used(""), 415, "unsupported-media-type").bare("title=x"),
        patch(&format!("/v1/sessions/{}", at.deleted), &json!({"title": "x"}), 410, "session-deleted"),
        delete(&unused(""), 404, "session-not-found"),
        delete("/v1/sessions/not-a-uuid", 404, "session-not-found"),
        delete(&format!("/v1/sessions/{}", at.deleted), 410, "session-deleted"),
        post(&unused("/reset"), &json!({}), 404, "session-not-found"),
        post(&unused("/stop"), &json!({}), 404, "session-not-found"),
        post(&unused("/pause"), &json!({"paused": true}), 404, "session-not-found"),
        post(&used("/pause"), &json!({}), 422, "invalid-body"),
        Bad::new(Method::DELETE, "/v1/memory/%00", 404, "memory-not-found"),
        post("/v1/memory/export/jobs", &json!({"role": 7}), 422, "invalid-body"),
        post("/v1/memory/export/jobs", &json!({"session_id": "a\0"}), 422, "invalid-body"),
        post("/v1/memory/export/jobs", &json!({"limit_total": 0}), 422, "invalid-body"),
        post("/v1/memory/export/jobs", &json!({"min_offset": "0:-1"}), 422, "invalid-body"),
        post("/v1/memory/export/jobs", &json!({"tenant": "t".repeat(201)}), 422, "invalid-body"),
        post("/v1/memory/export/jobs?tenant=a&tenant=b", &json!({}), 422, "invalid-query"),
        Bad::new(Method::POST, "/v1/memory/export/jobs", 400, "bad-json").bytes(b"{"),
        Bad::new(Method::POST, "/v1/memory/export/jobs", 415, "unsupported-media-type").bare("q=x"),
        delete("/v1/memory/export/jobs/1", 404, "job-not-found"),
        post("/v1/memory/batch", &json!({}), 422, "invalid-body"),
        post("/v1/memory/batch", &json!({"items": [{"id": "\0"}]}), 422, "invalid-body"),
        post("/v1/memory/batch", &json!({"items": vec![json!({}); 501]}), 413, "too-many-items"),
        post(&used("/pause"), &json!({"paused": "yes"}), 422, "invalid-body"),
    ]
}

fn paths() -> Vec<Bad> {
    vec![
        get("/v1/nothing", 404, "not-found"),
        get("/nothing", 404, "not-found"),
        get("/v1/ui/poll", 404, "not-found"),
        get("/v1/csrf", 404, "not-found"),
        get("/ui/no-such-file.js", 404, "not-found"),
        get("/ui/../Cargo.toml", 404, "not-found"),
        get("/ui/%2e%2e/%2e%2e/Cargo.toml", 404, "not-found"),
        get("/v1/session/message", 405, "method-not-allowed"),
        Bad::new(Method::PUT, "/v1/session/message", 405, "method-not-allowed").json(&json!({"message": "x"})),
        Bad::new(Method::DELETE, "/v1/sessions", 405, "method-not-allowed"),
        Bad::new(Method::DELETE, "/healthz", 405, "method-not-allowed"),
    ]
}

/// Everything the requests might have changed: the rows of each table, and the events word for word.
async fn fingerprint(pool: &PgPool) -> Vec<(String, i64, Option<String>)> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public' \
         AND table_type = 'BASE TABLE' ORDER BY 1",
    )
    .fetch_all(pool)
    .await
    .unwrap();
    assert!(tables.iter().any(|table| table == "session_events"), "{tables:?}");
    let mut rows = Vec::new();
    for table in tables {
        // Who owns a session, and for how long, changes by itself.
        let row = "(to_jsonb(t) - '{owner,epoch,lease_until}'::text[])::text";
        let sql = format!("SELECT count(*), md5(string_agg({row}, '' ORDER BY {row})) FROM {table} t");
        let (count, text) = sqlx::query_as(AssertSqlSafe(sql)).fetch_one(pool).await.unwrap();
        rows.push((table, count, text));
    }
    rows
}

async fn prepare(stack: &Stack) -> Places {
    let at = Places { used: new_session(), deleted: new_session(), paused: new_session(), unused: new_session() };
    stack.post(&Post::new("hi").to(&at.used).key("taken")).await;
    for session in [&at.deleted, &at.paused] {
        stack.post(&Post::new("hi").to(session)).await;
    }
    for session in [&at.used, &at.deleted, &at.paused] {
        stack.ended_turns(session, 1).await;
    }
    let deleted = stack.client.delete(&format!("/v1/sessions/{}", at.deleted)).await.unwrap();
    assert_eq!(deleted.status, 200, "{}", deleted.text);
    let pause = format!("/v1/sessions/{}/pause", at.paused);
    assert_eq!(stack.client.post(&pause, &json!({"paused": true})).await.unwrap().status, 200);
    // Rows go, and are carried on, in the background.
    let pool = stack.database.pool().await.unwrap();
    eventually("nothing is left to do in the background", async || {
        let left = "SELECT (SELECT count(*) FROM session_envelopes WHERE swept_seq < erased_seq)
                         + (SELECT count(*) FROM memory_write_outbox WHERE status <> 'sent')
                         + (SELECT count(*) FROM message_outbox WHERE status <> 'sent')
                         + (SELECT count(*) FROM event_log_offsets JOIN event_log_partitions p USING (topic, partition)
                            WHERE owner IS NULL OR event_log_offsets.next_offset < p.next_offset)
                         + (NOT EXISTS (SELECT FROM event_log_offsets))::int";
        (sqlx::query_scalar::<_, i64>(left).fetch_one(&pool).await.unwrap() == 0).then_some(())
    })
    .await;
    at
}

#[tokio::test]
async fn bad_requests_are_refused_exactly_and_change_nothing() {
    let stack = Stack::start().await;
    let at = prepare(&stack).await;
    let parts =
        [bodies(), headers(), conflicts(&at), streams(&at), reads(&at), changes(&at), dead_letters::table(), paths()];
    let table: Vec<Bad> = parts.into_iter().flatten().collect();
    assert!(table.len() >= 60, "only {} requests", table.len());
    let pool = stack.database.pool().await.unwrap();
    let before = fingerprint(&pool).await;
    let mut wrong = Vec::new();
    for bad in table {
        let name = describe(&bad);
        if let Some(problem) = judge(&stack, bad).await {
            wrong.push(format!("{name}: {problem}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong answers:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(fingerprint(&pool).await, before, "a bad request changed the database");
}

fn describe(bad: &Bad) -> String {
    let body = bad.body.as_deref().map(|body| String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned());
    let headers: Vec<_> = bad.headers.iter().map(|(name, value)| format!("{name}: {value:.40}")).collect();
    format!("{} {} [{}] {}", bad.method, bad.path, headers.join(", "), body.unwrap_or_default())
}

/// What is wrong with the answer, if anything.
async fn judge(stack: &Stack, bad: Bad) -> Option<String> {
    let mut request = stack.client.request(bad.method, &bad.path);
    for (name, value) in &bad.headers {
        request = request.header(*name, value);
    }
    if let Some(body) = bad.body {
        request = request.body(body);
    }
    let answer = match stack.client.send(request).await {
        Ok(answer) => answer,
        Err(error) => return Some(format!("no answer: {error:#}")),
    };
    let (status, code) = bad.expected;
    let problem = answer.json();
    let expected = [
        ("status", answer.status == status),
        ("code", answer.code() == code),
        ("type", problem["type"].as_str().is_some_and(|kind| kind.ends_with(code))),
        ("status in the body", problem["status"] == status),
        ("title", problem["title"].is_string()),
        ("detail as text", problem["detail"].is_string()),
        ("instance", problem["instance"].is_string()),
        ("content type", answer.header("content-type").starts_with("application/problem+json")),
        ("nosniff", answer.header("x-content-type-options") == "nosniff"),
        ("Allow", status != 405 || !answer.header("allow").is_empty()),
    ];
    let missing: Vec<&str> = expected.iter().filter(|(_, holds)| !holds).map(|(name, _)| *name).collect();
    (!missing.is_empty())
        .then(|| format!("{missing:?}, expected {status} {code}, got {} {:.300}", answer.status, answer.text))
}

#[tokio::test]
async fn a_wrong_type_is_named_by_its_path() {
    let stack = Stack::start().await;
    let body = json!({"message": "x", "attachments": ["att://x", 7]});
    let answer = stack.client.post("/v1/session/message", &body).await.unwrap();
    assert_eq!(answer.status, 422);
    let errors = answer.json()["errors"].to_string();
    assert!(errors.contains("attachments") && errors.contains('1'), "{}", answer.text);
}

#[tokio::test]
async fn unknown_fields_are_ignored() {
    let stack = Stack::start().await;
    let session = new_session();
    stack.post(&Post::new("hi").to(&session).with("no_such_field", json!({"a": [1]}))).await;
    stack.post(&Post::new("").to(&session)).await;
    assert_eq!(stack.ended_turns(&session, 2).await.len(), 2);
}
