//! The ways in which a gateway of this kind can lose what it acknowledged, one test each: a fault that hits at the wrong
//! moment, a key that is taken, an outage that lasts longer than the tries.

use std::collections::HashSet;

use serde_json::{Value, json};
use somaagent_test_services::brain::Mood;
use somaagent_test_services::client::Post;
use somaagent_test_services::model::Gate;
use somaagent_test_services::wait::eventually;
use sqlx::PgPool;

use crate::stack::{Setup, Stack, new_session};

/// Rounds follow each other fast, and a refused row is given up after two more tries.
fn quick() -> Setup {
    let mut setup = Setup::default()
        .set("SA01_BRAIN__BREAKER_COOLDOWN_MS", 100)
        .set("SA01_MEMORY_SYNC__LEASE_MS", 6_000)
        .set("SA01_OUTBOX__LEASE_MS", 6_000);
    for queue in ["MEMORY_SYNC", "OUTBOX_SYNC"] {
        for (name, value) in [
            ("INTERVAL_SECONDS", "0.05"),
            ("BACKOFF_BASE_SECONDS", "0.02"),
            ("BACKOFF_MAX_SECONDS", "0.05"),
            ("MAX_RETRIES", "2"),
        ] {
            setup = setup.set(&format!("{queue}_{name}"), value);
        }
    }
    setup
}

/// Takes the log away: whoever asks for it gets an error.
async fn take_log_away(pool: &PgPool) {
    sqlx::query("ALTER TABLE event_log RENAME TO event_log_away").execute(pool).await.unwrap();
}

async fn bring_log_back(pool: &PgPool) {
    sqlx::query("ALTER TABLE event_log_away RENAME TO event_log").execute(pool).await.unwrap();
}

async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.unwrap()
}

