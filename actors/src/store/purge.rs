//! Removes the old rows of a table, page by page until none are left: a busy table leaves more behind than one page between
//! two looks.

use futures_util::future::BoxFuture;
use sqlx::PgConnection;

use super::{Store, StoreError};

/// Rows of one removal: short enough to be in nobody's way.
pub const PAGE: i64 = 1_000;

/// Calls `page` until it removes fewer rows than the limit it is given.
///
/// # Errors
/// The store's.
pub async fn purge<P>(store: &Store, page: P) -> Result<(), StoreError>
where
    P: for<'c> Fn(&'c mut PgConnection, i64) -> BoxFuture<'c, Result<u64, sqlx::Error>> + Copy + Send + 'static,
{
    while store.run(move |connection| page(connection, PAGE)).await? >= PAGE.unsigned_abs() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]
    #![allow(
        clippy::disallowed_methods,
        reason = "the tests play the process: they read the clock and know the runtime"
    )]

    use std::time::Duration;

    use sqlx::PgPool;
    use time::OffsetDateTime;
    use tokio::runtime::Handle;

    use super::*;
    use crate::store::{Connections, memory_write_outbox, message_outbox};

    #[sqlx::test(migrations = "../migrations")]
    async fn no_old_row_is_left_however_many_there_are(pool: PgPool) {
        let rows = 2 * PAGE + 1;
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
            "INSERT INTO memory_write_outbox (
                 tenant, session_id, payload, idempotency_key, status, next_attempt_at, created_at, updated_at
             )
             SELECT 't', gen_random_uuid(), '{{}}', n::text, 'sent', now(), now(), now()
             FROM generate_series(1, {rows}) AS n"
        )))
        .execute(&pool)
        .await
        .unwrap();
        let store = Store::new(Connections::of_pool(pool.clone()), Duration::from_secs(10), Handle::current());
        let later = OffsetDateTime::now_utc() + Duration::from_mins(1);
        purge(&store, move |connection, rows| Box::pin(memory_write_outbox::purge(connection, later, rows)))
            .await
            .unwrap();
        purge(&store, move |connection, rows| Box::pin(message_outbox::purge(connection, later, rows))).await.unwrap();
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM memory_write_outbox").fetch_one(&pool).await.unwrap();
        assert_eq!(left, 0);
    }
}
