//! Every change leaves a row in the audit trail, which says who made it; what is refused changes nothing.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use somaagent_test_services::clamd::Clamd;
use somaagent_test_services::client::{Answer, Client, Post};
use somaagent_test_services::model::Script;
use somaagent_test_services::site::Site;
use somaagent_test_services::tokens::{SECRET, Signer};
use somaagent_test_services::wait::eventually;
use sqlx::PgPool;
use uuid::Uuid;

use crate::downloads::Planted;
use crate::logins::{id as login_id, login_of};
use crate::stack::{Setup, Stack, ended_turns, new_session};
use crate::uploads::{Form, content_type, upload};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// Every operation that changes something, and the action of the row that it leaves.
const CHANGES: &[(&str, &str)] = &[
    ("DELETE /v1/admin/dlq/{topic}", "admin.dlq.purge"),
    ("DELETE /v1/admin/dlq/{topic}/reprocess/{job_id}", "admin.dlq.cancel"),
    ("DELETE /v1/admin/dlq/{topic}/{id}", "admin.dlq.delete"),
    ("DELETE /v1/admin/logins", "admin.logins.end"),
    ("DELETE /v1/attachments/{attachment_id}", "attachments.delete"),
    ("DELETE /v1/attachments/{attachment_id}/links/{link_id}", "attachments.links.revoke"),
    ("DELETE /v1/auth/logins", "auth.logins.end_all"),
    ("DELETE /v1/auth/logins/{login_id}", "auth.logins.end"),
    ("DELETE /v1/keys/{key_id}", "admin.keys.revoke"),
    ("DELETE /v1/memory/export/jobs/{job_id}", "memory.export.end"),
    ("DELETE /v1/memory/{event_id}", "memory.delete"),
    ("DELETE /v1/sessions/{session_id}", "session.delete"),
    ("DELETE /v1/uploads/tus/{upload_id}", "attachments.upload.end"),
    ("PATCH /v1/sessions/{session_id}", "session.rename"),
    ("PATCH /v1/uploads/tus/{upload_id}", "attachments.upload"),
    ("POST /message_async", "message.enqueue"),
    ("POST /v1/admin/dlq/{topic}/reprocess", "admin.dlq.reprocess_all"),
    ("POST /v1/admin/dlq/{topic}/{id}/reprocess", "admin.dlq.reprocess"),
    ("POST /v1/attachments/{attachment_id}/links", "attachments.links.create"),
    ("POST /v1/attachments/{attachment_id}/clear", "admin.attachments.clear"),
    ("POST /v1/attachments/{attachment_id}/release", "admin.attachments.release"),
    ("POST /v1/attachments/{attachment_id}/scan", "admin.attachments.scan"),
    ("POST /v1/keys", "admin.keys.create"),
    ("POST /v1/memory/batch", "memory.write"),
    ("POST /v1/memory/export/jobs", "memory.export.order"),
    ("POST /v1/session/action", "message.enqueue"),
    ("POST /v1/session/message", "message.enqueue"),
    ("POST /v1/sessions/{session_id}/pause", "session.pause"),
    ("POST /v1/sessions/{session_id}/reset", "session.reset"),
    ("POST /v1/sessions/{session_id}/stop", "turn.stop"),
    ("POST /v1/ui/settings/sections", "settings.update"),
    ("POST /v1/ui/settings/versions/{number}/restore", "settings.update"),
    ("POST /v1/uploads", "attachments.upload"),
    ("POST /v1/uploads/external", "attachments.upload"),
    ("POST /v1/uploads/tus", "attachments.upload.begin"),
    ("POST /v1/uploads/tus/{upload_id}/finalize", "attachments.upload"),
    ("PUT /v1/admin/dlq/{topic}/{id}/reprocess", "admin.dlq.reprocess"),
];

/// What changes something only for somebody whom a provider has signed in: `logins` shows that it leaves a row.
const OF_LOGINS: &[&str] = &["POST /v1/auth/logout"];

