#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use futures_util::future::BoxFuture;
use prometheus::Registry;
use serde_json::json;
use somaagent_supervision::{Port, Restart, Strategy, SupervisorSpec, Tree};
use sqlx::PgPool;
use tokio::{runtime::Handle, sync::Semaphore, task::LocalSet};

use super::*;
use crate::{
    bus::{LogError, Position, Reader, Record},
    store::Connections,
};

/// A log that takes records of the key `slow` only when it is told to, and panics once if it is told to.
#[derive(Default)]
struct Gated {
    gate: Option<Semaphore>,
    panics: std::sync::atomic::AtomicBool,
}

impl Log for Gated {
    fn append(&self, records: Vec<Record>) -> BoxFuture<'_, Vec<Result<Position, LogError>>> {
        Box::pin(async move {
            assert!(!self.panics.swap(false, std::sync::atomic::Ordering::SeqCst), "planted");
            if let Some(gate) = self.gate.as_ref().filter(|_| records.iter().any(|record| record.key == "slow")) {
                gate.acquire().await.unwrap().forget();
            }
            records.iter().map(|_| Ok(Position { partition: 0, offset: 0 })).collect()
        })
    }

    fn join(&self, _: &str, _: &str) -> BoxFuture<'_, Result<Box<dyn Reader>, LogError>> {
        Box::pin(async { Err(LogError::Unavailable("nobody reads it".into())) })
    }
}

fn clock() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH
}

/// The clock after a lease is over.
fn later() -> OffsetDateTime {
    clock() + QueueSettings::OUTBOX.lease()
}

fn deps(pool: &PgPool, log: Arc<Gated>, registry: &Registry) -> RelayDeps {
    RelayDeps {
        store: Store::new(Connections::of_pool(pool.clone()), Duration::from_secs(5), Handle::current()),
        log,
        health: HealthReader::never(),
        crowded: Arc::new(|| false),
        settings: Arc::new(QueueSettings { batch_size: 1, interval_seconds: 0.01, ..QueueSettings::OUTBOX }),
        metrics: OutboxMetrics::register(registry).unwrap(),
        clock,
    }
}

async fn put(pool: &PgPool, keys: &[&str]) {
    for key in keys {
        let sql =
            "INSERT INTO message_outbox (tenant, topic, partition_key, payload, next_attempt_at, created_at, updated_at)
             VALUES ('t', 'memory.wal', $1, $2, $3, $3, $3)";
        sqlx::query(sql).bind(key).bind(json!({})).bind(clock()).execute(pool).await.unwrap();
    }
}

async fn until_unsent(pool: &PgPool, keys: &[&str]) {
    let sql = "SELECT partition_key FROM message_outbox WHERE status <> 'sent' ORDER BY id";
    while sqlx::query_scalar::<_, String>(sql).fetch_all(pool).await.unwrap() != keys {
        tokio::task::yield_now().await;
    }
}

async fn with_relay(
    registry: &Registry,
    make: impl Fn() -> OutboxRelay + Send + 'static,
    meanwhile: impl AsyncFnOnce(Port<Finish>),
) {
    LocalSet::new()
        .run_until(async {
            let tree = Tree::new(registry).unwrap();
            let root = tree.root(SupervisorSpec::new("root", Strategy::OneForOne));
            let seat = root.seat::<OutboxRelay>(Restart::Permanent);
            let finish = seat.port("finish", 1);
            seat.launch(make);
            meanwhile(finish).await;
            root.stop(Duration::from_secs(5)).await;
        })
        .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_key_that_the_log_is_slow_to_take_holds_up_only_itself(pool: PgPool) {
    let (registry, log) = (Registry::new(), Arc::new(Gated { gate: Some(Semaphore::new(0)), ..Gated::default() }));
    let deps = deps(&pool, Arc::clone(&log), &registry);
    put(&pool, &["slow", "a", "slow", "b", "a"]).await;
    with_relay(
        &registry,
        move || OutboxRelay::new(deps.clone()),
        async |_| {
            until_unsent(&pool, &["slow", "slow"]).await;
            log.gate.as_ref().unwrap().add_permits(2);
            until_unsent(&pool, &[]).await;
        },
    )
    .await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_relay_that_panics_starts_afresh_and_what_it_held_returns_with_its_lease(pool: PgPool) {
    let (registry, log) = (Registry::new(), Arc::new(Gated { panics: true.into(), ..Gated::default() }));
    let deps = deps(&pool, Arc::clone(&log), &registry);
    put(&pool, &["a", "b"]).await;
    let first = deps.clone();
    with_relay(&registry, move || OutboxRelay::new(first.clone()), |_| until_unsent(&pool, &["a"])).await;
    let second = RelayDeps { clock: later, ..deps };
    let registry = Registry::new();
    with_relay(&registry, move || OutboxRelay::new(second.clone()), |_| until_unsent(&pool, &[])).await;
}

#[sqlx::test(migrations = "../migrations")]
async fn a_relay_that_finishes_lets_arrive_what_is_on_its_way_and_begins_nothing(pool: PgPool) {
    let (registry, log) = (Registry::new(), Arc::new(Gated { gate: Some(Semaphore::new(0)), ..Gated::default() }));
    let deps = deps(&pool, Arc::clone(&log), &registry);
    put(&pool, &["slow"]).await;
    with_relay(
        &registry,
        move || OutboxRelay::new(deps.clone()),
        async |finish| {
            let leased = "SELECT count(*) FROM outbox_leases";
            while sqlx::query_scalar::<_, i64>(leased).fetch_one(&pool).await.unwrap() == 0 {
                tokio::task::yield_now().await;
            }
            let finished = finish.call(|reply| Finish { reply }, Duration::from_secs(30));
            let arrives = async {
                // It was asked first: what comes now is for the next process.
                put(&pool, &["later"]).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
                log.gate.as_ref().unwrap().add_permits(1);
            };
            let (finished, ()) = tokio::join!(biased; finished, arrives);
            finished.unwrap();
            until_unsent(&pool, &["later"]).await;
            assert_eq!(sqlx::query_scalar::<_, i64>(leased).fetch_one(&pool).await.unwrap(), 0, "nothing is held");
        },
    )
    .await;
}
