//! What cannot be carried on waits, in full, until somebody mends it, sends it again or lets it go.

use reqwest::Method;
use serde_json::{Value, json};
use somaagent_test_services::brain::Mood;
use somaagent_test_services::client::{Answer, Post};
use somaagent_test_services::port;
use somaagent_test_services::wait::eventually;

use crate::stack::{Setup, Stack, new_session};

const DLQ: &str = "/v1/admin/dlq/memory.wal.dlq";

fn quick() -> Setup {
    Setup::default()
        .set("MEMORY_SYNC_INTERVAL_SECONDS", "0.05")
        .set("MEMORY_SYNC_MAX_RETRIES", 0)
        .set("OUTBOX_SYNC_INTERVAL_SECONDS", "0.05")
        .set("GATEWAY_DLQ_POLL_SECONDS", 10)
}

/// Says something that the memory service refuses, and returns the letters of message and answer, the newest first.
async fn refused(stack: &Stack, session: &str) -> Vec<Value> {
    let known = letters(stack).await.len();
    stack.brain.set_mood(Mood::Failing(400, None));
    stack.post(&Post::new("our parrot is green").to(session)).await;
    stack.ended_turns(session, 1).await;
    let found = eventually("two dead letters", async || {
        let found = letters(stack).await;
        (found.len() == known + 2).then_some(found)
    })
    .await;
    stack.brain.set_mood(Mood::Well);
    found
}

async fn letters(stack: &Stack) -> Vec<Value> {
    stack.get(&format!("{DLQ}?limit=1000")).await.as_array().cloned().unwrap()
}

fn path(letter: &Value) -> String {
    format!("{DLQ}/{}", letter["id"])
}

async fn reprocess(stack: &Stack, letter: &Value) -> Answer {
    stack.client.post(&format!("{}/reprocess", path(letter)), &json!({})).await.unwrap()
}

