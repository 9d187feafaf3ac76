#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use sqlx::{Connection, PgPool};
use time::Duration;
use uuid::Uuid;

use super::*;
use crate::store::{outbox::GivenBack, outbox_leases::forget_leases};

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

async fn settle(
    connection: &mut PgConnection,
    claim: Uuid,
    settled: &Settled,
    at: OffsetDateTime,
) -> Result<Vec<i64>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let held = super::settle(&mut transaction, claim, settled, at).await?;
    transaction.commit().await?;
    Ok(held)
}

fn numbers(rows: &[ClaimedMessage], key: &str) -> Vec<i64> {
    let number = |row: &ClaimedMessage| serde_json::from_slice::<Value>(&row.payload).unwrap()["n"].as_i64().unwrap();
    rows.iter().filter(|row| row.key == key).map(number).collect()
}

/// Nothing of them yet, except that the claim is done with their keys.
fn settled(rows: &[ClaimedMessage]) -> Settled {
    Settled { keys: rows.iter().map(|row| (row.id, row.queue_key())).collect(), ..Settled::default() }
}

fn sent(rows: &[ClaimedMessage]) -> Settled {
    Settled { sent: rows.iter().map(|row| row.id).collect(), ..settled(rows) }
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
    let settled = Settled { given_back: rows.iter().map(back).collect(), ..settled(&rows) };
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

#[sqlx::test(migrations = "../migrations")]
async fn a_later_version_is_lost_neither_for_a_failed_one_nor_for_one_of_another_topic(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    let record = |topic: &str| NewBytes {
        tenant: "t".into(),
        session_id: None,
        seq: None,
        topic: topic.into(),
        key: "k".into(),
        headers: serde_json::json!({}),
        payload: br#"{"n":1}"#.into(),
        dedupe_key: Some("e".into()),
    };
    let (one, other) = (record("conversation.inbound"), record("conversation.outbound"));
    insert_bytes(&mut connection, &[one, other.clone()], START).await.unwrap();
    let again = insert_bytes(&mut connection, std::slice::from_ref(&other), START).await.unwrap();
    assert_eq!(again, Enqueued { inserted: 0, deduped: 1 });
    let first = terms(START);
    let rows = take(&mut connection, first).await;
    assert_eq!(rows.len(), 2, "one of each topic, and none twice");
    assert_eq!(rows[0].payload, br#"{"n":1}"#, "the bytes are as they were");
    let failed = rows.iter().map(|row| (row.id, "no".to_owned())).collect();
    settle(&mut connection, first.claim, &Settled { failed, ..settled(&rows) }, START).await.unwrap();
    insert_bytes(&mut connection, &[other], START).await.unwrap();
    assert_eq!(take(&mut connection, terms(START)).await.len(), 1);

    let memory = record("memory.wal");
    insert_bytes(&mut connection, &[memory.clone(), memory.clone()], START).await.unwrap();
    insert_bytes(&mut connection, &[memory], START).await.unwrap();
    assert_eq!(take(&mut connection, terms(START)).await.len(), 3, "of a memory each record is another version");
}

#[sqlx::test(migrations = "../migrations")]
async fn a_claim_that_is_done_with_a_key_leaves_nothing_behind(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    put(&mut connection, "a", 15).await;
    put(&mut connection, "b", 1).await;
    for rows in [11, 5] {
        let terms = terms(START);
        let claimed = take(&mut connection, terms).await;
        assert_eq!(claimed.len(), rows);
        settle(&mut connection, terms.claim, &sent(&claimed), START).await.unwrap();
    }
    let left =
        "SELECT (SELECT count(*) FROM outbox_leases) + (SELECT count(*) FROM message_outbox WHERE status <> 'sent')";
    assert_eq!(sqlx::query_scalar::<_, i64>(left).fetch_one(&mut *connection).await.unwrap(), 0);
}

#[sqlx::test(migrations = "../migrations")]
async fn a_claim_of_long_rows_ends_early_and_leaves_the_others_to_the_next(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    put(&mut connection, "a", 5).await;
    put(&mut connection, "b", 1).await;
    sqlx::query("UPDATE message_outbox SET payload = payload || jsonb_build_object('x', repeat('x', 5 * 1024 * 1024))")
        .execute(&mut *connection)
        .await
        .unwrap();
    let first = terms(START);
    let taken = take(&mut connection, first).await;
    assert_eq!((numbers(&taken, "a"), numbers(&taken, "b")), (vec![1, 2, 3, 4], vec![]));
    let others = take(&mut connection, terms(START)).await;
    assert_eq!((numbers(&others, "a"), numbers(&others, "b")), (vec![], vec![1]));
    settle(&mut connection, first.claim, &sent(&taken), START).await.unwrap();
    assert_eq!(numbers(&take(&mut connection, terms(START)).await, "a"), [5]);
}

#[sqlx::test(migrations = "../migrations")]
async fn leases_of_dead_claimers_whose_rows_are_gone_are_forgotten(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    put(&mut connection, "a", 1).await;
    take(&mut connection, terms(START)).await;
    sqlx::query("DELETE FROM message_outbox").execute(&mut *connection).await.unwrap();
    for (before, left) in [(START + LEASE, 1), (START + 2 * LEASE, 0)] {
        forget_leases(&mut connection, before).await.unwrap();
        let leases =
            sqlx::query_scalar::<_, i64>("SELECT count(*) FROM outbox_leases").fetch_one(&mut *connection).await;
        assert_eq!(leases.unwrap(), left);
    }
}

/// What a version without leases did to rows that it took.
const MARK: &str = "UPDATE message_outbox SET status = 'sending', claim = gen_random_uuid(), next_attempt_at = $1
                    WHERE partition_key = $2";

#[sqlx::test(migrations = "../migrations")]
async fn what_an_earlier_version_has_marked_is_its_own_until_it_counts_as_dead(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    for key in ["before", "meanwhile"] {
        put(&mut connection, key, 2).await;
    }
    let mark = |key: &'static str| sqlx::query(MARK).bind(START + LEASE).bind(key);
    mark("before").execute(&mut *connection).await.unwrap();
    let first = terms(START);
    let rows = take(&mut connection, first).await;
    assert_eq!((numbers(&rows, "before").len(), numbers(&rows, "meanwhile").len()), (0, 2));
    // It sees no lease and takes them too: then it says what became of them.
    mark("meanwhile").execute(&mut *connection).await.unwrap();
    assert_eq!(settle(&mut connection, first.claim, &sent(&rows), START).await.unwrap(), [0_i64; 0]);
    assert!(take(&mut connection, terms(START)).await.is_empty());

    let heir = terms(START + LEASE);
    let rows = take(&mut connection, heir).await;
    assert_eq!((numbers(&rows, "before").len(), numbers(&rows, "meanwhile").len()), (2, 2));
    assert_eq!(settle(&mut connection, heir.claim, &sent(&rows), START + LEASE).await.unwrap().len(), 4);
}

/// Claimers side by side on connections of their own, that settle, give back, settle too late or die, each by a clock that
/// jumps over the leases of the others.
#[sqlx::test(migrations = "../migrations")]
async fn whatever_claimers_do_every_row_is_sent_and_no_later_one_before_it(pool: PgPool) {
    let mut connection = pool.acquire().await.unwrap();
    for key in 0..6 {
        put(&mut connection, &key.to_string(), 12).await;
    }
    let (options, log) = (pool.connect_options(), Mutex::new(Vec::new()));
    let append = |rows: &[ClaimedMessage]| {
        let record = |row: &ClaimedMessage| (row.key.clone(), numbers(std::slice::from_ref(row), &row.key)[0]);
        log.lock().unwrap().extend(rows.iter().map(record));
    };
    let claimers = (0..4_u64).map(|seed| {
        let options = Arc::clone(&options);
        async move {
            let mut connection = PgConnection::connect_with(&options).await.unwrap();
            let (mut rng, mut now) = (StdRng::seed_from_u64(seed), START);
            for _ in 0..60 {
                let mine = ClaimTerms { rows_a_key: rng.random_range(1..5), rows: 9, ..terms(now) };
                let rows = take(&mut connection, mine).await;
                append(&rows);
                let back = |row: &ClaimedMessage| GivenBack { id: row.id, next_attempt_at: now, error: None };
                match rng.random_range(0..4) {
                    0 => drop(settle(&mut connection, mine.claim, &sent(&rows), now).await.unwrap()),
                    1 => {
                        let settled = Settled { given_back: rows.iter().map(back).collect(), ..settled(&rows) };
                        settle(&mut connection, mine.claim, &settled, now).await.unwrap();
                    }
                    // Dies, and the next one comes when its lease is over.
                    _ => now += LEASE,
                }
            }
            now
        }
    });
    let latest = futures_util::future::join_all(claimers).await.into_iter().max().unwrap();
    let rest = ClaimTerms { rows_a_key: 100, rows: 1000, ..terms(latest + LEASE) };
    append(&take(&mut connection, rest).await);
    let mut seen = HashMap::<String, Vec<i64>>::new();
    for (key, n) in log.into_inner().unwrap() {
        let numbers = seen.entry(key).or_default();
        if !numbers.contains(&n) {
            numbers.push(n);
        }
    }
    assert_eq!(seen.len(), 6);
    assert!(seen.values().all(|numbers| numbers.iter().copied().eq(1..=12)), "{seen:?}");
}
