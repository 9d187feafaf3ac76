//! Table `audit_event`: who changed what, written in the transaction that changes it.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use crate::domain::{
    append::{AuditWrite, Doer},
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
    put(connection, (tenant.as_str(), None), audit, at).await
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
    put(connection, (session.tenant.as_str(), Some(session.session_id)), audit, at).await?;
    Ok(())
}

/// Writes down what the process does by itself with something of a tenant that the database names, and of a session if it is of
/// one. Returns the number of the row.
///
/// # Errors
/// The database's.
pub async fn insert_of_process(
    connection: &mut PgConnection,
    (tenant, session_id): (&str, Option<Uuid>),
    audit: &AuditWrite,
    at: OffsetDateTime,
) -> Result<i64, sqlx::Error> {
    put(connection, (tenant, session_id), audit, at).await
}

/// Writes down that `actor` removed things whose time was over: for each tenant which ones, as `gone` says.
///
/// # Errors
/// The database's.
pub async fn insert_purge<T: Serialize>(
    connection: &mut PgConnection,
    actor: &str,
    (action, resource): (&'static str, &'static str),
    gone: impl IntoIterator<Item = (String, T)>,
    at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let mut by_tenant: BTreeMap<String, Vec<T>> = BTreeMap::new();
    for (tenant, id) in gone {
        by_tenant.entry(tenant).or_default().push(id);
    }
    for (tenant, ids) in by_tenant {
        let doer = Doer::process(actor);
        let details = json!({"count": ids.len(), "ids": ids});
        let target_id = tenant.clone();
        let line = AuditWrite { doer, action, resource, target_id, details, ..AuditWrite::default() };
        put(connection, (&tenant, None), &line, at).await?;
    }
    Ok(())
}

#[instrument(level = "debug", name = "db.audit_event.insert", skip_all)]
async fn put(
    connection: &mut PgConnection,
    (tenant, session_id): (&str, Option<Uuid>),
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
        tenant,
        session_id,
        doer.request(),
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
