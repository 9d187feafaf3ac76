//! With brokers configured, what was said arrives on them: all of it, each session in its order, whatever dies meanwhile.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use somaagent_test_services::client::Post;
use somaagent_test_services::kafka::Kafka;
use somaagent_test_services::tokens::ed_signer;
use somaagent_test_services::wait::eventually;

use crate::stack::{Setup, Stack, binary, new_session};

fn on(kafka: &Kafka) -> Setup {
    Setup::default()
        .set("KAFKA_BOOTSTRAP_SERVERS", kafka.address())
        .set("PUBLISH_KAFKA_TIMEOUT_SECONDS", "5.0")
        .set("OUTBOX_SYNC_INTERVAL_SECONDS", "0.05")
        .set("OUTBOX_SYNC_BACKOFF_BASE_SECONDS", "0.05")
        .set("OUTBOX_SYNC_BACKOFF_MAX_SECONDS", "0.5")
        .set("MEMORY_SYNC_INTERVAL_SECONDS", "0.05")
        .set("SA01_BRAIN__BREAKER_COOLDOWN_MS", 50)
        .set("SA01_OUTBOX__LEASE_MS", 8_000)
        .set("SA01_MEMORY_SYNC__LEASE_MS", 2_000)
        .set("SA01_KAFKA__SESSION_TIMEOUT_MS", 6_000)
}

/// Posts in both sessions without waiting for what becomes of it.
async fn say(stack: &Stack, sessions: &[String], what: &str) {
    for session in sessions {
        stack.post(&Post::new(what).to(session)).await;
    }
}

/// Waits until the process says that of its broker, and of itself.
async fn broker_is(stack: &Stack, status: &str) {
    eventually(&format!("a broker that is {status}"), async || {
        let health = stack.get("/healthz").await;
        (health["components"]["kafka"]["status"] == status && health["status"] == status).then_some(())
    })
    .await;
}

/// Waits until nothing is left to be sent.
async fn sent(stack: &Stack) {
    let pool = stack.database.pool().await.unwrap();
    eventually("the queues to be empty", async || {
        let sql = "SELECT (SELECT count(*) FROM memory_write_outbox WHERE status <> 'sent')
                        + (SELECT count(*) FROM message_outbox WHERE status <> 'sent')";
        (sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.ok()? == 0).then_some(())
    })
    .await;
}

