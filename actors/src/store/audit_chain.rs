//! Tables `audit_seal`, `audit_chain` and `audit_sealer`: the chains over the audit trail.
//!
//! Rows are sealed in the order of the transactions that wrote them, and only those whose transaction is older than every
//! one that is under way: behind them nothing can come to light any more. Whoever has locked the row of `audit_sealer` is
//! the one who seals; it holds how far that is.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use tracing::instrument;

use crate::domain::audit_chain::{CHECKPOINTS, Head, Said, Sum, VERSION, content};

/// Runs a query for rows of `audit_event AS a` with what they say: its text before and after that, and its arguments. A new
/// field makes a new version of the sums.
macro_rules! said {
    ($before:tt, $after:tt, $($argument:expr),+ $(,)?) => {
        sqlx::query!(
            $before
                + r#" ARRAY[
                      encode(timestamptz_send(a.ts), 'hex'), a.tenant, a.session_id::text, a.request_id, a.trace_id,
                      a.workflow_id, a.subject, a.issuer, a.action, a.resource, a.target_id, a.decision, a.details::text,
                      a.diff::text, a.ip::text, a.user_agent
                  ] AS "said!: Vec<Option<String>>" "#
                + $after,
            $($argument),+
        )
    };
}
pub(super) use said;

/// What an attempt to seal came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// So many rows were looked at; fewer than were asked for if there are no more.
    Rows(usize),
    /// Somebody else is at it.
    Elsewhere,
}

/// When the oldest row was written that is not sealed, if there is one.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.audit_event.oldest_unsealed", skip_all)]
pub async fn oldest_unsealed(connection: &mut PgConnection) -> Result<Option<OffsetDateTime>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT next.ts
         FROM (
             SELECT COALESCE((SELECT xact FROM audit_sealer), '0') AS xact, COALESCE((SELECT id FROM audit_sealer), 0) AS id
         ) AS s
         CROSS JOIN LATERAL (
             SELECT ts FROM audit_event WHERE (xact, id) > (s.xact, s.id) ORDER BY xact, id LIMIT 1
         ) AS next"
    )
    .fetch_optional(connection)
    .await
}

/// A row to be sealed.
struct Unsealed {
    tenant: String,
    id: i64,
    xact: String,
    is_sealed: bool,
    said: Said,
}

/// Seals the next rows, at most `limit`, in one transaction.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.audit_seal.seal", skip_all)]
pub async fn seal(connection: &mut PgConnection, limit: i64) -> Result<Sealed, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let locked = sqlx::query_scalar!("SELECT id FROM audit_sealer FOR UPDATE SKIP LOCKED");
    if locked.fetch_optional(&mut *transaction).await?.is_none() {
        transaction.rollback().await?;
        return Ok(Sealed::Elsewhere);
    }
    let rows = unsealed(&mut transaction, limit).await?;
    let Some(last) = rows.last() else {
        transaction.rollback().await?;
        return Ok(Sealed::Rows(0));
    };
    sqlx::query!("UPDATE audit_sealer SET xact = $1::text::xid8, id = $2", last.xact, last.id)
        .execute(&mut *transaction)
        .await?;
    write(&mut transaction, &rows).await?;
    transaction.commit().await?;
    Ok(Sealed::Rows(rows.len()))
}

async fn unsealed(connection: &mut PgConnection, limit: i64) -> Result<Vec<Unsealed>, sqlx::Error> {
    let rows = said!(
        r#"SELECT a.tenant, a.id, a.xact::text AS "xact!",
                  EXISTS (SELECT FROM audit_seal AS z WHERE z.tenant = a.tenant AND z.event_id = a.id) AS "is_sealed!", "#,
        "FROM audit_sealer AS s
         CROSS JOIN LATERAL (
             SELECT * FROM audit_event
             WHERE (xact, id) > (s.xact, s.id) AND xact < pg_snapshot_xmin(pg_current_snapshot())
             ORDER BY xact, id
             LIMIT $1
         ) AS a
         ORDER BY a.xact, a.id",
        limit,
    )
    .fetch_all(connection)
    .await?;
    let row = rows.into_iter().map(|row| Unsealed {
        tenant: row.tenant,
        id: row.id,
        xact: row.xact,
        is_sealed: row.is_sealed,
        said: row.said,
    });
    Ok(row.collect())
}

