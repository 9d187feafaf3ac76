//! Whoever said something can follow its memory until the replica has it.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use somaagent_test_services::brain::Mood;
use somaagent_test_services::client::{Answer, Post};
use somaagent_test_services::wait::{eventually, within};

use crate::stack::{Setup, Stack, new_session};

fn quick() -> Setup {
    Setup::default()
        .set("MEMORY_SYNC_INTERVAL_SECONDS", "0.05")
        .set("MEMORY_SYNC_BACKOFF_BASE_SECONDS", "0.05")
        .set("MEMORY_SYNC_BACKOFF_MAX_SECONDS", "0.2")
        .set("MEMORY_SYNC_MAX_RETRIES", 0)
        .set("OUTBOX_SYNC_INTERVAL_SECONDS", "0.05")
        .set("SA01_BRAIN__BREAKER_COOLDOWN_MS", 50)
}

/// Says something and returns the id of its memory, and the path of the receipt that the reply names.
async fn say(stack: &Stack) -> (String, String) {
    let answer = stack.post(&Post::new("our parrot is green").to(&new_session())).await;
    let id = answer.json()["event_id"].as_str().unwrap().to_owned();
    let path = format!("/v1/memory/{id}/receipt");
    assert_eq!(answer.header("link"), format!("<{path}>; rel=\"status\""));
    (id, path)
}

async fn waiting(stack: &Stack, path: &str, prefer: &str) -> Answer {
    let request = stack.client.request(Method::GET, path).header("prefer", prefer);
    within("a receipt", stack.client.send(request)).await.unwrap()
}

/// Waits as often as a slow machine needs.
async fn reaches(stack: &Stack, path: &str, state: &str) -> Value {
    eventually(&format!("a receipt that says {state}"), async || {
        let answer = waiting(stack, path, "wait=20").await;
        assert_eq!((answer.status, answer.header("preference-applied")), (200, "wait=20"), "{}", answer.text);
        Some(answer.json()).filter(|receipt| receipt["state"] == state)
    })
    .await
}

#[tokio::test]
async fn who_waits_for_a_receipt_reads_what_was_said_from_the_replica() {
    let stack = quick().start().await;
    let (id, path) = say(&stack).await;
    let receipt = reaches(&stack, &path, "replicated").await;
    assert_eq!((&receipt["event_id"], &receipt["topic"]), (&json!(id), &json!("memory.wal")));
    let times: Vec<&str> = ["queued", "remembered", "logged", "replicated"]
        .map(|state| receipt["at"][state].as_str().unwrap_or_else(|| panic!("no time of {state}: {receipt}")))
        .into();
    assert!(times.iter().all(|time| time.ends_with('Z')) && receipt["at"].get("dead").is_none(), "{receipt}");
    assert!(times[0] <= times[1] && times[1] <= times[2], "{receipt}");

    // The replica has it, read up to the place that the receipt names, and the log has there what was hashed.
    let place = format!("{}:{}", receipt["partition"], receipt["offset"]);
    let memory = stack.get(&format!("/v1/admin/memory/{id}?min_offset={place}")).await;
    assert_eq!((&memory["event_id"], &memory["payload"]["content"]), (&json!(id), &json!("our parrot is green")));
    let sql = r#"SELECT l.payload, r.sha256, r.partition, r."offset"
                 FROM memory_replica AS r JOIN event_log AS l USING (topic, partition, "offset")
                 WHERE r.tenant = 'public' AND r.event_id = $1"#;
    let pool = stack.database.pool().await.unwrap();
    let (bytes, sha256, partition, offset): (Vec<u8>, Vec<u8>, i32, i64) =
        sqlx::query_as(sql).bind(&id).fetch_one(&pool).await.unwrap();
    assert_eq!(Sha256::digest(&bytes).as_slice(), sha256);
    let hex = sha256.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert_eq!(receipt["sha256"], hex);
    assert_eq!((&receipt["partition"], &receipt["offset"]), (&json!(partition), &json!(offset)));

    let plain = stack.client.get(&path).await.unwrap();
    assert_eq!((plain.json(), plain.header("preference-applied")), (receipt, ""));
    assert_eq!(plain.header("cache-control"), "no-store");
}

