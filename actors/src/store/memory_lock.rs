//! Keeps those who write a memory apart from those who take it back.

use sqlx::PgConnection;

use crate::domain::ids::Tenant;

/// Parts of a tenant's memories that are locked together: so many locks a transaction has at most.
const PARTS: i32 = 64;

/// Keeps these memories from being taken back until the transaction ends: what is taken back is what was there then, and what
/// comes after it has a higher revision.
///
/// # Errors
/// The database's.
pub async fn lock_shared(connection: &mut PgConnection, tenant: &Tenant, ids: &[&str]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "SELECT pg_advisory_xact_lock_shared(hashtext('memory ' || $1), part)
         FROM (SELECT DISTINCT abs(hashtext(id) % $3) AS part FROM unnest($2::text[]) AS id ORDER BY 1) AS parts",
        tenant.as_str(),
        ids as _,
        PARTS,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Keeps the memory `id` from being written until the transaction ends, and waits for those that write it.
///
/// # Errors
/// The database's.
pub async fn lock(connection: &mut PgConnection, tenant: &str, id: &str) -> Result<(), sqlx::Error> {
    sqlx::query!("SELECT pg_advisory_xact_lock(hashtext('memory ' || $1), abs(hashtext($2) % $3))", tenant, id, PARTS,)
        .execute(connection)
        .await?;
    Ok(())
}
