#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use serde_json::json;
use sqlx::PgPool;
use tokio::runtime::Handle;

use super::*;
use crate::{
    bus::{Log, Reader, table::TableLog},
    outbox::metrics::OutboxMetrics,
    somabrain::messages::HealthReader,
    store::{Connections, Store, event_log},
};

const TOPIC: &str = "memory.wal";

type Rule = Box<dyn Fn(&Record) -> Result<(), LogError> + Send + Sync>;

/// A log that does to each record what it is told to.
struct Scripted {
    rule: Rule,
    taken: Mutex<Vec<String>>,
}

impl Log for Scripted {
    fn append(&self, records: Vec<Record>) -> BoxFuture<'_, Vec<Result<Position, LogError>>> {
        let place = |record: &Record| {
            (self.rule)(record)?;
            self.taken.lock().unwrap().push(String::from_utf8(record.payload.clone()).unwrap());
            Ok(Position { partition: 0, offset: 0 })
        };
        let results = records.iter().map(place).collect();
        Box::pin(async move { results })
    }

    fn join(&self, _: &str, _: &str) -> BoxFuture<'_, Result<Box<dyn Reader>, LogError>> {
        Box::pin(async { Err(LogError::Unavailable("nobody reads it".into())) })
    }
}

fn clock() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH
}

fn deps(pool: &PgPool, log: Arc<dyn Log>, settings: QueueSettings) -> RelayDeps {
    let store = Store::new(Connections::of_pool(pool.clone()), std::time::Duration::from_secs(5), Handle::current());
    let metrics = OutboxMetrics::register(&prometheus::Registry::new()).unwrap();
    RelayDeps {
        store,
        log,
        health: HealthReader::never(),
        crowded: Arc::new(|| false),
        settings: Arc::new(settings),
        metrics,
        clock,
    }
}

async fn put(pool: &PgPool, key: &str, n: i32) {
    let sql =
        "INSERT INTO message_outbox (tenant, topic, partition_key, payload, next_attempt_at, created_at, updated_at)
               VALUES ('t', $1, $2, $3, $4, $4, $4)";
    let row = sqlx::query(sql).bind(TOPIC).bind(key).bind(json!({"n": n})).bind(clock());
    row.execute(pool).await.unwrap();
}

/// A whole round: how many rows it took, and where the next one begins.
async fn round(deps: &RelayDeps, rows: u32) -> (usize, Place) {
    let Claimed { claim, rows, place } = claim(deps, Place::default(), rows).await.unwrap();
    let count = rows.len();
    if count > 0 {
        send(deps, claim, rows).await.unwrap();
    }
    (count, place)
}

async fn states(pool: &PgPool) -> Vec<(String, String, i32)> {
    let sql = "SELECT partition_key, status, retry_count FROM message_outbox ORDER BY id";
    sqlx::query_as(sql).fetch_all(pool).await.unwrap()
}

