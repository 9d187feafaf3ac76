#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::collections::HashMap;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use sqlx::{Connection, PgPool};
use time::Duration;
use uuid::Uuid;

use super::*;
use crate::store::outbox::GivenBack;

const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;
const LEASE: Duration = Duration::seconds(60);

fn terms(now: OffsetDateTime) -> ClaimTerms {
    ClaimTerms { claim: Uuid::new_v4(), now, lease_until: now + LEASE, keys: 100, rows_a_key: 10, rows: 100 }
}

async fn put(connection: &mut PgConnection, key: &str, rows: i32) {
    sqlx::query(
        "INSERT INTO message_outbox (tenant, topic, partition_key, payload, next_attempt_at, created_at, updated_at)
         SELECT 't', 'memory.wal', $1, jsonb_build_object('n', n), $3, $3, $3 FROM generate_series(1, $2) AS n",
    )
    .bind(key)
    .bind(rows)
    .bind(START)
    .execute(connection)
    .await
    .unwrap();
}

async fn take(connection: &mut PgConnection, terms: ClaimTerms) -> Vec<ClaimedMessage> {
    claim(connection, &Place::default(), terms).await.unwrap().0
}

fn numbers(rows: &[ClaimedMessage], key: &str) -> Vec<i64> {
    let number = |row: &ClaimedMessage| serde_json::from_str::<Value>(&row.payload).unwrap()["n"].as_i64().unwrap();
    rows.iter().filter(|row| row.key == key).map(number).collect()
}

