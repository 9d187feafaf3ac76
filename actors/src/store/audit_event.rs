//! Table `audit_event`: who changed what, written in the transaction that changes it.

use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::instrument;

use crate::domain::{append::AuditWrite, ids::Tenant};

/// Writes down that something of `tenant` was changed that belongs to no session.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.audit_event.insert", skip_all)]
pub async fn insert(
    connection: &mut PgConnection,
    tenant: &Tenant,
    audit: &AuditWrite,
    at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO audit_event (ts, tenant, request_id, subject, action, resource, target_id, details, ip)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::inet)",
        at,
        tenant.as_str(),
        audit.correlation_id.to_string(),
        audit.subject,
        audit.action,
        audit.resource,
        audit.target_id,
        audit.details,
        audit.ip.map(|ip| ip.to_string()),
    )
    .execute(connection)
    .await?;
    Ok(())
}
