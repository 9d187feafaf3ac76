#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::cell::Cell;

use serde_json::json;
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::runtime::Handle;

use super::*;
use crate::{
    bus::{Log, Record, partition_of, table::PARTITIONS},
    store::Connections,
};

const TOPIC: &str = "t";
const GROUP: &str = "g";

thread_local! {
    /// Seconds that have gone by; a test runs on one thread.
    static GONE_BY: Cell<i64> = const { Cell::new(0) };
}

fn clock() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(GONE_BY.get())
}

/// A log whose readers renew their lease whenever they are used, and are dead when the clock goes on without them.
async fn log(pool: &PgPool) -> TableLog {
    let connections = Connections::of_pool(pool.clone());
    let store = Store::new(connections, Duration::from_secs(5), Handle::current());
    let log = TableLog::new(store, clock).with_lease(Duration::ZERO);
    log.ensure_topics(&[TOPIC]).await.unwrap();
    log
}

/// A key whose records are in `partition`.
fn key(partition: i32) -> String {
    (0..1_000).map(|n| n.to_string()).find(|key| partition_of(key, PARTITIONS) == partition).unwrap()
}

async fn append(log: &TableLog, partition: i32, payloads: &[&str]) {
    let record = |payload: &&str| Record {
        topic: TOPIC.into(),
        key: key(partition),
        headers: json!({"n": "1"}),
        payload: payload.as_bytes().to_vec(),
    };
    for result in log.append(payloads.iter().map(record).collect()).await {
        result.unwrap();
    }
}

async fn join(log: &TableLog) -> Box<dyn Reader> {
    log.join(GROUP, TOPIC).await.unwrap()
}

/// What is there now, at most `limit` records of one partition.
async fn some(reader: &mut Box<dyn Reader>, limit: usize) -> Option<(i32, Vec<(i64, String)>)> {
    let batch = reader.next(limit, Duration::ZERO).await.unwrap()?;
    let shown = |record: &LoggedRecord| (record.offset, String::from_utf8(record.payload.clone()).unwrap());
    Some((batch.partition, batch.records.iter().map(shown).collect()))
}

#[expect(clippy::unnecessary_wraps, reason = "compared with what may be nothing")]
fn expected(partition: i32, from: i64, payloads: &[&str]) -> Option<(i32, Vec<(i64, String)>)> {
    Some((partition, (from..).zip(payloads.iter().map(|text| (*text).to_owned())).collect()))
}

/// The partitions that `reader` has, by what it may commit.
async fn has(reader: &mut Box<dyn Reader>) -> Vec<i32> {
    drop(some(reader, 1).await);
    let mut own = vec![];
    for partition in 0..PARTITIONS {
        match reader.commit(Position { partition, offset: 0 }).await {
            Ok(()) => own.push(partition),
            Err(error) => assert!(matches!(error, LogError::Lost(_)), "{error}"),
        }
    }
    own
}

#[sqlx::test(migrations = "../migrations")]
async fn a_new_group_begins_with_the_earliest_record_and_goes_on_after_its_commit(pool: PgPool) {
    let log = log(&pool).await;
    append(&log, 1, &["a", "b", "c", "d"]).await;
    let mut reader = join(&log).await;
    assert_eq!(some(&mut reader, 3).await, expected(1, 0, &["a", "b", "c"]));
    reader.commit(Position { partition: 1, offset: 2 }).await.unwrap();
    assert_eq!(some(&mut reader, 3).await, expected(1, 3, &["d"]));
    assert_eq!(some(&mut reader, 3).await, None);
    reader.leave().await;
    assert_eq!(some(&mut join(&log).await, 9).await, expected(1, 2, &["c", "d"]));
    let mut other = log.join("other", TOPIC).await.unwrap();
    assert_eq!(some(&mut other, 9).await, expected(1, 0, &["a", "b", "c", "d"]));
}