/// Who vouches for everybody here.
const ISSUER: &str = "the tests";

const DLQ: &str = "/v1/admin/dlq/memory.wal.dlq";

const TUS: &str = "/v1/uploads/tus";

/// To clients of tus what there is not is not found.
fn in_tus(request: RequestBuilder) -> RequestBuilder {
    request.header("Tus-Resumable", "1.0.0")
}

pub fn token(subject: &str, scope: &str) -> String {
    token_of("acme", subject, scope)
}

pub fn token_of(tenant: &str, subject: &str, scope: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"tenant": tenant, "sub": subject, "iss": ISSUER, "scope": scope, "exp": now + 3600});
    Signer::secret(SECRET).sign(&claims)
}

/// Settings to be saved.
fn settings(files: u32) -> Value {
    json!({"sections": [{"id": "uploads", "fields": [{"id": "uploads_max_files", "value": files}]}]})
}

/// A guarded system as an admin of `acme` sees it.
struct World {
    stack: Stack,
    admin: Client,
    pool: PgPool,
    /// Where files are that are not sent.
    site: Site,
}

impl World {
    async fn begin() -> Self {
        let (host, port) = Clamd::shared().unwrap().place();
        let setup = Setup::default()
            .set("GATEWAY_JWT_SECRET", SECRET)
            // An order to send letters again takes long enough to be cancelled.
            .set("SA01_DEAD_LETTERS__PAGE_LETTERS", 1)
            .set("GATEWAY_OPERATOR_TENANTS", "acme")
            .set("CLAMAV_ENABLED", true)
            .set("CLAMAV_HOST", host)
            .set("CLAMAV_PORT", port)
            .set("SA01_ANTIVIRUS__CONNECT_TIMEOUT_MS", 15_000)
            .set("SA01_UPLOADS__DOWNLOAD_TOKEN_TTL_SECONDS", 60)
            .set("SA01_UPLOADS__ALLOW_EXTERNAL_REF", true)
            .set("SA01_UPLOADS__EXTERNAL_REF_ALLOWLIST", "127.0.0.1")
            .set("SA01_UPLOADS__EXTERNAL_REF_NETWORKS", "127.0.0.0/8");
        let site = Site::start().await.unwrap();
        site.put_with("/another.txt", 200, &[], "tea is green");
        let stack = setup.start().await;
        let admin = stack.client.showing(&token("root", "admin")).unwrap();
        let pool = stack.database.pool().await.unwrap();
        Self { stack, admin, pool, site }
    }

    async fn session(&self) -> String {
        let session = new_session();
        let posted = self.admin.message(&Post::new("tea").to(&session)).await.unwrap();
        assert_eq!(posted.status, 200, "{}", posted.text);
        session
    }

    /// A session whose turns have ended.
    async fn quiet_session(&self) -> String {
        let session = self.session().await;
        ended_turns(&self.admin, &session, 1).await;
        session
    }

