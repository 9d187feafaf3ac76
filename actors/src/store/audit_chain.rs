//! Tables `audit_seal`, `audit_chain` and `audit_sealer`: the chains over the audit trail.
//!
//! Rows are sealed in the order of the transactions that wrote them, and only those whose transaction is older than every
//! one that is under way: behind them nothing can come to light any more. Whoever has locked the row of `audit_sealer` is
//! the one who seals; it holds how far that is, and on which server: see [`super::audit_takeover`].

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use tracing::instrument;

use super::audit_server;
use crate::domain::audit_chain::{CHECKPOINTS, Head, Place, Said, Signing, Stand, Sum, VERSION, content};

/// Runs a query for rows of `audit_event AS a` with what they say: its text before and after that, and its arguments. A new
/// field makes a new version of the sums.
macro_rules! said {
    ($before:tt, $after:tt, $($argument:expr),+ $(,)?) => {
        sqlx::query!(
            $before
                + r#" ARRAY[
                      encode(timestamptz_send(a.ts), 'hex'), a.tenant, a.session_id::text, a.request_id, a.trace_id,
                      a.workflow_id, a.subject, a.issuer, a.action, a.resource, a.target_id, a.decision, a.details::text,
                      a.diff::text, a.ip::text, a.user_agent, a.xact::text
                  ] AS "said!: Vec<Option<String>>" "#
                + $after,
            $($argument),+
        )
    };
}
pub(super) use said;

/// What an attempt to seal came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// Some rows were looked at.
    Rows(Looked),
    /// Somebody else is at it.
    Elsewhere,
    /// It is not written down how far the sealing is.
    Missing,
    /// The sealing was done on another server until now.
    Moved,
    /// What is written down lies in the future of this server: nothing comes behind it.
    Ahead,
}

/// Rows that were looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// How many; fewer than were asked for if there are no more.
    pub rows: usize,
    /// How many of them were sealed now.
    pub sealed: usize,
    /// How far the sealing is now, and on which server.
    pub reached: Option<(String, Place)>,
    /// Whether it was written down that the sealing is less far than it was known to be.
    pub is_set_back: bool,
}

/// When the oldest row was written that is to be sealed, if there is one. What no transaction of this server can have written is
/// left to whoever verifies.
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
             SELECT a.ts FROM audit_event AS a
             WHERE (a.xact, a.id) > (s.xact, s.id) AND a.xact < pg_snapshot_xmax(pg_current_snapshot())
               AND NOT EXISTS (SELECT FROM audit_seal AS z WHERE z.tenant = a.tenant AND z.event_id = a.id)
             ORDER BY a.xact, a.id
             LIMIT 1
         ) AS next"
    )
    .fetch_optional(connection)
    .await
}

/// When the oldest row was written that is in its chain and that no signed end of the chain covers, if there is one.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.audit_chain.oldest_unsigned", skip_all)]
pub async fn oldest_unsigned(connection: &mut PgConnection) -> Result<Option<OffsetDateTime>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT min(a.ts)
         FROM audit_chain AS c
         JOIN audit_seal AS z ON z.tenant = c.tenant AND z.number = LEAST(c.checkpointed + 1, c.number)
         JOIN audit_event AS a ON a.tenant = z.tenant AND a.id = z.event_id
         WHERE c.checkpointed <> c.number"
    )
    .fetch_one(connection)
    .await
}

/// A row to be sealed.
pub(super) struct Unsealed {
    pub(super) tenant: String,
    pub(super) id: i64,
    pub(super) xact: i64,
    pub(super) is_sealed: bool,
    pub(super) said: Said,
}

/// Seals the next rows, at most `limit`, in one transaction. `reached` is how far the sealing was before, as far as the
/// caller knows: nothing is sealed that was put in behind that.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.audit_seal.seal", skip_all)]
pub async fn seal(
    connection: &mut PgConnection,
    limit: i64,
    reached: Option<&(String, Place)>,
) -> Result<Sealed, sqlx::Error> {
    let server = audit_server::identity(connection).await?;
    let mut transaction = connection.begin().await?;
    let from = match stand(&mut transaction, &server).await? {
        Ok(from) => from,
        Err(otherwise) => {
            transaction.rollback().await?;
            return Ok(otherwise);
        }
    };
    let known = reached.filter(|(of, _)| *of == server).map_or(from, |(_, place)| *place);
    let rows = unsealed(&mut transaction, from.max(known), limit).await?;
    let place = rows.last().map_or(from.max(known), |last| (last.xact, last.id));
    let looked = Looked { rows: rows.len(), sealed: 0, reached: Some((server, place)), is_set_back: from < known };
    if place == from {
        transaction.rollback().await?;
        return Ok(Sealed::Rows(looked));
    }
    sqlx::query!("UPDATE audit_sealer SET xact = $1::text::xid8, id = $2", place.0.to_string(), place.1)
        .execute(&mut *transaction)
        .await?;
    let sealed = write(&mut transaction, &rows).await?;
    transaction.commit().await?;
    Ok(Sealed::Rows(Looked { sealed, ..looked }))
}

/// How far the sealing is, or why there is none now. Whoever asks has the sealing until the transaction is over.
async fn stand(connection: &mut PgConnection, server: &str) -> Result<Result<Place, Sealed>, sqlx::Error> {
    let locked = sqlx::query_scalar!("SELECT id FROM audit_sealer FOR UPDATE SKIP LOCKED");
    let is_locked = locked.fetch_optional(&mut *connection).await?.is_some();
    let otherwise = match standing(connection).await? {
        None => Sealed::Missing,
        Some(_) if !is_locked => Sealed::Elsewhere,
        Some(standing) => match standing.fault(server) {
            None => return Ok(Ok(standing.place)),
            Some(fault) => fault,
        },
    };
    Ok(Err(otherwise))
}

