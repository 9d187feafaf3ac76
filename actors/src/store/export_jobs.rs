//! Table `export_jobs`: exports that were ordered, and how far they are.
//!
//! Who claims a job has it for one page, until a lease runs out. Whatever it then writes is refused if the job was cancelled
//! or claimed by another one meanwhile.

use std::net::IpAddr;

use sqlx::{Connection, PgConnection, types::Json};
use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use super::{audit_event, memory_replica::reads::ReplicaFilter, wall::TenantTx};
use crate::domain::ids::Tenant;

/// A job as it stands.
#[derive(Clone, Debug)]
pub struct ExportJob {
    /// Its number.
    pub id: i64,
    /// Whose memories.
    pub tenant: String,
    /// `queued`, `running`, `completed`, `failed`, `cancelled`, or `expired`: completed, and its result is gone.
    pub status: String,
    /// Which memories …
    pub filter: Json<ReplicaFilter>,
    /// … and at most how many.
    pub max_rows: i64,
    /// Rows from this one on are done with. Once it is completed: where the next export goes on, if there is more.
    pub cursor: Option<i64>,
    /// How many rows it will have, as far as that is known.
    pub total: Option<i64>,
    /// How many it has.
    pub row_count: i64,
    /// How many bytes these are.
    pub byte_size: i64,
    /// In how many chunks.
    pub chunks: i32,
    /// The checksum of the lines so far, as it stands between two of them.
    pub digest: Option<Vec<u8>>,
    /// SHA-256 of all bytes, once it is completed.
    pub sha256: Option<Vec<u8>>,
    /// How often it was begun since its last page.
    pub tries: i32,
    /// Until when others leave it alone.
    pub lease_until: Option<OffsetDateTime>,
    /// Why it failed: a fixed name.
    pub error_code: Option<String>,
    /// Why it failed, or why its last try did.
    pub error: Option<String>,
    /// Who asked, if known.
    pub subject: Option<String>,
    /// In which request.
    pub request_id: Uuid,
    /// From which address.
    pub ip: Option<String>,
    /// When.
    pub created_at: OffsetDateTime,
    /// When its first page was begun.
    pub started_at: Option<OffsetDateTime>,
    /// When it was over.
    pub ended_at: Option<OffsetDateTime>,
    /// Until when its result is kept.
    pub expires_at: Option<OffsetDateTime>,
}

/// A job to be done.
#[derive(Clone, Debug)]
pub struct NewExportJob {
    /// Whose memories.
    pub tenant: Tenant,
    /// Which …
    pub filter: ReplicaFilter,
    /// … only those before this row …
    pub after: Option<i64>,
    /// … and at most so many.
    pub max_rows: i64,
    /// Who asks, if known.
    pub subject: Option<String>,
    /// In which request.
    pub request_id: Uuid,
    /// From which address.
    pub ip: Option<IpAddr>,
    /// When.
    pub at: OffsetDateTime,
}

/// Runs a query for jobs: its text before and after their columns, and its arguments.
macro_rules! jobs {
    ($before:tt, $after:tt, $($argument:expr),+ $(,)?) => {
        sqlx::query_as!(
            ExportJob,
            $before
                + r#" id, tenant, status, params AS "filter: Json<ReplicaFilter>", max_rows, cursor, total, row_count,
                      byte_size, chunks, digest, sha256, tries, lease_until, error_code, error, subject, request_id,
                      host(ip) AS ip, created_at, started_at, ended_at, expires_at "#
                + $after,
            $($argument),+
        )
    };
}

/// Writes a job down and returns its number, unless the tenant has `most` jobs that have a result or will have one. Call it
/// in a transaction: until its end no other job of the tenant is written down.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.export_jobs.insert", skip_all)]
pub async fn insert(rows: &mut TenantTx<'_>, job: &NewExportJob, most: i64) -> Result<Option<i64>, sqlx::Error> {
    let tenant = job.tenant.as_str();
    // Two at once would not see each other.
    sqlx::query_scalar!("SELECT pg_advisory_xact_lock(hashtextextended('export_jobs ' || $1, 0))", tenant)
        .fetch_one(&mut **rows)
        .await?;
    sqlx::query_scalar!(
        "INSERT INTO export_jobs (
             tenant, status, params, max_rows, cursor, subject, request_id, ip, created_at, updated_at
         )
         SELECT $1, 'queued', $2, $3, $4, $5, $6, $7::text::inet, $8, $8
         WHERE (
             SELECT count(*) FROM export_jobs WHERE tenant = $1 AND status IN ('queued', 'running', 'completed')
         ) < $9
         RETURNING id",
        tenant,
        Json(&job.filter) as _,
        job.max_rows,
        job.after,
        job.subject,
        job.request_id,
        job.ip.map(|ip| ip.to_string()),
        job.at,
        most,
    )
    .fetch_optional(&mut **rows)
    .await
}

/// A job of a tenant.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.export_jobs.get", skip_all)]
pub async fn get(rows: &mut TenantTx<'_>, tenant: &str, id: i64) -> Result<Option<ExportJob>, sqlx::Error> {
    jobs!("SELECT", "FROM export_jobs WHERE tenant = $1 AND id = $2", tenant, id).fetch_optional(&mut **rows).await
}

