//! Table `export_chunks`: what export jobs have found, in pieces of bounded size.

use sqlx::PgConnection;
use tracing::instrument;

use super::wall::TenantTx;

/// Keeps the chunk `number` of a job. Call it in the transaction that counts it.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.export_chunks.insert", skip_all)]
pub async fn insert(
    connection: &mut PgConnection,
    tenant: &str,
    job_id: i64,
    number: i32,
    data: &[u8],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO export_chunks (tenant, job_id, number, data) VALUES ($1, $2, $3, $4)",
        tenant,
        job_id,
        number,
        data,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The chunk `number` of a job, counted from 0.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.export_chunks.get", skip_all)]
pub async fn get(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    job_id: i64,
    number: i32,
) -> Result<Option<Vec<u8>>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT data FROM export_chunks WHERE tenant = $1 AND job_id = $2 AND number = $3",
        tenant,
        job_id,
        number,
    )
    .fetch_optional(&mut **rows)
    .await
}

/// Removes up to `limit` chunks of jobs that are over and have no result, and returns how many. Of a job whose chunks are all
/// gone it writes that down.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.export_chunks.remove", skip_all)]
pub async fn remove(connection: &mut PgConnection, limit: i64) -> Result<u64, sqlx::Error> {
    let removed = sqlx::query!(
        "DELETE FROM export_chunks WHERE (tenant, job_id, number) IN (
             SELECT c.tenant, c.job_id, c.number
             FROM export_jobs AS j JOIN export_chunks AS c ON c.tenant = j.tenant AND c.job_id = j.id
             WHERE j.status IN ('failed', 'cancelled', 'expired') AND j.chunks > 0
             ORDER BY j.id
             LIMIT $1
             FOR UPDATE OF c SKIP LOCKED
         )",
        limit,
    )
    .execute(&mut *connection)
    .await?
    .rows_affected();
    sqlx::query!(
        "UPDATE export_jobs AS j SET chunks = 0
         WHERE status IN ('failed', 'cancelled', 'expired') AND chunks > 0 AND NOT EXISTS (
             SELECT FROM export_chunks AS c WHERE c.tenant = j.tenant AND c.job_id = j.id
         )",
    )
    .execute(connection)
    .await?;
    Ok(removed)
}