/// The records of a topic of the log.
async fn logged(stack: &Stack, topic: &str) -> Vec<Value> {
    let sql = "SELECT jsonb_build_object('key', key, 'partition', partition, 'headers', headers,
                   'record', convert_from(payload, 'UTF8')::jsonb)
               FROM event_log WHERE topic = $1 ORDER BY partition, \"offset\"";
    sqlx::query_scalar(sql).bind(topic).fetch_all(&stack.database.pool().await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn a_memory_that_is_refused_ends_as_one_dead_letter_and_one_record_on_its_topic() {
    let stack = quick().start().await;
    let session = new_session();
    let found = refused(&stack, &session).await;
    assert_eq!(found[1]["event"]["payload"]["content"], "our parrot is green");
    assert!(found.iter().all(|letter| letter["topic"] == "memory.wal.dlq" && letter["error"].is_string()));
    let notices = eventually("a record for each", async || {
        let notices = logged(&stack, "memory.wal.dlq").await;
        (notices.len() >= 2).then_some(notices)
    })
    .await;
    for (notice, letter) in notices.iter().zip(found.iter().rev()) {
        assert_eq!((&notice["key"], &notice["partition"]), (&json!(session), &json!(0)));
        assert_eq!(notice["headers"]["__connect.errors.topic"], "memory.wal");
        assert_eq!(notice["headers"]["__connect.errors.connector.name"], "memory-sync");
        assert_eq!(notice["record"]["original_event"], letter["event"]);
        assert_eq!(notice["record"]["dead_letter_id"], letter["id"]);
    }
    let letter = stack.get(&path(&found[1])).await;
    assert_eq!((&letter["error_code"], &letter["origin"]["kind"]), (&json!("400"), &json!("memory")));
    assert_eq!((&letter["attempts"], &letter["history"][0]["error"]), (&json!(1), &letter["error"]));
    assert_eq!((&letter["event"], &letter["origin"]["session_id"]), (&found[1]["event"], &json!(session)));
    let pool = stack.database.pool().await.unwrap();
    let sql = "SELECT replace(encode(original, 'base64'), E'\\n', ''), octet_length(original) FROM dlq_messages WHERE id = $1";
    let row = sqlx::query_as(sql).bind(letter["id"].as_i64()).fetch_one(&pool);
    let (original, bytes): (String, i32) = row.await.unwrap();
    assert_eq!((&letter["original"], &letter["size_bytes"]), (&json!(original), &json!(bytes)));
    assert_eq!((letters(&stack).await.len(), logged(&stack, "memory.wal.dlq").await.len()), (2, 2));
    assert!(logged(&stack, "memory.wal").await.is_empty());
}

#[tokio::test]
async fn lists_are_paged_and_filtered_and_belong_to_one_tenant() {
    let stack = quick().start().await;
    for _ in 0..2 {
        refused(&stack, &new_session()).await;
    }
    let all = letters(&stack).await;
    let (mut paged, mut next) = (Vec::new(), Some(format!("{DLQ}?limit=3&error=400")));
    while let Some(path) = next {
        let page = stack.client.get(&path).await.unwrap();
        paged.extend(page.json().as_array().cloned().unwrap());
        next = page.header("link").split_once('>').map(|(link, _)| link.trim_start_matches('<').to_owned());
    }
    assert_eq!(paged, all);
    assert_eq!(stack.get(&format!("{DLQ}?error=no+such+error")).await, json!([]));
    assert_eq!(stack.get(&format!("{DLQ}?until=2020-01-01T00:00:00Z")).await, json!([]));
    // The two of one turn may be of one instant; those of two turns are not.
    let second = all[1]["created_at"].as_str().unwrap();
    let (since, until): (Vec<_>, Vec<_>) =
        all.iter().cloned().partition(|letter| letter["created_at"].as_str().unwrap() >= second);
    assert!(since.len() < 4, "{all:#?}");
    assert_eq!(stack.get(&format!("{DLQ}?since={second}")).await, json!(since));
    assert_eq!(stack.get(&format!("{DLQ}?until={second}")).await, json!(until));
    let topics = stack.get("/v1/admin/dlq").await;
    assert_eq!((&topics[0]["topic"], &topics[0]["depth"]), (&json!("memory.wal.dlq"), &json!(4)));
    assert_eq!(topics[0]["newest"], all[0]["created_at"]);
    assert_eq!(stack.get(&format!("{DLQ}?tenant=other")).await, json!([]));
    assert_eq!(stack.get("/v1/admin/dlq?tenant=other").await[0]["depth"], 0);
    for (method, rest) in [(Method::GET, ""), (Method::DELETE, ""), (Method::POST, "/reprocess")] {
        let request = stack.client.request(method, &format!("{}{rest}?tenant=other", path(&all[0])));
        assert_eq!(stack.client.send(request).await.unwrap().code(), "dead-letter-not-found");
    }
    assert_eq!(letters(&stack).await, all);
    // Who sends all again names the same letters as who lists them.
    let order = stack.client.post(&format!("{DLQ}/reprocess?since={second}"), &json!({})).await.unwrap();
    assert_eq!((order.status, &order.json()["total"]), (202, &json!(since.len())), "{}", order.text);
    eventually("those to be sent", async || (letters(&stack).await == until).then_some(())).await;
}

#[tokio::test]
async fn a_mended_memory_is_remembered_and_sending_twice_has_one_effect() {
    let stack = quick().start().await;
    let found = refused(&stack, &new_session()).await;
    let (answer, message) = (&found[0], &found[1]);
    let mut event = message["event"].clone();
    event["payload"]["content"] = json!("our parrot is blue");
    let edit = |event: &Value| {
        let request = stack.client.request(Method::PUT, &format!("{}/reprocess", path(message)));
        request.json(&json!({ "event": event }))
    };
    let foreign = Value::Object(
        event
            .as_object()
            .cloned()
            .map(|mut event| {
                event.insert("tenant".into(), json!("other"));
                event
            })
            .unwrap(),
    );
    let mut inside = event.clone();
    inside["payload"]["metadata"]["tenant"] = json!("other");
    for event in [&foreign, &inside] {
        assert_eq!(stack.client.send(edit(event)).await.unwrap().code(), "invalid-body");
    }
    let mended = stack.client.send(edit(&event)).await.unwrap();
    let expected = json!({"status": "reprocessed", "target": "memory.wal", "published": false, "enqueued": true});
    assert_eq!((mended.status, mended.json()), (200, expected));
    assert_eq!(reprocess(&stack, message).await.code(), "dead-letter-not-found");
    assert_eq!(reprocess(&stack, answer).await.status, 200);
    assert_eq!(reprocess(&stack, answer).await.code(), "dead-letter-not-found");
    let id = |letter: &Value| letter["event"]["payload"]["id"].as_str().unwrap().to_owned();
    let records = eventually("both memories in the log", async || {
        let records = logged(&stack, "memory.wal").await;
        (records.len() >= 2).then_some(records)
    })
    .await;
    assert_eq!(records.len(), 2);
    assert_eq!(stack.brain.received(), [id(message), id(answer)], "each was written once");
    assert_eq!(stack.brain.value("public", "wm", &id(message)).unwrap()["content"], "our parrot is blue");
    assert!(letters(&stack).await.is_empty());
    let sql = "SELECT array_agg(action ORDER BY id) FROM audit_event
               WHERE resource = 'dead_letter' AND subject IS DISTINCT FROM 'system:memory-sync'";
    let actions: Vec<String> = sqlx::query_scalar(sql).fetch_one(&stack.database.pool().await.unwrap()).await.unwrap();
    assert_eq!(actions, ["admin.dlq.reprocess", "admin.dlq.reprocess"]);
}

#[tokio::test]
async fn letters_of_one_memory_are_sent_again_in_their_order_only() {
    let stack = quick().start().await;
    let write = async |said: &str| {
        let body = json!({"items": [{"id": "note", "content": said}]});
        assert_eq!(stack.client.post("/v1/memory/batch", &body).await.unwrap().status, 200);
    };
    let says = async |said: &str| {
        eventually(&format!("a replica that says {said}"), async || {
            let memory = stack.client.get("/v1/admin/memory/note").await.unwrap();
            (memory.status == 200 && memory.json()["payload"]["content"] == said).then_some(())
        })
        .await;
        assert_eq!(stack.brain.value("public", "wm", "note").unwrap()["content"], said);
    };
    stack.brain.set_mood(Mood::Failing(422, None));
    for (count, said) in [(1, "one"), (2, "two"), (3, "three")] {
        write(said).await;
        eventually("its letter", async || (letters(&stack).await.len() == count).then_some(())).await;
    }
    stack.brain.set_mood(Mood::Well);
    let [three, two, one] = letters(&stack).await.try_into().unwrap();
    assert_eq!(reprocess(&stack, &one).await.status, 200);
    says("one").await;
    assert_eq!(reprocess(&stack, &three).await.status, 200);
    says("three").await;
    // Bad input: it would undo the third, and changes nothing.
    let refused = reprocess(&stack, &two).await;
    assert_eq!((refused.status, refused.code().as_str()), (409, "letter-superseded"));
    assert_eq!(letters(&stack).await, std::slice::from_ref(&two));
    says("three").await;
    let edit = stack.client.request(Method::PUT, &format!("{}/reprocess", path(&two)));
    let edited = stack.client.send(edit.json(&json!({ "event": two["event"] }))).await.unwrap();
    assert_eq!(edited.status, 200, "{}", edited.text);
    says("two").await;
    write("four").await;
    says("four").await;
}

#[tokio::test]
async fn what_fails_again_comes_back_with_its_history() {
    let stack = quick().start().await;
    let found = refused(&stack, &new_session()).await;
    stack.brain.set_mood(Mood::Failing(422, None));
    assert_eq!(reprocess(&stack, &found[0]).await.status, 200);
    let again = eventually("the letter to come back", async || {
        let all = letters(&stack).await;
        all.first().filter(|letter| letter["id"] != found[0]["id"] && all.len() == 2).cloned()
    })
    .await;
    let letter = stack.get(&path(&again)).await;
    assert_eq!((&letter["attempts"], &letter["error_code"]), (&json!(2), &json!("422")));
    assert_eq!(letter["history"].as_array().map(Vec::len), Some(2));
    assert_eq!(letter["event"]["payload"], found[0]["event"]["payload"]);
}

#[tokio::test]
async fn a_purge_needs_its_token_and_the_gauge_follows() {
    let metrics = port::free();
    let stack = quick().set("GATEWAY_METRICS_PORT", metrics).start().await;
    let depth = async |expected: &str| {
        let line = format!("gateway_dlq_depth{{topic=\"memory.wal.dlq\"}} {expected}");
        eventually(&line, async || {
            let answer = reqwest::get(format!("http://127.0.0.1:{metrics}/metrics")).await.ok()?;
            answer.text().await.ok()?.lines().any(|found| found == line).then_some(())
        })
        .await;
    };
    depth("0").await;
    let found = refused(&stack, &new_session()).await;
    depth("2").await;
    let health = stack.get("/v1/health").await;
    assert_eq!(health["components"]["memory_dlq"], json!({"status": "ok", "detail": "depth=2"}));
    assert_eq!(health["status"], "ok", "dead letters make nobody ill");
    let refusal = stack.client.delete(DLQ).await.unwrap();
    assert_eq!((refusal.status, refusal.code().as_str()), (409, "confirmation-needed"));
    assert_eq!(refusal.json()["letters"], 2);
    assert_eq!(stack.client.delete(&path(&found[0])).await.unwrap().json(), json!({"status": "deleted", "deleted": 1}));
    assert_eq!(stack.client.delete(&path(&found[0])).await.unwrap().code(), "dead-letter-not-found");
    depth("1").await;
    let later = refused(&stack, &new_session()).await;
    let confirmed = format!("{DLQ}?confirm={}", refusal.text_of("confirm"));
    for deleted in [1, 0] {
        let purged = stack.client.delete(&confirmed).await.unwrap();
        assert_eq!((purged.status, purged.json()), (200, json!({"status": "purged", "deleted": deleted})));
    }
    assert_eq!(letters(&stack).await, later[..2], "what came after the refusal is left");
    depth("2").await;
}

/// Letters of an earlier day, more than are sent in one go.
async fn old_letters(stack: &Stack, count: i32) {
    let sql = "INSERT INTO dlq_messages (
                   tenant, topic, source_topic, partition_key, original, event, error, error_class, attempts, origin,
                   created_at, updated_at
               )
               SELECT 'public', 'conversation.outbound.dlq', 'conversation.outbound', (n % 7)::text,
                      convert_to(jsonb_build_object('n', n)::text, 'UTF8'), jsonb_build_object('n', n),
                      CASE WHEN n % 10 = 0 THEN 'other' ELSE 'odd' END, 'odd', 1, 'outbox', now(), now()
               FROM generate_series(1, $1) AS n";
    sqlx::query(sql).bind(count).execute(&stack.database.pool().await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn an_order_to_send_all_again_goes_on_after_a_kill() {
    let mut stack = quick().set("SA01_DEAD_LETTERS__PAGE_LETTERS", 1).start().await;
    let topic = "/v1/admin/dlq/conversation.outbound.dlq";
    old_letters(&stack, 500).await;
    let order = stack.client.post(&format!("{topic}/reprocess?error=ODD"), &json!({})).await.unwrap();
    assert_eq!((order.status, &order.json()["total"]), (202, &json!(450)), "{}", order.text);
    let place = order.header("location").to_owned();
    let some = eventually("the order to be under way", async || {
        stack.get(&place).await["reprocessed"].as_i64().filter(|done| *done > 0)
    })
    .await;
    assert!(some < 450, "all was done before the kill");
    stack.app.kill().await.unwrap();
    stack.app.restart().await.unwrap();
    let done = eventually("the order to be done", async || {
        let job = stack.get(&place).await;
        (job["status"] == "completed").then_some(job)
    })
    .await;
    assert_eq!((&done["reprocessed"], &done["failed"]), (&json!(450), &json!(0)));
    assert_eq!(stack.get(&format!("{topic}?limit=1000")).await.as_array().map(Vec::len), Some(50));
    // Each went into the outbox once, and those of a key in their order.
    let pool = stack.database.pool().await.unwrap();
    let sql = "SELECT count(*), count(DISTINCT payload_bytes), count(*) FILTER (WHERE n < before)
               FROM (
                   SELECT payload_bytes, (convert_from(payload_bytes, 'UTF8')::jsonb -> 'n')::int AS n,
                          lag((convert_from(payload_bytes, 'UTF8')::jsonb -> 'n')::int)
                              OVER (PARTITION BY partition_key ORDER BY id) AS before
                   FROM message_outbox WHERE topic = 'conversation.outbound'
               ) AS sent";
    let counts: (i64, i64, i64) = sqlx::query_as(sql).fetch_one(&pool).await.unwrap();
    assert_eq!(counts, (450, 450, 0));
    eventually("all to be in the log", async || {
        let sql = "SELECT count(DISTINCT payload) FROM event_log WHERE topic = 'conversation.outbound'";
        (sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap() == 450).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_order_to_send_all_again_can_be_ended_on_its_way() {
    let stack = quick().set("SA01_DEAD_LETTERS__PAGE_LETTERS", 1).start().await;
    let topic = "/v1/admin/dlq/conversation.outbound.dlq";
    old_letters(&stack, 900).await;
    let order = stack.client.post(&format!("{topic}/reprocess"), &json!({})).await.unwrap();
    let place = order.header("location").to_owned();
    eventually("the order to be under way", async || {
        stack.get(&place).await["reprocessed"].as_i64().filter(|done| *done > 0)
    })
    .await;
    let foreign = stack.client.request(Method::DELETE, &place).header("x-tenant-id", "other");
    assert_eq!(stack.client.send(foreign).await.unwrap().code(), "job-not-found");
    let ended = stack.client.delete(&place).await.unwrap();
    assert_eq!((ended.status, &ended.json()["status"]), (200, &json!("cancelled")), "{}", ended.text);
    let left = 900 - ended.json()["reprocessed"].as_i64().unwrap();
    assert!(left > 0, "all was sent before the order was ended");
    let pool = stack.database.pool().await.unwrap();
    let letters = "SELECT count(*) FROM dlq_messages WHERE topic = 'conversation.outbound.dlq'";
    assert_eq!(sqlx::query_scalar::<_, i64>(letters).fetch_one(&pool).await.unwrap(), left);
    assert_eq!(stack.client.delete(&place).await.unwrap().json(), ended.json());
    assert_eq!(stack.get(&place).await, ended.json());
}
