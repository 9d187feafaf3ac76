#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a failed expectation ends the test")]

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use prometheus::Registry;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use somaagent_supervision::{Restart, Strategy, SupervisorSpec, Tree};
use somaagent_test_services::seed::cases;
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::{runtime::Handle, task::LocalSet};

use super::{
    ReplicatorDeps, ReplicatorMetrics, ReplicatorSettings, WalReplicator,
    work::{Step, Work},
};
use crate::{
    bus::{Batch, Log, LogError, LoggedRecord, Position, Reader, Record, table::TableLog},
    domain::{
        ids::Tenant,
        wal::{MEMORY_WAL, record, tombstone},
    },
    store::{Connections, Store},
};

const SCHEDULES: usize = 6;
const RECORDS: usize = 60;
/// One record of so many cannot be applied.
const POISON_EVERY: usize = 7;

fn clock() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + Duration::from_secs(100)
}

fn store(pool: &PgPool) -> Store {
    Store::new(Connections::of_pool(pool.clone()), Duration::from_secs(5), Handle::current())
}

fn deps(store: Store, log: Arc<dyn Log>, group: &str, registry: &Registry) -> ReplicatorDeps {
    ReplicatorDeps {
        store,
        log,
        source: "table",
        tenant: Tenant::new("public").unwrap(),
        crowded: Arc::new(|| false),
        settings: Arc::new(ReplicatorSettings { group: group.into(), batch_size: 4 }),
        metrics: ReplicatorMetrics::register(registry).unwrap(),
        wait: Duration::from_millis(20),
        clock,
    }
}

async fn table(pool: &PgPool) -> TableLog {
    // Members look at every step whether something is free.
    let log = TableLog::new(store(pool), clock).with_lease(Duration::ZERO);
    log.ensure_topics(&[MEMORY_WAL]).await.unwrap();
    log
}

async fn append(log: &TableLog, key: &str, payload: &[u8]) {
    let (topic, key) = (MEMORY_WAL.to_owned(), key.to_owned());
    let record = Record { topic, key, headers: json!({"tenant_id": "t"}), payload: payload.to_vec() };
    log.append(vec![record]).await.remove(0).unwrap();
}

/// What is made later is later.
fn revision() -> i64 {
    static LAST: AtomicI64 = AtomicI64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

fn memory(session: &str, id: &str, content: &str) -> Vec<u8> {
    let payload = json!({"id": id, "role": "user", "persona_id": null, "content": content});
    let at = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(90);
    record("t", session, &payload, &json!({"coord": "1,2,3"}), revision(), at).to_string().into_bytes()
}

/// The ids of a session's memories, in the order in which they came into the replica.
async fn replica(pool: &PgPool, session: &str) -> Vec<String> {
    let sql = "SELECT event_id FROM memory_replica WHERE tenant = 't' AND session_id = $1 ORDER BY id";
    sqlx::query_scalar(sql).bind(session).fetch_all(pool).await.unwrap()
}

async fn letters(pool: &PgPool) -> Vec<(String, Option<Value>, String)> {
    let sql = "SELECT tenant, event, error FROM dlq_messages WHERE topic = 'memory.wal.dlq' ORDER BY id";
    sqlx::query_as(sql).fetch_all(pool).await.unwrap()
}

async fn until_idle(work: &mut Work, deps: &ReplicatorDeps) {
    while work.step(deps).await.unwrap() != Step::Idle {}
}

/// Until the replica is where the log is; a reader that was dropped a moment ago may still have its partitions.
async fn until_level(work: &mut Work, deps: &ReplicatorDeps, pool: &PgPool) {
    let sql = "SELECT (SELECT sum(next_offset) FROM event_log_partitions WHERE topic = 'memory.wal')
                    = (SELECT sum(next_offset) FROM memory_replica_offsets)";
    while !sqlx::query_scalar::<_, Option<bool>>(sql).fetch_one(pool).await.unwrap().unwrap_or_default() {
        work.step(deps).await.unwrap();
    }
}

fn count(registry: &Registry, result: &str) -> String {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == "memory_replicator_events_total").unwrap();
    let metric = family.get_metric().iter().find(|metric| metric.get_label()[0].value() == result).unwrap();
    metric.get_counter().get_value().to_string()
}