#[sqlx::test(migrations = "../migrations")]
async fn partitions_take_turns(pool: PgPool) {
    let log = log(&pool).await;
    for partition in 0..PARTITIONS {
        append(&log, partition, &["a", "b"]).await;
    }
    let mut reader = join(&log).await;
    for (partition, offset, text) in [(0, 0, "a"), (1, 0, "a"), (2, 0, "a"), (0, 1, "b"), (1, 1, "b"), (2, 1, "b")] {
        assert_eq!(some(&mut reader, 1).await, expected(partition, offset, &[text]));
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn members_share_the_partitions_and_keep_what_they_may(pool: PgPool) {
    let log = log(&pool).await;
    let mut first = join(&log).await;
    GONE_BY.set(1);
    assert_eq!(has(&mut first).await, [0, 1, 2]);
    let mut second = join(&log).await;
    assert_eq!(has(&mut second).await, [0; 0], "nothing is free yet");
    assert_eq!(has(&mut first).await, [0, 1]);
    assert_eq!(has(&mut second).await, [2]);
    second.leave().await;
    assert_eq!(has(&mut first).await, [0, 1, 2]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_member_that_lost_its_partition_can_neither_commit_nor_seek(pool: PgPool) {
    let log = log(&pool).await;
    append(&log, 0, &["a", "b"]).await;
    let mut late = join(&log).await;
    assert_eq!(some(&mut late, 1).await, expected(0, 0, &["a"]));
    GONE_BY.set(1);
    let mut heir = join(&log).await;
    assert_eq!(some(&mut heir, 9).await, expected(0, 0, &["a", "b"]));
    heir.commit(Position { partition: 0, offset: 2 }).await.unwrap();
    let next = Position { partition: 0, offset: 1 };
    assert!(matches!(late.commit(next).await, Err(LogError::Lost(_))));
    assert!(matches!(late.seek(next).await, Err(LogError::Lost(_))));
    // Back in the group, it goes on where the heir is.
    drop(some(&mut late, 9).await);
    heir.leave().await;
    append(&log, 0, &["c"]).await;
    assert_eq!(some(&mut late, 9).await, expected(0, 2, &["c"]));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_partition_that_comes_back_to_a_member_does_not_take_commits_of_its_former_time(pool: PgPool) {
    let log = log(&pool).await;
    append(&log, 0, &["a"]).await;
    let mut reader = join(&log).await;
    assert_eq!(some(&mut reader, 1).await, expected(0, 0, &["a"]));
    sqlx::query("UPDATE event_log_offsets SET epoch = epoch + 2").execute(&pool).await.unwrap();
    let next = Position { partition: 0, offset: 1 };
    assert!(matches!(reader.commit(next).await, Err(LogError::Lost(_))));
}

#[sqlx::test(migrations = "../migrations")]
async fn seeking_goes_back_and_forth_and_over_what_was_erased(pool: PgPool) {
    let log = log(&pool).await;
    append(&log, 2, &["a", "b", "c", "d"]).await;
    let mut reader = join(&log).await;
    assert_eq!(some(&mut reader, 9).await, expected(2, 0, &["a", "b", "c", "d"]));
    reader.seek(Position { partition: 2, offset: 1 }).await.unwrap();
    assert_eq!(some(&mut reader, 1).await, expected(2, 1, &["b"]));
    reader.seek(Position { partition: 2, offset: 3 }).await.unwrap();
    assert_eq!(some(&mut reader, 9).await, expected(2, 3, &["d"]));
    sqlx::query("DELETE FROM event_log WHERE \"offset\" < 2").execute(&pool).await.unwrap();
    reader.seek(Position { partition: 2, offset: 0 }).await.unwrap();
    assert_eq!(some(&mut reader, 9).await, expected(2, 2, &["c", "d"]));
    sqlx::query("DELETE FROM event_log").execute(&pool).await.unwrap();
    reader.seek(Position { partition: 2, offset: 0 }).await.unwrap();
    assert_eq!(some(&mut reader, 9).await, None);
    append(&log, 2, &["e"]).await;
    assert_eq!(some(&mut reader, 9).await, expected(2, 4, &["e"]));
}

#[sqlx::test(migrations = "../migrations")]
async fn records_are_removed_when_they_are_old_and_every_group_has_passed_them(pool: PgPool) {
    let log = log(&pool).await;
    append(&log, 0, &["a", "b", "c", "d"]).await;
    append(&log, 1, &["e"]).await;
    let mut reader = join(&log).await;
    log.ensure_group("never joined", TOPIC).await.unwrap();
    GONE_BY.set(10);
    append(&log, 0, &["young"]).await;
    drop(some(&mut reader, 9).await);
    for (partition, offset) in [(0, 5), (1, 1)] {
        reader.commit(Position { partition, offset }).await.unwrap();
    }
    let purge = async || {
        let mut connection = pool.acquire().await.unwrap();
        let before = OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(5);
        event_log::purge(&mut connection, before, 2).await.unwrap()
    };
    assert_eq!(purge().await, 0, "a group has read nothing");
    let sql = "UPDATE event_log_offsets SET next_offset = 3 WHERE group_name = 'never joined' AND partition = 0";
    sqlx::query(sql).execute(&pool).await.unwrap();
    assert_eq!((purge().await, purge().await, purge().await), (2, 1, 0), "a few at a time, up to the slowest group");
    sqlx::query("DELETE FROM event_log_offsets").execute(&pool).await.unwrap();
    assert_eq!((purge().await, purge().await), (2, 0), "without readers by time only");
    let left: Vec<Vec<u8>> = sqlx::query_scalar("SELECT payload FROM event_log").fetch_all(&pool).await.unwrap();
    assert_eq!(left, [b"young"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_reader_that_waits_is_woken_by_an_append(pool: PgPool) {
    // Neither its lease nor the clock makes it look: nothing else than the append does.
    let never = Duration::from_hours(1);
    let log = log(&pool).await.with_lease(never).with_looks(never);
    let mut reader = join(&log).await;
    for _ in 0..5 {
        let (batch, ()) = tokio::join!(reader.next(9, Duration::from_mins(1)), append(&log, 0, &["a"]));
        assert_eq!(batch.unwrap().unwrap().records.len(), 1);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn records_of_another_process_are_found_by_looking(pool: PgPool) {
    let mut reader = join(&log(&pool).await).await;
    let elsewhere = log(&pool).await;
    let (batch, ()) = tokio::join!(reader.next(9, Duration::from_secs(30)), append(&elsewhere, 0, &["a"]));
    assert_eq!(batch.unwrap().unwrap().records.len(), 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_reader_that_is_dropped_leaves_its_group_at_once(pool: PgPool) {
    let log = log(&pool).await;
    let reader = join(&log).await;
    let mut other = join(&log).await;
    drop(reader);
    while has(&mut other).await != [0, 1, 2] {}
}

#[sqlx::test(migrations = "../migrations")]
async fn a_batch_is_bounded_in_bytes_and_is_never_empty_for_that(pool: PgPool) {
    let log = log(&pool).await;
    let large = "x".repeat(5 << 20);
    append(&log, 0, &["y".repeat(9 << 20).as_str()]).await;
    append(&log, 0, &[&large, &large, &large, "z"]).await;
    let mut reader = join(&log).await;
    for records in [1, 2, 2] {
        let batch = reader.next(99, Duration::ZERO).await.unwrap().unwrap();
        assert_eq!(batch.records.len(), records, "from {}", batch.records[0].offset);
    }
}

#[tokio::test]
async fn a_reader_without_a_database_says_so() {
    let connections = Connections::nowhere().unwrap();
    let store = Store::new(connections, Duration::from_secs(5), Handle::current());
    let joined = TableLog::new(store, clock).join(GROUP, TOPIC).await;
    assert!(matches!(joined.err(), Some(LogError::Unavailable(_))));
}