    /// So many dead letters; the number of the last one.
    async fn letters(&self, count: i32) -> i64 {
        let sql = "INSERT INTO dlq_messages (tenant, topic, source_topic, partition_key, original, event, error, error_class,
                       attempts, origin, created_at, updated_at)
                   SELECT 'acme', 'memory.wal.dlq', 'memory.wal', 'k', convert_to(e::text, 'UTF8'), e, 'no', 'rejected', 1,
                       'replicator', now(), now()
                   FROM generate_series(1, $1), LATERAL (
                       SELECT jsonb_build_object('tenant', 'acme', 'payload', jsonb_build_object('id', gen_random_uuid())) AS e
                   ) AS made
                   RETURNING id";
        let ids: Vec<i64> = sqlx::query_scalar(sql).bind(count).fetch_all(&self.pool).await.unwrap();
        ids.last().copied().unwrap()
    }

    async fn send(&self, client: &Client, request: (Method, String, Value), id: &str) -> Answer {
        let (method, path, body) = request;
        let mut request = client.request(method.clone(), &path);
        if path == "/v1/uploads" {
            let form = Form::default().file("another.txt", "text/plain", b"tea is green");
            request = request.header("Content-Type", content_type()).body(form.end());
        } else if method == Method::PATCH && path.starts_with(TUS) {
            request = in_tus(request)
                .header("Content-Type", "application/offset+octet-stream")
                .header("Upload-Offset", 0)
                .body("tea");
        } else if path.starts_with(&format!("{TUS}/")) {
            request = in_tus(request);
        } else if !body.is_null() {
            request = request.json(&body);
        }
        let request = request
            .header("X-Request-ID", id)
            .header("User-Agent", "auditor/1.0")
            .header("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01"));
        client.send(request).await.unwrap()
    }

    /// What has to be there for `operation`, and a request that does it.
    async fn ready(&self, operation: &str) -> (Method, String, Value) {
        let (method, path) = operation.split_once(' ').unwrap();
        let (mut path, mut body) = (path.replace("/v1/admin/dlq/{topic}", DLQ), Value::Null);
        match operation.rsplit_once('/').unwrap().1 {
            "message_async" | "message" => body = json!({"message": "hello"}),
            "action" => body = json!({"action": "summarize"}),
            "batch" => body = json!({"items": [{"content": "tea is green"}]}),
            "external" => body = json!({"url": format!("{}/another.txt?key=eyJ", self.site.url())}),
            "jobs" => body = json!({}),
            "keys" => body = json!({"label": "robot"}),
            "links" | "{link_id}" => {
                let sent = upload(&self.admin, Form::default().file("a.txt", "text/plain", b"tea")).await;
                path = path.replace("{attachment_id}", sent.json()[0]["id"].as_str().unwrap());
                if let Some(links) = path.strip_suffix("/{link_id}") {
                    let made = self.admin.post(links, &json!({})).await.unwrap();
                    path = format!("{links}/{}", made.text_of("link_id"));
                }
            }
            "logins" | "{login_id}" => {
                let login = login_of(&self.pool, "acme", "root", Some(ISSUER)).await;
                path = path.replace("{login_id}", login_id(&login));
                if path == "/v1/admin/logins" {
                    path += "?subject=root";
                }
            }
            "pause" => body = json!({"paused": true}),
            "{session_id}" if method == "PATCH" => body = json!({"title": "another"}),
            "{topic}" => {
                self.letters(3).await;
                let asked = self.admin.delete(DLQ).await.unwrap();
                let token = asked.text_of("confirm");
                assert!(!token.is_empty(), "{}", asked.text);
                path = format!("{DLQ}?confirm={token}");
            }
            "{event_id}" => {
                let session = self.quiet_session().await;
                let sql = "SELECT event_id::text FROM session_events WHERE session_id = $1::uuid LIMIT 1";
                let event: String = sqlx::query_scalar(sql).bind(&session).fetch_one(&self.pool).await.unwrap();
                path = path.replace("{event_id}", &event);
            }
            "{job_id}" if path.starts_with(DLQ) => {
                self.letters(5000).await;
                let ordered = self.admin.post(&format!("{DLQ}/reprocess"), &json!({})).await.unwrap();
                assert_eq!(ordered.status, 202, "{}", ordered.text);
                path = path.replace("{job_id}", &ordered.text_of("job_id"));
            }
            "{job_id}" => {
                let ordered = self.admin.post("/v1/memory/export/jobs", &json!({})).await.unwrap();
                path = path.replace("{job_id}", &ordered.json()["job_id"].to_string());
            }
            "{key_id}" => {
                let made = self.admin.post("/v1/keys", &json!({"label": "robot"})).await.unwrap();
                path = path.replace("{key_id}", &made.text_of("key_id"));
            }
            "sections" => body = settings(4),
            "restore" => {
                let saved = self.admin.post("/v1/ui/settings/sections", &settings(5)).await.unwrap();
                assert_eq!(saved.status, 200, "{}", saved.text);
                path = path.replace("{number}", "0");
            }
            "tus" => body = json!({"filename": "another.txt", "size": 3}),
            "{upload_id}" | "finalize" => {
                let begun = self.admin.post(TUS, &json!({"filename": "another.txt", "size": 3})).await.unwrap();
                let upload = begun.text_of("upload_url");
                if path.ends_with("finalize") {
                    let piece = self.admin.request(Method::PATCH, &upload).header("Upload-Offset", 0).body("tea");
                    assert_eq!(self.admin.send(piece).await.unwrap().status, 200);
                }
                path = path.replace("/v1/uploads/tus/{upload_id}", &upload);
            }
            "stop" => {
                self.stack.model.next(Script::silence());
                path = path.replace("{session_id}", &self.session().await);
            }
            _ => {}
        }
        if path.contains("/{id}") || path == format!("{DLQ}/reprocess") {
            path = path.replace("{id}", &self.letters(1).await.to_string());
        }
        if method == "PUT" {
            body = json!({"event": {"tenant": "acme", "payload": {"id": new_session(), "content": "mended"}}});
        }
        if path.contains("{attachment_id}") {
            let planted = Planted::of("acme", "a.txt").quarantined("infected").plant(&self.pool, &[b"tea"]).await;
            path = path.replace("{attachment_id}", &planted.to_string());
        }
        if path.contains("{session_id}") {
            path = path.replace("{session_id}", &self.quiet_session().await);
        }
        if body.is_null() && method == "POST" {
            body = json!({});
        }
        (method.parse().unwrap(), path, body)
    }

    /// The rows that the request `id` left.
    async fn rows(&self, id: &str) -> Vec<Value> {
        let sql = "SELECT to_jsonb(a) FROM audit_event AS a WHERE request_id = $1 ORDER BY id";
        sqlx::query_scalar(sql).bind(id).fetch_all(&self.pool).await.unwrap()
    }

    /// A sum of everything that people can change.
    async fn sum(&self) -> String {
        let sql = "SELECT md5(concat(
                       (SELECT string_agg(concat(session_id, title, paused, last_seq, erased_seq, deleted_at), ',' ORDER BY session_id)
                        FROM session_envelopes),
                       (SELECT string_agg(event_id::text, ',' ORDER BY session_id, seq) FROM session_events),
                       (SELECT string_agg(concat(id, event), ',' ORDER BY id) FROM dlq_messages),
                       (SELECT string_agg(concat(id, status), ',' ORDER BY id) FROM dlq_jobs),
                       (SELECT string_agg(concat(id, status), ',' ORDER BY id) FROM export_jobs),
                       (SELECT string_agg(concat(key_id, revoked_at), ',' ORDER BY key_id) FROM api_keys),
                       (SELECT string_agg(s::text, ',') FROM ui_settings AS s),
                       (SELECT count(*) FROM memory_write_outbox),
                       (SELECT string_agg(event_id, ',' ORDER BY id) FROM memory_replica),
                       (SELECT string_agg(concat(id, status, blob_id, deleted_at), ',' ORDER BY id) FROM attachments),
                       (SELECT string_agg(concat(id, revoked_at), ',' ORDER BY id) FROM attachment_links),
                       (SELECT string_agg(concat(id, arrived), ',' ORDER BY id) FROM tus_uploads),
                       (SELECT count(*) FROM audit_event)))";
        sqlx::query_scalar(sql).fetch_one(&self.pool).await.unwrap()
    }
}

