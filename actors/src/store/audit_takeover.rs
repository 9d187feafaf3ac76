//! Takes a trail over that was brought here from another server, where transactions have other numbers.
//!
//! Of what came along some rows may not be sealed. Their numbers say nothing here, so they are sealed by their ids, of one tenant
//! after the other, and the chain of each tells first that it goes on here. Then the sealing begins with the transactions
//! of this server. Whoever does this has locked the row of `audit_sealer`, so that nobody seals meanwhile.

use serde_json::json;
use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use tracing::instrument;

use super::{
    audit_chain::{Unsealed, said, write},
    audit_event, audit_walk,
};
use crate::domain::{
    append::{AuditWrite, Doer},
    audit_chain::TAKEOVER,
    audit_walk::Vouched,
};

/// A trail that is to be taken over.
#[derive(Clone, Debug)]
pub struct Takeover {
    /// The server that it comes from, if that is known.
    pub from: Option<String>,
    /// The server that this is.
    pub to: String,
    /// Transactions with lower numbers are over here.
    begun: i64,
}

/// Whether the sealing is at home here.
#[derive(Clone, Debug)]
pub enum Home {
    /// It is.
    Here,
    /// It comes from another server.
    Elsewhere(Takeover),
    /// It is not written down how far it is.
    Missing,
}

/// Looks where the sealing was done until now.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.audit_sealer.look", skip_all)]
pub async fn look(connection: &mut PgConnection, to: String) -> Result<Home, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let known = sqlx::query!(
        r#"SELECT server, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS "begun!",
                  xact >= pg_snapshot_xmax(pg_current_snapshot())
                      OR EXISTS (SELECT FROM audit_event WHERE xact >= pg_snapshot_xmax(pg_current_snapshot()))
                      AS "is_foreign!"
           FROM audit_sealer
           FOR UPDATE"#
    );
    let home = match known.fetch_optional(&mut *transaction).await? {
        None => Home::Missing,
        Some(row) if row.server.as_ref() == Some(&to) => Home::Here,
        // Nobody has ever looked, and nothing speaks against its having been here all the time.
        Some(row) if row.server.is_none() && !row.is_foreign => {
            sqlx::query!("UPDATE audit_sealer SET server = $1", to).execute(&mut *transaction).await?;
            Home::Here
        }
        Some(row) => Home::Elsewhere(Takeover { from: row.server, to, begun: row.begun }),
    };
    transaction.commit().await?;
    Ok(home)
}

/// Rows of a tenant that were taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// How many.
    pub rows: usize,
    /// The last row that was looked at; `None` if there are no more.
    pub last: Option<i64>,
}

/// Looks at the next `limit` rows of `tenant`, those behind `after`, and seals those that nobody has sealed and that no
/// transaction of this server will be asked for. `sign` vouches for it, where there is a key. `None` if somebody else has taken the
/// trail over.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.audit_event.take", skip_all)]
pub async fn take(
    connection: &mut PgConnection,
    takeover: &Takeover,
    tenant: &str,
    (after, limit): (Option<i64>, i64),
    at: OffsetDateTime,
    sign: impl Fn(&Vouched) -> Option<String> + Send,
) -> Result<Option<Taken>, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    if !lock(&mut transaction, &takeover.to).await? {
        transaction.rollback().await?;
        return Ok(None);
    }
    let found = sqlx::query!(
        r#"SELECT max(a.id) AS last, COALESCE(array_agg(a.id ORDER BY a.id) FILTER (
               WHERE (a.xact < $4::text::xid8 OR a.xact >= pg_snapshot_xmax(pg_current_snapshot()))
                 AND NOT EXISTS (SELECT FROM audit_seal AS z WHERE z.tenant = a.tenant AND z.event_id = a.id)
           ), '{}') AS "ids!"
           FROM (SELECT tenant, id, xact FROM audit_event WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3) AS a"#,
        tenant,
        after.unwrap_or(i64::MIN),
        limit,
        takeover.begun.to_string(),
    )
    .fetch_one(&mut *transaction)
    .await?;
    if after.is_none() || !found.ids.is_empty() {
        tell(&mut transaction, takeover, tenant, &found.ids, at, sign).await?;
        seal(&mut transaction, takeover, tenant, &found.ids).await?;
    }
    transaction.commit().await?;
    Ok(Some(Taken { rows: found.ids.len(), last: found.last }))
}