/// The ids that a topic has of a session, without what came again; every record must have the session as its key and be in
/// one partition with the others.
async fn logged(kafka: &Kafka, topic: &str, session: &str, id: impl Fn(&Value) -> &Value) -> Vec<String> {
    let mut ids = Vec::new();
    let mut partitions = Vec::new();
    for record in kafka.records(topic).await.unwrap() {
        let said: Value = serde_json::from_slice(&record.payload).unwrap();
        if said["session_id"] != session {
            continue;
        }
        assert_eq!(record.key.as_deref(), Some(session));
        partitions.push(record.partition);
        let id = id(&said).as_str().unwrap().to_owned();
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    partitions.dedup();
    assert_eq!(partitions.len(), 1, "session {session} is in several partitions of {topic}");
    ids
}

/// Waits until the replica has these memories of a session, each once, in this order.
async fn replicated(stack: &Stack, session: &str, ids: &[String]) {
    let pool = stack.database.pool().await.unwrap();
    eventually("the replica to have every memory once", async || {
        let sql = "SELECT event_id FROM memory_replica WHERE tenant = 'public' AND session_id = $1 ORDER BY id";
        let rows: Vec<String> = sqlx::query_scalar(sql).bind(session).fetch_all(&pool).await.ok()?;
        (rows == ids).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_was_said_reaches_the_broker_and_the_replica_in_order_over_every_kill() {
    let kafka = Kafka::start().unwrap();
    let mut stack = on(&kafka).start().await;
    let sessions = [new_session(), new_session()];
    say(&stack, &sessions, "before anything dies").await;
    stack.app.kill().await.unwrap();
    stack.app.restart().await.unwrap();
    say(&stack, &sessions, "after the process died").await;
    broker_is(&stack, "ok").await;
    kafka.kill9().unwrap();
    say(&stack, &sessions, "while the broker is dead").await;
    broker_is(&stack, "down").await;
    // A start without a broker serves all the same.
    stack.app.kill().await.unwrap();
    stack.app.restart().await.unwrap();
    say(&stack, &sessions, "after both died").await;
    kafka.restart().unwrap();
    say(&stack, &sessions, "with everything alive").await;

    broker_is(&stack, "ok").await;
    for session in &sessions {
        stack.ended_turns(session, 5).await;
    }
    sent(&stack).await;
    for session in &sessions {
        let history = stack.client.history(session).await.unwrap();
        let of_role = |role: &str| -> Vec<String> {
            let said = history.iter().map(|event| &event["payload"]).filter(|said| said["role"] == role);
            said.map(|said| said["event_id"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(logged(&kafka, "conversation.inbound", session, |said| &said["event_id"]).await, of_role("user"));
        assert_eq!(
            logged(&kafka, "conversation.outbound", session, |said| &said["event_id"]).await,
            of_role("assistant")
        );
        let all: Vec<String> =
            history.iter().map(|event| event["payload"]["event_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(logged(&kafka, "memory.wal", session, |said| &said["payload"]["id"]).await, all);
        replicated(&stack, session, &all).await;
        receipt_names_the_record(&stack, &kafka, &all[0]).await;
    }
}

/// The receipt of a memory tells in which partition of the broker its record is, and the sum of the record's bytes.
async fn receipt_names_the_record(stack: &Stack, kafka: &Kafka, id: &str) {
    let receipt = eventually("a receipt", async || {
        let receipt = stack.get(&format!("/v1/memory/{id}/receipt")).await;
        (receipt["state"] == "replicated").then_some(receipt)
    })
    .await;
    let records = kafka.records("memory.wal").await.unwrap();
    let record = records.iter().find(|record| {
        let said: Value = serde_json::from_slice(&record.payload).unwrap();
        said["payload"]["id"] == id
    });
    let record = record.unwrap();
    let hex = Sha256::digest(&record.payload).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert_eq!((&receipt["partition"], &receipt["sha256"]), (&json!(record.partition), &json!(hex)));
    assert!(receipt["offset"].is_i64(), "{receipt}");
}

#[tokio::test]
async fn a_topic_with_too_few_partitions_ends_the_start_and_is_named() {
    let kafka = Kafka::start().unwrap();
    kafka.make_topic("memory.wal", 1, &[]).await.unwrap();
    let ended = binary().set("KAFKA_BOOTSTRAP_SERVERS", kafka.address()).run().await.unwrap();
    assert_ne!(ended.code, Some(0));
    assert!(ended.output.contains("topic memory.wal has 1 partitions and needs 3"), "{}", ended.output);
}

#[tokio::test]
async fn the_ends_of_the_audit_chains_are_on_the_brokers_and_verified_from_there() {
    let kafka = Kafka::start().unwrap();
    let stack = on(&kafka)
        .set("AUDIT_CHECKPOINT_KEY", &ed_signer().private_pem)
        .set("AUDIT_CHECKPOINT_EVERY_SECONDS", 1)
        .start()
        .await;
    stack.post(&Post::new("hello")).await;
    eventually("a checkpoint on the brokers", async || {
        (!kafka.records("audit.checkpoints").await.ok()?.is_empty()).then_some(())
    })
    .await;
    let verify = |database: &str| {
        binary()
            .set("SA01_DB_DSN", database)
            .set("KAFKA_BOOTSTRAP_SERVERS", kafka.address())
            .set("AUDIT_CHECKPOINT_PUBLIC_KEY", &ed_signer().public_pem)
            .argument("audit")
            .argument("verify")
            .argument("--json")
    };
    let ended = verify(&stack.database.dsn()).run().await.unwrap();
    let report: Value = serde_json::from_str(ended.output.lines().last().unwrap()).unwrap();
    assert_eq!((ended.code, &report["findings"]), (Some(0), &json!([])), "{}", ended.output);
    assert!(report["checkpoints"].as_u64() >= Some(1), "{}", ended.output);
    // All of it gone from the database: the brokers know that there was more.
    let pool = stack.database.pool().await.unwrap();
    sqlx::raw_sql("TRUNCATE audit_event, audit_seal, audit_chain").execute(&pool).await.unwrap();
    let ended = verify(&stack.database.dsn()).run().await.unwrap();
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    assert!(ended.output.contains("truncated"), "{}", ended.output);
}
