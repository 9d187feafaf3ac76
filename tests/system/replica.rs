//! What was said ends in the replica: once, in order, whatever dies and whatever stands in the log.

use serde_json::json;
use somaagent_test_services::client::{Client, Post};
use somaagent_test_services::port;
use somaagent_test_services::wait::eventually;
use sqlx::PgPool;

use crate::stack::{Setup, Stack, binary, ended_turns, new_session};

pub fn quick() -> Setup {
    Setup::default().set("MEMORY_SYNC_INTERVAL_SECONDS", "0.05").set("OUTBOX_SYNC_INTERVAL_SECONDS", "0.05")
}

/// Says a few things in a session and waits for the answers.
pub async fn say(stack: &Stack, session: &str, things: usize, ended: usize) {
    for n in 0..things {
        stack.post(&Post::new(&format!("thing {n}")).to(session)).await;
    }
    stack.ended_turns(session, ended).await;
}

/// The ids of a session's events, in order.
pub async fn said(stack: &Stack, session: &str) -> Vec<String> {
    let history = stack.client.history(session).await.unwrap();
    history.iter().map(|event| event["payload"]["event_id"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the replica has so many memories of a session, and returns their ids in the order in which they came.
pub async fn replicated(pool: &PgPool, session: &str, count: usize) -> Vec<String> {
    eventually(&format!("{count} memories in the replica"), async || {
        let sql = "SELECT event_id FROM memory_replica WHERE tenant = 'public' AND session_id = $1 ORDER BY id";
        let ids: Vec<String> = sqlx::query_scalar(sql).bind(session).fetch_all(pool).await.unwrap();
        (ids.len() >= count).then_some(ids)
    })
    .await
}

/// Puts a record into the log past everything that checks it.
async fn plant(pool: &PgPool, session: &str, payload: &[u8]) {
    let sql = r#"WITH place AS (
             UPDATE event_log_partitions AS p SET next_offset = next_offset + 1
             FROM (SELECT partition FROM event_log WHERE topic = 'memory.wal' AND key = $1 LIMIT 1) AS own
             WHERE p.topic = 'memory.wal' AND p.partition = own.partition
             RETURNING p.partition, p.next_offset - 1 AS "offset"
         )
         INSERT INTO event_log (topic, partition, "offset", key, payload, created_at)
         SELECT 'memory.wal', partition, "offset", $1, $2, now() FROM place"#;
    let planted = sqlx::query(sql).bind(session).bind(payload).execute(pool).await.unwrap();
    assert_eq!(planted.rows_affected(), 1);
}

async fn letters(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM dlq_messages WHERE topic = 'memory.wal.dlq'")
        .fetch_one(pool)
        .await
        .unwrap()
}

#[tokio::test]
async fn what_was_said_is_in_the_replica_once_and_in_order_and_nothing_waits_then() {
    let port = port::free();
    let stack = quick().set("GATEWAY_METRICS_PORT", port).start().await;
    let health = &stack.get("/v1/health").await["components"]["memory_replicator"];
    assert_eq!(*health, json!({"status": "degraded", "detail": "no WAL observed"}));
    let pool = stack.database.pool().await.unwrap();
    let session = new_session();
    say(&stack, &session, 3, 3).await;
    let keys = said(&stack, &session).await;
    assert_eq!(replicated(&pool, &session, keys.len()).await, keys);

    eventually("the lag to be told", async || {
        let health = &stack.get("/v1/health").await["components"]["memory_replicator"];
        health["detail"].as_str()?.starts_with("lag_seconds=").then_some(())
    })
    .await;
    let metrics = Client::new(&format!("http://127.0.0.1:{port}")).unwrap();
    eventually("each memory to be counted and the lag to be gone", async || {
        let page = metrics.get("/metrics").await.unwrap().text;
        let counted = format!("memory_replicator_events_total{{result=\"ok\"}} {}\n", keys.len());
        (page.contains(&counted) && page.contains("memory_replicator_lag_seconds 0\n")).then_some(())
    })
    .await;
    let actors = stack.get("/v1/admin/actors").await.to_string();
    assert!(actors.contains("wal-replicator"), "{actors}");
}

#[tokio::test]
async fn a_record_that_cannot_be_applied_holds_up_nothing_and_is_one_dead_letter() {
    let stack = quick().start().await;
    let pool = stack.database.pool().await.unwrap();
    let session = new_session();
    say(&stack, &session, 1, 1).await;
    replicated(&pool, &session, 2).await;
    let nul = json!({"type": "memory.write", "tenant": "public", "payload": {"id": "e", "content": "\0"}}).to_string();
    plant(&pool, &session, b"\xff poison").await;
    plant(&pool, &session, nul.as_bytes()).await;
    say(&stack, &session, 1, 2).await;
    let keys = said(&stack, &session).await;
    assert_eq!(replicated(&pool, &session, keys.len()).await, keys);
    assert_eq!(letters(&pool).await, 2);
}

#[tokio::test]
async fn a_kill_at_any_point_leaves_each_memory_in_the_replica_once_and_in_order() {
    let mut stack = quick().set("SA01_MEMORY_SYNC__LEASE_MS", 1_000).set("SA01_OUTBOX__LEASE_MS", 1_000).start().await;
    let pool = stack.database.pool().await.unwrap();
    let session = new_session();
    for turn in 1..=4 {
        say(&stack, &session, 1, turn).await;
        plant_if_known(&pool, &session).await;
        stack.app.kill().await.unwrap();
        stack.restart().await;
    }
    let keys = said(&stack, &session).await;
    assert_eq!(replicated(&pool, &session, keys.len()).await, keys);
    let planted: i64 = sqlx::query_scalar("SELECT count(*) FROM event_log WHERE payload = 'poison'::bytea")
        .fetch_one(&pool)
        .await
        .unwrap();
    eventually("each poison record to be a dead letter", async || (letters(&pool).await >= planted).then_some(()))
        .await;
    assert_eq!(letters(&pool).await, planted, "each once");
}

#[tokio::test]
async fn a_database_that_comes_and_goes_delays_the_replica_and_gives_up_nothing() {
    let stack = quick().start().await;
    let pool = stack.database.pool().await.unwrap();
    let session = new_session();
    let mut sprung = stack.proxy.cut_before_commit("UPDATE memory_replica_offsets");
    say(&stack, &session, 1, 1).await;
    sprung.wait().await;
    let keys = said(&stack, &session).await;
    assert_eq!(replicated(&pool, &session, keys.len()).await, keys);

    stack.proxy.refuse(true);
    stack.proxy.cut();
    eventually("the replica to be told to be down", async || {
        let health = &stack.get("/v1/health").await["components"]["memory_replicator"];
        (health["status"] == "down").then_some(())
    })
    .await;
    stack.proxy.heal();
    let post = Post::new("back again").to(&session).key("back");
    eventually("a message to be accepted", async || {
        (stack.client.message(&post).await.unwrap().status == 200).then_some(())
    })
    .await;
    stack.ended_turns(&session, 2).await;
    let keys = said(&stack, &session).await;
    assert_eq!(replicated(&pool, &session, keys.len()).await, keys);
    assert_eq!(letters(&pool).await, 0);
}

#[tokio::test]
async fn without_anything_configured_what_was_said_is_in_the_replica_too() {
    let app = binary().set("SA01_RESPONDER__TOKEN_DELAY_MS", "1").start().await.unwrap();
    let client = Client::new(app.url()).unwrap();
    let session = new_session();
    client.message(&Post::new("hello").to(&session)).await.unwrap();
    ended_turns(&client, &session, 1).await;
    eventually("something in the replica", async || {
        let health = client.get("/v1/health").await.unwrap().json();
        let part = &health["components"]["memory_replicator"];
        (part["status"] == "ok").then_some(())
    })
    .await;
}

#[tokio::test]
async fn two_processes_share_the_log_and_one_takes_over_from_the_other() {
    let mut stack = quick().start().await;
    let pool = stack.database.pool().await.unwrap();
    let mut second = stack.app.binary().elsewhere().unwrap().fixed_port().start().await.unwrap();
    shared_by(&pool, 2).await;
    let sessions: Vec<String> = (0..6).map(|_| new_session()).collect();
    for session in &sessions {
        say(&stack, session, 1, 1).await;
    }
    for session in &sessions {
        let keys = said(&stack, session).await;
        assert_eq!(replicated(&pool, session, keys.len()).await, keys);
    }
    // One dies without a word; what was its own is the other's when its lease is over.
    second.kill().await.unwrap();
    for session in &sessions {
        say(&stack, session, 1, 2).await;
        let keys = said(&stack, session).await;
        assert_eq!(replicated(&pool, session, keys.len()).await, keys);
    }
    shared_by(&pool, 1).await;
    assert_eq!(letters(&pool).await, 0);
    // One that ends in order leaves nothing that others would have to wait for.
    stack.app.terminate().await.unwrap();
    let members: i64 = sqlx::query_scalar("SELECT count(*) FROM event_log_members").fetch_one(&pool).await.unwrap();
    assert_eq!(members, 0);
}

/// Waits until every partition of the log of memories is read, by so many processes.
async fn shared_by(pool: &PgPool, members: i64) {
    eventually(&format!("{members} readers of the log"), async || {
        let sql = "SELECT count(DISTINCT owner), count(*) FILTER (WHERE owner IS NULL)
                   FROM event_log_offsets WHERE group_name = 'memory-replicator'";
        let shared: (i64, i64) = sqlx::query_as(sql).fetch_one(pool).await.unwrap();
        (shared == (members, 0)).then_some(())
    })
    .await;
}

/// Poison for the session's partition, once its first record has told which one that is.
async fn plant_if_known(pool: &PgPool, session: &str) {
    let sql = "SELECT count(*) FROM event_log WHERE topic = 'memory.wal' AND key = $1";
    let known: i64 = sqlx::query_scalar(sql).bind(session).fetch_one(pool).await.unwrap();
    if known > 0 {
        plant(pool, session, b"poison").await;
    }
}
