//! Table `session_events`: the history, one immutable row an event.

use sqlx::PgConnection;
use uuid::Uuid;

use crate::domain::{event::StoredEvent, ids::SessionKey};

/// Reads up to `limit` events with `after < seq <= upto`, ascending.
///
/// # Errors
/// The database's.
pub async fn between(
    connection: &mut PgConnection,
    key: &SessionKey,
    after: i64,
    upto: i64,
    limit: i64,
) -> Result<Vec<StoredEvent>, sqlx::Error> {
    sqlx::query_as!(
        StoredEvent,
        "SELECT seq, event_id, turn_seq, occurred_at, payload
         FROM session_events
         WHERE tenant = $1 AND session_id = $2 AND seq > $3 AND seq <= $4
         ORDER BY seq
         LIMIT $5",
        key.tenant.as_str(),
        key.session_id,
        after,
        upto,
        limit,
    )
    .fetch_all(connection)
    .await
}

/// Reads the newest `limit` events, ascending.
///
/// # Errors
/// The database's.
pub async fn recent(
    connection: &mut PgConnection,
    key: &SessionKey,
    limit: i64,
) -> Result<Vec<StoredEvent>, sqlx::Error> {
    let mut events = sqlx::query_as!(
        StoredEvent,
        "SELECT seq, event_id, turn_seq, occurred_at, payload
         FROM session_events
         WHERE tenant = $1 AND session_id = $2
         ORDER BY seq DESC
         LIMIT $3",
        key.tenant.as_str(),
        key.session_id,
        limit,
    )
    .fetch_all(connection)
    .await?;
    events.reverse();
    Ok(events)
}

/// Reads what was said in the turns before `turn_seq`, newest first, at most `limit` messages. Turns come in the order in
/// which they were asked, also where a later message was stored before an earlier one was answered.
///
/// # Errors
/// The database's.
pub async fn said_before(
    connection: &mut PgConnection,
    key: &SessionKey,
    turn_seq: i64,
    limit: i64,
) -> Result<Vec<StoredEvent>, sqlx::Error> {
    sqlx::query_as!(
        StoredEvent,
        "SELECT seq, event_id, turn_seq, occurred_at, payload
         FROM session_events
         WHERE tenant = $1 AND session_id = $2 AND turn_seq < $3
           AND type IN ('user', 'assistant', 'assistant.final', 'assistant.stopped')
         ORDER BY turn_seq DESC, seq DESC
         LIMIT $4",
        key.tenant.as_str(),
        key.session_id,
        turn_seq,
        limit,
    )
    .fetch_all(connection)
    .await
}

/// Reads one event by its id.
///
/// # Errors
/// The database's.
pub async fn by_id(
    connection: &mut PgConnection,
    key: &SessionKey,
    event_id: Uuid,
) -> Result<Option<StoredEvent>, sqlx::Error> {
    sqlx::query_as!(
        StoredEvent,
        "SELECT seq, event_id, turn_seq, occurred_at, payload
         FROM session_events
         WHERE tenant = $1 AND session_id = $2 AND event_id = $3",
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

/// Finds the event that a message with this idempotency key made.
///
/// # Errors
/// The database's.
pub async fn by_idempotency_key(
    connection: &mut PgConnection,
    key: &SessionKey,
    idempotency_key: &str,
) -> Result<Option<KeyUse>, sqlx::Error> {
    sqlx::query_as!(
        KeyUse,
        r#"SELECT event_id, seq, body_hash AS "body_hash!"
         FROM session_events
         WHERE tenant = $1 AND session_id = $2 AND idempotency_key = $3"#,
        key.tenant.as_str(),
        key.session_id,
        idempotency_key,
    )
    .fetch_optional(connection)
    .await
}
