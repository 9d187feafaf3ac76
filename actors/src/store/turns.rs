//! Table `turns`: which messages still wait for their terminal event. As with events, erased turns may still have rows.

use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::instrument;

use crate::domain::{
    ids::{SessionKey, Tenant},
    turn::OpenTurn,
};

/// Reads the open turns of a session in the order in which they were asked.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.turns.open", skip_all)]
pub async fn open(connection: &mut PgConnection, key: &SessionKey) -> Result<Vec<OpenTurn>, sqlx::Error> {
    sqlx::query_as!(
        OpenTurn,
        "SELECT turn_seq, event_id, attempt, started_at
         FROM turns
         WHERE tenant = $1 AND session_id = $2 AND state IN ('queued', 'running')
           AND turn_seq > (SELECT erased_seq FROM session_envelopes WHERE tenant = $1 AND session_id = $2)
         ORDER BY turn_seq",
        key.tenant.as_str(),
        key.session_id,
    )
    .fetch_all(connection)
    .await
}

/// The name of the session's last turn, 0 when it has none.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.turns.last", skip_all)]
pub async fn last(connection: &mut PgConnection, key: &SessionKey) -> Result<i64, sqlx::Error> {
    let last = sqlx::query_scalar!(
        "SELECT max(turn_seq)
         FROM turns
         WHERE tenant = $1 AND session_id = $2
           AND turn_seq > (SELECT erased_seq FROM session_envelopes WHERE tenant = $1 AND session_id = $2)",
        key.tenant.as_str(),
        key.session_id,
    )
    .fetch_one(connection)
    .await?;
    Ok(last.unwrap_or(0))
}

/// Finds up to `limit` sessions with an open turn that nobody works on at `now`, those waiting longest first: sessions that
/// no other node owns, except those that `owner` says are `alive`.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.turns.orphaned_sessions", skip_all)]
pub async fn orphaned_sessions(
    connection: &mut PgConnection,
    owner: &str,
    alive: &[SessionKey],
    now: OffsetDateTime,
    limit: i64,
) -> Result<Vec<SessionKey>, sqlx::Error> {
    let tenants: Vec<&str> = alive.iter().map(|key| key.tenant.as_str()).collect();
    let ids: Vec<uuid::Uuid> = alive.iter().map(|key| key.session_id).collect();
    let rows = sqlx::query!(
        "SELECT t.tenant, t.session_id
         FROM turns AS t
         JOIN session_envelopes AS e ON e.tenant = t.tenant AND e.session_id = t.session_id
         WHERE t.state IN ('queued', 'running')
           AND t.turn_seq > e.erased_seq
           AND (e.owner IS NULL OR e.owner = $1 OR e.lease_until IS NULL OR e.lease_until <= $2)
           AND (t.tenant, t.session_id) NOT IN (SELECT * FROM unnest($4::text[], $5::uuid[]))
         GROUP BY t.tenant, t.session_id
         ORDER BY min(t.started_at)
         LIMIT $3",
        owner,
        now,
        limit,
        &tenants as _,
        &ids,
    )
    .fetch_all(connection)
    .await?;
    let key = |tenant: &str, session_id| Tenant::new(tenant).map(|tenant| SessionKey::new(tenant, session_id));
    Ok(rows.iter().filter_map(|row| key(&row.tenant, row.session_id)).collect())
}