#[tokio::test]
async fn every_change_leaves_a_row_that_says_who_made_it() {
    let world = World::begin().await;
    let api = world.stack.get("/openapi.json").await;
    let mut described = BTreeSet::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        let methods = item.as_object().unwrap().keys().map(|method| method.to_uppercase());
        let changing = methods.filter(|method| ["POST", "PUT", "PATCH", "DELETE"].contains(&method.as_str()));
        let changing = changing.filter(|method| item[method.to_lowercase()]["x-action"] != "internal.llm.test");
        described.extend(changing.map(|method| format!("{method} {path}")));
    }
    described.retain(|operation| !OF_LOGINS.contains(&operation.as_str()));
    let known: BTreeSet<String> = CHANGES.iter().map(|(operation, _)| (*operation).to_owned()).collect();
    assert_eq!(described, known, "an operation that changes something is not in the table, or no longer described");
    for (operation, action) in CHANGES {
        let (id, request) = (Uuid::new_v4().to_string(), world.ready(operation).await);
        let answer = world.send(&world.admin, request, &id).await;
        assert!((200..300).contains(&answer.status), "{operation}: {} {}", answer.status, answer.text);
        let row = eventually(&format!("a row of {operation}"), async || {
            world.rows(&id).await.into_iter().find(|row| row["action"] == *action)
        })
        .await;
        for (name, value) in [
            ("tenant", "acme"),
            ("subject", "root"),
            ("issuer", ISSUER),
            ("trace_id", TRACE),
            ("user_agent", "auditor/1.0"),
            ("ip", "127.0.0.1"),
        ] {
            assert_eq!(row[name], value, "{operation}: {row:#}");
        }
        assert_eq!(row["decision"].as_str().map(str::len), Some(64), "{operation}: {row:#}");
        assert!(row["target_id"].as_str().is_some_and(|target| !target.is_empty()), "{operation}: {row:#}");
        for content in ["hello", "tea", "another", "mended", SECRET, "eyJ"] {
            assert!(!row.to_string().contains(content), "{operation}: {row:#}");
        }
        let changes_something_named =
            ["session.rename", "session.pause", "session.reset", "session.delete", "settings.update"].contains(action)
                || operation.starts_with("PUT");
        assert_eq!(row["diff"].is_object(), changes_something_named, "{operation}: {row:#}");
        for sums in row["diff"].as_object().into_iter().flat_map(|diff| diff.values()) {
            assert_ne!(sums["before"], sums["after"], "{operation}: {row:#}");
        }
        let is_a_step = operation.contains("message")
            || operation.ends_with("action")
            || operation.ends_with("stop")
            || operation.contains("job")
            || operation.ends_with("{topic}/reprocess");
        assert_eq!(row["workflow_id"].is_string(), is_a_step, "{operation}: {row:#}");
    }
}

