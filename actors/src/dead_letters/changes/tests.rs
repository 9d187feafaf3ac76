#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation ends the test")]

use std::sync::Arc;

use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::runtime::Handle;

use super::*;
use crate::{
    dead_letters::{job, keeper::purge_jobs, metrics::DeadLetterMetrics, settings::DeadLetterSettings},
    domain::{
        dead_letter::{Failure, HISTORY_HEADER, Origin},
        ids::Tenant,
    },
    store::{
        Connections, Store,
        dead_letters::{NewDeadLetter, bury},
        wall::within,
    },
};

const TOPIC: &str = "memory.wal.dlq";

fn clock() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH
}

fn deps(pool: &PgPool) -> KeeperDeps {
    let store = Store::new(Connections::of_pool(pool.clone()), std::time::Duration::from_secs(5), Handle::current());
    KeeperDeps {
        store,
        crowded: Arc::new(|| false),
        settings: Arc::new(DeadLetterSettings { page_letters: 2, ..DeadLetterSettings::default() }),
        metrics: DeadLetterMetrics::register(&prometheus::Registry::new()).unwrap(),
        clock,
    }
}

fn caller(tenant: &str) -> Caller {
    let tenant = Tenant::new(tenant).unwrap();
    Caller::new(tenant, Uuid::new_v4())
}

fn letter(origin: Origin, original: &[u8], error: &str) -> NewDeadLetter {
    NewDeadLetter {
        tenant: "t".into(),
        source_topic: "memory.wal".into(),
        key: Some("k".into()),
        headers: json!({"own": "1"}),
        original: original.to_vec(),
        failure: Failure { error: error.into(), class: "odd", code: None, tries: 2 },
        origin,
        session_id: Some(Uuid::nil()),
        seq: Some(3),
        position: None,
    }
}

/// Buries letters and returns their numbers.
async fn buried(pool: &PgPool, letters: Vec<NewDeadLetter>) -> Vec<i64> {
    let mut connection = pool.acquire().await.unwrap();
    bury(&mut connection, letters, clock()).await.unwrap();
    ids(pool).await
}

async fn ids(pool: &PgPool) -> Vec<i64> {
    sqlx::query_scalar("SELECT id FROM dlq_messages ORDER BY id").fetch_all(pool).await.unwrap()
}

type Waiting = (String, Value, Vec<u8>);

/// What waits for the topic itself, beside the notices.
async fn waiting(pool: &PgPool) -> Vec<Waiting> {
    let sql = "SELECT partition_key, headers, payload_bytes FROM message_outbox WHERE topic = 'memory.wal' ORDER BY id";
    sqlx::query_as(sql).fetch_all(pool).await.unwrap()
}

/// What was done with letters, besides making them.
async fn audited(pool: &PgPool) -> Vec<String> {
    let sql = "SELECT action FROM audit_event WHERE action <> 'dlq.bury' ORDER BY id";
    sqlx::query_scalar(sql).fetch_all(pool).await.unwrap()
}

