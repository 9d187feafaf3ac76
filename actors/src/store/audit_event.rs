//! Table `audit_event`: who changed what, written in the transaction that changes it.

use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use crate::domain::{
    append::AuditWrite,
    ids::{SessionKey, Tenant},
};

/// Writes down that something of `tenant` was changed that belongs to no session. Returns the number of the row.
///
/// # Errors
/// The database's.
pub async fn insert(
    connection: &mut PgConnection,
    tenant: &Tenant,
    audit: &AuditWrite,
    at: OffsetDateTime,
) -> Result<i64, sqlx::Error> {
    put(connection, (tenant, None), audit, at).await
}

/// Writes down that something of a session was changed.
///
/// # Errors
/// The database's.
pub async fn insert_of_session(
    connection: &mut PgConnection,
    session: &SessionKey,
    audit: &AuditWrite,
    at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    put(connection, (&session.tenant, Some(session.session_id)), audit, at).await?;
    Ok(())
}

#[instrument(level = "debug", name = "db.audit_event.insert", skip_all)]
async fn put(
    connection: &mut PgConnection,
    (tenant, session_id): (&Tenant, Option<Uuid>),
    audit: &AuditWrite,
    at: OffsetDateTime,
) -> Result<i64, sqlx::Error> {
    let doer = &audit.doer;
    sqlx::query_scalar!(
        "INSERT INTO audit_event (
             ts, tenant, session_id, request_id, trace_id, workflow_id, subject, issuer, action, resource, target_id,
             decision, details, diff, ip, user_agent
         )
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15::text::inet, $16)
         RETURNING id",
        at,
        tenant.as_str(),
        session_id,
        doer.correlation_id.to_string(),
        doer.trace_id,
        audit.workflow_id,
        doer.subject,
        doer.issuer(),
        audit.action,
        audit.resource,
        audit.target_id,
        doer.decision(),
        audit.details,
        audit.diff,
        doer.ip.map(|ip| ip.to_string()),
        doer.user_agent(),
    )
    .fetch_one(connection)
    .await
}
