//! Bad requests for dead letters.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Bad, get, post};

pub(super) fn table() -> Vec<Bad> {
    let of = |rest: &str| format!("/v1/admin/dlq/memory.wal.dlq{rest}");
    let put = |body: &Value, status, code| Bad::new(Method::PUT, &of("/1/reprocess"), status, code).json(body);
    let delete = |path: &str, status, code| Bad::new(Method::DELETE, path, status, code);
    vec![
        get("/v1/admin/dlq/memory.wal", 404, "not-found"),
        get("/v1/admin/dlq/%00.dlq", 404, "not-found"),
        get("/v1/admin/dlq/.dlq", 404, "not-found"),
        get(&format!("/v1/admin/dlq/{}.dlq", "x".repeat(250)), 404, "not-found"),
        get(&of("?limit=0"), 422, "invalid-query"),
        get(&of("?limit=1001"), 422, "invalid-query"),
        get(&of("?cursor=x"), 422, "invalid-query"),
        get(&of("?cursor=0"), 422, "invalid-query"),
        get(&of("?error=%00"), 422, "invalid-query"),
        get(&of("?since=yesterday"), 422, "invalid-query"),
        get(&of("?until=2025-13-01T00:00:00Z"), 422, "invalid-query"),
        get(&of("/1"), 404, "dead-letter-not-found"),
        get(&of("/x"), 404, "dead-letter-not-found"),
        get(&of("/0"), 404, "dead-letter-not-found"),
        get(&of("/99999999999999999999"), 404, "dead-letter-not-found"),
        delete(&of("/1"), 404, "dead-letter-not-found"),
        delete("/v1/admin/dlq", 405, "method-not-allowed"),
        delete(&of("?confirm=1&confirm=2"), 422, "invalid-query"),
        post(&of("/1/reprocess"), &json!({}), 404, "dead-letter-not-found"),
        put(&json!({"event": {}}), 404, "dead-letter-not-found"),
        put(&json!({}), 422, "invalid-body"),
        put(&json!({"event": null}), 422, "invalid-body"),
        put(&json!({"event": "x"}), 422, "invalid-body"),
        put(&json!({"event": [1]}), 422, "invalid-body"),
        put(&json!({"event": {"a": "\0"}}), 422, "invalid-body"),
        Bad::new(Method::PUT, &of("/1/reprocess"), 400, "bad-json").bytes(b"{"),
        Bad::new(Method::PUT, &of("/1/reprocess"), 415, "unsupported-media-type").bare("event=x"),
        post(&of("/reprocess?limit=0"), &json!({}), 422, "invalid-query"),
        post(&of("/reprocess?limit=1000001"), &json!({}), 422, "invalid-query"),
        post(&of("/reprocess?since=x"), &json!({}), 422, "invalid-query"),
        get(&of("/reprocess/x"), 404, "job-not-found"),
        delete(&of("/reprocess/x"), 404, "job-not-found"),
        delete(&of("/reprocess/00000000-0000-4000-8000-000000000000"), 404, "job-not-found"),
        get(&of("/reprocess/00000000-0000-4000-8000-000000000000"), 404, "job-not-found"),
    ]
}
