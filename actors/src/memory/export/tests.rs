#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::time::Duration;

use futures_util::FutureExt as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use somaagent_supervision::Probe;
use sqlx::PgPool;
use tokio::runtime::Handle;

use super::*;
use crate::{
    domain::{hex::hex, memory::MemorySpace},
    memory::{
        queries::{LogPlace, Reached},
        settings::MemorySettings,
    },
    store::{
        Connections, Store,
        memory_replica::{self, LogPartition, NewReplica},
    },
};

const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

fn clock() -> OffsetDateTime {
    AT
}

pub(in crate::memory) fn memories(pool: &PgPool, settings: MemorySettings) -> Memories {
    let store = Store::new(Connections::of_pool(pool.clone()), Duration::from_secs(5), Handle::current());
    Memories::new(
        store,
        "table",
        MemorySpace { universe: None, namespace: "wm".into() },
        Probe::new(1).1,
        Arc::new(settings),
        clock,
    )
}

pub(in crate::memory) fn tenant() -> Tenant {
    Tenant::new("t").unwrap()
}

pub(in crate::memory) async fn fill(pool: &PgPool, from: i64, to: i64) {
    let row = |number: i64| NewReplica {
        tenant: "t".into(),
        event_id: format!("e{number}"),
        session_id: None,
        persona_id: None,
        role: None,
        coord: None,
        request_id: None,
        trace_id: None,
        payload: json!({"n": number}).to_string(),
        revision: None,
        wal_timestamp: None,
        offset: number,
        sha256: [0; 32],
    };
    let rows: Vec<_> = (from..to).map(row).collect();
    let place = LogPartition { source: "table", topic: "memory.wal".into(), partition: 0 };
    let mut connection = pool.acquire().await.unwrap();
    memory_replica::upsert(&mut connection, &place, &rows.iter().collect::<Vec<_>>(), AT).await.unwrap();
}

/// The numbers in the lines, the text of the lines, and the trailer.
async fn read(mut export: Export) -> (Vec<i64>, String, Value) {
    let mut text = String::new();
    while let Some(lines) = export.next().await.unwrap() {
        text.push_str(std::str::from_utf8(&lines).unwrap());
    }
    let (lines, trailer) = text.trim_end().rsplit_once('\n').map_or(("", text.trim_end()), |parts| parts);
    let numbers = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["payload"]["n"].as_i64());
    let lines_with_ends = if lines.is_empty() { String::new() } else { format!("{lines}\n") };
    (numbers.map(Option::unwrap).collect(), lines_with_ends, serde_json::from_str(trailer).unwrap())
}

#[sqlx::test(migrations = "../migrations")]
async fn the_last_line_has_the_checksum_of_those_before_it(pool: PgPool) {
    fill(&pool, 0, 5).await;
    let memories = memories(&pool, MemorySettings { export_page_size: 2, ..MemorySettings::default() });
    let (numbers, text, trailer) = read(memories.export(&tenant(), ExportOf::default()).await).await;
    assert_eq!(numbers, [4, 3, 2, 1, 0]);
    let sha256 = hex(&Sha256::digest(&text));
    assert_eq!(trailer, json!({"type": "trailer", "rows": 5, "sha256": sha256, "cursor": null}));
    let nobody = memories.export(&Tenant::new("other").unwrap(), ExportOf::default()).await;
    let (numbers, _, trailer) = read(nobody).await;
    assert_eq!((numbers.len(), &trailer["rows"]), (0, &json!(0)));
}

#[sqlx::test(migrations = "../migrations")]
async fn an_export_that_is_cut_off_by_its_limit_says_where_to_go_on(pool: PgPool) {
    fill(&pool, 0, 5).await;
    let memories = memories(&pool, MemorySettings { export_max_rows: 3, ..MemorySettings::default() });
    let (numbers, _, trailer) = read(memories.export(&tenant(), ExportOf::default()).await).await;
    assert_eq!(numbers, [4, 3, 2]);
    let after = trailer["cursor"].as_i64();
    assert!(after.is_some(), "{trailer}");
    // What is written meanwhile comes before, not behind.
    fill(&pool, 5, 7).await;
    let of = ExportOf { after, limit: Some(2), ..ExportOf::default() };
    let (numbers, _, trailer) = read(memories.export(&tenant(), of).await).await;
    assert_eq!((numbers, &trailer["cursor"]), (vec![1, 0], &Value::Null));
}

#[sqlx::test(migrations = "../migrations")]
async fn more_exports_than_there_are_places_wait(pool: PgPool) {
    let memories = memories(&pool, MemorySettings { export_concurrency: 1, ..MemorySettings::default() });
    let first = memories.export(&tenant(), ExportOf::default()).await;
    let tenant = tenant();
    let mut second = Box::pin(memories.export(&tenant, ExportOf::default()));
    assert!(second.as_mut().now_or_never().is_none(), "two exports at once");
    drop(first);
    drop(second.await);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_reader_waits_until_the_replica_has_come_so_far_but_not_for_ever(pool: PgPool) {
    let memories = memories(&pool, MemorySettings { offset_wait_ms: 300, ..MemorySettings::default() });
    let place = LogPlace { partition: 0, offset: 6 };
    assert_eq!(memories.reached(place).await.unwrap(), Reached::Behind(0));
    let (partition, at) = (LogPartition { source: "table", topic: "memory.wal".into(), partition: 0 }, clock());
    let apply = async {
        let mut connection = pool.acquire().await.unwrap();
        memory_replica::position(&mut connection, &partition, at).await.unwrap();
        assert!(memory_replica::advance(&mut connection, &partition, 0, 7, at).await.unwrap());
    };
    let (reached, ()) = tokio::join!(memories.reached(place), apply);
    assert_eq!(reached.unwrap(), Reached::Yes);
}
