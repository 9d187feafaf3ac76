//! What people ask about memories: lists, one memory, exports that survive a broken line.

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use somaagent_test_services::brain::Mood;
use somaagent_test_services::client::{Answer, Post};
use somaagent_test_services::model::Gate;
use somaagent_test_services::wait::{eventually, within};
use sqlx::PgPool;

use crate::stack::{Setup, Stack, new_session};

fn quick() -> Setup {
    Setup::default().set("MEMORY_SYNC_INTERVAL_SECONDS", "0.05").set("OUTBOX_SYNC_INTERVAL_SECONDS", "0.05")
}

/// Says something in a new session and waits until the replica has it and its answer. Returns the session.
async fn replicated(stack: &Stack, text: &str) -> String {
    let session = new_session();
    stack.post(&Post::new(text).to(&session)).await;
    stack.ended_turns(&session, 1).await;
    let path = format!("/v1/admin/memory?session_id={session}");
    eventually("both memories in the replica", async || {
        (stack.get(&path).await["items"].as_array()?.len() == 2).then_some(())
    })
    .await;
    session
}

/// Memories that nobody said, straight into the replica.
pub async fn planted(pool: &PgPool, count: i32) {
    let sql =
        "INSERT INTO memory_replica (tenant, event_id, session_id, role, payload, wal_timestamp, topic, partition,
                   \"offset\", sha256, created_at)
               SELECT 'public', 'planted-' || n, 's', 'user', jsonb_build_object('id', 'planted-' || n, 'content',
                   repeat(md5(n::text), 20)), n, 'memory.wal', 0, n, '\\x00', to_timestamp(n)
               FROM generate_series(1, $1) AS n";
    sqlx::query(sql).bind(count).execute(pool).await.unwrap();
}

/// The lines of an export, each with its `id`, and the trailer, whose checksum must be right.
fn whole(text: &str) -> (Vec<(i64, String)>, Value) {
    let body = text.strip_suffix('\n').unwrap();
    let (lines, trailer) = body.rsplit_once('\n').unwrap_or(("", body));
    let trailer: Value = serde_json::from_str(trailer).unwrap();
    let before = &text[..if lines.is_empty() { 0 } else { lines.len() + 1 }];
    let digest = Sha256::digest(before).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let lines = numbered(lines);
    let expected = json!({"type": "trailer", "rows": lines.len(), "sha256": digest, "cursor": trailer["cursor"]});
    assert_eq!(trailer, expected);
    (lines, trailer)
}

fn numbered(lines: &str) -> Vec<(i64, String)> {
    let line = |line: &str| {
        let item: Value = serde_json::from_str(line).unwrap();
        assert!(item["payload"].is_object(), "{item}");
        (item["id"].as_i64().unwrap(), item["event_id"].as_str().unwrap().to_owned())
    };
    lines.lines().map(line).collect()
}

fn refused(answer: &Answer) -> (u16, String) {
    (answer.status, answer.code())
}

#[tokio::test]
async fn a_memory_is_listed_found_and_exported_for_its_tenant_alone() {
    let stack = quick().start().await;
    let session = replicated(&stack, "Our Parrot is green").await;
    let list = stack.get(&format!("/v1/admin/memory?session_id={session}&q=our%20parrot&role=user")).await;
    let [item] = &list["items"].as_array().unwrap()[..] else { panic!("{list}") };
    assert_eq!((&item["payload"]["content"], &item["tenant"]), (&json!("Our Parrot is green"), &json!("public")));
    assert_eq!(list["next_cursor"], item["id"]);
    let path = format!("/v1/admin/memory/{}", item["event_id"].as_str().unwrap());
    assert_eq!(stack.get(&path).await, *item);

    let foreign = stack.client.send(stack.client.request(Method::GET, &path).header("x-tenant-id", "other")).await;
    assert_eq!(refused(&foreign.unwrap()), (404, "memory-not-found".into()));
    let list = "/v1/admin/memory?tenant=public";
    let foreign = stack.client.send(stack.client.request(Method::GET, list).header("x-tenant-id", "other")).await;
    assert_eq!(foreign.unwrap().json(), json!({"items": [], "next_cursor": null}));

    let export = stack.client.get(&format!("/v1/memory/export?session_id={session}")).await.unwrap();
    assert_eq!((export.status, export.header("content-type")), (200, "application/x-ndjson"));
    let name = export.header("content-disposition");
    assert!(name.starts_with("attachment; filename=\"memory_export_") && name.ends_with(".ndjson\""), "{name}");
    let (lines, trailer) = whole(&export.text);
    assert_eq!((lines.len(), &trailer["cursor"]), (2, &Value::Null));
    assert!(export.text.lines().next().unwrap().contains("+00:00\""), "{}", export.text);
}

