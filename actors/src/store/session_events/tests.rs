//! Pages of a history.
#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use sqlx::PgPool;

use super::*;
use crate::domain::ids::Tenant;

#[sqlx::test(migrations = "../migrations")]
async fn a_page_of_long_events_ends_early_and_says_so(pool: PgPool) {
    let key = SessionKey::new(Tenant::new("public").unwrap(), Uuid::from_u128(1));
    sqlx::raw_sql(
        "INSERT INTO session_envelopes (tenant, session_id, epoch, last_seq, created_at, updated_at)
         VALUES ('public', '00000000-0000-0000-0000-000000000001', 1, 5, now(), now());
         INSERT INTO session_events (tenant, session_id, seq, event_id, turn_seq, type, occurred_at, payload)
         SELECT 'public', '00000000-0000-0000-0000-000000000001', n, gen_random_uuid(), n, 'user', now(),
                jsonb_build_object('message', repeat('x', 3 * 1024 * 1024)) FROM generate_series(1, 5) n",
    )
    .execute(&pool)
    .await
    .unwrap();
    let mut connection = pool.acquire().await.unwrap();
    let told = |page: Page| (page.events.iter().map(|event| event.seq).collect::<Vec<_>>(), page.more);
    for (after, limit, expected) in [
        (0, 9, (vec![1, 2, 3], true)),
        (3, 9, (vec![4, 5], false)),
        (0, 2, (vec![1, 2], true)),
        (3, 2, (vec![4, 5], false)),
    ] {
        assert_eq!(told(between(&mut connection, &key, after, i64::MAX, limit).await.unwrap()), expected);
    }
    for (before, limit, expected) in [
        (i64::MAX, 9, (vec![3, 4, 5], true)),
        (3, 9, (vec![1, 2], false)),
        (3, 1, (vec![2], true)),
        (1, 1, (vec![], false)),
    ] {
        assert_eq!(told(recent(&mut connection, &key, before, limit).await.unwrap()), expected);
    }
}
