//! One page of numbers: each figure of the way from a message to its replica is seen to move.

use serde_json::json;
use somaagent_test_services::brain::Mood;
use somaagent_test_services::client::{Client, Post};
use somaagent_test_services::port;
use somaagent_test_services::wait::eventually;

use crate::replica::quick;
use crate::stack::new_session;

/// Waits until each of `series`, or one of its labelled forms, is something else than 0.
async fn moved(metrics: &Client, series: &[&str]) {
    for name in series {
        eventually(&format!("{name} to move"), async || {
            let page = metrics.get("/metrics").await.unwrap().text;
            let mut of_name =
                page.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit_once(' '));
            of_name.any(|(_, value)| value.parse().is_ok_and(|value: f64| value != 0.0)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn every_figure_of_the_pipeline_moves() {
    let port = port::free();
    let setup = quick().set("GATEWAY_METRICS_PORT", port).set("GATEWAY_WRITE_THROUGH", true);
    let setup = setup.set("MEMORY_SYNC_MAX_RETRIES", 0).set("SA01_DATABASE__STATEMENT_TIMEOUT_MS", 2_000);
    let setup = setup.set("OUTBOX_SYNC_MAX_RETRIES", 1).set("OUTBOX_SYNC_BACKOFF_BASE_SECONDS", "0.05");
    let stack = setup.start().await;
    let metrics = Client::new(&format!("http://127.0.0.1:{port}")).unwrap();
    let say = async |text: &str| stack.post(&Post::new(text).to(&new_session())).await;

    say("taken").await;
    moved(
        &metrics,
        &[
            r#"gateway_write_through_attempts_total{path="/v1/session/message"}"#,
            r#"gateway_write_through_results_total{path="/v1/session/message",result="ok"}"#,
            r#"gateway_write_through_wal_results_total{path="/v1/session/message",result="ok"}"#,
            r#"durable_publish_total{result="published"}"#,
            r#"outbox_sync_publish_total{result="success"}"#,
            "outbox_sync_effective_batch_size",
            "outbox_publish_seconds_count",
            r#"outbox_events_total{action="enqueue",result="inserted"}"#,
            r#"outbox_events_total{action="claim",result="claimed"}"#,
            r#"outbox_events_total{action="claim",result="empty"}"#,
            r#"outbox_events_total{action="ack",result="sent"}"#,
            r#"somabrain_health_state{state="normal"}"#,
            r#"memory_sync_jobs_total{result="ok"}"#,
            "memory_sync_seconds_count",
            r#"memory_replicator_events_total{result="ok"}"#,
            "memory_replicator_replication_seconds_count",
        ],
    )
    .await;

    stack.brain.set_mood(Mood::Failing(422, None));
    say("refused").await;
    moved(
        &metrics,
        &[
            r#"gateway_write_through_results_total{path="/v1/session/message",result="client_error"}"#,
            r#"memory_sync_jobs_total{result="failed"}"#,
            r#"gateway_dlq_depth{topic="memory.wal.dlq"}"#,
            r#"dlq_events_total{result="published"}"#,
        ],
    )
    .await;

    // What nobody can read is neither of the two.
    stack.brain.set_mood(Mood::Babbling);
    let action = json!({"session_id": new_session(), "action": "summarize"});
    assert_eq!(stack.client.post("/v1/session/action", &action).await.unwrap().status, 200);
    let exception = r#"gateway_write_through_results_total{path="/v1/session/action",result="exception"}"#;
    moved(&metrics, &[exception]).await;

    stack.brain.set_mood(Mood::Failing(503, None));
    say("kept waiting").await;
    moved(
        &metrics,
        &[
            r#"gateway_write_through_results_total{path="/v1/session/message",result="server_error"}"#,
            r#"gateway_write_through_wal_results_total{path="/v1/session/message",result="error"}"#,
            r#"memory_sync_jobs_total{result="retry"}"#,
            "memory_sync_backlog",
            "memory_write_outbox_pending",
        ],
    )
    .await;

    // The replica cannot be written for a while: what is in the log grows old.
    let pool = stack.database.pool().await.unwrap();
    let mut held = pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE memory_replica IN SHARE MODE").execute(&mut *held).await.unwrap();
    stack.brain.set_mood(Mood::Well);
    moved(&metrics, &["memory_replicator_lag_seconds", r#"outbox_events_total{action="enqueue",result="error"}"#])
        .await;
    held.rollback().await.unwrap();

    // One record that tells of no memory; one, and one notice of a dead letter, that no log takes.
    let put = "INSERT INTO message_outbox (tenant, topic, partition_key, payload_bytes, next_attempt_at, created_at, updated_at)
               SELECT 'public', topic, 'k', convert_to(repeat('x', bytes), 'UTF8'), now(), now(), now()
               FROM (VALUES ('memory.wal', 9), ('memory.wal', 17000000), ('memory.wal.dlq', 17000000)) AS row(topic, bytes)";
    sqlx::query(put).execute(&pool).await.unwrap();
    moved(
        &metrics,
        &[
            r#"memory_replicator_events_total{result="error"}"#,
            r#"outbox_sync_publish_total{result="retry"}"#,
            r#"outbox_sync_publish_total{result="failed"}"#,
            r#"durable_publish_total{result="enqueued"}"#,
            r#"durable_publish_total{result="failed"}"#,
            r#"outbox_events_total{action="nack",result="retry"}"#,
            r#"outbox_events_total{action="nack",result="failed"}"#,
            r#"dlq_events_total{result="pending_retry"}"#,
            r#"dlq_events_total{result="failed"}"#,
        ],
    )
    .await;

    let letter = &stack.get("/v1/admin/dlq/memory.wal.dlq").await[0]["id"];
    let letter = format!("/v1/admin/dlq/memory.wal.dlq/{letter}");
    assert!(stack.client.delete(&letter).await.unwrap().status < 300);
    moved(&metrics, &[r#"sa01_dlq_events_total{result="deleted",topic="memory.wal.dlq"}"#]).await;
}

#[tokio::test]
async fn what_the_memory_service_says_of_itself_sets_the_pace_and_is_told() {
    let port = port::free();
    let setup = quick().set("GATEWAY_METRICS_PORT", port).set("OUTBOX_SYNC_BATCH_SIZE", 300);
    let stack = setup.set("SA01_BRAIN__HEALTH_INTERVAL_MS", 100).start().await;
    let metrics = Client::new(&format!("http://127.0.0.1:{port}")).unwrap();
    let told = async |state: &str, status: &str, rows: u32| {
        eventually(&format!("a memory service that is {state}"), async || {
            let health = stack.client.get("/healthz").await.ok()?.json();
            let page = metrics.get("/metrics").await.unwrap().text;
            let has = |line: String| page.lines().any(|known| known == line);
            let states = ["normal", "degraded", "down"]
                .map(|one| has(format!("somabrain_health_state{{state=\"{one}\"}} {}", u32::from(one == state))));
            let is_told = health["components"]["somabrain_http"]["status"] == status && states == [true; 3];
            (is_told && has(format!("outbox_sync_effective_batch_size {rows}"))).then_some(())
        })
        .await;
    };
    told("normal", "ok", 300).await;
    stack.brain.set_mood(Mood::Degraded);
    told("degraded", "degraded", 25).await;
    stack.brain.down().await;
    told("down", "down", 1).await;
    stack.brain.set_mood(Mood::Well);
    stack.brain.up().await.unwrap();
    told("normal", "ok", 300).await;
}
