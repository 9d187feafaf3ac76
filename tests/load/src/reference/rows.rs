//! The rows of one message as the server wrote them, for a reference to write the same.

use anyhow::{Context as _, Result};
use sqlx::PgConnection;

/// What the columns of one message hold, apart from ids, numbers and times. The writer of a reference fills those in.
#[derive(Clone, Debug)]
pub struct Rows {
    /// `session_envelopes.owner`
    pub owner: String,
    /// `session_envelopes.title`
    pub title: String,
    /// `session_envelopes.analysis`
    pub analysis: String,
    /// `session_events.payload`, and that of `message_outbox`
    pub payload: String,
    /// `message_outbox.topic`
    pub topic: String,
    /// `memory_write_outbox.payload`
    pub memory: String,
    /// `memory_write_outbox.idempotency_key` up to the part that differs from message to message.
    pub memory_key: String,
    /// `audit_event.action`
    pub action: String,
    /// `audit_event.resource`
    pub resource: String,
    /// `audit_event.details`
    pub details: String,
}

/// Hexadecimal digits at the end of a memory's key, which make it one message's.
const KEY_DIGITS: usize = 16;

impl Rows {
    /// Reads the rows of some message.
    ///
    /// # Errors
    /// When there is none with a row in every table.
    pub async fn read(connection: &mut PgConnection) -> Result<Self> {
        let found: Option<Columns> = sqlx::query_as(
            "SELECT v.owner, v.title, v.analysis::text, e.payload::text, o.topic, m.payload::text, m.idempotency_key,
                    a.action, a.resource, a.details::text
             FROM session_events AS e
             JOIN session_envelopes AS v USING (tenant, session_id)
             JOIN turns AS t ON t.tenant = e.tenant AND t.session_id = e.session_id AND t.turn_seq = e.seq
             JOIN message_outbox AS o ON o.tenant = e.tenant AND o.session_id = e.session_id AND o.seq = e.seq
             JOIN memory_write_outbox AS m ON m.tenant = e.tenant AND m.session_id = e.session_id AND m.seq = e.seq
             JOIN audit_event AS a ON a.tenant = e.tenant AND a.target_id = e.event_id::text AND a.action = 'message.enqueue'
             WHERE e.type = 'user'
             LIMIT 1",
        )
        .fetch_optional(connection)
        .await?;
        let found = found.context("no message has a row in every table that a message is written to")?;
        let (owner, title, analysis, payload, topic, memory, mut memory_key, action, resource, details) = found;
        memory_key.truncate(memory_key.len().saturating_sub(KEY_DIGITS));
        Ok(Self { owner, title, analysis, payload, topic, memory, memory_key, action, resource, details })
    }
}

type Columns = (String, String, String, String, String, String, String, String, String, String);