/// Says something, and returns its id and that of the answer.
async fn said(stack: &Stack, session: &str, message: &str) -> Vec<String> {
    stack.post(&Post::new(message).to(session)).await;
    stack.ended_turns(session, 1).await;
    let history = stack.client.history(session).await.unwrap();
    history.iter().map(|event| event["payload"]["event_id"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the brain has these memories and the log tells of them in order. A record may be there
/// twice: its first place counts.
async fn kept(stack: &Stack, pool: &PgPool, ids: &[String]) {
    eventually("the memory service to have what was said", async || {
        let known = stack.brain.keys();
        ids.iter().all(|id| known.contains(id)).then_some(())
    })
    .await;
    let sql = "SELECT convert_from(payload, 'UTF8')::jsonb -> 'payload' ->> 'id' FROM event_log
               WHERE topic = 'memory.wal' ORDER BY partition, \"offset\"";
    eventually("the log to tell of what was said, in order", async || {
        let told: Vec<String> = sqlx::query_scalar(sql).fetch_all(pool).await.ok()?;
        let mut seen = HashSet::new();
        let told: Vec<&String> = told.iter().filter(|id| ids.contains(id) && seen.insert(*id)).collect();
        (told == ids.iter().collect::<Vec<_>>()).then_some(())
    })
    .await;
    assert_eq!(count(pool, "SELECT count(*) FROM dlq_messages").await, 0, "an outage makes no dead letters");
}

/// Whatever goes wrong in a write-through, and not only what its client expects, leaves the memory queued.
#[tokio::test]
async fn a_write_through_that_fails_in_any_way_leaves_its_memory_in_the_queue() {
    let stack = quick().set("GATEWAY_WRITE_THROUGH", true).start().await;
    let pool = stack.database.pool().await.unwrap();
    for mood in [
        Mood::Dropping,
        Mood::DroppingAfter,
        Mood::Failing(500, None),
        Mood::Failing(429, Some(1)),
        Mood::Failing(404, None),
        Mood::Babbling,
    ] {
        let (session, name) = (new_session(), format!("{mood:?}"));
        stack.brain.set_mood(mood);
        let reply = stack.post(&Post::new("keep this").to(&session)).await.json();
        assert_eq!(reply["memory"]["state"], "queued", "{name}: {reply}");
        stack.brain.set_mood(Mood::Well);
        stack.ended_turns(&session, 1).await;
        let history = stack.client.history(&session).await.unwrap();
        let ids: Vec<_> =
            history.iter().map(|event| event["payload"]["event_id"].as_str().unwrap().to_owned()).collect();
        kept(&stack, &pool, &ids).await;
    }
}

/// The key of a memory is free again once it was sent: a later version of the same memory is no duplicate.
#[tokio::test]
async fn a_later_version_of_a_memory_that_was_sent_is_sent_too() {
    let stack = quick().start().await;
    let pool = stack.database.pool().await.unwrap();
    for version in ["first", "second"] {
        let memory = json!({"id": "m-1", "content": version});
        let reply = stack.client.post("/v1/memory/batch", &json!({"items": [memory]})).await.unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text);
        let sql = "SELECT count(*) FROM event_log WHERE topic = 'memory.wal'
                   AND convert_from(payload, 'UTF8')::jsonb -> 'payload' ->> 'content' = $1";
        eventually(&format!("the log to tell of the {version} version"), async || {
            (sqlx::query_scalar::<_, i64>(sql).bind(version).fetch_one(&pool).await.unwrap() == 1).then_some(())
        })
        .await;
    }
    assert_eq!(stack.brain.received(), ["m-1", "m-1"]);
}

/// Nor is it one while the record of the former version still waits for the log.
#[tokio::test]
async fn a_later_version_of_a_memory_reaches_the_replica_though_the_log_was_away_for_both() {
    let stack = quick().start().await;
    let pool = stack.database.pool().await.unwrap();
    take_log_away(&pool).await;
    for (n, version) in ["first", "second"].into_iter().enumerate() {
        let items = json!({"items": [{"id": "m-1", "content": version}]});
        assert_eq!(stack.client.post("/v1/memory/batch", &items).await.unwrap().status, 200);
        eventually("the memory service to have the version", async || {
            (stack.brain.received().len() == n + 1).then_some(())
        })
        .await;
    }
    eventually("both memories to be settled", async || {
        (count(&pool, "SELECT count(*) FROM memory_write_outbox WHERE status = 'sent'").await == 2).then_some(())
    })
    .await;
    bring_log_back(&pool).await;
    let newest = "SELECT count(*) FROM memory_replica WHERE event_id = 'm-1' AND payload ->> 'content' = 'second'";
    eventually("the replica to have the second version", async || (count(&pool, newest).await == 1).then_some(()))
        .await;
}

/// A message is told on two topics under one id, and neither record keeps the other out of the outbox.
#[tokio::test]
async fn a_message_and_its_memory_both_wait_while_the_log_is_away() {
    let stack = quick().start().await;
    let pool = stack.database.pool().await.unwrap();
    take_log_away(&pool).await;
    let ids = said(&stack, &new_session(), "told twice").await;
    let both = "SELECT count(DISTINCT topic) FROM message_outbox WHERE status <> 'sent' AND dedupe_key = $1";
    eventually("both records to wait", async || {
        let topics: i64 = sqlx::query_scalar(both).bind(&ids[0]).fetch_one(&pool).await.unwrap();
        (topics == 2).then_some(())
    })
    .await;
    bring_log_back(&pool).await;
    kept(&stack, &pool, &ids).await;
    let sql = "SELECT count(*) FROM event_log WHERE topic = 'conversation.inbound'
               AND convert_from(payload, 'UTF8')::jsonb ->> 'event_id' = $1";
    // The two topics are keys of their own: neither waits for the other.
    eventually("the message to be told", async || {
        let told: i64 = sqlx::query_scalar(sql).bind(&ids[0]).fetch_one(&pool).await.unwrap();
        (told == 1).then_some(())
    })
    .await;
}

/// Records that carry no id, or the same one, still are several dead letters, and not one.
#[tokio::test]
async fn each_dead_letter_reaches_its_topic_though_it_names_no_event_or_that_of_another() {
    let stack = quick().start().await;
    let pool = stack.database.pool().await.unwrap();
    let session = new_session();
    kept(&stack, &pool, &said(&stack, &session, "before").await).await;
    // Put into the log past everything that checks it, as a producer of another system would.
    let plant = r#"WITH place AS (
                     UPDATE event_log_partitions SET next_offset = next_offset + 1
                     WHERE topic = 'memory.wal' AND partition = 0
                     RETURNING next_offset - 1 AS "offset"
                 )
                 INSERT INTO event_log (topic, partition, "offset", key, payload, created_at)
                 SELECT 'memory.wal', 0, "offset", '', $1, now() FROM place"#;
    let same = r#"{"type": "memory.write", "payload": {"id": "same"}}"#;
    let mut together = pool.begin().await.unwrap();
    for poison in ["no JSON", "{\"type\": \"memory.write\"}", "{}", same, same] {
        sqlx::query(plant).bind(poison.as_bytes()).execute(&mut *together).await.unwrap();
    }
    together.commit().await.unwrap();
    let sql = "SELECT count(*) FROM event_log WHERE topic = 'memory.wal.dlq'";
    eventually("five records of dead letters", async || (count(&pool, sql).await >= 5).then_some(())).await;
    assert_eq!(count(&pool, sql).await, 5);
    assert_eq!(count(&pool, "SELECT count(*) FROM dlq_messages").await, 5);
}

/// A log that is away for longer than all tries of a row is tried on.
#[tokio::test]
async fn an_outage_of_the_log_that_outlasts_every_try_gives_up_no_record() {
    let stack = quick().start().await;
    let pool = stack.database.pool().await.unwrap();
    take_log_away(&pool).await;
    let ids = said(&stack, &new_session(), "a long outage").await;
    let tried = "SELECT count(*) FROM message_outbox WHERE retry_count > 4";
    eventually("more tries than a refusal gets", async || (count(&pool, tried).await > 0).then_some(())).await;
    bring_log_back(&pool).await;
    kept(&stack, &pool, &ids).await;
}

/// A memory service that is away for longer than all tries of a memory is tried on, whatever says that it is away.
#[tokio::test]
async fn an_outage_of_the_memory_service_that_outlasts_every_try_gives_up_no_memory() {
    let stack = quick().start().await;
    let pool = stack.database.pool().await.unwrap();
    let mut all = Vec::new();
    for mood in [Mood::Failing(500, None), Mood::Dropping] {
        stack.brain.set_mood(mood);
        let ids = said(&stack, &new_session(), "a long outage").await;
        let tried = "SELECT count(*) FROM memory_write_outbox WHERE status <> 'sent' AND retry_count > 4";
        eventually("more tries than a refusal gets", async || (count(&pool, tried).await > 0).then_some(())).await;
        stack.brain.set_mood(Mood::Well);
        kept(&stack, &pool, &ids).await;
        all.extend(ids);
    }
    assert!(all.iter().all(|id| stack.brain.value("public", "wm", id).is_some()));
}

/// Rows that a process held when it died are sent by the next one.
#[tokio::test]
async fn rows_that_were_being_sent_when_the_process_died_are_sent_again() {
    let mut stack = quick().start().await;
    let pool = stack.database.pool().await.unwrap();
    let held = Gate::closed();
    stack.brain.set_mood(Mood::Slow(held.clone()));
    let ids = said_to_a_slow_service(&stack).await;
    let claimed = "SELECT count(*) FROM outbox_leases WHERE queue = 'memory_write_outbox'";
    eventually("a memory under way", async || (count(&pool, claimed).await > 0).then_some(())).await;
    stack.app.kill().await.unwrap();
    stack.brain.set_mood(Mood::Well);
    held.open();

    // And the other queue: whoever appends waits for the table until it dies.
    let mut lock = pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE event_log IN EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    stack.restart().await;
    let claimed = "SELECT count(*) FROM outbox_leases WHERE queue = 'message_outbox' AND scope = 'memory.wal'";
    eventually("a record under way", async || (count(&pool, claimed).await > 0).then_some(())).await;
    stack.app.kill().await.unwrap();
    lock.rollback().await.unwrap();
    stack.restart().await;
    kept(&stack, &pool, &ids).await;
    // The dead process may have been heard all the same: what it held is sent by somebody who lives.
    let held = "SELECT count(*) FROM message_outbox WHERE topic = 'memory.wal' AND status <> 'sent'";
    eventually("what was held to be sent", async || (count(&pool, held).await == 0).then_some(())).await;
}

/// A memory that is refused for good holds up nobody, whichever status says so; what says that the service cannot be asked
/// like this is no fault of a memory.
#[tokio::test]
async fn a_memory_that_is_refused_in_another_way_is_given_up_too_and_an_address_that_is_wrong_is_not() {
    let stack = quick().start().await;
    let pool = stack.database.pool().await.unwrap();
    let session = new_session();
    stack.brain.set_mood(Mood::Failing(409, None));
    let refused = said(&stack, &session, "refused").await;
    let letters = "SELECT count(*) FROM dlq_messages WHERE error_code = '409'";
    eventually("its letters", async || {
        (count(&pool, letters).await == i64::try_from(refused.len()).unwrap()).then_some(())
    })
    .await;
    stack.brain.set_mood(Mood::Failing(403, None));
    let ids = said(&stack, &new_session(), "shut out").await;
    let tried = "SELECT count(*) FROM memory_write_outbox WHERE status = 'pending' AND retry_count > 4";
    eventually("more tries than a refusal gets", async || (count(&pool, tried).await > 0).then_some(())).await;
    stack.brain.set_mood(Mood::Well);
    eventually("the memory service to have what was shut out", async || {
        let known = stack.brain.keys();
        ids.iter().all(|id| known.contains(id)).then_some(())
    })
    .await;
    assert_eq!(count(&pool, "SELECT count(*) FROM dlq_messages").await, i64::try_from(refused.len()).unwrap());
}

/// As [`said`], where the recall of the turn is slow too and the turn goes on without it.
async fn said_to_a_slow_service(stack: &Stack) -> Vec<String> {
    let reply: Value = stack.post(&Post::new("under way").to(&new_session())).await.json();
    vec![reply["event_id"].as_str().unwrap().to_owned()]
}
