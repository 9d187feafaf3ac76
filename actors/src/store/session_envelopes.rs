//! Table `session_envelopes`: who owns a session, how far it is, and what lists show of it.

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use super::wall::TenantTx;
use crate::domain::{
    ids::{SessionKey, Tenant},
    whose::Whose,
};

/// What its owner must know of a session to go on with it.
#[derive(Clone, Debug)]
pub struct Owned {
    /// Whose it is.
    pub whose: Whose,
    /// The fence that this claim raised.
    pub epoch: i64,
    /// The number of the last event.
    pub head: i64,
    /// Events up to this number were erased.
    pub erased: i64,
    /// The session's name.
    pub title: Option<String>,
    /// Who answers.
    pub persona_id: Option<String>,
    /// Whether new messages are refused.
    pub paused: bool,
}

/// The answer to a claim.
#[derive(Clone, Debug)]
pub enum Claim {
    /// The claimer owns the session; every earlier owner can append nothing more.
    Taken(Owned),
    /// Another node holds it until then. With whose it is.
    Elsewhere(OffsetDateTime, Whose),
    /// It was deleted. With whose it was.
    Deleted(Whose),
    /// There is no such session yet.
    Absent,
}

/// Takes the session for `owner`, raising its epoch, unless another node's lease runs at `now`.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.session_envelopes.claim", skip_all)]
pub async fn claim(
    connection: &mut PgConnection,
    key: &SessionKey,
    owner: &str,
    now: OffsetDateTime,
    lease_until: OffsetDateTime,
) -> Result<Claim, sqlx::Error> {
    let taken = sqlx::query!(
        "UPDATE session_envelopes
         SET owner = $3, epoch = epoch + 1, lease_until = $5
         WHERE tenant = $1 AND session_id = $2 AND deleted_at IS NULL
           AND (owner IS NULL OR owner = $3 OR lease_until IS NULL OR lease_until <= $4)
         RETURNING epoch, last_seq, erased_seq, title, persona_id, paused, subject",
        key.tenant.as_str(),
        key.session_id,
        owner,
        now,
        lease_until,
    )
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(row) = taken {
        return Ok(Claim::Taken(Owned {
            whose: Whose::stored(row.last_seq, row.subject),
            epoch: row.epoch,
            head: row.last_seq,
            erased: row.erased_seq,
            title: row.title,
            persona_id: row.persona_id,
            paused: row.paused,
        }));
    }
    let there = sqlx::query!(
        "SELECT lease_until, deleted_at, last_seq, subject FROM session_envelopes WHERE tenant = $1 AND session_id = $2",
        key.tenant.as_str(),
        key.session_id,
    )
    .fetch_optional(connection)
    .await?;
    Ok(match there {
        None => Claim::Absent,
        Some(row) if row.deleted_at.is_some() => Claim::Deleted(Whose::Begun(row.subject)),
        Some(row) => Claim::Elsewhere(row.lease_until.unwrap_or(now), Whose::stored(row.last_seq, row.subject)),
    })
}

/// Gives a session that has no row an empty one, so that a first step still on its way can have no effect any more. Waits
/// for such a step if it is being committed right now, and leaves its row alone.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.session_envelopes.fence_unused", skip_all)]
pub async fn fence_unused(
    connection: &mut PgConnection,
    key: &SessionKey,
    owner: &str,
    at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO session_envelopes (tenant, session_id, owner, epoch, last_seq, created_at, updated_at)
         VALUES ($1, $2, $3, 1, 0, $4, $4)
         ON CONFLICT DO NOTHING",
        key.tenant.as_str(),
        key.session_id,
        owner,
        at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// What became of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// It runs until the time that was asked for.
    Renewed,
    /// Another node has taken the session, or it was deleted.
    Lost,
}

