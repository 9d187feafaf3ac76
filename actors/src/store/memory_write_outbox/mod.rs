//! Table `memory_write_outbox`: memories that wait to be remembered.

pub mod enqueue;

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::outbox::{ClaimTerms, Settled, purge, settle};
use crate::domain::ids::SessionKey;

/// A row that was claimed.
#[derive(Clone, Debug)]
pub struct ClaimedMemory {
    /// The row.
    pub id: i64,
    /// Whose it is.
    pub tenant: String,
    /// The session it comes from; memories of one keep their order.
    pub session_id: Uuid,
    /// The event it comes from, by its number in the session.
    pub seq: Option<i64>,
    /// The persona it was said to or by.
    pub persona_id: Option<String>,
    /// The memory record.
    pub payload: Value,
    /// What it went through as a dead letter before.
    pub history: Value,
    /// How often it was tried before.
    pub retry_count: i32,
}

/// Where a walk over the sessions goes on: after this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    tenant: String,
    session_id: Uuid,
}

impl Place {
    /// From here a walk begins with the session `key`.
    #[must_use]
    pub fn just_before(key: &SessionKey) -> Self {
        let before = Uuid::from_u128(key.session_id.as_u128().saturating_sub(1));
        Self { tenant: key.tenant.as_str().to_owned(), session_id: before }
    }
}

/// Leases sessions and takes their first rows in order, session by session. The walk begins after `from`; the place
/// returned is where the next one begins, the start again after the last session.
///
/// # Errors
/// The database's.
pub async fn claim(
    connection: &mut PgConnection,
    from: &Place,
    terms: ClaimTerms,
) -> Result<(Vec<ClaimedMemory>, Place), sqlx::Error> {
    let rows = sqlx::query_file!(
        "src/store/memory_write_outbox/claim.sql",
        from.tenant,
        from.session_id,
        terms.keys,
        terms.now,
        terms.rows_a_key,
        terms.rows,
        terms.claim,
        terms.lease_until,
    )
    .fetch_all(connection)
    .await?;
    let walked = rows.first().and_then(|row| {
        let place = Place { tenant: row.last_tenant.clone()?, session_id: row.last_session? };
        Some((place, row.keys_seen?))
    });
    let claimed: Vec<_> = rows
        .into_iter()
        .filter_map(|row| {
            Some(ClaimedMemory {
                id: row.id?,
                tenant: row.tenant?,
                session_id: row.session_id?,
                seq: row.seq,
                persona_id: row.persona_id,
                payload: row.payload?,
                history: row.history?,
                retry_count: row.retry_count?,
            })
        })
        .collect();
    let last = claimed.last().map(|row| Place { tenant: row.tenant.clone(), session_id: row.session_id });
    let place = terms.next_place(last, walked);
    Ok((claimed, place))
}

/// Writes down what became of rows, as far as `claim` still holds them. Returns those that it held.
///
/// # Errors
/// The database's.
pub async fn settle(
    connection: &mut PgConnection,
    claim: Uuid,
    settled: &Settled,
    at: OffsetDateTime,
) -> Result<Vec<i64>, sqlx::Error> {
    settle!("memory_write_outbox", "", connection, claim, settled, at)
}

/// Removes up to `limit` rows that were sent or given up before `before`. Returns how many.
///
/// # Errors
/// The database's.
pub async fn purge(connection: &mut PgConnection, before: OffsetDateTime, limit: i64) -> Result<u64, sqlx::Error> {
    purge!("memory_write_outbox", connection, before, limit)
}

/// The state of a memory that was not sent: `pending`, `sending` or `failed`.
///
/// # Errors
/// The database's.
pub async fn unsent(
    connection: &mut PgConnection,
    tenant: &str,
    memory_id: &str,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT status AS "status!"
         FROM (
             SELECT id, status FROM memory_write_outbox
             WHERE tenant = $1 AND dedupe_key = $2 AND status IN ('pending', 'sending')
             UNION ALL
             SELECT id, status FROM memory_write_outbox
             WHERE tenant = $1 AND dedupe_key = $2 AND status = 'failed'
         ) AS unsent
         ORDER BY id DESC
         LIMIT 1"#,
        tenant,
        memory_id,
    )
    .fetch_optional(connection)
    .await
}

/// How many memories are not remembered yet.
///
/// # Errors
/// The database's.
pub async fn pending(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM memory_write_outbox WHERE status IN ('pending', 'sending')"#
    )
    .fetch_one(connection)
    .await
}

/// A memory that comes back into the queue.
#[derive(Clone, Debug)]
pub struct ReturnedMemory {
    /// Whose it is.
    pub tenant: String,
    /// The session it comes from.
    pub session_id: Uuid,
    /// The event it comes from, by its number in the session.
    pub seq: Option<i64>,
    /// The memory record.
    pub payload: Value,
    /// What it went through as a dead letter.
    pub history: Value,
}

/// Puts a memory that was given up back into the queue, behind the others of its session. It no longer counts as given up.
///
/// # Errors
/// The database's.
pub async fn put_back(
    connection: &mut PgConnection,
    memory: &ReturnedMemory,
    at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let text = |name: &str| memory.payload[name].as_str();
    sqlx::query!(
        "DELETE FROM memory_write_outbox WHERE tenant = $1 AND dedupe_key = $2 AND status = 'failed'",
        memory.tenant,
        text("id"),
    )
    .execute(&mut *connection)
    .await?;
    // It is put there because somebody said so: beside another version that waits, it goes without the key.
    sqlx::query!(
        "INSERT INTO memory_write_outbox (
             tenant, session_id, seq, persona_id, payload, idempotency_key, dedupe_key, history, next_attempt_at, created_at,
             updated_at
         )
         SELECT $1, $2, $3, $4, $5, $6,
                CASE
                    WHEN NOT EXISTS (
                        SELECT FROM memory_write_outbox
                        WHERE tenant = $1 AND dedupe_key = $9 AND status IN ('pending', 'sending')
                    )
                    THEN $9
                END,
                $7, $8, $8, $8",
        memory.tenant,
        memory.session_id,
        memory.seq,
        text("persona_id"),
        memory.payload,
        text("idempotency_key").or_else(|| text("id")).unwrap_or_default(),
        memory.history,
        at,
        text("id"),
    )
    .execute(connection)
    .await?;
    Ok(())
}