#[sqlx::test(migrations = "../migrations")]
async fn records_reach_the_log_in_the_order_of_their_keys(pool: PgPool) {
    let log = TableLog::new(deps_store(&pool), clock);
    log.ensure_topics(&[TOPIC]).await.unwrap();
    for n in 1..=4 {
        put(&pool, "a", n).await;
        put(&pool, "b", n).await;
    }
    let deps = deps(&pool, Arc::new(log), QueueSettings::OUTBOX);
    assert_eq!(round(&deps, 100).await, (8, Place::default()));
    let mut connection = pool.acquire().await.unwrap();
    let mut seen: HashMap<String, Vec<i64>> = HashMap::new();
    for partition in 0..crate::bus::table::PARTITIONS {
        let records =
            event_log::read(&mut connection, TOPIC, partition, 0, event_log::Page { records: 100, bytes: 1 << 20 })
                .await
                .unwrap();
        assert!(records.iter().map(|record| record.offset).eq(0..i64::try_from(records.len()).unwrap()));
        for record in records {
            let event: serde_json::Value = serde_json::from_slice(&record.payload).unwrap();
            seen.entry(record.key.unwrap()).or_default().push(event["n"].as_i64().unwrap());
        }
    }
    assert_eq!((&seen["a"], &seen["b"]), (&vec![1, 2, 3, 4], &vec![1, 2, 3, 4]));
    assert!(states(&pool).await.iter().all(|(_, state, _)| state == "sent"));
    let sql = r#"SELECT count(*) FROM message_outbox AS o
                 JOIN event_log AS l ON l.topic = o.topic AND l.partition = o.log_partition AND l."offset" = o.log_offset
                 WHERE l.payload = convert_to(o.payload::text, 'UTF8')"#;
    let placed: i64 = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
    assert_eq!(placed, 8, "each row knows where in the log its record is");
    assert_eq!(round(&deps, 100).await.0, 0);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_log_that_is_away_is_tried_for_ever_and_nothing_overtakes(pool: PgPool) {
    let rule: Rule = Box::new(|record: &Record| match record.key.as_str() {
        "away" => Err(LogError::Unavailable("no broker".into())),
        _ => Ok(()),
    });
    let log = Arc::new(Scripted { rule, taken: Mutex::default() });
    let settings = QueueSettings { max_retries: 0, backoff_base_seconds: 0.0, ..QueueSettings::OUTBOX };
    let deps = deps(&pool, log.clone(), settings);
    put(&pool, "away", 1).await;
    put(&pool, "away", 2).await;
    put(&pool, "b", 3).await;
    for _ in 0..5 {
        round(&deps, 100).await;
    }
    let expected = [("away", "pending", 5), ("away", "pending", 0), ("b", "sent", 0)];
    assert_eq!(states(&pool).await, expected.map(|(key, state, tries)| (key.into(), state.into(), tries)));
    assert_eq!(*log.taken.lock().unwrap(), [r#"{"n": 3}"#]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_record_the_log_refuses_becomes_one_dead_letter_and_its_key_goes_on(pool: PgPool) {
    let rule: Rule = Box::new(|record: &Record| match record.payload.as_slice() {
        br#"{"n": 1}"# => Err(LogError::Refused("too odd".into())),
        _ => Ok(()),
    });
    let log = Arc::new(Scripted { rule, taken: Mutex::default() });
    let settings = QueueSettings { max_retries: 1, backoff_base_seconds: 0.0, ..QueueSettings::OUTBOX };
    let deps = deps(&pool, log.clone(), settings);
    put(&pool, "a", 1).await;
    put(&pool, "a", 2).await;
    for _ in 0..4 {
        round(&deps, 1).await;
    }
    let states = states(&pool).await;
    // The third is the notice on the topic of dead letters.
    assert_eq!(states.iter().map(|(_, state, _)| state.as_str()).collect::<Vec<_>>(), ["failed", "sent", "sent"]);
    let letter: (String, String, serde_json::Value, String, i32) =
        sqlx::query_as("SELECT tenant, topic, event, error, attempts FROM dlq_messages")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(letter, ("t".into(), "memory.wal.dlq".into(), json!({"n": 1}), "too odd".into(), 2));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_notice_of_a_dead_letter_that_is_refused_too_ends_there(pool: PgPool) {
    let rule: Rule = Box::new(|_: &Record| Err(LogError::Refused("nothing today".into())));
    let log = Arc::new(Scripted { rule, taken: Mutex::default() });
    let settings = QueueSettings { max_retries: 0, backoff_base_seconds: 0.0, ..QueueSettings::OUTBOX };
    let deps = deps(&pool, log, settings);
    put(&pool, "a", 1).await;
    for _ in 0..4 {
        round(&deps, 10).await;
    }
    assert!(states(&pool).await.iter().map(|(_, state, _)| state.as_str()).eq(["failed", "failed"]));
    let letters: i64 = sqlx::query_scalar("SELECT count(*) FROM dlq_messages").fetch_one(&pool).await.unwrap();
    assert_eq!(letters, 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn dead_letters_of_a_topic_are_in_one_partition_that_exists_with_the_topic(pool: PgPool) {
    let log = TableLog::new(deps_store(&pool), clock);
    log.ensure_topics(&[TOPIC]).await.unwrap();
    let record = |key: &str| Record {
        topic: "memory.wal.dlq".into(),
        key: key.into(),
        headers: json!({}),
        payload: b"1".into(),
    };
    let results = log.append(["a", "b", "c", "d", "e"].map(record).into()).await;
    assert!(results.iter().all(|result| result.as_ref().is_ok_and(|place| place.partition == 0)));
}

#[sqlx::test(migrations = "../migrations")]
async fn too_large_a_record_is_refused_alone(pool: PgPool) {
    let log = TableLog::new(deps_store(&pool), clock);
    log.ensure_topics(&[TOPIC]).await.unwrap();
    let record = |payload: Vec<u8>| Record { topic: TOPIC.into(), key: "a".into(), headers: json!({}), payload };
    let large = vec![b' '; crate::bus::MAX_RECORD_BYTES + 1];
    let results = log.append(vec![record(b"1".into()), record(large), record(b"2".into())]).await;
    let offsets: Vec<_> = results.iter().map(|result| result.as_ref().ok().map(|place| place.offset)).collect();
    assert_eq!(offsets, [Some(0), None, Some(1)]);
    assert!(matches!(results[1], Err(LogError::Refused(_))));
}

fn deps_store(pool: &PgPool) -> Store {
    Store::new(Connections::of_pool(pool.clone()), std::time::Duration::from_secs(5), Handle::current())
}