/// Up to `limit` jobs of a tenant with a number below `before`, the newest first.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.export_jobs.list", skip_all)]
pub async fn list(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    before: Option<i64>,
    limit: i64,
) -> Result<Vec<ExportJob>, sqlx::Error> {
    jobs!(
        "SELECT",
        "FROM export_jobs WHERE tenant = $1 AND ($2::bigint IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
        tenant,
        before,
        limit,
    )
    .fetch_all(&mut **rows)
    .await
}

/// Takes the job that has waited longest, until `lease_until`, for whoever is called `claim`.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.export_jobs.claim", skip_all)]
pub async fn claim(
    connection: &mut PgConnection,
    claim: Uuid,
    at: OffsetDateTime,
    lease_until: OffsetDateTime,
) -> Result<Option<ExportJob>, sqlx::Error> {
    jobs!(
        "UPDATE export_jobs
         SET status = 'running', claim = $1, lease_until = $3, tries = tries + 1, started_at = COALESCE(started_at, $2)
         WHERE id = (
             SELECT id FROM export_jobs
             WHERE status IN ('queued', 'running') AND (lease_until IS NULL OR lease_until <= $2)
             ORDER BY updated_at, id
             LIMIT 1
             FOR UPDATE SKIP LOCKED
         )
         RETURNING",
        "",
        claim,
        at,
        lease_until,
    )
    .fetch_optional(connection)
    .await
}

/// Gives a job back as it is now. Returns false, and changes nothing, if `claim` does not have it any more.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.export_jobs.settle", skip_all)]
pub async fn settle(
    connection: &mut PgConnection,
    job: &ExportJob,
    claim: Uuid,
    at: OffsetDateTime,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE export_jobs
         SET status = $4, cursor = $5, total = $6, row_count = $7, byte_size = $8, chunks = $9, digest = $10,
             sha256 = $11, tries = $12, lease_until = $13, error_code = $14, error = $15, ended_at = $16,
             expires_at = $17, claim = NULL, updated_at = $18
         WHERE tenant = $1 AND id = $2 AND claim = $3 AND status = 'running'",
        job.tenant,
        job.id,
        claim,
        job.status,
        job.cursor,
        job.total,
        job.row_count,
        job.byte_size,
        job.chunks,
        job.digest,
        job.sha256,
        job.tries,
        job.lease_until,
        job.error_code,
        job.error,
        job.ended_at,
        job.expires_at,
        at,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Ends a job of a tenant: what is under way is cancelled, what is completed expires. Returns the job as it is then, or
/// `None` if it was over before.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.export_jobs.end", skip_all)]
pub async fn end(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    id: i64,
    at: OffsetDateTime,
) -> Result<Option<ExportJob>, sqlx::Error> {
    jobs!(
        "UPDATE export_jobs
         SET status = CASE status WHEN 'completed' THEN 'expired' ELSE 'cancelled' END, claim = NULL, lease_until = NULL,
             ended_at = COALESCE(ended_at, $3), expires_at = LEAST(expires_at, $3), updated_at = $3
         WHERE tenant = $1 AND id = $2 AND status IN ('queued', 'running', 'completed')
         RETURNING",
        "",
        tenant,
        id,
        at,
    )
    .fetch_optional(&mut **rows)
    .await
}

/// Lets up to `limit` results go whose time is over, and returns their jobs.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.export_jobs.expire", skip_all)]
pub async fn expire(
    connection: &mut PgConnection,
    at: OffsetDateTime,
    limit: i64,
) -> Result<Vec<ExportJob>, sqlx::Error> {
    jobs!(
        "UPDATE export_jobs SET status = 'expired', updated_at = $1
         WHERE id = ANY (ARRAY (
             SELECT id FROM export_jobs WHERE status = 'completed' AND expires_at <= $1
             ORDER BY expires_at
             LIMIT $2
             FOR UPDATE SKIP LOCKED
         ))
         RETURNING",
        "",
        at,
        limit,
    )
    .fetch_all(connection)
    .await
}

/// Removes up to `limit` jobs that were over before `before` and have no chunks left, writes down which, and returns
/// how many.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.export_jobs.purge", skip_all)]
pub async fn purge(
    connection: &mut PgConnection,
    before: OffsetDateTime,
    at: OffsetDateTime,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let gone = sqlx::query!(
        "DELETE FROM export_jobs WHERE id = ANY (ARRAY (
             SELECT id FROM export_jobs
             WHERE status IN ('failed', 'cancelled', 'expired') AND ended_at < $1 AND chunks = 0
             ORDER BY ended_at
             LIMIT $2
             FOR UPDATE SKIP LOCKED
         ))
         RETURNING tenant, id",
        before,
        limit,
    )
    .fetch_all(&mut *transaction)
    .await?;
    let count = gone.len();
    let gone = gone.into_iter().map(|job| (job.tenant, job.id));
    let what = ("memory.export.purge", "export_job");
    audit_event::insert_purge(&mut transaction, "export-runner", what, gone, at).await?;
    transaction.commit().await?;
    Ok(u64::try_from(count).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
