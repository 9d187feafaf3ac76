//! What a server's own workers do elsewhere and nobody does here: checkpoints and vacuum.

use sqlx::{AssertSqlSafe, PgPool};

/// Log written since the last checkpoint above which the next one is due. It takes some 10 ms then, and bounds what a
/// start after a kill has to replay to a third of a second.
const LOG_MAX_BYTES: i64 = 16 << 20;

/// Rounds between two looks for tables with many dead rows.
const VACUUM_EVERY: u32 = 30;

/// When what is due. A round is cheap when nothing is: one query.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Upkeep {
    rounds: u32,
}

impl Upkeep {
    /// Does what is due and returns what to go on with. The connection is given back between two things, so that
    /// nobody waits for more than one of them.
    pub(super) async fn round(self, pool: &PgPool) -> Result<Self, sqlx::Error> {
        if log_bytes(pool).await? > LOG_MAX_BYTES {
            sqlx::query("CHECKPOINT").execute(pool).await?;
        }
        let rounds = (self.rounds + 1) % VACUUM_EVERY;
        if rounds == 0 {
            for table in neglected(pool).await? {
                tracing::debug!(table, "vacuum");
                // The name was quoted by the server itself.
                sqlx::query(AssertSqlSafe(format!("VACUUM (ANALYZE) {table}"))).execute(pool).await?;
            }
        }
        Ok(Self { rounds })
    }
}

async fn log_bytes(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT (pg_current_wal_insert_lsn() - redo_lsn)::bigint FROM pg_control_checkpoint()")
        .fetch_one(pool)
        .await
}

/// Tables that autovacuum would take: a fifth of their rows and 1 000 more are dead, or a tenth were changed since the
/// planner last looked.
async fn neglected(pool: &PgPool) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT format('%I.%I', schemaname, relname) FROM pg_stat_user_tables
         WHERE n_dead_tup > 1000 + n_live_tup / 5 OR n_mod_since_analyze > 1000 + n_live_tup / 10",
    )
    .fetch_all(pool)
    .await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::config::{Config, DataSettings, Environment};
    use crate::data_dir::DataDir;
    use crate::database::Database;
    use crate::embedded::postgres::EmbeddedServer;

    #[tokio::test]
    async fn upkeep_bounds_the_log_and_vacuums_what_was_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(&DataSettings { dir: Some(dir.path().to_owned()) }).unwrap();
        let server = Arc::new(EmbeddedServer::new(data).unwrap());
        server.start().unwrap();
        let database = Database::embedded(&Config::load(&Environment::default()).unwrap().database, server);
        let pool = database.pool();
        for sql in [
            "CREATE TABLE worn AS SELECT repeat(md5(g::text), 30) AS text FROM generate_series(1, 30000) g",
            "DELETE FROM worn",
        ] {
            sqlx::raw_sql(sql).execute(&pool).await.unwrap();
        }
        assert!(log_bytes(&pool).await.unwrap() > LOG_MAX_BYTES);
        // The server counts its dead rows about once a second.
        let counted = "SELECT COALESCE(sum(n_dead_tup), 0)::bigint FROM pg_stat_user_tables WHERE relname = 'worn'";
        while sqlx::query_scalar::<_, i64>(counted).fetch_one(&pool).await.unwrap() == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut upkeep = Upkeep::default();
        for _ in 0..VACUUM_EVERY {
            upkeep = upkeep.round(&pool).await.unwrap();
        }
        assert_eq!(upkeep, Upkeep::default());
        assert!(log_bytes(&pool).await.unwrap() < LOG_MAX_BYTES);
        let bytes: i64 = sqlx::query_scalar("SELECT pg_relation_size('worn')").fetch_one(&pool).await.unwrap();
        assert_eq!(bytes, 0);
        database.close(Duration::from_secs(5)).await;
    }
}
