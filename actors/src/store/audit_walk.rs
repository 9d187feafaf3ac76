//! Reads of the audit trail and its chains for whoever verifies them. Nothing here writes.

use sqlx::PgConnection;
use tracing::instrument;

use super::audit_chain::said;
use crate::domain::{
    audit_chain::{Head, Place, Sum},
    audit_walk::Entry,
};

/// Every tenant that has rows, links or an end of a chain, one after the other: those after `after`, at most `limit`.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.audit_chain.tenants", skip_all)]
pub async fn tenants(
    connection: &mut PgConnection,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"WITH RECURSIVE walk (tenant, n) AS (
             SELECT LEAST(
                 (SELECT min(tenant) FROM audit_event WHERE $1::text IS NULL OR tenant > $1),
                 (SELECT min(tenant) FROM audit_seal WHERE $1::text IS NULL OR tenant > $1),
                 (SELECT min(tenant) FROM audit_chain WHERE $1::text IS NULL OR tenant > $1)
             ), 1::bigint
             UNION ALL
             SELECT LEAST(
                 (SELECT min(tenant) FROM audit_event WHERE tenant > walk.tenant),
                 (SELECT min(tenant) FROM audit_seal WHERE tenant > walk.tenant),
                 (SELECT min(tenant) FROM audit_chain WHERE tenant > walk.tenant)
             ), n + 1
             FROM walk
             WHERE walk.tenant IS NOT NULL AND n < $2
         )
         SELECT tenant AS "tenant!" FROM walk WHERE tenant IS NOT NULL ORDER BY n"#,
        after,
        limit,
    )
    .fetch_all(connection)
    .await
}

/// The end of `tenant`'s chain as it is written down.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.audit_chain.head", skip_all)]
pub async fn head(connection: &mut PgConnection, tenant: &str) -> Result<Option<Head>, sqlx::Error> {
    let row = sqlx::query!("SELECT number, hash FROM audit_chain WHERE tenant = $1", tenant);
    let row = row.fetch_optional(connection).await?;
    Ok(row.map(|row| Head { number: row.number, hash: Sum::try_from(row.hash).unwrap_or_default() }))
}

/// The next link of `tenant`'s chain that says that it goes on on another server, one with a higher number than `after`, and the sum
/// of the link before it. `None` if there are no more.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.audit_event.takeover", skip_all)]
pub async fn takeover(
    connection: &mut PgConnection,
    tenant: &str,
    after: i64,
) -> Result<Option<(Entry, Sum)>, sqlx::Error> {
    let row = said!(
        r#"SELECT z.number, z.event_id, z.version, z.content, z.hash, p.hash AS "previous?", "#,
        "FROM audit_event AS a
         JOIN audit_seal AS z ON z.tenant = a.tenant AND z.event_id = a.id
         LEFT JOIN audit_seal AS p ON p.tenant = z.tenant AND p.number = z.number - 1
         WHERE a.tenant = $1 AND a.action = 'audit.takeover' AND z.number > $2
         ORDER BY z.number
         LIMIT 1",
        tenant,
        after,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| {
        let previous = row.previous.map(|hash| Sum::try_from(hash).unwrap_or_default()).unwrap_or_default();
        let entry = Entry {
            number: row.number,
            event_id: row.event_id,
            version: row.version,
            content: Sum::try_from(row.content).unwrap_or_default(),
            hash: Sum::try_from(row.hash).unwrap_or_default(),
            said: Some(row.said),
        };
        (entry, previous)
    }))
}

/// The next links of `tenant`'s chain with their rows, those with a higher number than `after`, at most `limit`.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.audit_seal.page", skip_all)]
pub async fn page(
    connection: &mut PgConnection,
    tenant: &str,
    after: i64,
    limit: i64,
) -> Result<Vec<Entry>, sqlx::Error> {
    let rows = said!(
        r#"SELECT z.number, z.event_id, z.version, z.content, z.hash, a.id AS "found?", "#,
        "FROM (
             SELECT * FROM audit_seal WHERE tenant = $1 AND number > $2 ORDER BY number LIMIT $3
         ) AS z
         LEFT JOIN audit_event AS a ON a.tenant = z.tenant AND a.id = z.event_id
         ORDER BY z.number",
        tenant,
        after,
        limit,
    )
    .fetch_all(connection)
    .await?;
    let entry = rows.into_iter().map(|row| Entry {
        number: row.number,
        event_id: row.event_id,
        version: row.version,
        content: Sum::try_from(row.content).unwrap_or_default(),
        hash: Sum::try_from(row.hash).unwrap_or_default(),
        said: row.found.map(|_| row.said),
    });
    Ok(entry.collect())
}

/// Looks at the next `limit` rows of `tenant`, those with a higher id than `after`: which of them should have been sealed by
/// now, where the sealing is at `reached` or nobody knows where, and are not, or say that they come from a transaction that has not
/// begun; and the id of the last one. `None` if there are no more.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.audit_event.unsealed", skip_all)]
pub async fn unsealed(
    connection: &mut PgConnection,
    tenant: &str,
    after: i64,
    limit: i64,
    reached: Option<Place>,
) -> Result<Option<(Vec<i64>, i64)>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT max(a.id) AS last, array_agg(a.id ORDER BY a.id) FILTER (
               WHERE ($4::text IS NULL OR (a.xact, a.id) <= ($4::text::xid8, $5) OR a.xact >= pg_snapshot_xmax(pg_current_snapshot()))
                 AND NOT EXISTS (SELECT FROM audit_seal AS z WHERE z.tenant = a.tenant AND z.event_id = a.id)
           ) AS rows
         FROM (SELECT tenant, id, xact FROM audit_event WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3) AS a"#,
        tenant,
        after,
        limit,
        reached.map(|place| place.0.to_string()),
        reached.map(|place| place.1),
    )
    .fetch_one(connection)
    .await?;
    Ok(row.last.map(|last| (row.rows.unwrap_or_default(), last)))
}