#[tokio::test]
async fn what_is_refused_changes_nothing_and_leaves_no_row() {
    let world = World::begin().await;
    let member = world.stack.client.showing(&token("bob", "chat")).unwrap();
    let mut ready = Vec::new();
    // An order that goes on by itself would change something meanwhile.
    for (operation, _) in CHANGES.iter().filter(|(operation, _)| operation.contains('{') && !operation.contains("job"))
    {
        ready.push((*operation, world.ready(operation).await));
    }
    // What goes on by itself comes to its end.
    let before = eventually("nothing is under way", async || {
        let sql = "SELECT (SELECT count(*) FROM turns WHERE state IN ('queued', 'running'))
                        + (SELECT count(*) FROM memory_write_outbox WHERE status IN ('pending', 'sending'))
                        + (SELECT count(*) FROM message_outbox WHERE status IN ('pending', 'sending'))";
        let open: i64 = sqlx::query_scalar(sql).fetch_one(&world.pool).await.unwrap();
        // The turn that was to be stopped never ends by itself.
        if open > 1 {
            return None;
        }
        let replica: (i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM memory_replica), (SELECT count(*) FROM memory_write_outbox WHERE status = 'sent')",
        )
        .fetch_one(&world.pool)
        .await
        .unwrap();
        if replica.0 < replica.1 { None } else { Some(world.sum().await) }
    })
    .await;
    for (operation, request) in ready {
        for client in [&world.stack.client, &member] {
            let id = Uuid::new_v4().to_string();
            let answer = world.send(client, request.clone(), &id).await;
            assert!([401, 403, 404].contains(&answer.status), "{operation}: {} {}", answer.status, answer.text);
            assert!(world.rows(&id).await.is_empty(), "{operation}");
        }
    }
    assert_eq!(world.sum().await, before);
}
