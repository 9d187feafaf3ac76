//! Long reads on a real database.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a failed expectation ends the test, which knows its runtime"
)]

use std::time::Duration;

use sqlx::PgPool;
use uuid::Uuid;

use super::*;
use crate::{domain::ids::Tenant, store::Connections};

fn anybody() -> Caller {
    Caller::new(Tenant::new("public").unwrap(), Uuid::nil())
}

/// A session of `turns` messages, each answered by `bytes` of text but the last.
async fn filled(pool: &PgPool, turns: i64, bytes: i64) -> (Store, SessionKey) {
    sqlx::query(
        "INSERT INTO session_envelopes (tenant, session_id, epoch, last_seq, created_at, updated_at)
         VALUES ('public', $1, 1, $2, now(), now())",
    )
    .bind(Uuid::nil())
    .bind(2 * turns - 1)
    .execute(pool)
    .await
    .unwrap();
    sqlx::query(
        "INSERT INTO session_events (tenant, session_id, seq, event_id, turn_seq, type, terminal, occurred_at, payload)
         SELECT 'public', $1, n, gen_random_uuid(), n - (n + 1) % 2, kind, kind <> 'user', now(),
                jsonb_build_object('type', kind, 'message', repeat('x', CASE kind WHEN 'user' THEN 1 ELSE $3 END))
         FROM generate_series(1, $2) n, LATERAL (SELECT CASE n % 2 WHEN 1 THEN 'user' ELSE 'assistant.final' END AS kind) k",
    )
    .bind(Uuid::nil())
    .bind(2 * turns - 1)
    .bind(i32::try_from(bytes).unwrap())
    .execute(pool)
    .await
    .unwrap();
    let store =
        Store::new(Connections::of_pool(pool.clone()), Duration::from_secs(5), tokio::runtime::Handle::current());
    (store, SessionKey::new(Tenant::new("public").unwrap(), Uuid::nil()))
}

fn told(page: &Page) -> (Option<i64>, Option<i64>, usize, bool) {
    let seq = |event: &StoredEvent| event.seq;
    (page.events.first().map(seq), page.events.last().map(seq), page.events.len(), page.more)
}

#[sqlx::test(migrations = "../migrations")]
async fn a_page_of_long_events_ends_early_and_says_so(pool: PgPool) {
    let (store, key) = filled(&pool, 6, 3 * 1024 * 1024).await;
    let reads = Reads::new(store);
    for (after, limit, expected) in [
        (0, 20, (Some(1), Some(6), 6, true)),
        (6, 20, (Some(7), Some(11), 5, false)),
        (0, 2, (Some(1), Some(2), 2, true)),
        (9, 2, (Some(10), Some(11), 2, false)),
        (11, 2, (None, None, 0, false)),
    ] {
        assert_eq!(
            told(&reads.events(&anybody(), key.session_id, after, limit).await.unwrap()),
            expected,
            "after {after}, {limit}"
        );
    }
    for (before, limit, expected) in [
        (i64::MAX, 20, (Some(6), Some(11), 6, true)),
        (6, 20, (Some(1), Some(5), 5, false)),
        (3, 1, (Some(2), Some(2), 1, true)),
        (1, 1, (None, None, 0, false)),
    ] {
        assert_eq!(
            told(&reads.recent_events(&anybody(), key.session_id, before, limit).await.unwrap()),
            expected,
            "before {before}, {limit}"
        );
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn a_page_of_several_steps_is_whole(pool: PgPool) {
    let (store, key) = filled(&pool, 100, 3).await;
    let reads = Reads::new(store.clone());
    for (limit, more) in [(STEP - 1, true), (STEP, true), (STEP + 1, true), (198, true), (199, false), (500, false)] {
        let count = usize::try_from(limit.min(199)).unwrap();
        let first = told(&reads.events(&anybody(), key.session_id, 0, limit).await.unwrap());
        assert_eq!(first, (Some(1), Some(limit.min(199)), count, more));
        let last = told(&reads.recent_events(&anybody(), key.session_id, i64::MAX, limit).await.unwrap());
        assert_eq!(last, (Some(200 - limit.min(199)), Some(199), count, more));
    }
    for limit in [1, 2, STEP - 1, STEP, STEP + 1, 2 * STEP + 1, 198, 500] {
        let Said { events: said, unread } = said_before(&store, &key, 199, limit, usize::MAX).await.unwrap();
        assert_eq!(unread, 0, "what is beyond the limit is not asked for");
        let count = limit.min(198);
        assert_eq!(
            said.iter().map(|event| event.seq).collect::<Vec<_>>(),
            (199 - count..199).rev().collect::<Vec<_>>()
        );
    }
}

#[sqlx::test(migrations = "../migrations")]
async fn no_more_is_read_for_a_context_than_could_ever_fit(pool: PgPool) {
    let (store, key) = filled(&pool, 100, 100_000).await;
    let read = async |limit| {
        let Said { events, unread } = said_before(&store, &key, 199, limit, 1_000_000).await.unwrap();
        (events.first().map(|event| event.seq), events.len(), unread)
    };
    assert_eq!(read(200).await, (Some(198), 32, 166), "what was not read is told");
    assert_eq!(read(50).await, (Some(198), 32, 18), "and no more than was asked for");
}

#[sqlx::test(migrations = "../migrations")]
async fn what_an_event_has_beside_its_text_leaves_no_message_out_of_a_context(pool: PgPool) {
    let (store, key) = filled(&pool, 100, 3).await;
    let sql = "UPDATE session_events SET payload = payload || jsonb_build_object('metadata', repeat('x', 5000))";
    sqlx::query(sql).execute(&pool).await.unwrap();
    let said = said_before(&store, &key, 199, 200, 10_000).await.unwrap();
    assert_eq!((said.events.len(), said.unread), (198, 0));
}