/// Links `rows` to the chains of their tenants.
async fn write(connection: &mut PgConnection, rows: &[Unsealed]) -> Result<(), sqlx::Error> {
    let mut heads: BTreeMap<&str, Head> = rows.iter().map(|row| (row.tenant.as_str(), Head::default())).collect();
    let tenants: Vec<&str> = heads.keys().copied().collect();
    let known =
        sqlx::query!("SELECT tenant, number, hash FROM audit_chain WHERE tenant = ANY ($1) FOR UPDATE", &tenants as _);
    for row in known.fetch_all(&mut *connection).await? {
        if let Some(head) = heads.get_mut(row.tenant.as_str()) {
            // A sum that is none breaks the chain, which whoever verifies it finds.
            *head = Head { number: row.number, hash: Sum::try_from(row.hash).unwrap_or_default() };
        }
    }
    let (mut owners, mut numbers, mut ids) = (Vec::new(), Vec::new(), Vec::new());
    let (mut contents, mut hashes) = (Vec::new(), Vec::new());
    for row in rows.iter().filter(|row| !row.is_sealed) {
        let (Some(head), Some(content)) = (heads.get_mut(row.tenant.as_str()), content(VERSION, &row.said)) else {
            continue;
        };
        let link = head.seal(&row.tenant, row.id, content);
        owners.push(row.tenant.as_str());
        numbers.push(link.number);
        ids.push(link.event_id);
        contents.push(link.content.to_vec());
        hashes.push(link.hash.to_vec());
    }
    sqlx::query!(
        "INSERT INTO audit_seal (tenant, number, event_id, version, content, hash)
         SELECT tenant, number, event_id, $6, content, hash
         FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bytea[])
             AS l(tenant, number, event_id, content, hash)",
        &owners as _,
        &numbers,
        &ids,
        &contents,
        &hashes,
        VERSION,
    )
    .execute(&mut *connection)
    .await?;
    let (numbers, hashes): (Vec<i64>, Vec<Vec<u8>>) =
        heads.values().map(|head| (head.number, head.hash.to_vec())).unzip();
    sqlx::query!(
        "INSERT INTO audit_chain (tenant, number, hash)
         SELECT tenant, number, hash
         FROM unnest($1::text[], $2::bigint[], $3::bytea[]) AS h(tenant, number, hash)
         WHERE number > 0
         ON CONFLICT (tenant) DO UPDATE SET number = excluded.number, hash = excluded.hash",
        &tenants as _,
        &numbers,
        &hashes,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes up to `limit` rows over that transactions of another server wrote: this database was restored here, and the numbers
/// of transactions began anew. What is sealed stays so. Returns how many rows there were.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.audit_event.adopt", skip_all)]
pub async fn adopt(connection: &mut PgConnection, limit: i64) -> Result<u64, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    // What can be seen was written by transactions that were begun before this one.
    let foreign = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM audit_event WHERE xact >= pg_snapshot_xmax(pg_current_snapshot()))
               OR EXISTS (SELECT FROM audit_sealer WHERE xact >= pg_snapshot_xmax(pg_current_snapshot())) AS "foreign!""#
    );
    if !foreign.fetch_one(&mut *transaction).await? {
        transaction.rollback().await?;
        return Ok(0);
    }
    sqlx::query!("UPDATE audit_sealer SET xact = '0', id = 0").execute(&mut *transaction).await?;
    let adopted = sqlx::query!(
        "UPDATE audit_event SET xact = pg_current_xact_id()
         WHERE (tenant, id) IN (
             SELECT tenant, id FROM audit_event WHERE xact >= pg_snapshot_xmax(pg_current_snapshot()) LIMIT $1
         )",
        limit,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(adopted.rows_affected())
}

/// Puts signed ends of up to `limit` chains that have grown since they were told into the outbox. Returns how many.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.audit_chain.tell", skip_all)]
pub async fn tell(
    connection: &mut PgConnection,
    limit: i64,
    at: OffsetDateTime,
    sign: impl Fn(&str, &Head) -> Option<String> + Send,
) -> Result<usize, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let grown = sqlx::query!(
        "SELECT tenant, number, hash FROM audit_chain
         WHERE checkpointed < number
         ORDER BY tenant
         LIMIT $1
         FOR UPDATE SKIP LOCKED",
        limit,
    )
    .fetch_all(&mut *transaction)
    .await?;
    let (mut tenants, mut numbers, mut payloads): (Vec<String>, Vec<i64>, Vec<Value>) = Default::default();
    for row in grown {
        let head = Head { number: row.number, hash: Sum::try_from(row.hash).unwrap_or_default() };
        if let Some(jws) = sign(&row.tenant, &head) {
            tenants.push(row.tenant);
            numbers.push(row.number);
            payloads.push(json!({"jws": jws}));
        }
    }
    sqlx::query!(
        "INSERT INTO message_outbox (
             tenant, topic, partition_key, payload, dedupe_key, next_attempt_at, created_at, updated_at
         )
         SELECT tenant, $4, tenant, payload, number::text, $5, $5, $5
         FROM unnest($1::text[], $2::bigint[], $3::jsonb[]) AS c(tenant, number, payload)
         ON CONFLICT DO NOTHING",
        &tenants,
        &numbers,
        &payloads,
        CHECKPOINTS,
        at,
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        "UPDATE audit_chain AS c SET checkpointed = t.number
         FROM unnest($1::text[], $2::bigint[]) AS t(tenant, number)
         WHERE c.tenant = t.tenant",
        &tenants,
        &numbers,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(tenants.len())
}
