#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::{
    future::{pending, ready},
    sync::Arc,
};

use serde_json::json;
use somaagent_supervision::Probe;
use sqlx::PgPool;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::*;
use crate::{
    domain::{caller::Reach, ids::Tenant, memory::MemorySpace},
    memory::settings::MemorySettings,
    store::{
        Connections, Store,
        memory_replica::{self, LogPartition, NewReplica},
    },
};

const LONG: Duration = Duration::from_mins(1);

fn memories(pool: &PgPool) -> Memories {
    let store = Store::new(Connections::of_pool(pool.clone()), Duration::from_secs(5), Handle::current());
    Memories::new(
        store,
        "table",
        MemorySpace { universe: None, namespace: "wm".into() },
        Probe::new(1).1,
        Arc::new(MemorySettings::default()),
        || OffsetDateTime::UNIX_EPOCH,
    )
}

fn anybody() -> Caller {
    Caller::new(Tenant::new("t").unwrap(), Uuid::nil())
}

async fn queue(pool: &PgPool) {
    let sql = "INSERT INTO memory_write_outbox (tenant, session_id, payload, idempotency_key, dedupe_key, next_attempt_at,
                   created_at, updated_at)
               VALUES ('t', gen_random_uuid(), '{\"id\": \"e\"}', 'k', 'e', to_timestamp(1), to_timestamp(1), to_timestamp(1))";
    sqlx::query(sql).execute(pool).await.unwrap();
}

async fn replicate(pool: &PgPool) {
    let row = NewReplica {
        tenant: "t".into(),
        event_id: "e".into(),
        session_id: None,
        persona_id: None,
        role: None,
        coord: None,
        request_id: None,
        trace_id: None,
        payload: json!({"id": "e"}).to_string(),
        revision: None,
        wal_timestamp: None,
        offset: 7,
        sha256: [0xab; 32],
    };
    // In one transaction: in between there would be no such memory.
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("DELETE FROM memory_write_outbox").execute(&mut *transaction).await.unwrap();
    let place = LogPartition { source: "table", topic: "memory.wal".into(), partition: 2 };
    memory_replica::upsert(&mut transaction, &place, &[&row], OffsetDateTime::UNIX_EPOCH).await.unwrap();
    transaction.commit().await.unwrap();
}

#[sqlx::test(migrations = "../migrations")]
async fn a_wait_ends_when_the_replica_has_the_memory(pool: PgPool) {
    let memories = memories(&pool);
    queue(&pool).await;
    let (anybody, written) = (anybody(), async {
        tokio::time::sleep(LOOKS[0] * 3).await;
        replicate(&pool).await;
    });
    let (receipt, ()) = tokio::join!(memories.receipt(&anybody, "e", LONG, pending()), written);
    let told = serde_json::to_value(receipt.unwrap().unwrap()).unwrap();
    let expected = json!({
        "event_id": "e", "state": "replicated", "at": {"replicated": "1970-01-01T00:00:00.000000Z"},
        "topic": "memory.wal", "partition": 2, "offset": 7, "sha256": "ab".repeat(32),
    });
    assert_eq!(told, expected);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_wait_ends_with_its_time_or_when_it_is_told_to_and_tells_the_state_then(pool: PgPool) {
    let memories = memories(&pool);
    queue(&pool).await;
    let expected = json!({
        "event_id": "e", "state": "queued", "at": {"queued": "1970-01-01T00:00:01.000000Z"},
        "topic": null, "partition": null, "offset": null, "sha256": null,
    });
    let anybody = anybody();
    let short = LOOKS[1] * 2;
    let begun = Instant::now();
    let late = memories.receipt(&anybody, "e", short, pending()).await.unwrap().unwrap();
    assert!(begun.elapsed() >= short);
    let begun = Instant::now();
    let stopped = memories.receipt(&anybody, "e", LONG, ready(())).await.unwrap().unwrap();
    assert!(begun.elapsed() < LONG);
    for receipt in [late, stopped] {
        assert_eq!(serde_json::to_value(receipt).unwrap(), expected);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn nobody_waits_for_a_memory_that_is_not_there(pool: PgPool) {
    let begun = Instant::now();
    assert_eq!(memories(&pool).receipt(&anybody(), "e", LONG, pending()).await.unwrap(), None);
    assert!(begun.elapsed() < LONG);
}

#[sqlx::test(migrations = "../migrations")]
async fn places_to_wait_are_few_and_come_back(pool: PgPool) {
    let memories = memories(&pool);
    let places: Vec<_> = std::iter::from_fn(|| memories.place_to_wait()).take(1000).collect();
    assert_eq!(places.len(), 256);
    drop(places);
    assert!(memories.place_to_wait().is_some());
}

#[sqlx::test(migrations = "../migrations")]
async fn nobody_waits_for_the_memory_of_somebody_elses_session(pool: PgPool) {
    queue(&pool).await;
    let sql = "INSERT INTO session_envelopes (tenant, session_id, subject, epoch, last_seq, created_at, updated_at)
               SELECT tenant, session_id, 'ann', 1, 1, now(), now() FROM memory_write_outbox";
    sqlx::query(sql).execute(&pool).await.unwrap();
    let own = |subject: &str| Caller { subject: Some(subject.into()), reach: Reach::Own, ..anybody() };
    assert_eq!(memories(&pool).receipt(&own("bob"), "e", LONG, pending()).await.unwrap(), None);
    let hers = memories(&pool).receipt(&own("ann"), "e", LONG, ready(())).await.unwrap();
    assert_eq!(hers.map(|receipt| receipt.state), Some("queued"));
}
