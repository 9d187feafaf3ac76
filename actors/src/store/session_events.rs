//! Table `session_events`: the history, one immutable row an event.
//!
//! Erased events may still have rows (see [`erase`](super::erase)): every read leaves out what is not above the envelope's
//! `erased_seq`. Where a read is somebody's, it finds nothing of an envelope that is not in that reach.

use sqlx::PgConnection;
use tracing::instrument;
use uuid::Uuid;

use super::wall::TenantTx;
use crate::domain::{event::StoredEvent, ids::SessionKey};

/// Reads up to `limit` events with `after < seq <= upto`, ascending; with `only`, of a session of these subjects'.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.session_events.between", skip_all)]
pub async fn between(
    connection: &mut PgConnection,
    key: &SessionKey,
    only: Option<&[String]>,
    after: i64,
    upto: i64,
    limit: i64,
) -> Result<Vec<StoredEvent>, sqlx::Error> {
    sqlx::query_as!(
        StoredEvent,
        "SELECT seq, event_id, turn_seq, occurred_at, payload
         FROM session_events
         WHERE tenant = $1 AND session_id = $2 AND seq > $3 AND seq <= $4
           AND seq > (SELECT erased_seq FROM session_envelopes
                      WHERE tenant = $1 AND session_id = $2 AND ($6::text[] IS NULL OR subject = ANY ($6)))
         ORDER BY seq
         LIMIT $5",
        key.tenant.as_str(),
        key.session_id,
        after,
        upto,
        limit,
        only,
    )
    .fetch_all(connection)
    .await
}

/// Reads the newest up to `limit` events with `seq < before`, descending; with `only`, of a session of these subjects'.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.session_events.before", skip_all)]
pub async fn before(
    rows: &mut TenantTx<'_>,
    key: &SessionKey,
    only: Option<&[String]>,
    before: i64,
    limit: i64,
) -> Result<Vec<StoredEvent>, sqlx::Error> {
    sqlx::query_as!(
        StoredEvent,
        "SELECT seq, event_id, turn_seq, occurred_at, payload
         FROM session_events
         WHERE tenant = $1 AND session_id = $2 AND seq < $3
           AND seq > (SELECT erased_seq FROM session_envelopes
                      WHERE tenant = $1 AND session_id = $2 AND ($5::text[] IS NULL OR subject = ANY ($5)))
         ORDER BY seq DESC
         LIMIT $4",
        key.tenant.as_str(),
        key.session_id,
        before,
        limit,
        only,
    )
    .fetch_all(&mut **rows)
    .await
}

/// Reads what was said in the turns before `turn_seq`, newest first, at most `limit` messages. Turns come in the order in
/// which they were asked, also where a later message was stored before an earlier one was answered. Messages are found by
/// their number, which is their turn's, and answers by their turn, so that it costs the same however long the session is.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.session_events.said_before", skip_all)]
pub async fn said_before(
    rows: &mut TenantTx<'_>,
    key: &SessionKey,
    turn_seq: i64,
    limit: i64,
) -> Result<Vec<StoredEvent>, sqlx::Error> {
    sqlx::query_as!(
        StoredEvent,
        r#"SELECT seq AS "seq!", event_id AS "event_id!", turn_seq, occurred_at AS "occurred_at!", payload AS "payload!"
           FROM ((SELECT seq, event_id, turn_seq, occurred_at, payload
                  FROM session_events
                  WHERE tenant = $1 AND session_id = $2 AND seq < $3 AND type = 'user'
                    AND seq > (SELECT erased_seq FROM session_envelopes WHERE tenant = $1 AND session_id = $2)
                  ORDER BY seq DESC
                  LIMIT $4)
                 UNION ALL
                 (SELECT seq, event_id, turn_seq, occurred_at, payload
                  FROM session_events
                  WHERE tenant = $1 AND session_id = $2 AND turn_seq < $3
                    AND terminal AND type IN ('assistant.final', 'assistant.stopped')
                    AND seq > (SELECT erased_seq FROM session_envelopes WHERE tenant = $1 AND session_id = $2)
                  ORDER BY turn_seq DESC
                  LIMIT $4)) said
           ORDER BY turn_seq DESC, seq DESC
           LIMIT $4"#,
        key.tenant.as_str(),
        key.session_id,
        turn_seq,
        limit,
    )
    .fetch_all(&mut **rows)
    .await
}

/// Counts what [`said_before`] could read, up to `limit`.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.session_events.count_said_before", skip_all)]
pub async fn count_said_before(
    rows: &mut TenantTx<'_>,
    key: &SessionKey,
    turn_seq: i64,
    limit: i64,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!"
           FROM (SELECT
                 FROM session_events
                 WHERE tenant = $1 AND session_id = $2 AND turn_seq < $3
                   AND (type = 'user' OR terminal AND type IN ('assistant.final', 'assistant.stopped'))
                   AND seq > (SELECT erased_seq FROM session_envelopes WHERE tenant = $1 AND session_id = $2)
                 LIMIT $4) said"#,
        key.tenant.as_str(),
        key.session_id,
        turn_seq,
        limit,
    )
    .fetch_one(&mut **rows)
    .await
}

/// Reads one event by its id.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.session_events.by_id", skip_all)]
pub async fn by_id(
    connection: &mut PgConnection,
    key: &SessionKey,
    event_id: Uuid,
) -> Result<Option<StoredEvent>, sqlx::Error> {
    sqlx::query_as!(
        StoredEvent,
        "SELECT seq, event_id, turn_seq, occurred_at, payload
         FROM session_events
         WHERE tenant = $1 AND session_id = $2 AND event_id = $3
           AND seq > (SELECT erased_seq FROM session_envelopes WHERE tenant = $1 AND session_id = $2)",
        key.tenant.as_str(),
        key.session_id,
        event_id,
    )
    .fetch_optional(connection)
    .await
}

/// What an idempotency key was used for.
#[derive(Clone, Debug)]
pub struct KeyUse {
    /// The event it made.
    pub event_id: Uuid,
    /// That event's number.
    pub seq: i64,
    /// The fingerprint of the request.
    pub body_hash: Vec<u8>,
}

/// Finds the event that a message with this idempotency key made. One that was erased and still has its row makes room:
/// the key may be used anew.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.session_events.by_idempotency_key", skip_all)]
pub async fn by_idempotency_key(
    connection: &mut PgConnection,
    key: &SessionKey,
    idempotency_key: &str,
) -> Result<Option<KeyUse>, sqlx::Error> {
    let found = sqlx::query!(
        r#"SELECT e.event_id, e.seq, e.body_hash AS "body_hash!", e.seq <= s.erased_seq AS "erased!"
         FROM session_events AS e
         JOIN session_envelopes AS s ON s.tenant = e.tenant AND s.session_id = e.session_id
         WHERE e.tenant = $1 AND e.session_id = $2 AND e.idempotency_key = $3"#,
        key.tenant.as_str(),
        key.session_id,
        idempotency_key,
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = found else { return Ok(None) };
    if !row.erased {
        return Ok(Some(KeyUse { event_id: row.event_id, seq: row.seq, body_hash: row.body_hash }));
    }
    sqlx::query!(
        "DELETE FROM session_events WHERE tenant = $1 AND session_id = $2 AND seq = $3",
        key.tenant.as_str(),
        key.session_id,
        row.seq,
    )
    .execute(connection)
    .await?;
    Ok(None)
}
