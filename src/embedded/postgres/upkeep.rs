//! What a server's own workers do elsewhere and nobody does here: checkpoints and vacuum.

use sqlx::{AssertSqlSafe, PgConnection, PgPool};

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
        if log_bytes(&mut *pool.acquire().await?).await? > LOG_MAX_BYTES {
            sqlx::query("CHECKPOINT").execute(pool).await?;
        }
        let rounds = (self.rounds + 1) % VACUUM_EVERY;
        if rounds == 0 {
            for table in neglected(&mut *pool.acquire().await?).await? {
                tracing::debug!(table, "vacuum");
                // The name was quoted by the server itself.
                sqlx::query(AssertSqlSafe(format!("VACUUM (ANALYZE) {table}"))).execute(pool).await?;
            }
        }
        Ok(Self { rounds })
    }
}

async fn log_bytes(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("SELECT (pg_current_wal_insert_lsn() - redo_lsn)::bigint FROM pg_control_checkpoint()")
        .fetch_one(connection)
        .await
}

/// Tables that autovacuum would take: a fifth of their rows and 1 000 more are dead, or a tenth were changed since the
/// planner last looked.
async fn neglected(connection: &mut PgConnection) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT format('%I.%I', schemaname, relname) FROM pg_stat_user_tables
         WHERE n_dead_tup > 1000 + n_live_tup / 5 OR n_mod_since_analyze > 1000 + n_live_tup / 10",
    )
    .fetch_all(connection)
    .await
}
