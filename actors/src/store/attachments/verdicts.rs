//! What people decide about attachments that are quarantined.

use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use super::Attachment;
use crate::store::{attachment_blobs, wall::TenantTx};

/// One attachment of a tenant, as [`get`](super::get) gives it. Until the transaction ends nobody else changes it.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.hold", skip_all)]
pub async fn hold(rows: &mut TenantTx<'_>, tenant: &str, id: Uuid) -> Result<Option<Attachment>, sqlx::Error> {
    sqlx::query_scalar!("SELECT id FROM attachments WHERE tenant = $1 AND id = $2 FOR UPDATE", tenant, id)
        .fetch_optional(&mut **rows)
        .await?;
    // As it is now that nobody else has it.
    super::get(rows, tenant, id).await
}

/// What was found in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundBefore {
    /// `infected` or `limits_exceeded`.
    pub reason: String,
    /// What was found.
    pub threat: Option<String>,
    /// When.
    pub scanned_at: OffsetDateTime,
    /// By which signatures.
    pub signatures: Option<String>,
}

/// What was found last in bytes that an attachment of the tenant has, or had until they were dropped, and for which it is quarantined
/// still; if that was not before `since`, and they were not found clean after it. That one was released does not make them clean.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.found_in", skip_all)]
pub async fn found_in(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    (sha256, size): (&str, i64),
    since: Option<OffsetDateTime>,
) -> Result<Option<FoundBefore>, sqlx::Error> {
    sqlx::query_as!(
        FoundBefore,
        r#"SELECT quarantine_reason AS "reason!", threat, scanned_at AS "scanned_at!", signatures FROM attachments AS found
         WHERE tenant = $1 AND sha256 = $2 AND size = $3 AND deleted_at IS NULL
           AND status = 'quarantined' AND quarantine_reason <> 'av_error'
           AND scanned_at >= COALESCE($4, '-infinity'::timestamptz)
           AND NOT EXISTS (
               SELECT FROM attachments AS clean
               WHERE clean.tenant = $1 AND clean.sha256 = $2 AND clean.size = $3
                 AND clean.status = 'clean' AND clean.quarantine_reason IS NULL AND clean.scanned_at > found.scanned_at
           )
         ORDER BY scanned_at DESC
         LIMIT 1"#,
        tenant,
        sha256,
        size,
        since,
    )
    .fetch_optional(&mut **rows)
    .await
}

/// Lets one go out that is quarantined, in the name of `by`. What was found in it stays written down. Returns whether it was
/// quarantined.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.release", skip_all)]
pub async fn release(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    id: Uuid,
    by: Option<&str>,
    at: OffsetDateTime,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE attachments SET status = 'clean', released_at = $3, released_by = $4
         WHERE tenant = $1 AND id = $2 AND status = 'quarantined' AND blob_id IS NOT NULL",
        tenant,
        id,
        at,
        by,
    )
    .execute(&mut **rows)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Drops the bytes of one that is quarantined. Returns whether there were any.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.drop_bytes", skip_all)]
pub async fn drop_bytes(rows: &mut TenantTx<'_>, tenant: &str, id: Uuid) -> Result<bool, sqlx::Error> {
    let was = sqlx::query_scalar!(
        r#"WITH was AS (
             SELECT id, blob_id FROM attachments
             WHERE tenant = $1 AND id = $2 AND status = 'quarantined' AND blob_id IS NOT NULL
             FOR UPDATE
         )
         UPDATE attachments AS a SET blob_id = NULL FROM was WHERE a.id = was.id
         RETURNING was.blob_id AS "blob_id!""#,
        tenant,
        id,
    )
    .fetch_optional(&mut **rows)
    .await?;
    if let Some(blob) = was {
        attachment_blobs::release(rows, tenant, blob).await?;
    }
    Ok(was.is_some())
}