/// Extends the leases of `owner` on `sessions` to `lease_until` and tells which were extended and which are lost. It is
/// silent about those without a row, and about those that are being written to right now: the write extends their lease.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.session_envelopes.renew", skip_all)]
pub async fn renew(
    connection: &mut PgConnection,
    sessions: &[SessionKey],
    owner: &str,
    lease_until: OffsetDateTime,
) -> Result<Vec<(SessionKey, Lease)>, sqlx::Error> {
    let tenants: Vec<&str> = sessions.iter().map(|key| key.tenant.as_str()).collect();
    let ids: Vec<Uuid> = sessions.iter().map(|key| key.session_id).collect();
    let rows = sqlx::query!(
        r#"WITH asked AS (
             SELECT * FROM unnest($1::text[], $2::uuid[]) AS s(tenant, session_id)
         ), held AS (
             SELECT e.tenant, e.session_id
             FROM session_envelopes AS e
             JOIN asked AS s ON e.tenant = s.tenant AND e.session_id = s.session_id
             WHERE e.owner = $3 AND e.deleted_at IS NULL
             FOR UPDATE OF e SKIP LOCKED
         ), renewed AS (
             UPDATE session_envelopes AS e
             SET lease_until = $4
             FROM held
             WHERE e.tenant = held.tenant AND e.session_id = held.session_id
             RETURNING e.tenant, e.session_id
         )
         SELECT e.tenant, e.session_id, renewed.session_id IS NOT NULL AS "renewed!"
         FROM session_envelopes AS e
         JOIN asked AS s ON e.tenant = s.tenant AND e.session_id = s.session_id
         LEFT JOIN renewed ON e.tenant = renewed.tenant AND e.session_id = renewed.session_id
         WHERE renewed.session_id IS NOT NULL OR e.owner IS DISTINCT FROM $3 OR e.deleted_at IS NOT NULL"#,
        &tenants as _,
        &ids,
        owner,
        lease_until,
    )
    .fetch_all(connection)
    .await?;
    let lease = |renewed| if renewed { Lease::Renewed } else { Lease::Lost };
    let named = rows.iter().filter_map(|row| {
        let tenant = Tenant::new(&row.tenant)?;
        Some((SessionKey::new(tenant, row.session_id), lease(row.renewed)))
    });
    Ok(named.collect())
}

/// Extends one lease of `owner` to `lease_until`, after waiting for whoever is changing the session right now. `None` when
/// there is no such session.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.session_envelopes.hold", skip_all)]
pub async fn hold(
    connection: &mut PgConnection,
    key: &SessionKey,
    owner: &str,
    lease_until: OffsetDateTime,
) -> Result<Option<Lease>, sqlx::Error> {
    // One statement sees one state of the table: a session that begins meanwhile is not there for either half.
    let found = sqlx::query!(
        r#"WITH held AS (
             UPDATE session_envelopes
             SET lease_until = $4
             WHERE tenant = $1 AND session_id = $2 AND owner = $3 AND deleted_at IS NULL
             RETURNING session_id
         )
         SELECT EXISTS (SELECT FROM held) AS "held!"
         FROM session_envelopes
         WHERE tenant = $1 AND session_id = $2"#,
        key.tenant.as_str(),
        key.session_id,
        owner,
        lease_until,
    )
    .fetch_optional(connection)
    .await?;
    Ok(found.map(|row| if row.held { Lease::Renewed } else { Lease::Lost }))
}

/// Gives sessions back, each if `owner` still holds it under the epoch given with it: another node may take it at once.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.session_envelopes.release", skip_all)]
pub async fn release(
    connection: &mut PgConnection,
    sessions: &[(SessionKey, i64)],
    owner: &str,
) -> Result<u64, sqlx::Error> {
    let tenants: Vec<&str> = sessions.iter().map(|(key, _)| key.tenant.as_str()).collect();
    let ids: Vec<Uuid> = sessions.iter().map(|(key, _)| key.session_id).collect();
    let epochs: Vec<i64> = sessions.iter().map(|(_, epoch)| *epoch).collect();
    let done = sqlx::query!(
        "UPDATE session_envelopes AS e
         SET lease_until = NULL
         FROM unnest($1::text[], $2::uuid[], $3::bigint[]) AS s(tenant, session_id, epoch)
         WHERE e.tenant = s.tenant AND e.session_id = s.session_id AND e.epoch = s.epoch AND e.owner = $4",
        &tenants as _,
        &ids,
        &epochs,
        owner,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// Gives back all sessions of `owner`.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.session_envelopes.release_all", skip_all)]
pub async fn release_all(connection: &mut PgConnection, owner: &str) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE session_envelopes SET lease_until = NULL WHERE owner = $1 AND lease_until IS NOT NULL",
        owner,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

/// A session as lists show it.
#[derive(Clone, Debug)]
pub struct SessionSummary {
    /// Its id.
    pub session_id: Uuid,
    /// Its tenant.
    pub tenant: String,
    /// Its name: the start of the first message until somebody edits it.
    pub title: Option<String>,
    /// Who answers.
    pub persona_id: Option<String>,
    /// Who owns it.
    pub subject: Option<String>,
    /// Who vouched for the owner.
    pub issuer: Option<String>,
    /// The scope it was created with.
    pub scope: Option<String>,
    /// Details, by name.
    pub metadata: Value,
    /// The analysis of its last message.
    pub analysis: Value,
    /// Whether new messages are refused.
    pub paused: bool,
    /// The number of its last event.
    pub last_seq: i64,
    /// The node that owns it now or owned it last.
    pub owner: Option<String>,
    /// The fence.
    pub epoch: i64,
    /// Until when it is owned.
    pub lease_until: Option<OffsetDateTime>,
    /// When it began.
    pub created_at: OffsetDateTime,
    /// When something last happened in it.
    pub updated_at: OffsetDateTime,
    /// When it was deleted, if it was.
    pub deleted_at: Option<OffsetDateTime>,
}

/// Reads one session, tombstones included; with `only`, if it is one of these subjects'.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.session_envelopes.get", skip_all)]
pub async fn get(
    rows: &mut TenantTx<'_>,
    key: &SessionKey,
    only: Option<&[String]>,
) -> Result<Option<SessionSummary>, sqlx::Error> {
    sqlx::query_as!(
        SessionSummary,
        "SELECT session_id, tenant, title, persona_id, subject, issuer, scope, metadata, analysis, paused, last_seq, owner,
                epoch, lease_until, created_at, updated_at, deleted_at
         FROM session_envelopes
         WHERE tenant = $1 AND session_id = $2 AND ($3::text[] IS NULL OR subject = ANY ($3))",
        key.tenant.as_str(),
        key.session_id,
        only,
    )
    .fetch_optional(&mut **rows)
    .await
}

/// Which of `sessions` somebody else than `subject` began, or nobody who proved who they are.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.session_envelopes.of_others", skip_all)]
pub async fn of_others(
    rows: &mut TenantTx<'_>,
    tenant: &Tenant,
    sessions: &[Uuid],
    subject: &str,
) -> Result<Vec<Uuid>, sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT session_id FROM session_envelopes
         WHERE tenant = $1 AND session_id = ANY ($2) AND subject IS DISTINCT FROM $3",
        tenant.as_str(),
        sessions,
        subject,
    )
    .fetch_all(&mut **rows)
    .await
}

