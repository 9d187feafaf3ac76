//! Table `memory_write_outbox`: memories that wait to be remembered.

pub mod enqueue;

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use super::{
    outbox::{ClaimTerms, Key, Settled, purge, settle},
    outbox_leases::{Leased, lease, release, rows_of_keys, taken},
};
use crate::domain::{event::size_bytes, ids::SessionKey};

/// A row that was claimed.
#[derive(Clone, Debug)]
pub struct ClaimedMemory {
    /// The row.
    pub id: i64,
    /// Which writing of the memory it is: later ones have a higher number.
    pub revision: i64,
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

impl ClaimedMemory {
    /// What its claim has leased.
    #[must_use]
    pub fn queue_key(&self) -> Key {
        (self.tenant.clone(), self.session_id.to_string())
    }
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
#[instrument(level = "debug", name = "db.memory_write_outbox.claim", skip_all)]
pub async fn claim(
    connection: &mut PgConnection,
    from: &Place,
    terms: ClaimTerms,
) -> Result<(Vec<ClaimedMemory>, Place), sqlx::Error> {
    let (leased, next) = lease(connection, from, terms).await?;
    if leased.keys.is_empty() {
        return Ok((Vec::new(), next));
    }
    let rows = rows_of_keys!(
        "memory_write_outbox",
        ("tenant", "session_id", "uuid"),
        (
            "id, revision, tenant, session_id, seq, persona_id, payload, history, retry_count",
            r#"id, COALESCE(revision, id) AS "revision!", tenant, session_id, seq, persona_id, payload, history, retry_count"#
        ),
        &mut *connection,
        leased,
        terms.now
    );
    let claimed: Vec<_> = taken(rows, |row| size_bytes(&row.payload))
        .await?
        .into_iter()
        .map(|row| ClaimedMemory {
            id: row.id,
            revision: row.revision,
            tenant: row.tenant,
            session_id: row.session_id,
            seq: row.seq,
            persona_id: row.persona_id,
            payload: row.payload,
            history: row.history,
            retry_count: row.retry_count,
        })
        .collect();
    let without = leased.without(&claimed.iter().map(ClaimedMemory::queue_key).collect());
    if !without.is_empty() {
        drop(release(connection, "memory_write_outbox", terms.claim, &without).await?);
    }
    Ok((claimed, next))
}

async fn lease(
    connection: &mut PgConnection,
    from: &Place,
    terms: ClaimTerms,
) -> Result<(Leased<Uuid>, Place), sqlx::Error> {
    let rows =
        lease!("memory_write_outbox", ("tenant", "session_id"), connection, (from.tenant, from.session_id), terms)?;
    let walked = rows.first().and_then(|row| {
        let place = Place { tenant: row.last_scope.clone()?, session_id: row.last_key? };
        Some((place, row.keys_seen?))
    });
    let last = rows.last().and_then(|row| Some(Place { tenant: row.scope.clone()?, session_id: row.key? }));
    let mut leased = Leased::none();
    for row in rows.into_iter().filter(|row| row.is_leased) {
        leased.scopes.extend(row.scope);
        leased.keys.extend(row.key);
        leased.counts.extend(row.count);
    }
    Ok((leased, terms.next_place(last, walked)))
}

/// Ends leases of `claim` and writes down what became of rows, as far as it still holds their sessions. Returns those rows.
/// Call it in a transaction: until that ends nobody else has the sessions.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.memory_write_outbox.settle", skip_all)]
pub async fn settle(
    connection: &mut PgConnection,
    claim: Uuid,
    settled: &Settled,
    at: OffsetDateTime,
) -> Result<Vec<i64>, sqlx::Error> {
    let held = release(&mut *connection, "memory_write_outbox", claim, &settled.distinct_keys()).await?;
    let columns = settled.columns(&held);
    settle!("memory_write_outbox", "", connection, columns, at)
}

/// Removes up to `limit` rows that were sent or given up before `before`. Returns how many.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.memory_write_outbox.purge", skip_all)]
pub async fn purge(connection: &mut PgConnection, before: OffsetDateTime, limit: i64) -> Result<u64, sqlx::Error> {
    purge!("memory_write_outbox", connection, before, limit)
}

/// The state of the newest row of a memory: `pending`, `sending`, `sent` or `failed`. It is being sent while another claim than
/// `claim` has leased its session.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.memory_write_outbox.newest_state", skip_all)]
pub async fn newest_state(
    connection: &mut PgConnection,
    tenant: &str,
    memory_id: &str,
    claim: Uuid,
    now: OffsetDateTime,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT CASE
             WHEN status = 'pending' AND EXISTS (
                 SELECT FROM outbox_leases AS l
                 WHERE l.queue = 'memory_write_outbox' AND l.scope = $1 AND l.key = newest.session_id::text
                   AND l.claim <> $3 AND l.lease_until > $4
             )
             THEN 'sending'
             ELSE status
         END AS "status!"
         FROM (
             SELECT id, session_id, status FROM memory_write_outbox
             WHERE tenant = $1 AND dedupe_key = $2 AND status IN ('pending', 'sending')
             UNION ALL
             SELECT id, session_id, status FROM memory_write_outbox
             WHERE tenant = $1 AND dedupe_key = $2 AND status IN ('sent', 'failed')
             UNION ALL
             SELECT id, session_id, status FROM memory_write_outbox
             WHERE tenant = $1 AND beside_id = $2
         ) AS newest
         ORDER BY id DESC
         LIMIT 1"#,
        tenant,
        memory_id,
        claim,
        now,
    )
    .fetch_optional(connection)
    .await
}

/// How many memories are not remembered yet.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.memory_write_outbox.pending", skip_all)]
pub async fn pending(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM memory_write_outbox WHERE status IN ('pending', 'sending')"#
    )
    .fetch_one(connection)
    .await
}

