//! The index for text anywhere in a memory. It needs the extension `pg_trgm`, which not every server has, so no migration
//! makes it.

use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tracing::instrument;

/// What only one process at a time may do: a number of the application's choice, "sa01mrti" as bytes.
const LOCK: i64 = 0x7361_3031_6d72_7469;

/// What became of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SearchIndex {
    /// It is there.
    Ready,
    /// Another process is making it.
    Elsewhere,
    /// The server does not have the extension.
    Unsupported,
}

/// Does [`ensure`] on a connection of its own.
///
/// # Errors
/// As [`ensure`].
#[instrument(level = "debug", name = "db.memory_replica.ensure_on", skip_all)]
pub async fn ensure_on(server: &PgConnectOptions) -> Result<SearchIndex, sqlx::Error> {
    let mut connection = PgConnection::connect_with(server).await?;
    let made = ensure(&mut connection).await?;
    connection.close().await?;
    Ok(made)
}

/// Makes the index unless it is there. Writers go on meanwhile; it may take as long as reading the whole table. The
/// connection must be no longer used for anything else.
///
/// # Errors
/// The database's, for instance that the extension may not be used. A later call makes good what is left half done.
#[instrument(level = "debug", name = "db.memory_replica.ensure", skip_all)]
pub async fn ensure(connection: &mut PgConnection) -> Result<SearchIndex, sqlx::Error> {
    let available = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = 'pg_trgm') AS "available!""#
    );
    if !available.fetch_one(&mut *connection).await? {
        return Ok(SearchIndex::Unsupported);
    }
    // Who only tried for the lock holds no snapshot, for which the making of the index would wait.
    let locked = sqlx::query_scalar!(r#"SELECT pg_try_advisory_lock($1) AS "locked!""#, LOCK);
    if !locked.fetch_one(&mut *connection).await? {
        return Ok(SearchIndex::Elsewhere);
    }
    sqlx::query!("SET statement_timeout = 0").execute(&mut *connection).await?;
    sqlx::query!("CREATE EXTENSION IF NOT EXISTS pg_trgm").execute(&mut *connection).await?;
    let broken = sqlx::query_scalar!(
        r#"SELECT EXISTS (
               SELECT FROM pg_index WHERE indexrelid = to_regclass('memory_replica_text') AND NOT indisvalid
           ) AS "broken!""#
    );
    if broken.fetch_one(&mut *connection).await? {
        sqlx::raw_sql("DROP INDEX CONCURRENTLY memory_replica_text").execute(&mut *connection).await?;
    }
    let sql = "CREATE INDEX CONCURRENTLY IF NOT EXISTS memory_replica_text
               ON memory_replica USING gin ((payload::text) gin_trgm_ops)";
    sqlx::raw_sql(sql).execute(connection).await?;
    Ok(SearchIndex::Ready)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use sqlx::PgPool;

    use super::*;

    #[sqlx::test(migrations = "../migrations")]
    async fn the_index_is_made_once_and_by_one_process_at_a_time(pool: PgPool) {
        let mut one = pool.acquire().await.unwrap();
        assert_eq!(ensure(&mut one).await.unwrap(), SearchIndex::Ready);
        let mut other = pool.acquire().await.unwrap();
        assert_eq!(ensure(&mut other).await.unwrap(), SearchIndex::Elsewhere);
        drop(one.detach());
        while ensure(&mut other).await.unwrap() == SearchIndex::Elsewhere {
            tokio::task::yield_now().await;
        }
        let valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'memory_replica_text'::regclass";
        assert!(sqlx::query_scalar::<_, bool>(valid).fetch_one(&mut *other).await.unwrap());
    }
}