fn sent(rows: &[ClaimedMessage]) -> Settled {
    Settled { sent: rows.iter().map(|row| row.id).collect(), ..Settled::default() }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_key_has_one_claim_at_a_time_and_keeps_its_order(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    put(&mut connection, "a", 15).await;
    let first = terms(START);
    let rows = take(&mut connection, first).await;
    assert_eq!(numbers(&rows, "a"), (1..=10).collect::<Vec<_>>());
    assert!(take(&mut connection, terms(START)).await.is_empty(), "a leased key was claimed again");
    assert_eq!(settle(&mut connection, first.claim, &sent(&rows), START).await.unwrap().len(), 10);
    assert_eq!(numbers(&take(&mut connection, terms(START)).await, "a"), (11..=15).collect::<Vec<_>>());
}

#[sqlx::test(migrations = "../migrations")]
async fn rows_of_a_dead_claimer_return_and_its_late_word_counts_for_nothing(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    put(&mut connection, "a", 3).await;
    let dead = terms(START);
    let rows = take(&mut connection, dead).await;
    let later = START + LEASE;
    let heir = terms(later);
    assert_eq!(take(&mut connection, heir).await.len(), 3);
    assert_eq!(settle(&mut connection, dead.claim, &sent(&rows), later).await.unwrap(), [0_i64; 0]);
    assert_eq!(settle(&mut connection, heir.claim, &sent(&rows), later).await.unwrap().len(), 3);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_key_that_waits_holds_up_only_itself(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    put(&mut connection, "slow", 5).await;
    let first = terms(START);
    let rows = take(&mut connection, first).await;
    let again_at = START + Duration::seconds(9);
    let back = |row: &ClaimedMessage| GivenBack { id: row.id, next_attempt_at: again_at, error: Some("no".into()) };
    let settled = Settled { given_back: rows.iter().map(back).collect(), ..Settled::default() };
    settle(&mut connection, first.claim, &settled, START).await.unwrap();
    put(&mut connection, "quick", 2).await;
    let now = take(&mut connection, terms(START)).await;
    assert_eq!((numbers(&now, "slow").len(), numbers(&now, "quick").len()), (0, 2));
    let later = take(&mut connection, terms(again_at)).await;
    assert_eq!(numbers(&later, "slow"), [1, 2, 3, 4, 5]);
    assert_eq!(later[0].retry_count, 1);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_walk_sees_every_key_and_begins_again(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    for key in 0..25 {
        put(&mut connection, &format!("{key:02}"), 2).await;
    }
    let (mut place, mut seen) = (Place::default(), Vec::new());
    for round in 0..5 {
        // Few keys in the first rounds, few rows in the others: neither may skip a key.
        let (keys, rows) = if round < 2 { (7, 100) } else { (100, 8) };
        let (claimed, next) = claim(&mut connection, &place, ClaimTerms { keys, rows, ..terms(START) }).await.unwrap();
        seen.extend(claimed.into_iter().map(|row| row.key));
        place = next;
    }
    seen.dedup();
    assert_eq!(seen, (0..25).map(|key| format!("{key:02}")).collect::<Vec<_>>());
    assert_eq!(place, Place::default());
}

#[sqlx::test(migrations = "../migrations")]
async fn only_old_sent_rows_are_purged_and_few_at_a_time(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    put(&mut connection, "a", 5).await;
    let first = ClaimTerms { rows: 3, ..terms(START) };
    let rows = take(&mut connection, first).await;
    settle(&mut connection, first.claim, &sent(&rows), START).await.unwrap();
    assert_eq!(purge(&mut connection, START, 10).await.unwrap(), 0);
    let later = START + Duration::seconds(1);
    assert_eq!(purge(&mut connection, later, 2).await.unwrap(), 2);
    assert_eq!(purge(&mut connection, later, 2).await.unwrap(), 1);
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM message_outbox").fetch_one(&mut *connection).await.unwrap();
    assert_eq!(left, 2);
}

/// Claimers side by side that settle, give back or die, on connections of their own.
#[sqlx::test(migrations = "../migrations")]
async fn whatever_claimers_do_every_row_is_sent_once_and_in_order(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    for key in 0..6 {
        put(&mut connection, &key.to_string(), 12).await;
    }
    let options = pool.connect_options();
    let claimers = (0..4_u64).map(|seed| {
        let options = std::sync::Arc::clone(&options);
        async move {
            let mut connection = PgConnection::connect_with(&options).await.unwrap();
            let (mut rng, mut now, mut log) = (StdRng::seed_from_u64(seed), START, Vec::new());
            for _ in 0..120 {
                let mine = ClaimTerms { rows_a_key: rng.random_range(1..5), rows: 9, ..terms(now) };
                let rows = take(&mut connection, mine).await;
                tokio::task::yield_now().await;
                let settled = match rng.random_range(0..3) {
                    0 => sent(&rows),
                    1 => Settled {
                        given_back: rows
                            .iter()
                            .map(|row| GivenBack { id: row.id, next_attempt_at: now, error: None })
                            .collect(),
                        ..Settled::default()
                    },
                    // Dies: its rows come back when the lease is over, which for the others is now.
                    _ => {
                        now += LEASE;
                        continue;
                    }
                };
                let held = settle(&mut connection, mine.claim, &settled, now).await.unwrap();
                log.extend(rows.into_iter().filter(|row| held.contains(&row.id) && settled.sent.contains(&row.id)));
            }
            (now, log)
        }
    });
    let logs = futures_util::future::join_all(claimers).await;
    let latest = logs.iter().map(|(now, _)| *now).max().unwrap();
    // The claimers' clocks differ, so their accounts are put in order by row: each row at most once.
    let mut sent: Vec<i64> = logs.iter().flat_map(|(_, log)| log.iter().map(|row| row.id)).collect();
    sent.sort_unstable();
    assert!(sent.is_sorted_by(|a, b| a < b), "a row was sent twice");
    let mut rest = HashMap::<String, Vec<i64>>::new();
    for row in take(&mut connection, ClaimTerms { rows_a_key: 100, rows: 1000, ..terms(latest + LEASE) }).await {
        rest.entry(row.key.clone()).or_default().extend(numbers(std::slice::from_ref(&row), &row.key));
    }
    assert_eq!(sent.len() + rest.values().map(Vec::len).sum::<usize>(), 72);
    for key in 0..6 {
        // What is left of a key is its end, without a gap: nothing was sent before what comes before it.
        let left = rest.remove(&key.to_string()).unwrap_or_default();
        let first = 13 - i64::try_from(left.len()).unwrap();
        assert_eq!(left, (first..=12).collect::<Vec<_>>(), "key {key}");
    }
}
