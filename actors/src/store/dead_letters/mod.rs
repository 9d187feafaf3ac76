//! Table `dlq_messages`: records that could not be carried on, until somebody looks at them.
//!
//! | file | holds |
//! | --- | --- |
//! | this one | [`bury`], for whoever gives something up |
//! | [`browse`] | reading them |
//! | [`replay`] | sending them again, deleting them |

pub mod browse;
pub mod replay;

use serde_json::{Value, json};
use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use super::{
    audit_event,
    message_outbox::{self, NewBytes},
    outbox_events::Enqueued,
};
use crate::domain::{
    append::{AuditWrite, Doer},
    dead_letter::{self, Failure, Notice, Origin},
};

/// The kind of thing that audit rows name.
pub const RESOURCE: &str = "dead_letter";

/// Longest kept text of an error, in characters.
const MAX_ERROR_CHARS: usize = 2_000;

/// A record to be kept.
#[derive(Clone, Debug)]
pub struct NewDeadLetter {
    /// Whose it is.
    pub tenant: String,
    /// The topic it was for.
    pub source_topic: String,
    /// What ordered it.
    pub key: Option<String>,
    /// Its headers, a JSON object of texts. A history among them becomes the history of the letter.
    pub headers: Value,
    /// The record itself, byte by byte.
    pub original: Vec<u8>,
    /// Why it could not be carried on.
    pub failure: Failure,
    /// Who gives it up.
    pub origin: Origin,
    /// The session it tells of; memories always have one.
    pub session_id: Option<Uuid>,
    /// The event it comes from, by its number in the session.
    pub seq: Option<i64>,
    /// Where in the log it was read, partition and offset.
    pub position: Option<(i32, i64)>,
}

/// Keeps `letters` and, by way of the outbox, puts a notice of each onto its dead-letter topic. Call it in the transaction
/// that gives the records up. Notices that were refused themselves are not buried again. Returns what became of the notices.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.dlq_messages.bury", skip_all)]
pub async fn bury(
    connection: &mut PgConnection,
    letters: Vec<NewDeadLetter>,
    at: OffsetDateTime,
) -> Result<Enqueued, sqlx::Error> {
    let mut notices = Vec::with_capacity(letters.len());
    for letter in letters.into_iter().filter(|letter| !dead_letter::is_dead(&letter.source_topic)) {
        notices.push(keep(connection, letter, at).await?);
    }
    if notices.is_empty() {
        return Ok(Enqueued::default());
    }
    message_outbox::insert_bytes(connection, &notices, at).await
}

/// Keeps one letter and returns its notice.
async fn keep(
    connection: &mut PgConnection,
    mut letter: NewDeadLetter,
    at: OffsetDateTime,
) -> Result<NewBytes, sqlx::Error> {
    let topic = dead_letter::topic_of(&letter.source_topic);
    let history = dead_letter::history(&dead_letter::take_history(&mut letter.headers), &letter.failure, at);
    let attempts = dead_letter::attempts(&history);
    let event = dead_letter::as_json(&letter.original);
    let error: String = letter.failure.error.chars().take(MAX_ERROR_CHARS).filter(|c| *c != '\0').collect();
    let (partition, offset) = letter.position.unzip();
    let id = sqlx::query_scalar!(
        r#"INSERT INTO dlq_messages (
             tenant, topic, source_topic, partition_key, headers, original, event, error, error_class, error_code, attempts,
             history, origin, session_id, seq, partition, "offset", created_at, updated_at
         )
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $18)
         RETURNING id"#,
        letter.tenant,
        topic,
        letter.source_topic,
        letter.key,
        letter.headers,
        letter.original,
        event,
        error,
        letter.failure.class,
        letter.failure.code,
        attempts,
        history,
        letter.origin.as_str(),
        letter.session_id,
        letter.seq,
        partition,
        offset,
        at,
    )
    .fetch_one(&mut *connection)
    .await?;
    let line = AuditWrite {
        doer: Doer::process(letter.origin.actor()),
        action: "dlq.bury",
        resource: RESOURCE,
        target_id: id.to_string(),
        details: json!({"topic": topic, "error_class": letter.failure.class, "attempts": attempts}),
        ..AuditWrite::default()
    };
    audit_event::insert_of_process(connection, (&letter.tenant, letter.session_id), &line, at).await?;
    let notice = Notice {
        id,
        source_topic: &letter.source_topic,
        origin: letter.origin,
        position: letter.position,
        headers: &letter.headers,
        original: &letter.original,
        event: event.as_ref(),
        failure: &letter.failure,
        attempts,
        at,
    };
    Ok(NewBytes {
        headers: notice.all_headers(),
        payload: notice.record().to_string().into_bytes(),
        // Each letter is told of, also where several are of one memory.
        dedupe_key: None,
        tenant: letter.tenant,
        session_id: letter.session_id,
        seq: letter.seq,
        topic,
        // What had no order needs none here.
        key: letter.key.filter(|key| dead_letter::fits_index(key)).unwrap_or_else(|| id.to_string()),
    })
}

#[cfg(test)]
mod tests;
