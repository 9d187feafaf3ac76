//! How many bytes a tenant has here, and a session of it: those of its attachments, each counted although another one may have the
//! same, and those that its uploads in pieces are to have.

use tracing::instrument;
use uuid::Uuid;

use crate::store::wall::TenantTx;

/// Lets nobody else take room of a tenant until the transaction ends. What is counted behind this is all that they took before.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.lock_quota", skip_all)]
pub async fn lock(rows: &mut TenantTx<'_>, tenant: &str) -> Result<(), sqlx::Error> {
    sqlx::query!("SELECT pg_advisory_xact_lock(hashtextextended('attachments ' || $1, 0))", tenant)
        .execute(&mut **rows)
        .await?;
    Ok(())
}

/// How many bytes a tenant has.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.used_by_tenant", skip_all)]
pub async fn used_by_tenant(rows: &mut TenantTx<'_>, tenant: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT COALESCE(sum(bytes), 0)::bigint AS "used!" FROM (
               SELECT size AS bytes FROM attachments WHERE tenant = $1 AND blob_id IS NOT NULL
               UNION ALL
               SELECT length FROM tus_uploads WHERE tenant = $1 AND blob_id IS NOT NULL
           ) AS kept"#,
        tenant,
    )
    .fetch_one(&mut **rows)
    .await
}

/// How many bytes a session has.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.used_by_session", skip_all)]
pub async fn used_by_session(rows: &mut TenantTx<'_>, tenant: &str, session: Uuid) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT COALESCE(sum(bytes), 0)::bigint AS "used!" FROM (
               SELECT size AS bytes FROM attachments WHERE tenant = $1 AND session_id = $2 AND blob_id IS NOT NULL
               UNION ALL
               SELECT length FROM tus_uploads WHERE tenant = $1 AND session_id = $2 AND blob_id IS NOT NULL
           ) AS kept"#,
        tenant,
        session,
    )
    .fetch_one(&mut **rows)
    .await
}
