#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use serde_json::json;
use sqlx::PgPool;

use super::*;
use crate::store::{
    memory_replica::{NewReplica, advance, position, upsert},
    wall::within,
};

const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
const ALL: PageOf = PageOf { after: None, rows: 100, bytes: 1 << 20 };

fn place() -> LogPartition {
    LogPartition { source: "table", topic: "memory.wal".into(), partition: 0 }
}

fn row(number: i32, payload: &serde_json::Value) -> NewReplica {
    NewReplica {
        tenant: "t".into(),
        event_id: format!("e{number}"),
        session_id: Some(format!("s{}", number % 2)),
        persona_id: (number == 3).then(|| "p".into()),
        role: Some(if number == 2 { "assistant" } else { "user" }.into()),
        coord: None,
        request_id: None,
        trace_id: None,
        payload: payload.to_string(),
        revision: None,
        wal_timestamp: Some(f64::from(number)),
        offset: number.into(),
        sha256: [0; 32],
    }
}

async fn filled(pool: &PgPool) -> sqlx::pool::PoolConnection<sqlx::Postgres> {
    let mut connection = pool.acquire().await.unwrap();
    let rows = [
        row(1, &json!({"content": "A green Parrot", "metadata": {"universe_id": "u"}})),
        row(2, &json!({"content": "100% sure", "namespace": "wm"})),
        row(3, &json!({"content": "100 sure", "metadata": {"namespace": "wm"}})),
        row(4, &json!({"content": "back\\slash under_score"})),
        NewReplica { tenant: "other".into(), ..row(5, &json!({"content": "parrot"})) },
    ];
    upsert(&mut connection, &place(), &rows.iter().collect::<Vec<_>>(), AT).await.unwrap();
    connection
}

#[sqlx::test(migrations = "../migrations")]
async fn every_filter_leaves_what_it_says_and_nothing_of_another_tenant(pool: PgPool) {
    let mut connection = filled(&pool).await;
    let text = |text: &str| Some(text.to_owned());
    let none = ReplicaFilter::default;
    for (filter, expected) in [
        (none(), &["e4", "e3", "e2", "e1"][..]),
        (ReplicaFilter { tenant: text("t"), ..none() }, &["e4", "e3", "e2", "e1"]),
        (ReplicaFilter { tenant: text("other"), ..none() }, &[]),
        (ReplicaFilter { persona_id: text("p"), ..none() }, &["e3"]),
        (ReplicaFilter { role: text("assistant"), ..none() }, &["e2"]),
        (ReplicaFilter { session_id: text("s1"), ..none() }, &["e3", "e1"]),
        (ReplicaFilter { universe: text("u"), ..none() }, &["e1"]),
        (ReplicaFilter { namespace: text("wm"), ..none() }, &["e3", "e2"]),
        (ReplicaFilter { containing: text("pARROT"), ..none() }, &["e1"]),
        (ReplicaFilter { containing: text("100%"), ..none() }, &["e2"]),
        (ReplicaFilter { containing: text("r_s"), ..none() }, &["e4"]),
        (ReplicaFilter { containing: text("\\\\"), ..none() }, &["e4"]),
        (ReplicaFilter { min_ts: Some(2.0), max_ts: Some(3.0), ..none() }, &["e3", "e2"]),
        (ReplicaFilter { role: text("user"), session_id: text("s1"), min_ts: Some(2.0), ..none() }, &["e3"]),
    ] {
        let rows = within(&mut connection, "t", async |rows| page(rows, "t", &filter, ALL, None).await).await;
        let found: Vec<_> = rows.iter().map(|row| row.event_id.as_str()).collect();
        assert_eq!(found, expected, "{filter:?}");
        let numbers = numbers(&mut connection, "t", &filter, None, 100).await.unwrap();
        assert_eq!(numbers, rows.iter().map(|row| row.id).collect::<Vec<_>>(), "{filter:?}");
        let among =
            async |rows: &mut TenantTx<'_>| page(rows, "t", &filter, ALL, Some(&numbers[..numbers.len().min(1)])).await;
        assert_eq!(within(&mut connection, "t", among).await, rows[..rows.len().min(1)], "{filter:?}");
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_page_ends_by_rows_and_by_bytes_and_the_next_one_goes_on_after_it(pool: PgPool) {
    let mut connection = filled(&pool).await;
    for of in [PageOf { rows: 1, ..ALL }, PageOf { bytes: 1, ..ALL }] {
        let (mut after, mut seen) = (None, vec![]);
        loop {
            let of = PageOf { after, ..of };
            let next = async |rows: &mut TenantTx<'_>| page(rows, "t", &ReplicaFilter::default(), of, None).await;
            let rows = within(&mut connection, "t", next).await;
            let Some(last) = rows.last() else { break };
            after = Some(last.id);
            assert_eq!(rows.len(), 1);
            seen.push(last.event_id.clone());
        }
        assert_eq!(seen, ["e4", "e3", "e2", "e1"]);
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_memory_is_found_by_its_id_for_its_tenant_only(pool: PgPool) {
    let mut connection = filled(&pool).await;
    let found = within(&mut connection, "t", async |rows| find(rows, "t", "e3").await).await.unwrap();
    assert_eq!((found.wal_timestamp, found.created_at), (Some(3.0), AT));
    assert_eq!(found.payload, r#"{"content": "100 sure", "metadata": {"namespace": "wm"}}"#);
    assert_eq!(within(&mut connection, "t", async |rows| find(rows, "t", "e5").await).await, None);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_partition_that_nobody_applied_is_at_its_beginning(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    assert_eq!(applied(&mut connection, &place()).await.unwrap(), 0);
    position(&mut connection, &place(), AT).await.unwrap();
    assert!(advance(&mut connection, &place(), 0, 7, AT).await.unwrap());
    assert_eq!(applied(&mut connection, &place()).await.unwrap(), 7);
}
