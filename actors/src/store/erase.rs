//! Takes a session's history away: for a reset, which keeps the envelope, or a deletion, which leaves a tombstone.

use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;

use crate::domain::{append::AuditWrite, ids::SessionKey};

/// What is left of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// The envelope; numbers go on after `head`.
    Envelope,
    /// A tombstone.
    Tombstone,
}

/// Removes events and turns if the fence `(epoch, head)` holds, in one transaction with its audit row. Returns how many
/// events were removed, or `None` when the writer is stale and nothing was done.
///
/// # Errors
/// The database's.
pub async fn erase(
    connection: &mut PgConnection,
    key: &SessionKey,
    (epoch, head): (i64, i64),
    leave: Leave,
    at: OffsetDateTime,
    audit: &AuditWrite,
) -> Result<Option<u64>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let (tenant, id) = (key.tenant.as_str(), key.session_id);
    let fenced = sqlx::query!(
        "UPDATE session_envelopes
         SET updated_at = $5,
             analysis = '{}',
             title = CASE WHEN $6 THEN NULL ELSE title END,
             title_folded = CASE WHEN $6 THEN NULL ELSE title_folded END,
             metadata = CASE WHEN $6 THEN '{}' ELSE metadata END,
             deleted_at = CASE WHEN $6 THEN $5 ELSE deleted_at END
         WHERE tenant = $1 AND session_id = $2 AND epoch = $3 AND last_seq = $4 AND deleted_at IS NULL",
        tenant,
        id,
        epoch,
        head,
        at,
        leave == Leave::Tombstone,
    )
    .execute(&mut *transaction)
    .await?;
    if fenced.rows_affected() == 0 {
        transaction.rollback().await?;
        return Ok(None);
    }
    let events = sqlx::query!("DELETE FROM session_events WHERE tenant = $1 AND session_id = $2", tenant, id)
        .execute(&mut *transaction)
        .await?;
    sqlx::query!("DELETE FROM turns WHERE tenant = $1 AND session_id = $2", tenant, id)
        .execute(&mut *transaction)
        .await?;
    sqlx::query!(
        "INSERT INTO audit_event (ts, tenant, session_id, request_id, subject, action, resource, target_id, details, ip)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text::inet)",
        at,
        tenant,
        id,
        audit.correlation_id.to_string(),
        audit.subject,
        audit.action,
        audit.resource,
        audit.target_id,
        audit.details,
        audit.ip.map(|ip| ip.to_string()),
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(Some(events.rows_affected()))
}
