//! What was said is remembered: by the memory service, once, in order, whatever becomes of it meanwhile.

use reqwest::Method;
use serde_json::{Value, json};
use somaagent_test_services::brain::{Call, Mood};
use somaagent_test_services::client::Post;
use somaagent_test_services::model::Gate;
use somaagent_test_services::process::ProcessSignal;
use somaagent_test_services::wait::eventually;

use crate::stack::{Setup, Stack, new_session};

fn quick() -> Setup {
    Setup::default()
        .set("MEMORY_SYNC_INTERVAL_SECONDS", "0.05")
        .set("MEMORY_SYNC_BACKOFF_BASE_SECONDS", "0.05")
        .set("MEMORY_SYNC_BACKOFF_MAX_SECONDS", "0.2")
        .set("SA01_MEMORY_SYNC__LEASE_MS", 1_000)
        .set("SA01_BRAIN__BREAKER_COOLDOWN_MS", 50)
}

/// Says a few things in a session and returns the keys that their memories must have, in order.
async fn said(stack: &Stack, session: &str, things: usize) -> Vec<String> {
    for n in 0..things {
        stack.post(&Post::new(&format!("thing {n}")).to(session)).await;
    }
    stack.ended_turns(session, things).await;
    ids(stack, session).await
}

/// The ids of the session's events, which are the keys of their memories.
async fn ids(stack: &Stack, session: &str) -> Vec<String> {
    let history = stack.client.history(session).await.unwrap();
    history.iter().map(|event| event["payload"]["event_id"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the brain has these keys, and tells which it received in which order.
async fn remembered(stack: &Stack, keys: &[String]) -> Vec<String> {
    eventually("every memory to be written", async || {
        let known = stack.brain.keys();
        keys.iter().all(|key| known.contains(key)).then_some(())
    })
    .await;
    stack.brain.received().into_iter().filter(|key| keys.contains(key)).collect()
}

/// Waits until nothing waits to be sent, and returns the ids of the memories in the log.
async fn logged(stack: &Stack) -> Vec<String> {
    let pool = stack.database.pool().await.unwrap();
    eventually("the queues to be empty", async || {
        let sql = "SELECT (SELECT count(*) FROM memory_write_outbox WHERE status <> 'sent')
                        + (SELECT count(*) FROM message_outbox WHERE status <> 'sent')";
        (sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap() == 0).then_some(())
    })
    .await;
    let sql = "SELECT convert_from(payload, 'UTF8')::jsonb -> 'payload' ->> 'id' FROM event_log
               WHERE topic = 'memory.wal' ORDER BY partition, \"offset\"";
    sqlx::query_scalar(sql).fetch_all(&pool).await.unwrap()
}

#[tokio::test]
async fn what_was_said_is_remembered_in_order_and_told_to_the_log() {
    let stack = quick().start().await;
    let session = new_session();
    let keys = said(&stack, &session, 3).await;
    assert_eq!(remembered(&stack, &keys).await, keys);
    assert_eq!(logged(&stack).await, keys);
    // Whoever reads the log can tell what a record is without its payload.
    let sql = "SELECT DISTINCT headers - 'event_id' - 'timestamp_ms' - 'correlation_id' - 'persona_id' FROM event_log
               WHERE topic = 'conversation.inbound'";
    let headers: Vec<Value> = sqlx::query_scalar(sql).fetch_all(&stack.database.pool().await.unwrap()).await.unwrap();
    let expected = json!({"tenant_id": "public", "session_id": session, "event_type": "user", "schema": "sa01-v1"});
    assert_eq!(headers, [expected]);
}

/// Who calls the memory service for somebody says for whom, so that its logs and traces can be joined with theirs.
#[tokio::test]
async fn everything_a_request_causes_belongs_to_its_trace() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const NOWHERE: &str = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
    const REQUEST: &str = "6f9a7b1e-6a53-4a3e-8a55-2f9f7d0c1b11";
    let stack = quick().start().await;
    stack.brain.set_deletes(true);
    let of = async |method: Method, path: &str, parent: &str, body: &Value| {
        let request = stack.client.request(method, path).header("traceparent", parent).header("tracestate", "a=1,b=2");
        stack.client.send(request.header("X-Request-ID", REQUEST).json(body)).await.unwrap()
    };
    let (session, other) = (new_session(), new_session());
    for (session, parent) in [(&session, PARENT), (&other, NOWHERE)] {
        let body = json!({"session_id": session, "message": "Where am I?"});
        assert_eq!(of(Method::POST, "/v1/session/message", parent, &body).await.status, 200);
        stack.ended_turns(session, 1).await;
    }
    let (keys, others) = (ids(&stack, &session).await, ids(&stack, &other).await);
    remembered(&stack, &[keys.clone(), others.clone()].concat()).await;
    let deleted = of(Method::DELETE, &format!("/v1/memory/{}", keys[0]), PARENT, &Value::Null).await;
    assert_eq!(deleted.status, 200);

    let is_ours = |call: &Call| call.body.to_string().contains(&session) || call.path == "/recall/delete";
    let (ours, rest): (Vec<_>, Vec<_>) =
        stack.brain.calls().into_iter().filter(|call| call.path != "/health").partition(is_ours);
    for path in ["/memory/recall", "/memory/remember", "/recall/delete"] {
        assert!(ours.iter().any(|call| call.path.starts_with(path)), "{path} is not among {ours:#?}");
    }
    let header = |call: &Call, name: &str| call.headers.get(name).cloned().unwrap_or_default();
    for call in &ours {
        let told = ["traceparent", "tracestate", "x-request-id", "x-tenant-id"].map(|name| header(call, name));
        assert_eq!(told, [PARENT, "a=1,b=2", REQUEST, "public"], "{call:#?}");
    }
    assert!(!rest.is_empty());
    assert!(rest.iter().all(|call| header(call, "traceparent").is_empty()), "{rest:#?}");

    logged(&stack).await;
    let trace = json!({"traceparent": PARENT, "tracestate": "a=1,b=2"});
    let sql = "SELECT convert_from(payload, 'UTF8')::jsonb -> 'trace_context' FROM event_log
               WHERE topic LIKE 'conversation.%' AND key = $1";
    let pool = stack.database.pool().await.unwrap();
    for (session, expected) in [(&session, trace), (&other, json!({}))] {
        let told: Vec<Value> = sqlx::query_scalar(sql).bind(session).fetch_all(&pool).await.unwrap();
        assert_eq!(told, [expected.clone(), expected]);
    }
}

#[tokio::test]
async fn an_outage_of_the_memory_service_delays_memories_and_loses_none() {
    let stack = quick().start().await;
    stack.brain.down().await;
    let session = new_session();
    let keys = said(&stack, &session, 3).await;
    stack.brain.up().await.unwrap();
    stack.brain.next_moods([Mood::DroppingAfter, Mood::Dropping]);
    let mut received = remembered(&stack, &keys).await;
    // The one that was applied without an answer came twice; the service knows it by its key.
    received.dedup();
    assert_eq!(received.last(), keys.last());
    assert_eq!(logged(&stack).await, keys, "each memory is in the log once, in order");
}

#[tokio::test]
async fn memories_that_wait_survive_a_kill() {
    let mut stack = quick().start().await;
    stack.brain.down().await;
    let session = new_session();
    let keys = said(&stack, &session, 2).await;
    stack.app.kill().await.unwrap();
    stack.brain.up().await.unwrap();
    // Rows that the dead process had claimed come back when their lease is over.
    stack.app.restart().await.unwrap();
    remembered(&stack, &keys).await;
    assert_eq!(logged(&stack).await, keys);
}

#[tokio::test]
async fn what_waits_at_a_start_is_sent_at_once_and_a_repeated_write_has_the_same_key() {
    let rarely = quick().set("MEMORY_SYNC_INTERVAL_SECONDS", 3_600).set("OUTBOX_SYNC_INTERVAL_SECONDS", 3_600);
    let through = rarely.set("GATEWAY_WRITE_THROUGH", true).set("SA01_WRITE_THROUGH__TIMEOUT_MS", 2_000);
    let mut stack = through.start().await;
    stack.brain.set_mood(Mood::DroppingAfter);
    let session = new_session();
    // The first write is applied, and nobody hears of it.
    stack.post(&Post::new("remember this").to(&session)).await;
    let before = stack.brain.keys();
    assert_eq!(before.len(), 1);
    let pool = stack.database.pool().await.unwrap();
    let waiting = async || {
        let sql = "SELECT (SELECT count(*) FROM memory_write_outbox WHERE status <> 'sent' AND payload ->> 'id' = $1)
                        + (SELECT count(*) FROM message_outbox WHERE status <> 'sent' AND dedupe_key = $1
                           AND topic <> 'memory.wal')";
        sqlx::query_scalar::<_, i64>(sql).bind(&before[0]).fetch_one(&pool).await.unwrap()
    };
    assert_eq!(waiting().await, 2, "the message's record, and its memory");
    stack.ended_turns(&session, 1).await;
    stack.app.kill().await.unwrap();
    eventually("the dead writer's lease and the wait after its try to be over", async || {
        let sql = "SELECT NOT EXISTS (SELECT FROM outbox_leases WHERE lease_until > now())
                      AND NOT EXISTS (SELECT FROM memory_write_outbox WHERE status <> 'sent' AND next_attempt_at > now())";
        sqlx::query_scalar::<_, bool>(sql).fetch_one(&pool).await.unwrap().then_some(())
    })
    .await;
    stack.brain.set_mood(Mood::Well);
    stack.restart().await;
    eventually("both to be sent", async || (waiting().await == 0).then_some(())).await;
    // The second time the answer goes with it, in a batch.
    let alone = stack.brain.calls_to("/memory/remember").into_iter().map(|call| call.body);
    let together = stack.brain.calls_to("/memory/remember/batch").into_iter();
    let written: Vec<Value> =
        alone.chain(together.flat_map(|call| call.body["items"].as_array().cloned().unwrap_or_default())).collect();
    let keys: Vec<&Value> =
        written.iter().filter(|item| item["key"] == *before[0]).map(|item| &item["value"]["idempotency_key"]).collect();
    assert!(keys.len() >= 2 && keys[0].is_string(), "{written:#?}");
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[tokio::test]
async fn a_process_that_ends_in_order_leaves_no_memory_to_a_lease() {
    let setup = quick().set("SA01_MEMORY_SYNC__LEASE_MS", 600_000).set("SA01_TURNS__RECALL_DEADLINE_MS", 50);
    let mut stack = setup.set("LOG_LEVEL", "info,somaagent::shutdown=debug").start().await;
    let (session, gate) = (new_session(), Gate::closed());
    stack.brain.set_mood(Mood::Slow(gate.clone()));
    stack.post(&Post::new("remember this").to(&session)).await;
    stack.ended_turns(&session, 1).await;
    let pool = stack.database.pool().await.unwrap();
    let held = async || {
        let sql = "SELECT count(*) FROM outbox_leases WHERE queue = 'memory_write_outbox'";
        sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap()
    };
    eventually("the memory to be on its way", async || (held().await == 1).then_some(())).await;
    stack.app.signal(ProcessSignal::TERM).unwrap();
    eventually("the process to wait for the memory", async || {
        stack.app.output().lines().any(|line| line.contains("Queues") && line.contains("memory sync")).then_some(())
    })
    .await;
    gate.open();
    assert_eq!(stack.app.wait().await.unwrap().code(), Some(0));
    assert_eq!(held().await, 0);
    stack.brain.set_mood(Mood::Well);
    stack.restart().await;
    logged(&stack).await;
}

#[tokio::test]
async fn what_one_session_said_is_recalled_in_another_and_never_told_twice() {
    let stack = quick().start().await;
    let first = new_session();
    stack.post(&Post::new("our parrot is green").to(&first)).await;
    stack.ended_turns(&first, 1).await;
    eventually("both memories to be written", async || (stack.brain.keys().len() == 2).then_some(())).await;
    for (number, session) in [(1, &first), (2, &new_session())] {
        stack.post(&Post::new("tell about the parrot").to(session)).await;
        stack.ended_turns(session, if number == 1 { 2 } else { 1 }).await;
        let context = stack.model.exchange(number).await.context();
        let told = context.matches("our parrot is green").count();
        // Its own session has the message and the answer that repeats it as history, and nothing of it as memory.
        assert!(if number == 1 { told == 2 } else { told >= 1 }, "told {told} times: {context}");
    }
}

/// The `memory` of the reply to a message, and that the message is in the history whatever became of its memory.
async fn written_through(stack: &Stack, session: &str) -> Value {
    let reply = stack.post(&Post::new("remember this").to(session)).await.json();
    let events = stack.get(&format!("/v1/sessions/{session}/events")).await;
    assert!(events.to_string().contains(reply["event_id"].as_str().unwrap()));
    reply["memory"].clone()
}

#[tokio::test]
async fn a_reply_that_waits_for_the_memory_says_what_became_of_it() {
    // The queue is looked at once in a minute: what the reply tells is what came of its own write.
    let through = || {
        let setup = Setup::default().set("GATEWAY_WRITE_THROUGH", true).set("MEMORY_SYNC_INTERVAL_SECONDS", 60);
        // The slow service is slow in recalls too.
        setup.set("SA01_WRITE_THROUGH__TIMEOUT_MS", 6_000).set("SA01_TURNS__RECALL_DEADLINE_MS", 500)
    };
    let queued = |reason: &str| json!({"state": "queued", "reason": reason});
    for (mood, expected) in [
        (Mood::Well, json!({"state": "remembered"})),
        (Mood::Failing(422, None), queued("refused")),
        (Mood::Failing(503, None), queued("unavailable")),
        (Mood::Slow(Gate::closed()), queued("waiting")),
    ] {
        let stack = through().start().await;
        // The queue's first look is over, and found nothing.
        assert_eq!(written_through(&stack, &new_session()).await, json!({"state": "remembered"}));
        stack.brain.set_mood(mood);
        assert_eq!(written_through(&stack, &new_session()).await, expected);
    }
}

#[tokio::test]
async fn a_memory_written_in_the_background_keeps_no_reply_waiting() {
    let setup = Setup::default().set("GATEWAY_WRITE_THROUGH", true).set("GATEWAY_WRITE_THROUGH_ASYNC", true);
    // The queue is looked at once in a minute: only the request itself can be why the memory is written.
    let stack = setup.set("MEMORY_SYNC_INTERVAL_SECONDS", 60).start().await;
    let reply = stack.post(&Post::new("remember this")).await.json();
    assert_eq!(reply.get("memory"), None);
    let key = reply["event_id"].as_str().unwrap();
    eventually("the memory", async || stack.brain.keys().iter().any(|known| known == key).then_some(())).await;
}

#[tokio::test]
async fn a_memory_service_that_asks_for_patience_has_it() {
    let stack = quick().set("SA01_MEMORY_SYNC__LEASE_MS", 60_000).start().await;
    stack.brain.set_mood(Mood::Failing(503, Some(25)));
    let session = new_session();
    stack.post(&Post::new("remember this").to(&session)).await;
    let pool = stack.database.pool().await.unwrap();
    // By its own settings the queue would wait a fifth of a second at most.
    let sql = "SELECT extract(epoch FROM next_attempt_at - last_error_at)::float8 FROM memory_write_outbox
               WHERE retry_count = 1 AND status = 'pending' ORDER BY id LIMIT 1";
    let wait =
        eventually("the first try", async || sqlx::query_scalar::<_, f64>(sql).fetch_optional(&pool).await.unwrap())
            .await;
    assert!((24.0..=26.0).contains(&wait), "{wait}");
}

#[tokio::test]
async fn what_was_sent_is_gone_once_its_time_is_over() {
    let stack = quick().set("SA01_OUTBOX__RETENTION_MS", 0).set("SA01_MEMORY_SYNC__RETENTION_MS", 0).start().await;
    let session = new_session();
    let keys = said(&stack, &session, 2).await;
    remembered(&stack, &keys).await;
    let pool = stack.database.pool().await.unwrap();
    for table in ["message_outbox", "memory_write_outbox"] {
        eventually(&format!("{table} to be empty"), async || {
            let sql = format!("SELECT count(*) FROM {table}");
            (sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(sql)).fetch_one(&pool).await.unwrap() == 0).then_some(())
        })
        .await;
    }
    // What the rows told of is where it belongs.
    for key in &keys {
        let path = format!("/v1/memory/{key}/receipt");
        let receipt =
            stack.client.send(stack.client.request(Method::GET, &path).header("Prefer", "wait=20")).await.unwrap();
        assert_eq!(receipt.json()["state"], "replicated", "{}", receipt.text);
    }
}