/// From here on rows are sealed by the numbers of this server.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.audit_sealer.settle", skip_all)]
pub async fn settle(connection: &mut PgConnection, takeover: &Takeover) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE audit_sealer SET server = $1, xact = $2::text::xid8, id = -1 WHERE server IS DISTINCT FROM $1",
        takeover.to,
        takeover.begun.to_string(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Waits until nobody seals. Whether the trail is still to be taken over.
async fn lock(connection: &mut PgConnection, to: &str) -> Result<bool, sqlx::Error> {
    let server = sqlx::query_scalar!("SELECT server FROM audit_sealer FOR UPDATE").fetch_optional(connection).await?;
    Ok(server.is_some_and(|server| server.as_deref() != Some(to)))
}

/// Writes down, and seals, that the chain goes on here.
async fn tell(
    connection: &mut PgConnection,
    takeover: &Takeover,
    tenant: &str,
    ids: &[i64],
    at: OffsetDateTime,
    sign: impl Fn(&Vouched) -> Option<String> + Send,
) -> Result<(), sqlx::Error> {
    // Nobody else seals, so the chain still ends there when the row is sealed.
    let end = audit_walk::head(&mut *connection, tenant).await?.unwrap_or_default();
    let servers = (takeover.from.as_deref(), takeover.to.as_str());
    let rows = i64::try_from(ids.len()).unwrap_or(i64::MAX);
    let signature = sign(&Vouched::behind(&end, tenant, servers, rows, at.unix_timestamp()));
    let line = AuditWrite {
        doer: Doer::process("audit-sealer"),
        action: TAKEOVER,
        resource: "audit.chain",
        target_id: tenant.to_owned(),
        details: json!({
            "from": takeover.from, "to": takeover.to, "rows": rows, "first": ids.first(), "last": ids.last(),
            "signature": signature,
        }),
        ..AuditWrite::default()
    };
    let id = audit_event::insert_of_process(&mut *connection, (tenant, None), &line, at).await?;
    let told = self::rows(&mut *connection, tenant, &[id]).await?;
    write(connection, &told).await?;
    Ok(())
}

async fn seal(
    connection: &mut PgConnection,
    takeover: &Takeover,
    tenant: &str,
    ids: &[i64],
) -> Result<(), sqlx::Error> {
    // They go before everything that this server's transactions wrote and that is not sealed yet.
    sqlx::query!(
        "UPDATE audit_event SET xact = $3::text::xid8 WHERE tenant = $1 AND id = ANY ($2)",
        tenant,
        ids,
        (takeover.begun - 1).to_string(),
    )
    .execute(&mut *connection)
    .await?;
    let rows = rows(&mut *connection, tenant, ids).await?;
    write(connection, &rows).await?;
    Ok(())
}

async fn rows(connection: &mut PgConnection, tenant: &str, ids: &[i64]) -> Result<Vec<Unsealed>, sqlx::Error> {
    let rows = said!(
        r#"SELECT a.tenant, a.id, a.xact::text::bigint AS "xact!", "#,
        "FROM audit_event AS a WHERE a.tenant = $1 AND a.id = ANY ($2) ORDER BY a.id",
        tenant,
        ids,
    )
    .fetch_all(connection)
    .await?;
    let row = rows.into_iter().map(|row| Unsealed {
        tenant: row.tenant,
        id: row.id,
        xact: row.xact,
        is_sealed: false,
        said: row.said,
    });
    Ok(row.collect())
}