#[tokio::test]
async fn a_memory_stays_queued_through_an_outage_and_then_goes_on() {
    let stack = quick().start().await;
    stack.brain.set_mood(Mood::Failing(503, None));
    let (_, path) = say(&stack).await;
    let begun = Instant::now();
    let answer = waiting(&stack, &path, "respond-async, wait=1").await;
    assert!(begun.elapsed() >= Duration::from_secs(1), "the reply did not wait");
    let receipt = answer.json();
    assert_eq!((&receipt["state"], answer.header("preference-applied")), (&json!("queued"), "wait=1"));
    assert_eq!((&receipt["partition"], &receipt["sha256"]), (&Value::Null, &Value::Null));
    stack.brain.set_mood(Mood::Well);
    reaches(&stack, &path, "replicated").await;
}

#[tokio::test]
async fn a_memory_that_is_refused_is_dead_until_it_is_sent_again() {
    let stack = quick().start().await;
    stack.brain.set_mood(Mood::Failing(400, None));
    let (id, path) = say(&stack).await;
    let receipt = reaches(&stack, &path, "dead").await;
    assert!(receipt["at"]["dead"].is_string() && receipt["at"].get("remembered").is_none(), "{receipt}");
    stack.brain.set_mood(Mood::Well);
    let letters = stack.get("/v1/admin/dlq/memory.wal.dlq?limit=1000").await;
    let own = letters.as_array().unwrap().iter().find(|letter| letter["event"]["payload"]["id"] == id).unwrap();
    let again = format!("/v1/admin/dlq/memory.wal.dlq/{}/reprocess", own["id"]);
    assert_eq!(stack.client.post(&again, &json!({})).await.unwrap().status, 200);
    reaches(&stack, &path, "replicated").await;
}

#[tokio::test]
async fn nobody_has_a_receipt_of_what_is_not_theirs_or_not_there() {
    let stack = quick().start().await;
    let (id, path) = say(&stack).await;
    reaches(&stack, &path, "replicated").await;
    let missing = async |path: &str, tenant: &str| {
        let request = stack.client.request(Method::GET, path).header("x-tenant-id", tenant);
        let answer = within("a refusal", stack.client.send(request.header("prefer", "wait=30"))).await.unwrap();
        assert_eq!((answer.status, answer.code()), (404, "memory-not-found".into()), "{}", answer.text);
        assert!(answer.json()["detail"].as_str().unwrap().contains("not remembered"), "{}", answer.text);
    };
    missing(&path, "other").await;
    missing("/v1/memory/nobody-knows-it/receipt", "public").await;
    stack.brain.set_deletes(true);
    assert_eq!(stack.client.delete(&format!("/v1/memory/{id}")).await.unwrap().status, 200);
    missing(&path, "public").await;
}

#[tokio::test]
async fn a_shutdown_answers_who_waits_at_once() {
    let mut stack = quick().start().await;
    stack.brain.set_mood(Mood::Failing(503, None));
    let (_, path) = say(&stack).await;
    let request = stack.client.request(Method::GET, &path).header("prefer", "wait=30");
    let begun = Instant::now();
    let waiter = tokio::spawn(request.send());
    let pool = stack.database.pool().await.unwrap();
    eventually("the wait to have begun", async || {
        let sql = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                       AND pid <> pg_backend_pid() AND query LIKE '-- What is known of the newest writing%')";
        sqlx::query_scalar::<_, bool>(sql).fetch_one(&pool).await.unwrap().then_some(())
    })
    .await;
    stack.app.terminate().await.unwrap();
    let answer = within("the answer", waiter).await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(30), "it waited to the end");
    assert_eq!(answer.status(), 200);
    let receipt: Value = answer.json().await.unwrap();
    assert_eq!(receipt["state"], "queued");
}