#[sqlx::test(migrations = "../migrations")]
async fn a_letter_goes_back_byte_by_byte_and_only_once(pool: PgPool) {
    let deps = deps(&pool);
    let id = buried(&pool, vec![letter(Origin::Replicator, b"\xff{ }", "odd")]).await[0];
    let again = |tenant| reprocess(&deps, caller(tenant), TOPIC.into(), id, None);
    assert!(matches!(again("other").await, Err(ChangeError::NotFound)), "another tenant's");
    assert_eq!(again("t").await.unwrap(), "memory.wal");
    assert!(matches!(again("t").await, Err(ChangeError::NotFound)));
    let sent = waiting(&pool).await;
    assert_eq!((sent.len(), sent[0].0.as_str(), sent[0].2.as_slice()), (1, "k", &b"\xff{ }"[..]));
    assert_eq!(sent[0].1["own"], "1");
    assert!(ids(&pool).await.is_empty());
    assert_eq!(audited(&pool).await, ["admin.dlq.reprocess"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_record_that_fails_again_keeps_its_history(pool: PgPool) {
    let deps = deps(&pool);
    let id = buried(&pool, vec![letter(Origin::Outbox, b"{}", "first")]).await[0];
    reprocess(&deps, caller("t"), TOPIC.into(), id, None).await.unwrap();
    let (_, headers, original) = waiting(&pool).await.remove(0);
    assert!(headers[HISTORY_HEADER].is_string());
    buried(&pool, vec![NewDeadLetter { headers, ..letter(Origin::Outbox, &original, "second") }]).await;
    let sql = "SELECT headers, attempts, history FROM dlq_messages";
    let (headers, attempts, history): (Value, i32, Value) = sqlx::query_as(sql).fetch_one(&pool).await.unwrap();
    assert_eq!((headers, attempts), (json!({"own": "1"}), 4));
    assert_eq!((&history[0]["error"], &history[1]["error"]), (&json!("first"), &json!("second")));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_memory_goes_back_into_its_queue_with_its_history(pool: PgPool) {
    let deps = deps(&pool);
    let event = json!({"tenant": "t", "payload": {"id": "e", "idempotency_key": "i", "content": "hi"}});
    let id = buried(&pool, vec![letter(Origin::Memory, event.to_string().as_bytes(), "no")]).await[0];
    reprocess(&deps, caller("t"), TOPIC.into(), id, None).await.unwrap();
    let sql = "SELECT payload, idempotency_key, seq, history FROM memory_write_outbox";
    let row: (Value, String, Option<i64>, Value) = sqlx::query_as(sql).fetch_one(&pool).await.unwrap();
    assert_eq!((&row.0, row.1.as_str(), row.2), (&event["payload"], "i", Some(3)));
    assert_eq!(row.3[0]["error"], "no");
    assert!(waiting(&pool).await.is_empty());
}

/// A row of the queue of memories for `e`.
fn written(status: &str, revision: &str, second: i64) -> String {
    format!(
        "INSERT INTO memory_write_outbox (tenant, session_id, payload, idempotency_key, dedupe_key, status, revision,
             next_attempt_at, created_at, updated_at)
         SELECT 't', gen_random_uuid(), '{{\"id\": \"e\"}}', 'k', 'e', '{status}', {revision}, t, t, t
         FROM to_timestamp({second}) AS t"
    )
}

/// A record of `e` in the outbox.
fn published(status: &str, revision: i64) -> String {
    format!(
        "INSERT INTO message_outbox (tenant, topic, partition_key, payload, dedupe_key, status, next_attempt_at, created_at,
             updated_at)
         SELECT 't', 'memory.wal', 'k', '{{\"revision\": {revision}}}', 'e', '{status}', now(), now(), now()"
    )
}

fn copied(revision: &str, second: i64) -> String {
    format!(
        "INSERT INTO memory_replica (tenant, event_id, payload, revision, topic, partition, \"offset\", sha256, created_at)
         VALUES ('t', 'e', '{{}}', {revision}, 'memory.wal', 1, 7, '', to_timestamp({second}))"
    )
}

fn taken_back(revision: i64) -> String {
    format!(
        "INSERT INTO memory_tombstones (tenant, event_id, revision, source, topic, partition, \"offset\", created_at)
         VALUES ('t', 'e', {revision}, 'table', 'memory.wal', 1, 7, now())"
    )
}

/// A record of `e`; letters are kept at second 0.
fn record_of(said: &str, revision: Option<i64>) -> Value {
    let mut record = json!({"type": "memory.write", "tenant": "t", "payload": {"id": "e", "content": said}});
    if let Some(revision) = revision {
        record["revision"] = revision.into();
    }
    record
}

async fn known(pool: &PgPool, sql: String) {
    let tables = "TRUNCATE dlq_messages, memory_write_outbox, message_outbox, memory_replica, memory_tombstones";
    sqlx::raw_sql(tables).execute(pool).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(pool).await.unwrap();
}

#[sqlx::test(migrations = "../migrations")]
async fn a_letter_that_would_undo_a_later_version_stays_unless_it_is_sent_with_its_content(pool: PgPool) {
    let deps = deps(&pool);
    for (sql, revision, stays) in [
        (written("pending", "8", -9), Some(7), true),
        (written("pending", "6", 9), Some(7), false),
        (written("sent", "8", -9), Some(7), true),
        (written("sent", "6", 9), Some(7), false),
        (written("failed", "8", 9), Some(7), false),
        // The row's own number.
        (written("sent", "NULL", -9), Some(7), true),
        (written("sent", "NULL", 9), Some(i64::MAX), false),
        (published("pending", 8), Some(7), true),
        (published("sent", 8), Some(7), true),
        (published("sent", 6), Some(7), false),
        (published("failed", 8), Some(7), false),
        (copied("8", -9), Some(7), true),
        (copied("6", 9), Some(7), false),
        (copied("NULL", 9), Some(7), false),
        (taken_back(8), Some(7), true),
        (taken_back(6), Some(7), false),
        // One that tells no revision.
        (written("pending", "NULL", -9), None, true),
        (written("sent", "NULL", 9), None, true),
        (written("sent", "NULL", -9), None, false),
        (copied("NULL", 9), None, true),
        (copied("8", -9), None, false),
    ] {
        known(&pool, sql.clone()).await;
        let record = record_of("one", revision);
        let id = buried(&pool, vec![letter(Origin::Memory, record.to_string().as_bytes(), "no")]).await[0];
        let sent = reprocess(&deps, caller("t"), TOPIC.into(), id, None).await;
        assert_eq!(matches!(sent, Err(ChangeError::Superseded)), stays, "{sql} {revision:?}: {sent:?}");
        assert_eq!(ids(&pool).await.len(), usize::from(stays), "{sql} {revision:?}");
        if stays {
            reprocess(&deps, caller("t"), TOPIC.into(), id, Some(record)).await.unwrap();
            assert!(ids(&pool).await.is_empty());
        }
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_sent_again_is_as_old_as_it_was_and_what_is_mended_is_new(pool: PgPool) {
    let deps = deps(&pool);
    let sql = "SELECT COALESCE(revision, id), id FROM memory_write_outbox";
    let rows = async || sqlx::query_as::<_, (i64, i64)>(sql).fetch_one(&pool).await.unwrap();
    for mended in [false, true] {
        known(&pool, "SELECT".into()).await;
        let record = record_of("one", Some(7));
        let id = buried(&pool, vec![letter(Origin::Memory, record.to_string().as_bytes(), "no")]).await[0];
        reprocess(&deps, caller("t"), TOPIC.into(), id, mended.then_some(record)).await.unwrap();
        let (revision, id) = rows().await;
        assert!(if mended { revision == id - 1 } else { revision == 7 }, "{revision} {id}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn an_order_leaves_letters_alone_that_would_undo_a_later_version(pool: PgPool) {
    let deps = deps(&pool);
    // The first of the two is the later version: the other one was refused once more.
    let letters = [7, 6].map(|revision| record_of("it", Some(revision)).to_string().into_bytes());
    let letters = letters.iter().map(|record| letter(Origin::Memory, record, "no")).collect();
    let first = buried(&pool, letters).await[0];
    let order = reprocess_all(&deps, caller("t"), TOPIC.into(), LetterFilter::default(), 10).await.unwrap();
    while job::next_page(&deps).await.unwrap() {}
    let sql = "SELECT status, reprocessed, failed FROM dlq_jobs WHERE id = $1";
    let done: (String, i64, i64) = sqlx::query_as(sql).bind(order.id).fetch_one(&pool).await.unwrap();
    assert_eq!((done, ids(&pool).await), (("completed".to_owned(), 1, 1), vec![first + 1]));
    let sent = "SELECT array_agg(revision) FROM memory_write_outbox";
    assert_eq!(sqlx::query_scalar::<_, Vec<i64>>(sent).fetch_one(&pool).await.unwrap(), [7]);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_is_sent_with_its_content_is_the_last_word_on_its_memory(pool: PgPool) {
    let deps = deps(&pool);
    let id = buried(&pool, vec![letter(Origin::Replicator, b"odd", "no")]).await[0];
    let event = json!({"type": "memory.write", "tenant": "t", "payload": {"id": "e"}, "timestamp": 1_700_000_000});
    reprocess(&deps, caller("t"), TOPIC.into(), id, Some(event)).await.unwrap();
    let (_, _, record) = waiting(&pool).await.remove(0);
    let record: Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["timestamp"], 0.0, "the clock of this test");
    let mut connection = pool.acquire().await.unwrap();
    let next = memory_write_outbox::next_revision(&mut connection).await.unwrap();
    assert_eq!(record["revision"], next - 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn an_edit_that_leaves_the_tenant_or_spoils_the_record_changes_nothing(pool: PgPool) {
    let deps = deps(&pool);
    let event = json!({"tenant": "t", "payload": {"id": "e"}});
    let id = buried(&pool, vec![letter(Origin::Memory, event.to_string().as_bytes(), "no")]).await[0];
    // More than an index can hold, and nothing that would make it shorter.
    let long: String = (0..300).map(|n: u16| Uuid::new_v5(&Uuid::nil(), &n.to_be_bytes()).to_string()).collect();
    for bad in [
        json!({"tenant": "t", "payload": {"id": long}}),
        json!({"tenant": "other", "payload": {"id": "e"}}),
        json!({"tenant": "t", "metadata": {"tenant": "other"}, "payload": {"id": "e"}}),
        json!({"payload": {"id": "e"}}),
        json!({"tenant": "t", "payload": {"id": 7}}),
        json!({"tenant": "t", "payload": "e"}),
    ] {
        let outcome = reprocess(&deps, caller("t"), TOPIC.into(), id, Some(bad.clone())).await;
        let shown: String = bad.to_string().chars().take(80).collect();
        assert!(matches!(outcome, Err(ChangeError::Unusable(_))), "{shown}: {outcome:?}");
    }
    assert_eq!((ids(&pool).await, audited(&pool).await.len()), (vec![id], 0));
    let good = json!({"tenant": "t", "payload": {"id": "e", "content": "mended"}});
    reprocess(&deps, caller("t"), TOPIC.into(), id, Some(good)).await.unwrap();
    let row: Value = sqlx::query_scalar("SELECT to_jsonb(a) FROM audit_event AS a WHERE action <> 'dlq.bury'")
        .fetch_one(&pool)
        .await
        .unwrap();
    let (before, after) = (&row["diff"]["record"]["before"], &row["diff"]["record"]["after"]);
    assert!(before.is_string() && after.is_string() && before != after, "{row}");
    assert!(row["details"]["edited"]["after"].is_number() && !row.to_string().contains("mended"), "{row}");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_purge_takes_what_was_confirmed_and_nothing_that_came_later(pool: PgPool) {
    let deps = deps(&pool);
    let odd = || letter(Origin::Outbox, b"{}", "odd");
    buried(&pool, vec![odd(), odd()]).await;
    buried(&pool, vec![NewDeadLetter { tenant: "other".into(), ..odd() }]).await;
    let go = |token: Option<String>| purge(&deps, caller("t"), TOPIC.into(), token);
    let Err(ChangeError::Unconfirmed { token, letters }) = go(None).await else { panic!("purged at once") };
    assert_eq!(letters, 2);
    for wrong in ["", "x", "9-9-0000000000000000"] {
        let outcome = go(Some(wrong.into())).await;
        assert!(matches!(&outcome, Err(ChangeError::Unconfirmed { token: right, .. }) if *right == token), "{wrong}");
    }
    let all = buried(&pool, vec![odd()]).await;
    assert_eq!(go(Some(token.clone())).await.unwrap(), 2);
    assert_eq!(go(Some(token)).await.unwrap(), 0);
    assert_eq!(ids(&pool).await, all[2..], "the other tenant's and the later one are left");
    assert_eq!(audited(&pool).await, ["admin.dlq.purge"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn an_older_letter_that_was_committed_late_is_not_purged_unseen(pool: PgPool) {
    let deps = deps(&pool);
    let odd = || letter(Origin::Outbox, b"{}", "odd");
    let mut late = pool.begin().await.unwrap();
    bury(&mut late, vec![odd()], clock()).await.unwrap();
    buried(&pool, vec![odd()]).await;
    let go = |token: Option<String>| purge(&deps, caller("t"), TOPIC.into(), token);
    let Err(ChangeError::Unconfirmed { token, .. }) = go(None).await else { panic!("purged at once") };
    late.commit().await.unwrap();
    let Err(ChangeError::Unconfirmed { letters, .. }) = go(Some(token)).await else { panic!("purged unseen") };
    assert_eq!((letters, ids(&pool).await.len()), (2, 2));
}

#[sqlx::test(migrations = "../migrations")]
async fn an_order_sends_what_matched_when_it_was_given_page_by_page(pool: PgPool) {
    let deps = deps(&pool);
    let numbered = |n: i32| letter(Origin::Outbox, format!("{n}").as_bytes(), if n == 2 { "other" } else { "Odd" });
    buried(&pool, (0..6).map(numbered).collect()).await;
    let filter = LetterFilter { containing: Some("oDD".into()), ..LetterFilter::default() };
    let begun = reprocess_all(&deps, caller("t"), TOPIC.into(), filter, 4).await.unwrap();
    assert_eq!((begun.status.as_str(), begun.total), ("running", 4));
    buried(&pool, vec![numbered(9)]).await;
    assert!(job::next_page(&deps).await.unwrap());
    assert_eq!(waiting(&pool).await.len(), 2, "a page at a time");
    // Two at once do no page twice.
    while tokio::try_join!(job::next_page(&deps), job::next_page(&deps)).unwrap() != (false, false) {}
    let sent = waiting(&pool).await;
    assert_eq!(sent.iter().map(|(_, _, bytes)| bytes.as_slice()).collect::<Vec<_>>(), [b"0", b"1", b"3", b"4"]);
    let mut connection = pool.acquire().await.unwrap();
    let done =
        within(&mut connection, "t", async |rows| dlq_jobs::get(rows, "t", TOPIC, begun.id).await).await.unwrap();
    assert_eq!((done.status.as_str(), done.reprocessed, done.failed), ("completed", 4, 0));
    assert!(
        within(&mut connection, "t", async |rows| dlq_jobs::get(rows, "other", TOPIC, begun.id).await).await.is_none()
    );
    assert_eq!(ids(&pool).await.len(), 3);
}

#[sqlx::test(migrations = "../migrations")]
async fn an_order_that_is_cancelled_sends_no_further_page(pool: PgPool) {
    let deps = deps(&pool);
    buried(&pool, (0..6).map(|_| letter(Origin::Outbox, b"{}", "odd")).collect()).await;
    let order = || reprocess_all(&deps, caller("t"), TOPIC.into(), LetterFilter::default(), 100);
    let begun = order().await.unwrap();
    assert!(job::next_page(&deps).await.unwrap());
    let end = |tenant: &str, topic: &str| cancel(&deps, caller(tenant), topic.to_owned(), begun.id);
    for (tenant, topic) in [("other", TOPIC), ("t", "other.dlq")] {
        assert!(matches!(end(tenant, topic).await, Err(ChangeError::NoSuchJob)), "{tenant} {topic}");
    }
    let ended = end("t", TOPIC).await.unwrap();
    assert_eq!((ended.status.as_str(), ended.reprocessed), ("cancelled", 2));
    assert!(!job::next_page(&deps).await.unwrap());
    assert_eq!(ids(&pool).await.len(), 4, "the others are left");
    assert_eq!(end("t", TOPIC).await.unwrap().status, "cancelled");
    let actions = ["admin.dlq.reprocess_all", "admin.dlq.reprocess_page", "admin.dlq.cancel"];
    assert_eq!(audited(&pool).await, actions, "over is over, once");
    let whole = order().await.unwrap();
    while job::next_page(&deps).await.unwrap() {}
    let done = cancel(&deps, caller("t"), TOPIC.into(), whole.id).await.unwrap();
    assert_eq!((done.status.as_str(), done.reprocessed), ("completed", 4));
    assert_eq!(audited(&pool).await.last().map(String::as_str), Some("admin.dlq.reprocess_end"));
}

#[sqlx::test(migrations = "../migrations")]
async fn orders_that_are_long_over_are_forgotten_and_running_ones_are_not(pool: PgPool) {
    fn later() -> OffsetDateTime {
        clock() + time::Duration::days(8)
    }
    let deps = deps(&pool);
    let order = || reprocess_all(&deps, caller("t"), TOPIC.into(), LetterFilter::default(), 100);
    let (over, ended) = (order().await.unwrap(), order().await.unwrap());
    assert_eq!(over.status, "completed", "there was nothing to do");
    sqlx::query("UPDATE dlq_jobs SET status = 'running' WHERE id = $1").bind(ended.id).execute(&pool).await.unwrap();
    cancel(&deps, caller("t"), TOPIC.into(), ended.id).await.unwrap();
    buried(&pool, vec![letter(Origin::Outbox, b"{}", "odd")]).await;
    let running = order().await.unwrap();
    let left = async || sqlx::query_scalar::<_, Uuid>("SELECT id FROM dlq_jobs").fetch_all(&pool).await.unwrap();
    purge_jobs(&deps).await.unwrap();
    assert_eq!(left().await.len(), 3, "they are still shown");
    purge_jobs(&KeeperDeps { clock: later, ..deps.clone() }).await.unwrap();
    assert_eq!(left().await, [running.id]);
    let sql = "SELECT subject, details FROM audit_event WHERE action = 'dlq.order.purge'";
    let (subject, details): (String, Value) = sqlx::query_as(sql).fetch_one(&pool).await.unwrap();
    assert_eq!((subject.as_str(), &details["count"]), ("system:dlq-keeper", &json!(2)));
    for id in [over.id, ended.id] {
        assert!(details["ids"].as_array().unwrap().contains(&json!(id)), "{details}");
    }
}
