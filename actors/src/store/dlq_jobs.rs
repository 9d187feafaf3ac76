//! Table `dlq_jobs`: orders to send many dead letters again, and how far they are.

use std::net::IpAddr;

use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use super::{audit_event, dead_letters::browse::LetterFilter, wall::TenantTx};

/// An order as it stands.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its id.
    pub id: Uuid,
    /// Whose letters.
    pub tenant: String,
    /// Of which dead-letter topic.
    pub topic: String,
    /// `running`, `completed` or `cancelled`.
    pub status: String,
    /// Which letters …
    pub filter: LetterFilter,
    /// … with numbers up to this one …
    pub upto: i64,
    /// … and at most so many.
    pub max_letters: i64,
    /// Letters up to this number are done with.
    pub place: i64,
    /// How many there were at the time of the order.
    pub total: i64,
    /// How many were sent again.
    pub reprocessed: i64,
    /// How many could not be sent and are still there.
    pub failed: i64,
    /// Who asked, if known.
    pub subject: Option<String>,
    /// In which request.
    pub request_id: Uuid,
    /// From which address.
    pub ip: Option<IpAddr>,
    /// When.
    pub created_at: OffsetDateTime,
    /// When it last went on.
    pub updated_at: OffsetDateTime,
}

impl Job {
    /// How many letters it may still look at.
    #[must_use]
    pub const fn left(&self) -> i64 {
        self.max_letters - self.reprocessed - self.failed
    }
}

macro_rules! job {
    ($row:expr) => {{
        let row = $row;
        Job {
            id: row.id,
            tenant: row.tenant,
            topic: row.topic,
            status: row.status,
            filter: LetterFilter { containing: row.containing, from: row.created_from, before: row.created_before },
            upto: row.upto,
            max_letters: row.max_letters,
            place: row.place,
            total: row.total,
            reprocessed: row.reprocessed,
            failed: row.failed,
            subject: row.subject,
            request_id: row.request_id,
            ip: row.ip.and_then(|ip| ip.parse().ok()),
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }};
}

/// Writes an order down.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.dlq_jobs.insert", skip_all)]
pub async fn insert(rows: &mut TenantTx<'_>, job: &Job) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO dlq_jobs (
             id, tenant, topic, status, containing, created_from, created_before, upto, max_letters, place, total,
             reprocessed, failed, subject, request_id, ip, created_at, updated_at
         )
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16::text::inet, $17, $18)",
        job.id,
        job.tenant,
        job.topic,
        job.status,
        job.filter.containing,
        job.filter.from,
        job.filter.before,
        job.upto,
        job.max_letters,
        job.place,
        job.total,
        job.reprocessed,
        job.failed,
        job.subject,
        job.request_id,
        job.ip.map(|ip| ip.to_string()),
        job.created_at,
        job.updated_at,
    )
    .execute(&mut **rows)
    .await?;
    Ok(())
}

/// An order of a tenant.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.dlq_jobs.get", skip_all)]
pub async fn get(rows: &mut TenantTx<'_>, tenant: &str, topic: &str, id: Uuid) -> Result<Option<Job>, sqlx::Error> {
    let row = sqlx::query!(
        "SELECT id, tenant, topic, status, containing, created_from, created_before, upto, max_letters, place, total,
                reprocessed, failed, subject, request_id, host(ip) AS ip, created_at, updated_at
         FROM dlq_jobs
         WHERE tenant = $1 AND topic = $2 AND id = $3",
        tenant,
        topic,
        id,
    )
    .fetch_optional(&mut **rows)
    .await?;
    Ok(row.map(|row| job!(row)))
}

/// The running order that has waited longest, locked; one that somebody else works on is passed over.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.dlq_jobs.lock_next", skip_all)]
pub async fn lock_next(connection: &mut PgConnection) -> Result<Option<Job>, sqlx::Error> {
    let row = sqlx::query!(
        "SELECT id, tenant, topic, status, containing, created_from, created_before, upto, max_letters, place, total,
                reprocessed, failed, subject, request_id, host(ip) AS ip, created_at, updated_at
         FROM dlq_jobs
         WHERE status = 'running'
         ORDER BY updated_at, id
         LIMIT 1
         FOR UPDATE SKIP LOCKED"
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| job!(row)))
}

