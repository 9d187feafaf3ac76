//! The work divided among processes on one database: each with a part of it, and several with the same part.

use serde_json::{Value, json};
use somaagent_test_services::client::{Client, Post};
use somaagent_test_services::process::Running;
use somaagent_test_services::wait::eventually;

use crate::replica::{quick, replicated, said, say};
use crate::stack::{Setup, Stack, binary, new_session};

/// What a process does that is no gateway, and the variable with the port of its metrics.
const PARTS: [(&str, &str); 3] = [
    ("memory-sync", "MEMORY_SYNC_METRICS_PORT"),
    ("outbox", "OUTBOX_SYNC_METRICS_PORT"),
    ("replicator", "REPLICATOR_METRICS_PORT"),
];

/// The session of memories that somebody brings.
const SESSION: &str = "00000000-0000-4000-8000-000000000001";

fn gateway() -> Setup {
    quick().set("SA01_ROLE", "gateway").set("SA01_MEMORY_SYNC__LEASE_MS", 6_000).set("SA01_OUTBOX__LEASE_MS", 6_000)
}

/// A process that does a part of the work beside the gateway of `stack`.
async fn part(stack: &Stack, role: &str, port: &str) -> Running {
    let beside = stack.app.binary().elsewhere().unwrap().set("SA01_ROLE", role).free_port(port);
    beside.start().await.unwrap()
}

#[tokio::test]
async fn a_gateway_alone_says_what_is_not_done_anywhere_and_keeps_it_for_later() {
    let stack = gateway().start().await;
    for (role, _) in PARTS {
        let told = format!("\"role\":\"{role}\"");
        assert!(stack.app.output().contains(&told), "nothing is said of {role}: {}", stack.app.output());
    }
    let session = new_session();
    say(&stack, &session, 1, 1).await;
    let pool = stack.database.pool().await.unwrap();
    let waiting = "SELECT count(*) FROM memory_write_outbox WHERE status = 'pending'";
    let count: i64 = sqlx::query_scalar(waiting).fetch_one(&pool).await.unwrap();
    assert_eq!((count, stack.brain.received().len()), (2, 0), "a gateway is no memory sync");

    let readers: i64 = sqlx::query_scalar("SELECT count(*) FROM event_log_offsets").fetch_one(&pool).await.unwrap();
    assert_eq!(readers, 0, "whoever reads no log holds up nobody who shortens it");

    let sync = part(&stack, PARTS[0].0, PARTS[0].1).await;
    assert!(!sync.output().contains("\"role\":\"gateway\""), "the gateway is connected: {}", sync.output());
    assert!(sync.output().contains("\"role\":\"replicator\""), "{}", sync.output());
    stack.brain.called("/memory/remember/batch", 1).await;
}

#[tokio::test]
async fn several_processes_of_each_role_lose_nothing_and_do_nothing_twice_whichever_dies() {
    let mut stack = gateway().start().await;
    let mut parts = Vec::new();
    for (role, port) in PARTS {
        for _ in 0..2 {
            parts.push((role, part(&stack, role, port).await));
        }
    }
    for (role, process) in &parts {
        let own = Client::new(process.url()).unwrap();
        let health = own.get("/healthz").await.unwrap().json();
        assert_eq!(health["components"]["postgres"]["status"], "ok", "{role}: {health}");
        assert_eq!(own.get("/metrics").await.unwrap().status, 200, "{role}");
        assert_eq!(own.get("/v1/sessions").await.unwrap().status, 404, "{role} is no gateway");
    }
    let pool = stack.database.pool().await.unwrap();
    let session = new_session();
    say(&stack, &session, 3, 3).await;
    let keys = said(&stack, &session).await;
    assert_eq!(replicated(&pool, &session, keys.len()).await, keys);
    let received = stack.brain.received();
    assert_eq!(received.len(), keys.len(), "each memory is written once: {received:?}");

    for (n, process) in [0, 2, 4].into_iter().enumerate() {
        stack.post(&Post::new(&format!("while one dies, {n}")).to(&session)).await;
        parts[process].1.kill().await.unwrap();
    }
    stack.ended_turns(&session, 6).await;
    stack.app.kill().await.unwrap();
    stack.restart().await;
    say(&stack, &session, 1, 7).await;
    let keys = said(&stack, &session).await;
    assert_eq!(replicated(&pool, &session, keys.len()).await, keys);
    eventually("each memory to be known to the memory service", async || {
        (stack.brain.keys().len() == keys.len()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_was_deleted_before_anybody_copied_it_does_not_come_back() {
    let forgetful = ["SA01_MEMORY_SYNC__RETENTION_MS", "SA01_OUTBOX__RETENTION_MS"];
    let setup = quick().set("SA01_ROLE", "gateway,memory-sync,outbox");
    let stack = forgetful.into_iter().fold(setup, |setup, name| setup.set(name, 0)).start().await;
    stack.brain.set_deletes(true);
    let pool = stack.database.pool().await.unwrap();
    let write = async |ids: &[&str]| {
        let items: Vec<Value> =
            ids.iter().map(|id| json!({"id": id, "session_id": SESSION, "content": "a secret"})).collect();
        let answer = stack.client.post("/v1/memory/batch", &json!({"items": items})).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
    };
    let ids = ["one", "two", "three", "four", "five", "six"];
    write(&ids).await;
    eventually("the queues to have forgotten what they sent", async || {
        let left = "SELECT (SELECT count(*) FROM memory_write_outbox) + (SELECT count(*) FROM message_outbox)";
        (sqlx::query_scalar::<_, i64>(left).fetch_one(&pool).await.unwrap() == 0).then_some(())
    })
    .await;
    for id in ids {
        let gone = stack.client.delete(&format!("/v1/memory/{id}")).await.unwrap();
        assert_eq!((gone.status, &gone.json()["deleted"]), (200, &json!(true)));
    }
    write(&["six"]).await;
    let (role, port) = PARTS[2];
    let _replicator = part(&stack, role, port).await;
    eventually("all to be in the log and applied", async || {
        let sql = "SELECT (SELECT count(*) FROM event_log WHERE topic = 'memory.wal') = 13
                   AND (SELECT COALESCE(sum(next_offset), 0) FROM memory_replica_offsets) = 13";
        sqlx::query_scalar::<_, bool>(sql).fetch_one(&pool).await.unwrap().then_some(())
    })
    .await;
    let left: Vec<String> = sqlx::query_scalar("SELECT event_id FROM memory_replica").fetch_all(&pool).await.unwrap();
    assert_eq!((left, stack.brain.keys()), (vec!["six".to_owned()], vec!["six".to_owned()]));
    let partitions = "SELECT count(DISTINCT partition) FROM event_log WHERE topic = 'memory.wal'";
    let partitions: i64 = sqlx::query_scalar(partitions).fetch_one(&pool).await.unwrap();
    assert!(partitions > 1, "what takes a memory back came by the way of the memory");
}

#[tokio::test]
async fn roles_that_make_no_sense_are_refused() {
    for (role, reason) in
        [("outbox", "database.dsn"), ("gateway,worker", "`worker` is no role"), ("outbox,", "`` is no role")]
    {
        let refused = binary().argument("--role").argument(role).run().await.unwrap();
        assert_eq!(refused.code, Some(78), "{role}: {}", refused.output);
        assert!(refused.output.contains(reason), "{role}: {}", refused.output);
    }
}