#[tokio::test]
async fn pages_and_exports_have_every_memory_once() {
    let stack = quick().set("MEMORY_EXPORT_MAX_ROWS", 300).set("MEMORY_EXPORT_PAGE_SIZE", 70).start().await;
    planted(&stack.database.pool().await.unwrap(), 500).await;
    let (mut ids, mut after) = (vec![], String::new());
    loop {
        let page = stack.get(&format!("/v1/admin/memory?limit=150{after}")).await;
        let Some(cursor) = page["next_cursor"].as_i64() else { break };
        ids.extend(page["items"].as_array().unwrap().iter().map(|item| item["id"].as_i64().unwrap()));
        after = format!("&after={cursor}");
    }
    assert_eq!(ids.len(), 500);
    assert!(ids.is_sorted_by(|one, next| one > next));
    let (first, trailer) = whole(&stack.client.get("/v1/memory/export").await.unwrap().text);
    assert_eq!((first.len(), trailer["cursor"].as_i64()), (300, first.last().map(|line| line.0)));
    let rest = stack.client.get(&format!("/v1/memory/export?after={}", trailer["cursor"])).await.unwrap();
    let (rest, trailer) = whole(&rest.text);
    assert_eq!(trailer["cursor"], Value::Null);
    let exported: Vec<i64> = first.iter().chain(&rest).map(|line| line.0).collect();
    assert_eq!(exported, ids);
}