/// Writes down how far an order is.
///
/// # Errors
/// The database's; `RowNotFound` if there is no such order.
#[instrument(level = "debug", name = "db.dlq_jobs.advance", skip_all)]
pub async fn advance(connection: &mut PgConnection, job: &Job) -> Result<(), sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE dlq_jobs SET status = $3, place = $4, reprocessed = $5, failed = $6, updated_at = $7
         WHERE tenant = $1 AND id = $2",
        job.tenant,
        job.id,
        job.status,
        job.place,
        job.reprocessed,
        job.failed,
        job.updated_at,
    )
    .execute(connection)
    .await?;
    if done.rows_affected() == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

/// Ends a running order of a tenant before its time. It waits for a page that is being done. Returns the order as it is
/// then, or `None` if none was running.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.dlq_jobs.cancel", skip_all)]
pub async fn cancel(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    topic: &str,
    id: Uuid,
    at: OffsetDateTime,
) -> Result<Option<Job>, sqlx::Error> {
    let row = sqlx::query!(
        "UPDATE dlq_jobs SET status = 'cancelled', updated_at = $4
         WHERE tenant = $1 AND topic = $2 AND id = $3 AND status = 'running'
         RETURNING id, tenant, topic, status, containing, created_from, created_before, upto, max_letters, place, total,
                reprocessed, failed, subject, request_id, host(ip) AS ip, created_at, updated_at",
        tenant,
        topic,
        id,
        at,
    )
    .fetch_optional(&mut **rows)
    .await?;
    Ok(row.map(|row| job!(row)))
}

/// Removes up to `limit` orders that were over before `before`, writes down which, and returns how many.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.dlq_jobs.purge", skip_all)]
pub async fn purge(
    connection: &mut PgConnection,
    before: OffsetDateTime,
    at: OffsetDateTime,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let gone = sqlx::query!(
        "DELETE FROM dlq_jobs WHERE id = ANY (ARRAY (
             SELECT id FROM dlq_jobs WHERE status <> 'running' AND updated_at < $1
             ORDER BY updated_at
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
    let what = ("dlq.order.purge", "dead_letter_order");
    audit_event::insert_purge(&mut transaction, "dlq-keeper", what, gone, at).await?;
    transaction.commit().await?;
    Ok(u64::try_from(count).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use sqlx::PgPool;

    use super::*;
    use crate::store::wall::within;

    #[sqlx::test(migrations = "../migrations")]
    async fn an_order_goes_on_in_its_own_tenant_alone(pool: PgPool) {
        let job = Job {
            id: Uuid::from_u128(1),
            tenant: "a".to_owned(),
            topic: "x.dlq".to_owned(),
            status: "running".to_owned(),
            filter: LetterFilter::default(),
            upto: 9,
            max_letters: 9,
            place: 0,
            total: 9,
            reprocessed: 0,
            failed: 0,
            subject: None,
            request_id: Uuid::nil(),
            ip: None,
            created_at: OffsetDateTime::UNIX_EPOCH,
            updated_at: OffsetDateTime::UNIX_EPOCH,
        };
        let mut connection = pool.acquire().await.unwrap();
        within(&mut connection, "a", async |rows| insert(rows, &job).await).await;
        let elsewhere = Job { tenant: "b".to_owned(), place: 4, ..job.clone() };
        assert!(matches!(advance(&mut connection, &elsewhere).await, Err(sqlx::Error::RowNotFound)));
        advance(&mut connection, &Job { place: 5, ..job.clone() }).await.unwrap();
        let found = within(&mut connection, "a", async |rows| get(rows, "a", "x.dlq", job.id).await).await;
        assert_eq!(found.unwrap().place, 5);
    }
}
