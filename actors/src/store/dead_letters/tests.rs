#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use serde_json::json;
use sqlx::PgPool;

use super::*;

const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn letter(original: &[u8]) -> NewDeadLetter {
    NewDeadLetter {
        tenant: "t".into(),
        source_topic: "memory.wal".into(),
        key: Some("k".into()),
        headers: json!({"own": "1"}),
        original: original.to_vec(),
        failure: Failure { error: "too odd".into(), class: "apply-failed", code: Some("22P02".into()), tries: 2 },
        origin: Origin::Replicator,
        session_id: None,
        seq: None,
        position: Some((1, 7)),
    }
}

type Waiting = (String, String, Option<String>, Value, Vec<u8>);

async fn notices(connection: &mut PgConnection) -> Vec<Waiting> {
    let sql = "SELECT topic, partition_key, dedupe_key, headers, payload_bytes FROM message_outbox ORDER BY id";
    sqlx::query_as(sql).fetch_all(connection).await.unwrap()
}

#[sqlx::test(migrations = "../migrations")]
async fn a_letter_and_its_notice_are_kept_together_whatever_the_bytes_are(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let odd = [
        &b"\xff\x00\x01"[..],
        br#"{"a":"\u0000"}"#,
        br#"{ "payload": {"id": "p"} }"#,
        br#"{ "payload": {"id": "p"} }"#,
    ];
    let put = bury(&mut connection, odd.map(letter).into(), AT).await.unwrap();
    assert_eq!(put, Enqueued { inserted: 4, deduped: 0 }, "each has a notice");
    let sql = "SELECT original, event FROM dlq_messages ORDER BY id";
    let kept: Vec<(Vec<u8>, Option<Value>)> = sqlx::query_as(sql).fetch_all(&mut *connection).await.unwrap();
    assert_eq!(kept.iter().map(|(bytes, _)| bytes.as_slice()).collect::<Vec<_>>(), odd);
    assert_eq!(kept.iter().map(|(_, event)| event.is_some()).collect::<Vec<_>>(), [false, false, true, true]);
    let notices = notices(&mut connection).await;
    assert!(notices.iter().all(|(topic, key, ..)| (topic.as_str(), key.as_str()) == ("memory.wal.dlq", "k")));
    assert!(notices.iter().all(|(_, _, key, ..)| key.is_none()));
    let (headers, record) = (&notices[2].3, serde_json::from_slice::<Value>(&notices[2].4).unwrap());
    assert_eq!((&headers["own"], &headers["__connect.errors.offset"]), (&json!("1"), &json!("7")));
    assert_eq!((&record["original_event"]["payload"]["id"], &record["retry_count"]), (&json!("p"), &json!(2)));
    let sql = "SELECT subject, action, target_id, details FROM audit_event ORDER BY id";
    let lines: Vec<(String, String, String, Value)> = sqlx::query_as(sql).fetch_all(&mut *connection).await.unwrap();
    let expected = (1..=4).map(|id: i64| {
        let details = json!({"topic": "memory.wal.dlq", "error_class": "apply-failed", "attempts": 2});
        ("system:wal-replicator".to_owned(), "dlq.bury".to_owned(), id.to_string(), details)
    });
    assert_eq!(lines, expected.collect::<Vec<_>>());
}

#[sqlx::test(migrations = "../migrations")]
async fn a_notice_that_is_refused_is_not_buried_again(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let refused = NewDeadLetter { source_topic: "memory.wal.dlq".into(), ..letter(b"{}") };
    assert_eq!(bury(&mut connection, vec![refused], AT).await.unwrap(), Enqueued::default());
    assert!(notices(&mut connection).await.is_empty());
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_sent_again_keeps_its_order_whether_it_names_a_memory_or_not(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let record = |n: &str, memory: Option<&str>| {
        replay::Outgoing::Record(message_outbox::NewBytes {
            tenant: "t".into(),
            session_id: None,
            seq: None,
            topic: "memory.wal".into(),
            key: "k".into(),
            headers: json!({}),
            payload: n.into(),
            dedupe_key: memory.map(str::to_owned),
        })
    };
    let page = vec![record("written", Some("m")), record("taken back", None), record("written again", Some("m"))];
    replay::send(&mut connection, page, AT).await.unwrap();
    let sql = "SELECT convert_from(payload_bytes, 'UTF8') FROM message_outbox ORDER BY id";
    let waiting: Vec<String> = sqlx::query_scalar(sql).fetch_all(&pool).await.unwrap();
    assert_eq!(waiting, ["written", "taken back", "written again"]);
}