#[tokio::test]
async fn an_export_that_breaks_off_has_no_last_line_and_goes_on_where_it_broke() {
    const ROWS: i32 = 20_000;
    let stack = Stack::start().await;
    planted(&stack.database.pool().await.unwrap(), ROWS).await;
    let mut answer = stack.client.request(Method::GET, "/v1/memory/export").send().await.unwrap();
    let mut received = within("the first lines", answer.chunk()).await.unwrap().unwrap().to_vec();
    stack.proxy.refuse(true);
    stack.proxy.cut();
    // What was under way when the line broke still comes; then the stream ends as a failure.
    let ended = loop {
        match within("the end", answer.chunk()).await {
            Ok(Some(more)) => received.extend(more),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    ended.expect_err("a stream that broke off ended as if it were whole");
    stack.proxy.refuse(false);
    let received = String::from_utf8(received).unwrap();
    let received = &received[..=received.rfind('\n').unwrap()];
    assert!(!received.contains("trailer"));
    let mut lines = numbered(received);
    assert!(!lines.is_empty() && lines.len() < ROWS.unsigned_abs() as usize);
    let after = lines.last().unwrap().0;
    let rest = eventually("the database again", async || {
        let rest = stack.client.get(&format!("/v1/memory/export?after={after}")).await.ok()?;
        (rest.status == 200).then_some(rest)
    })
    .await;
    lines.extend(whole(&rest.text).0);
    let names: Vec<String> = lines.into_iter().map(|line| line.1).collect();
    let expected: Vec<String> = (1..=ROWS).rev().map(|n| format!("planted-{n}")).collect();
    assert_eq!(names, expected);
}

#[tokio::test]
async fn a_reader_may_wait_for_the_replica_and_learns_that_it_is_behind() {
    let stack = quick().set("SA01_MEMORY__OFFSET_WAIT_MS", 200).start().await;
    let session = replicated(&stack, "hi").await;
    let pool = stack.database.pool().await.unwrap();
    let sql = "SELECT partition, max(\"offset\") FROM event_log WHERE topic = 'memory.wal' GROUP BY 1";
    let (partition, offset): (i32, i64) = sqlx::query_as(sql).fetch_one(&pool).await.unwrap();
    let path = |offset: i64| format!("/v1/admin/memory?session_id={session}&min_offset={partition}:{offset}");
    assert_eq!(stack.get(&path(offset)).await["items"].as_array().map(Vec::len), Some(2));
    let behind = stack.client.get(&path(offset + 1)).await.unwrap();
    assert_eq!(refused(&behind), (412, "replica-behind".into()));
    assert_eq!(behind.json()["next_offset"], offset + 1);
    let export = |offset: i64| format!("/v1/memory/export?session_id={session}&min_offset={partition}:{offset}");
    assert_eq!(whole(&stack.client.get(&export(offset)).await.unwrap().text).0.len(), 2);
    let behind = stack.client.get(&export(offset + 1)).await.unwrap();
    assert_eq!(refused(&behind), (412, "replica-behind".into()));
}

#[tokio::test]
async fn an_export_names_its_tenant_where_that_is_demanded() {
    let stack = Setup::default().set("GATEWAY_EXPORT_REQUIRE_TENANT", true).start().await;
    let refusal = stack.client.get("/v1/memory/export").await.unwrap();
    assert_eq!(refused(&refusal), (400, "tenant-required".into()));
    assert_eq!(refusal.json()["detail"], "tenant parameter required for export");
    assert_eq!(stack.client.get("/v1/memory/export?tenant=public").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_batch_of_memories_is_remembered_once_each_and_bad_items_change_nothing() {
    let stack = quick().set("SA01_WRITE_THROUGH__TIMEOUT_MS", 10_000).start().await;
    let good = json!({"id": "note-1", "content": "the key is under the mat", "role": "user"});
    let items = json!({"items": [good, {"id": "note-1"}, 7, {"content": "no id"}, {"id": "x", "tenant": "other"}]});
    let write = async || {
        let answer = stack.client.post("/v1/memory/batch", &items).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["items"].as_array().cloned().unwrap()
    };
    let first = write().await;
    let told: Vec<_> = first.iter().map(|item| (item["ok"].as_bool().unwrap(), item["error"].as_str())).collect();
    let why = ["its id is that of an earlier item", "it is no object", "it names another tenant"].map(Some);
    assert_eq!(told, [(true, None), (false, why[0]), (false, why[1]), (true, None), (false, why[2])]);
    assert_eq!(first[0]["result"], json!({"state": "remembered"}));
    let again = write().await;
    assert_eq!(again[3]["id"], first[3]["id"], "a memory without an id has the same one each time");
    let kept = eventually("both in the replica", async || {
        let list = stack.get("/v1/admin/memory").await;
        (list["items"].as_array()?.len() == 2).then_some(list)
    })
    .await;
    assert!(kept.to_string().contains("under the mat"));
    assert_eq!(stack.brain.keys().len(), 2);

    stack.brain.down().await;
    let reply = stack.client.post("/v1/memory/batch", &json!({"items": [{"id": "note-2"}]})).await.unwrap().json();
    assert_eq!((&reply["items"][0]["ok"], &reply["items"][0]["result"]["state"]), (&json!(true), &json!("queued")));
    stack.brain.up().await.unwrap();
    eventually("the one that waited", async || stack.brain.keys().contains(&"note-2".to_owned()).then_some(())).await;
}

#[tokio::test]
async fn an_index_for_searches_is_made_where_that_is_wanted() {
    let stack = quick().set("SA01_MEMORY__SEARCH_INDEX", true).start().await;
    let pool = stack.database.pool().await.unwrap();
    let sql = "SELECT count(*) FROM pg_index WHERE indexrelid = to_regclass('memory_replica_text') AND indisvalid";
    let made = async || sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap() == 1;
    eventually("the index", async || made().await.then_some(())).await;
    let session = replicated(&stack, "under the doormat").await;
    let list = stack.get(&format!("/v1/admin/memory?session_id={session}&q=DOORMAT&role=user")).await;
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));

    // Among many memories the database finds the text in the index.
    planted(&pool, 20_000).await;
    sqlx::raw_sql("VACUUM (ANALYZE) memory_replica").execute(&pool).await.unwrap();
    let sql = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'memory_replica_text'";
    let used = async || sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap();
    let before = used().await;
    let list = stack.get("/v1/admin/memory?q=planted-12345").await;
    assert_eq!(list["items"][0]["event_id"], "planted-12345");
    eventually("the index to be used", async || (used().await > before).then_some(())).await;
}

/// The memory service may be working on what is deleted: that is said, so that it can be deleted once more.
#[tokio::test]
async fn a_deletion_says_what_was_under_way() {
    let stack = quick().start().await;
    stack.brain.set_deletes(true);
    let gate = Gate::closed();
    stack.brain.set_mood(Mood::Slow(gate.clone()));
    let body = json!({"items": [{"id": "secret", "content": "a secret"}]});
    let slow = stack.client.clone();
    let written = tokio::spawn(async move { slow.post("/v1/memory/batch", &body).await.unwrap().status });
    stack.brain.called("/memory/remember", 1).await;
    let deleted = tokio::spawn({
        let client = stack.client.clone();
        async move { client.delete("/v1/memory/secret").await.unwrap().json() }
    });
    stack.brain.called("/recall/delete", 1).await;
    gate.open();
    let deleted = deleted.await.unwrap();
    assert_eq!((&deleted["result"]["queued"], &deleted["result"]["under_way"]), (&json!(1), &json!(1)), "{deleted}");
    assert_eq!(written.await.unwrap(), 200);
    let again = stack.client.delete("/v1/memory/secret").await.unwrap().json();
    assert_eq!((&again["deleted"], &again["result"]["queued"]), (&json!(true), &json!(0)), "{again}");
    assert!(stack.brain.keys().is_empty());
}

#[tokio::test]
async fn a_memory_that_goes_from_session_to_session_is_one_that_says_what_was_written_last() {
    let stack = quick().set("SA01_BRAIN__BREAKER_COOLDOWN_MS", 50).start().await;
    stack.brain.set_deletes(true);
    let write = async |said: &str, session: u32| {
        let session = format!("00000000-0000-4000-8000-{session:012}");
        let body = json!({"items": [{"id": "note", "session_id": session, "content": said}]});
        let answer = stack.client.post("/v1/memory/batch", &body).await.unwrap();
        let item = answer.json()["items"][0].clone();
        assert_eq!((answer.status, &item["ok"]), (200, &json!(true)), "{}", answer.text);
        (session, item["result"].clone())
    };
    let says = async |said: &str, session: &str| {
        eventually("the receipt of the last version", async || {
            let request = stack.client.request(Method::GET, "/v1/memory/note/receipt").header("prefer", "wait=20");
            let receipt = within("a receipt", stack.client.send(request)).await.unwrap().json();
            (receipt["state"] == "replicated").then_some(())
        })
        .await;
        let memory = stack.get("/v1/admin/memory/note").await;
        assert_eq!((&memory["payload"]["content"], &memory["session_id"]), (&json!(said), &json!(session)));
        assert_eq!(stack.brain.value("public", "wm", "note").unwrap()["content"], said);
    };
    for n in 1..=6 {
        let said = format!("version {n}");
        let (session, _) = write(&said, n).await;
        says(&said, &session).await;
    }
    let pool = stack.database.pool().await.unwrap();
    let partitions = "SELECT count(DISTINCT partition) FROM event_log WHERE topic = 'memory.wal'";
    assert!(sqlx::query_scalar::<_, i64>(partitions).fetch_one(&pool).await.unwrap() > 1);

    stack.brain.set_mood(Mood::Failing(503, None));
    write("version 7", 7).await;
    for n in 8..=9 {
        // Nobody takes the outcome of the seventh for theirs.
        let (_, result) = write(&format!("version {n}"), n).await;
        assert_eq!(result, json!({"state": "queued", "reason": "waiting"}));
    }
    let (session, _) = write("the last one", 10).await;
    stack.brain.set_mood(Mood::Well);
    says("the last one", &session).await;

    let gone = stack.client.delete("/v1/memory/note").await.unwrap();
    assert_eq!((gone.status, &gone.json()["deleted"]), (200, &json!(true)));
    eventually("everything in the log and applied", async || {
        let sql = "SELECT (SELECT count(*) FROM message_outbox WHERE topic = 'memory.wal' AND status <> 'sent') = 0
                   AND (SELECT count(*) FROM event_log WHERE topic = 'memory.wal')
                     = (SELECT sum(next_offset)::bigint FROM memory_replica_offsets)";
        sqlx::query_scalar::<_, bool>(sql).fetch_one(&pool).await.unwrap().then_some(())
    })
    .await;
    let left = stack.client.get("/v1/admin/memory/note").await.unwrap();
    assert_eq!((left.status, stack.brain.keys()), (404, vec![]));
}

#[tokio::test]
async fn a_deleted_memory_is_gone_everywhere_and_the_log_says_so() {
    let stack = quick().set("MEMORY_SYNC_MAX_RETRIES", 0).start().await;
    stack.brain.set_deletes(true);
    let write = async |id: &str| {
        let body = json!({"items": [{"id": id, "content": "a secret"}]});
        assert_eq!(stack.client.post("/v1/memory/batch", &body).await.unwrap().status, 200);
    };
    let listed = async || stack.get("/v1/admin/memory").await["items"].as_array().map_or(0, Vec::len);
    write("secret").await;
    write("other").await;
    eventually("both in the replica", async || (listed().await == 2).then_some(())).await;
    let gone = stack.client.delete("/v1/memory/secret").await.unwrap().json();
    assert_eq!((&gone["deleted"], &gone["result"]["replica"]), (&json!(true), &json!(1)), "{gone}");
    assert_eq!((listed().await, stack.brain.keys()), (1, vec!["other".to_owned()]));

    // The record that makes other replicas follow is in the log and applied like others.
    let pool = stack.database.pool().await.unwrap();
    eventually("the tombstone in the log", async || {
        let sql = "SELECT count(*) FROM event_log WHERE topic = 'memory.wal'";
        (sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap() == 3).then_some(())
    })
    .await;
    let whole = "SELECT sum(next_offset)::bigint FROM memory_replica_offsets";
    eventually("everything applied", async || {
        (sqlx::query_scalar::<_, Option<i64>>(whole).fetch_one(&pool).await.unwrap() == Some(3)).then_some(())
    })
    .await;
    let letters = stack.get("/v1/admin/dlq/memory.wal.dlq").await;
    assert_eq!(letters, json!([]));

    // One that was refused is a dead letter only: that goes too.
    stack.brain.set_mood(Mood::Failing(400, None));
    write("refused").await;
    let letters = async || stack.get("/v1/admin/dlq/memory.wal.dlq").await.as_array().map_or(0, Vec::len);
    eventually("a dead letter", async || (letters().await == 1).then_some(())).await;
    // The broken dependency is told, as one that may be asked again, and what is ours was done.
    let failed = stack.client.delete("/v1/memory/refused").await.unwrap();
    assert_eq!(
        (failed.status, failed.code().as_str(), failed.header("retry-after")),
        (502, "deletion-incomplete", "1")
    );
    let failed = failed.json();
    assert_eq!((&failed["result"]["dead_letters"], letters().await), (&json!(1), 0), "{failed}");
    assert_eq!(failed["result"]["brain"]["state"], "failed", "{failed}");
    stack.brain.set_mood(Mood::Well);
    let again = stack.client.delete("/v1/memory/refused").await.unwrap();
    assert_eq!((again.status, &again.json()["deleted"]), (200, &json!(true)));
    let audited =
        "SELECT target_id, details ->> 'dead_letters' FROM audit_event WHERE action = 'memory.delete' ORDER BY ts";
    let audited: Vec<(String, String)> = sqlx::query_as(audited).fetch_all(&pool).await.unwrap();
    assert_eq!(
        audited,
        [("secret".into(), "0".into()), ("refused".into(), "1".into()), ("refused".into(), "0".into())]
    );

    stack.brain.set_deletes(false);
    let kept = stack.client.delete("/v1/memory/other").await.unwrap().json();
    assert_eq!((&kept["deleted"], &kept["result"]["brain"]["state"]), (&json!(false), &json!("unsupported")));
    assert_eq!(listed().await, 0);
}