#[sqlx::test(migrations = "../migrations")]
async fn whatever_two_replicators_do_at_once_each_record_has_its_effect_once_and_in_order(pool: PgPool) {
    let log = table(&pool).await;
    for case in cases("what is in the log and what is in the replica", SCHEDULES) {
        let seed = case.seed();
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut good, mut bad) = (vec![], 0);
        let session = format!("s{seed}");
        for n in 0..RECORDS {
            if n % POISON_EVERY == 3 {
                append(&log, &session, b"poison").await;
                bad += 1;
            } else {
                good.push(format!("{seed}-{n}"));
                append(&log, &session, &memory(&session, good.last().unwrap(), "x")).await;
            }
        }
        // Two groups read the same records, as a replicator and the one that took its partition from it do.
        let before = letters(&pool).await.len();
        let both: Vec<_> = ["g", "late"]
            .map(|group| deps(store(&pool), Arc::new(log.clone()), group, &Registry::new()))
            .into_iter()
            .map(|deps| (Work::default(), deps))
            .collect();
        let [mut one, mut other]: [_; 2] = both.try_into().unwrap_or_else(|_| unreachable!());
        for _ in 0..RECORDS / 4 {
            match rng.random_range(0..4) {
                0 => assert!(one.0.step(&one.1).await.is_ok()),
                1 => assert!(other.0.step(&other.1).await.is_ok()),
                2 => one.0 = Work::default(),
                _ => {
                    let (one, other) = tokio::join!(one.0.step(&one.1), other.0.step(&other.1));
                    one.unwrap();
                    other.unwrap();
                }
            }
        }
        until_level(&mut one.0, &one.1, &pool).await;
        until_idle(&mut other.0, &other.1).await;
        assert_eq!(replica(&pool, &session).await, good, "seed {seed}");
        assert_eq!(letters(&pool).await.len() - before, bad, "seed {seed}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_record_that_cannot_be_applied_is_a_dead_letter_and_the_others_are_applied(pool: PgPool) {
    let log = table(&pool).await;
    let registry = Registry::new();
    let deps = deps(store(&pool), Arc::new(log.clone()), "g", &registry);
    let bad = [
        (b"\xff no text".to_vec(), "it is no record of a memory"),
        (br#"{"type":"task","tenant":"theirs"}"#.to_vec(), "it is no record of a memory"),
        (br#"{"type":"memory.write","payload":{"id":"e"}}"#.to_vec(), "it has no tenant"),
        (memory("s", "nul", "a\0b"), "the database refused it"),
        (memory("s", "nul\0", "in its name"), "the database refused it"),
        (memory("s", &noise(9_000), "too long a name for an index"), "the database refused it"),
        (
            br#"{"type":"memory.write","tenant":"t","payload":{"id":"e","c":"\ud800"}}"#.to_vec(),
            "the database refused it",
        ),
    ];
    for (n, (bytes, _)) in bad.iter().enumerate() {
        append(&log, "s", &memory("s", &format!("good {n}"), "x")).await;
        append(&log, "s", bytes).await;
    }
    until_level(&mut Work::default(), &deps, &pool).await;
    let good: Vec<String> = (0..bad.len()).map(|n| format!("good {n}")).collect();
    assert_eq!(replica(&pool, "s").await, good);
    let letters = letters(&pool).await;
    assert_eq!(letters.len(), bad.len(), "{letters:#?}");
    for ((_, _, error), (_, reason)) in letters.iter().zip(&bad) {
        assert!(error.contains(reason), "{error} instead of {reason}");
    }
    let tenants: Vec<&str> = letters.iter().map(|(tenant, ..)| tenant.as_str()).collect();
    assert_eq!(tenants, ["t", "theirs", "t", "t", "t", "t", "t"], "the record's own, else its header's");
    assert_eq!((count(&registry, "ok"), count(&registry, "error")), ("7".to_owned(), "7".to_owned()));
}

/// A text that does not get shorter by compression.
fn noise(length: usize) -> String {
    let mut rng = StdRng::seed_from_u64(7);
    (0..length).map(|_| char::from(rng.random_range(b'0'..=b'z'))).collect()
}

#[sqlx::test(migrations = "../migrations")]
async fn a_record_that_comes_again_changes_nothing_and_a_later_one_of_its_memory_does(pool: PgPool) {
    let log = table(&pool).await;
    let deps = deps(store(&pool), Arc::new(log.clone()), "g", &Registry::new());
    append(&log, "s", &memory("s", "a", "first")).await;
    append(&log, "s", &memory("s", "b", "other")).await;
    until_level(&mut Work::default(), &deps, &pool).await;
    // The log was not told of it; the replica knows.
    sqlx::query("UPDATE event_log_offsets SET next_offset = 0").execute(&pool).await.unwrap();
    append(&log, "s", &memory("s", "a", "again")).await;
    until_level(&mut Work::default(), &deps, &pool).await;
    assert_eq!(replica(&pool, "s").await, ["a", "b"]);
    let said: Vec<(String, i64)> =
        sqlx::query_as(r#"SELECT payload ->> 'content', "offset" FROM memory_replica ORDER BY id"#)
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(said, [("again".to_owned(), 2), ("other".to_owned(), 1)]);
    let committed: i64 =
        sqlx::query_scalar("SELECT max(next_offset) FROM event_log_offsets").fetch_one(&pool).await.unwrap();
    assert_eq!(committed, 3, "the log knows what is done with");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_memory_that_is_taken_back_is_gone_until_it_is_told_again(pool: PgPool) {
    let log = table(&pool).await;
    let deps = deps(store(&pool), Arc::new(log.clone()), "g", &Registry::new());
    let back = |id: &str| tombstone("t", "s", id, revision(), clock()).to_string().into_bytes();
    for payload in [memory("s", "a", "x"), memory("s", "b", "x"), back("a"), back("b"), memory("s", "b", "again")] {
        append(&log, "s", &payload).await;
    }
    append(&log, "s", &back("never there")).await;
    until_level(&mut Work::default(), &deps, &pool).await;
    assert_eq!((replica(&pool, "s").await, letters(&pool).await), (vec!["b".to_owned()], vec![]));
}

#[sqlx::test(migrations = "../migrations")]
async fn a_log_that_is_ahead_of_the_replica_is_read_again_and_what_it_lost_is_passed_over(pool: PgPool) {
    let log = table(&pool).await;
    let deps = deps(store(&pool), Arc::new(log.clone()), "g", &Registry::new());
    for id in ["a", "b", "c"] {
        append(&log, "s", &memory("s", id, "x")).await;
    }
    until_level(&mut Work::default(), &deps, &pool).await;
    // The replica comes back from a copy that is older than the log's commits, and the log has forgotten a record.
    for sql in [
        "DELETE FROM memory_replica",
        "UPDATE memory_replica_offsets SET next_offset = 0",
        "DELETE FROM event_log WHERE \"offset\" = 0",
    ] {
        sqlx::query(sql).execute(&pool).await.unwrap();
    }
    append(&log, "s", &memory("s", "d", "x")).await;
    until_level(&mut Work::default(), &deps, &pool).await;
    assert_eq!(replica(&pool, "s").await, ["b", "c", "d"]);
}

/// A log with one partition, which is read in these batches whatever it is told, and which notes that.
#[derive(Clone, Default)]
struct Scripted {
    batches: VecDeque<Vec<LoggedRecord>>,
    told: Arc<Mutex<Vec<String>>>,
    joins: Arc<AtomicUsize>,
    reads: Arc<AtomicUsize>,
    panics: bool,
}

impl Log for Scripted {
    fn append(&self, _: Vec<Record>) -> BoxFuture<'_, Vec<Result<Position, LogError>>> {
        Box::pin(async { vec![] })
    }

    fn join(&self, _: &str, _: &str) -> BoxFuture<'_, Result<Box<dyn Reader>, LogError>> {
        self.joins.fetch_add(1, Ordering::SeqCst);
        let reader: Box<dyn Reader> = Box::new(self.clone());
        Box::pin(async { Ok(reader) })
    }
}

impl Reader for Scripted {
    fn next(&mut self, _: usize, _: Duration) -> BoxFuture<'_, Result<Option<Batch>, LogError>> {
        assert!(!self.panics || self.joins.load(Ordering::SeqCst) > 1, "planted");
        self.reads.fetch_add(1, Ordering::SeqCst);
        let batch = self.batches.pop_front().map(|records| Batch { partition: 0, records });
        Box::pin(async move {
            tokio::task::yield_now().await;
            Ok(batch)
        })
    }

    fn seek(&mut self, at: Position) -> BoxFuture<'_, Result<(), LogError>> {
        self.told.lock().unwrap().push(format!("seek {}", at.offset));
        Box::pin(async { Ok(()) })
    }

    fn commit(&mut self, next: Position) -> BoxFuture<'_, Result<(), LogError>> {
        self.told.lock().unwrap().push(format!("commit {}", next.offset));
        Box::pin(async { Ok(()) })
    }

    fn leave(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}

fn scripted<const N: usize>(batches: [&[(i64, &[u8])]; N]) -> Scripted {
    let record = |(offset, payload): &(i64, &[u8])| LoggedRecord {
        offset: *offset,
        key: Some("s".into()),
        headers: json!({}),
        payload: payload.to_vec(),
        appended_at: clock(),
    };
    let batches = batches.map(|batch| batch.iter().map(record).collect()).into();
    Scripted { batches, ..Scripted::default() }
}

#[sqlx::test(migrations = "../migrations")]
async fn records_that_seem_to_be_missing_are_asked_for_once(pool: PgPool) {
    let (a, b) = (memory("s", "a", "x"), memory("s", "b", "x"));
    let log = scripted([&[(0, &a)], &[(5, &b)], &[(5, &b)]]);
    let deps = deps(store(&pool), Arc::new(log.clone()), "g", &Registry::new());
    until_idle(&mut Work::default(), &deps).await;
    assert_eq!(*log.told.lock().unwrap(), ["commit 1", "seek 1", "commit 6"]);
    assert_eq!(replica(&pool, "s").await, ["a", "b"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn the_next_records_are_read_while_others_are_applied(pool: PgPool) {
    let [a, b, c] = ["a", "b", "c"].map(|id| memory("s", id, "x"));
    let log = scripted([&[(0, &a)], &[(1, &b)], &[(2, &c)]]);
    let deps = deps(store(&pool), Arc::new(log.clone()), "g", &Registry::new());
    let mut work = Work::default();
    work.step(&deps).await.unwrap();
    assert_eq!(*log.told.lock().unwrap(), [""; 0], "there is more to do: the log is told meanwhile");
    let mut held = pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE memory_replica IN EXCLUSIVE MODE").execute(&mut *held).await.unwrap();
    let (outcome, ()) = tokio::join!(work.step(&deps), async {
        while *log.told.lock().unwrap() != ["commit 1"] || log.reads.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
        held.rollback().await.unwrap();
    });
    assert_eq!(outcome.unwrap(), Step::Applied);
    until_idle(&mut work, &deps).await;
    assert_eq!(*log.told.lock().unwrap(), ["commit 1", "commit 2", "commit 3"]);
    assert_eq!(replica(&pool, "s").await, ["a", "b", "c"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn what_was_read_ahead_is_no_gap_when_the_replica_goes_back(pool: PgPool) {
    let [a, b, c] = ["a", "b", "c"].map(|id| memory("s", id, "x"));
    let log = scripted([&[(0, &a)], &[(1, &b)], &[(2, &c)], &[(0, &a)], &[(1, &b)], &[(2, &c)]]);
    let deps = deps(store(&pool), Arc::new(log.clone()), "g", &Registry::new());
    let mut work = Work::default();
    work.step(&deps).await.unwrap();
    for sql in ["DELETE FROM memory_replica", "UPDATE memory_replica_offsets SET next_offset = 0"] {
        sqlx::query(sql).execute(&pool).await.unwrap();
    }
    until_idle(&mut work, &deps).await;
    assert_eq!(replica(&pool, "s").await, ["a", "b", "c"]);
}

#[sqlx::test(migrations = "../migrations")]
async fn without_a_database_nothing_is_committed_and_nothing_is_given_up(pool: PgPool) {
    let log = scripted([&[(0, &memory("s", "a", "x")), (1, b"poison")]]);
    let registry = Registry::new();
    let deps = deps(store(&pool), Arc::new(log.clone()), "g", &registry);
    let nowhere = Store::new(Connections::nowhere().unwrap(), Duration::from_secs(5), Handle::current());
    let away = ReplicatorDeps { store: nowhere, ..deps.clone() };
    let mut work = Work::default();
    for _ in 0..3 {
        work.step(&away).await.unwrap_err();
    }
    assert_eq!(*log.told.lock().unwrap(), [""; 0]);
    assert_eq!(letters(&pool).await, []);
    assert_eq!(lag(&registry), "10", "what waits grows older");
    until_idle(&mut work, &deps).await;
    assert_eq!(*log.told.lock().unwrap(), ["commit 2"]);
    assert_eq!((replica(&pool, "s").await, letters(&pool).await.len()), (vec!["a".to_owned()], 1));
    assert_eq!(lag(&registry), "0", "nothing waits");
}

fn lag(registry: &Registry) -> String {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == "memory_replicator_lag_seconds").unwrap();
    family.get_metric()[0].get_gauge().get_value().to_string()
}

#[sqlx::test(migrations = "../migrations")]
async fn a_replicator_that_panics_starts_afresh_and_goes_on(pool: PgPool) {
    let log = Scripted { panics: true, ..scripted([&[(0, &memory("s", "a", "x"))]]) };
    let registry = Registry::new();
    let deps = deps(store(&pool), Arc::new(log.clone()), "g", &registry);
    LocalSet::new()
        .run_until(async {
            let tree = Tree::new(&registry).unwrap();
            let root = tree.root(SupervisorSpec::new("root", Strategy::OneForOne));
            let seat = root.seat::<WalReplicator>(Restart::Permanent);
            seat.launch(move || WalReplicator::new(deps));
            while replica(&pool, "s").await != ["a"] {
                tokio::task::yield_now().await;
            }
            root.stop(Duration::from_secs(5)).await;
        })
        .await;
    assert_eq!(log.joins.load(Ordering::SeqCst), 2);
}