/// Looks whether anything is in the way of the sealing, when there is nothing to seal.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.audit_sealer.look", skip_all)]
pub async fn look(connection: &mut PgConnection) -> Result<Sealed, sqlx::Error> {
    let server = audit_server::identity(connection).await?;
    let Some(standing) = standing(connection).await? else { return Ok(Sealed::Missing) };
    Ok(standing.fault(&server).unwrap_or_else(|| Sealed::Rows(Looked::default())))
}

/// How far the sealing is, as it is written down.
#[derive(Clone, Debug)]
pub struct Standing {
    /// On which server, if a sealer has looked.
    pub server: Option<String>,
    /// Up to which row of which transaction.
    pub place: Place,
    /// Whether no transaction has come so far.
    pub is_ahead: bool,
}

impl Standing {
    fn fault(&self, server: &str) -> Option<Sealed> {
        if self.server.as_deref() != Some(server) {
            return Some(Sealed::Moved);
        }
        self.is_ahead.then_some(Sealed::Ahead)
    }
}

/// How far the sealing is, if that is written down.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.audit_sealer.standing", skip_all)]
pub async fn standing(connection: &mut PgConnection) -> Result<Option<Standing>, sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT server, xact::text::bigint AS "xact!", id,
                  xact >= pg_snapshot_xmax(pg_current_snapshot()) AS "is_ahead!"
           FROM audit_sealer"#
    );
    let row = row.fetch_optional(connection).await?;
    Ok(row.map(|row| Standing { server: row.server, place: (row.xact, row.id), is_ahead: row.is_ahead }))
}

async fn unsealed(connection: &mut PgConnection, from: Place, limit: i64) -> Result<Vec<Unsealed>, sqlx::Error> {
    let rows = said!(
        r#"SELECT a.tenant, a.id, a.xact::text::bigint AS "xact!",
                  EXISTS (SELECT FROM audit_seal AS z WHERE z.tenant = a.tenant AND z.event_id = a.id) AS "is_sealed!", "#,
        "FROM audit_event AS a
         WHERE (a.xact, a.id) > ($1::text::xid8, $2) AND a.xact < pg_snapshot_xmin(pg_current_snapshot())
         ORDER BY a.xact, a.id
         LIMIT $3",
        from.0.to_string(),
        from.1,
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

/// Links those of `rows` that are not sealed to the chains of their tenants, and returns how many.
pub(super) async fn write(connection: &mut PgConnection, rows: &[Unsealed]) -> Result<usize, sqlx::Error> {
    let mut heads: BTreeMap<&str, Head> = rows.iter().map(|row| (row.tenant.as_str(), Head::default())).collect();
    let tenants: Vec<&str> = heads.keys().copied().collect();
    let known = sqlx::query!(
        "SELECT tenant, number, hash FROM audit_chain WHERE tenant = ANY ($1) ORDER BY tenant FOR UPDATE",
        &tenants as _
    );
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
    Ok(ids.len())
}

/// Puts signed ends of up to `limit` chains that have grown since they were told into the outbox. Returns how many. They tell how far
/// the sealing is only if it is done on this server: whoever owns the database could write another name.
///
/// One process signs at a time, and waits for whoever seals: where there are no more than `limit`, every chain is signed then as far as
/// the sealing was when this began, and the last of them tell so.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.audit_chain.tell", skip_all)]
pub async fn tell(
    connection: &mut PgConnection,
    limit: i64,
    at: OffsetDateTime,
    sign: impl Fn(&str, &Head, Option<&Stand>) -> Option<String> + Send,
) -> Result<usize, sqlx::Error> {
    let server = audit_server::identity(connection).await?;
    let mut transaction = connection.begin().await?;
    sqlx::query!("SELECT pg_advisory_xact_lock(hashtext('audit checkpoints'))").execute(&mut *transaction).await?;
    let sealed = sqlx::query!(
        r#"SELECT server AS "server!", xact::text::bigint AS "xact!", id, pg_current_xact_id()::text::bigint AS "next!",
                  NOT EXISTS (SELECT FROM audit_chain WHERE checkpointed <> 0) AS "is_first!"
           FROM audit_sealer
           WHERE server = $1 AND xact < pg_snapshot_xmax(pg_current_snapshot())"#,
        server,
    );
    let sealed = sealed.fetch_optional(&mut *transaction).await?;
    // One more than are signed: whether this is the end of the round.
    let mut grown = sqlx::query!(
        "SELECT tenant, number, hash FROM audit_chain
         WHERE checkpointed <> number
         ORDER BY tenant
         LIMIT $1
         FOR UPDATE",
        limit + 1,
    )
    .fetch_all(&mut *transaction)
    .await?;
    let is_whole = grown.len() <= usize::try_from(limit).unwrap_or_default();
    grown.truncate(usize::try_from(limit).unwrap_or_default());
    let chains = i64::try_from(grown.len()).unwrap_or(i64::MAX);
    let stand = sealed.map(|row| Stand {
        server: row.server,
        xact: row.xact,
        id: row.id,
        next: row.next,
        signing: Some(Signing { is_first: row.is_first, is_whole, chains }),
    });
    let (mut tenants, mut numbers, mut payloads): (Vec<String>, Vec<i64>, Vec<Value>) = Default::default();
    for row in grown {
        let head = Head { number: row.number, hash: Sum::try_from(row.hash).unwrap_or_default() };
        if let Some(jws) = sign(&row.tenant, &head, stand.as_ref()) {
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