/// Lists up to `limit` sessions of `tenant`, the latest changed first, after the position `before` and with `containing`
/// in their titles (case-insensitive, no wildcards).
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.session_envelopes.list", skip_all)]
pub async fn list(
    rows: &mut TenantTx<'_>,
    tenant: &Tenant,
    limit: i64,
    before: Option<(OffsetDateTime, Uuid)>,
    containing: Option<&str>,
) -> Result<Vec<SessionSummary>, sqlx::Error> {
    let (before_time, before_id) = before.unzip();
    sqlx::query_as!(
        SessionSummary,
        "SELECT session_id, tenant, title, persona_id, subject, issuer, scope, metadata, analysis, paused, last_seq, owner,
                epoch, lease_until, created_at, updated_at, deleted_at
         FROM session_envelopes
         WHERE tenant = $1
           AND deleted_at IS NULL
           AND last_seq > 0
           AND ($3::timestamptz IS NULL OR (updated_at, session_id) < ($3, $4::uuid))
           AND ($5::text IS NULL OR strpos(title_folded, $5) > 0)
         ORDER BY updated_at DESC, session_id DESC
         LIMIT $2",
        tenant.as_str(),
        limit,
        before_time,
        before_id,
        containing.map(str::to_lowercase),
    )
    .fetch_all(&mut **rows)
    .await
}

/// As [`list`], of the sessions that `subject` began. A statement of its own, so that each has the index it needs.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.session_envelopes.list_of", skip_all)]
pub async fn list_of(
    rows: &mut TenantTx<'_>,
    tenant: &Tenant,
    subject: &str,
    limit: i64,
    before: Option<(OffsetDateTime, Uuid)>,
    containing: Option<&str>,
) -> Result<Vec<SessionSummary>, sqlx::Error> {
    let (before_time, before_id) = before.unzip();
    sqlx::query_as!(
        SessionSummary,
        "SELECT session_id, tenant, title, persona_id, subject, issuer, scope, metadata, analysis, paused, last_seq, owner,
                epoch, lease_until, created_at, updated_at, deleted_at
         FROM session_envelopes
         WHERE tenant = $1
           AND subject = $2
           AND deleted_at IS NULL
           AND last_seq > 0
           AND ($4::timestamptz IS NULL OR (updated_at, session_id) < ($4, $5::uuid))
           AND ($6::text IS NULL OR strpos(title_folded, $6) > 0)
         ORDER BY updated_at DESC, session_id DESC
         LIMIT $3",
        tenant.as_str(),
        subject,
        limit,
        before_time,
        before_id,
        containing.map(str::to_lowercase),
    )
    .fetch_all(&mut **rows)
    .await
}

#[cfg(test)]
mod tests;