/// A number that is higher than those of all writings and deletions before it.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.memory_write_outbox.next_revision", skip_all)]
pub async fn next_revision(connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(r#"SELECT nextval(pg_get_serial_sequence('memory_write_outbox', 'id')) AS "revision!""#)
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
    /// Which writing of the memory it is, as its record said: what is sent again as it was is as old as it was.
    pub revision: Option<i64>,
}

/// Puts a memory that was given up back into the queue, behind the others of its session. It no longer counts as given up.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.memory_write_outbox.put_back", skip_all)]
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
    // It is put there because somebody said so: beside another version that waits, it goes without the key, and into the lane
    // of that one, so that it is written after it.
    sqlx::query!(
        "INSERT INTO memory_write_outbox (
             tenant, session_id, seq, persona_id, payload, idempotency_key, dedupe_key, history, revision, next_attempt_at,
             created_at, updated_at
         )
         SELECT $1,
                COALESCE(
                    (
                        SELECT session_id
                        FROM (
                            SELECT id, session_id FROM memory_write_outbox
                            WHERE tenant = $1 AND dedupe_key = $9 AND status IN ('pending', 'sending')
                            UNION ALL
                            SELECT id, session_id FROM memory_write_outbox
                            WHERE tenant = $1 AND beside_id = $9
                              AND status IN ('pending', 'sending')
                        ) AS waiting
                        ORDER BY id DESC
                        LIMIT 1
                    ),
                    $2
                ),
                $3, $4, $5, $6,
                CASE
                    WHEN NOT EXISTS (
                        SELECT FROM memory_write_outbox
                        WHERE tenant = $1 AND dedupe_key = $9 AND status IN ('pending', 'sending')
                    )
                    THEN $9
                END,
                $7, $10, $8, $8, $8",
        memory.tenant,
        memory.session_id,
        memory.seq,
        text("persona_id"),
        memory.payload,
        text("idempotency_key").or_else(|| text("id")).unwrap_or_default(),
        memory.history,
        at,
        text("id"),
        memory.revision,
    )
    .execute(connection)
    .await?;
    Ok(())
}
