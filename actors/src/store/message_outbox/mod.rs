//! Table `message_outbox`: records that wait for their place in the log.

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::outbox::{ClaimTerms, Settled};

/// A row that was claimed.
#[derive(Clone, Debug)]
pub struct ClaimedMessage {
    /// The row.
    pub id: i64,
    /// Whose it is.
    pub tenant: String,
    /// The session it tells of.
    pub session_id: Option<uuid::Uuid>,
    /// Where it goes.
    pub topic: String,
    /// Records of one key keep their order.
    pub key: String,
    /// The record, JSON.
    pub payload: String,
    /// Its headers, a JSON object of texts.
    pub headers: Value,
    /// How often it was tried before.
    pub retry_count: i32,
    /// When it was put here.
    pub created_at: OffsetDateTime,
}

/// Where a walk over the keys goes on: after this one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    topic: String,
    key: String,
}

/// Leases keys and takes their first rows in order, key by key. The walk begins after `from`; the place returned is where
/// the next one begins, the start again after the last key.
///
/// # Errors
/// The database's.
pub async fn claim(
    connection: &mut PgConnection,
    from: &Place,
    terms: ClaimTerms,
) -> Result<(Vec<ClaimedMessage>, Place), sqlx::Error> {
    let rows = sqlx::query_file!(
        "src/store/message_outbox/claim.sql",
        from.topic,
        from.key,
        terms.keys,
        terms.now,
        terms.rows_a_key,
        terms.rows,
        terms.claim,
        terms.lease_until,
    )
    .fetch_all(connection)
    .await?;
    let Some(last) = rows.last() else { return Ok((vec![], Place::default())) };
    let walked = Place { topic: last.last_topic.clone(), key: last.last_key.clone() };
    let ended = last.keys_seen < terms.keys;
    let claimed: Vec<_> = rows
        .into_iter()
        .filter_map(|row| {
            Some(ClaimedMessage {
                id: row.id?,
                tenant: row.tenant?,
                session_id: row.session_id,
                topic: row.topic?,
                key: row.partition_key?,
                payload: row.payload?,
                headers: row.headers?,
                retry_count: row.retry_count?,
                created_at: row.created_at?,
            })
        })
        .collect();
    let full = i64::try_from(claimed.len()).unwrap_or(i64::MAX) >= terms.rows;
    let next = match claimed.last() {
        // The walk saw keys for which there was no room.
        Some(last) if full => Place { topic: last.topic.clone(), key: last.key.clone() },
        _ if ended => Place::default(),
        _ => walked,
    };
    Ok((claimed, next))
}

/// Writes down what became of rows, as far as `claim` still holds them. Returns those that it held.
///
/// # Errors
/// The database's.
pub async fn settle(
    connection: &mut PgConnection,
    claim: uuid::Uuid,
    settled: &Settled,
    at: OffsetDateTime,
) -> Result<Vec<i64>, sqlx::Error> {
    let columns = settled.columns();
    sqlx::query_scalar!(
        "UPDATE message_outbox AS o
         SET status = s.state,
             claim = NULL,
             next_attempt_at = COALESCE(s.next_attempt_at, o.next_attempt_at),
             retry_count = o.retry_count + CASE WHEN s.error IS NULL THEN 0 ELSE 1 END,
             last_error = COALESCE(s.error, o.last_error),
             last_error_at = CASE WHEN s.error IS NULL THEN o.last_error_at ELSE $6 END,
             updated_at = $6
         FROM unnest($1::bigint[], $2::text[], $3::timestamptz[], $4::text[]) AS s(id, state, next_attempt_at, error)
         WHERE o.id = s.id AND o.id = ANY ($1) AND o.claim = $5
         RETURNING o.id",
        &columns.ids,
        &columns.states as _,
        &columns.next as _,
        &columns.errors as _,
        claim,
        at,
    )
    .fetch_all(connection)
    .await
}

/// Removes up to `limit` rows that were sent before `before`. Returns how many.
///
/// # Errors
/// The database's.
pub async fn purge(connection: &mut PgConnection, before: OffsetDateTime, limit: i64) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "DELETE FROM message_outbox
         WHERE id = ANY (ARRAY (
             SELECT id FROM message_outbox
             WHERE status = 'sent' AND updated_at < $1
             ORDER BY updated_at
             LIMIT $2
             FOR UPDATE SKIP LOCKED
         ))",
        before,
        limit,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

#[cfg(test)]
mod tests;
