//! Sending dead letters again and deleting them. Each function is one step of a transaction of its caller.

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::instrument;

use super::browse::{Letter, LetterFilter};
use crate::{
    domain::{
        dead_letter::{self, HISTORY_HEADER, Origin},
        wal::{self, MEMORY_WAL},
    },
    store::{
        memory_write_outbox::{self, ReturnedMemory},
        message_outbox::{self, NewBytes},
        outbox_events::Enqueued,
        wall::TenantTx,
    },
};

/// A letter that cannot be sent as it is: why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unusable(pub &'static str);

/// Where letters go, ready to be put there.
#[derive(Clone, Debug)]
pub enum Outgoing {
    /// Onto the topic the record was for, by way of the outbox.
    Record(NewBytes),
    /// Back into the queue of memories.
    Memory(ReturnedMemory),
}

impl Outgoing {
    /// What is to be sent for `letter`; it carries the letter's history along.
    ///
    /// # Errors
    /// When the queue it came from cannot take it.
    pub fn of(letter: Letter) -> Result<Self, Unusable> {
        if letter.origin != Origin::Memory.as_str() {
            let dedupe_key = memory_of(&letter).map(|told| told.event_id);
            let key = letter.partition_key.unwrap_or_else(|| letter.id.to_string());
            if !dead_letter::fits_index(&key) {
                return Err(Unusable("has too long a key"));
            }
            let mut headers = letter.headers;
            if let Some(headers) = headers.as_object_mut() {
                headers.insert(HISTORY_HEADER.to_owned(), letter.history.to_string().into());
            }
            return Ok(Self::Record(NewBytes {
                tenant: letter.tenant,
                session_id: letter.session_id,
                seq: letter.seq,
                topic: letter.source_topic,
                key,
                headers,
                payload: letter.original,
                dedupe_key,
            }));
        }
        let event: Value = serde_json::from_slice(&letter.original).map_err(|_| Unusable("is not JSON"))?;
        let payload = event["payload"].clone();
        let id = payload["id"].as_str().ok_or(Unusable("must have an object `payload` with a text `id`"))?;
        if !dead_letter::fits_index(id) {
            return Err(Unusable("has too long a `payload.id`"));
        }
        let session_id = letter.session_id.ok_or(Unusable("tells of no session"))?;
        let memory = ReturnedMemory {
            tenant: letter.tenant,
            session_id,
            seq: letter.seq,
            payload,
            history: letter.history,
            revision: event["revision"].as_i64(),
        };
        Ok(Self::Memory(memory))
    }
}

/// The memory that a letter's record tells the log of.
fn memory_of(letter: &Letter) -> Option<wal::Told> {
    let told = (letter.source_topic == MEMORY_WAL).then(|| wal::read(&letter.original).ok()).flatten()?;
    (told.tenant == letter.tenant && dead_letter::fits_index(&told.event_id)).then_some(told)
}

/// Whether a later version of the memory that `letter` tells of is known: to send the letter would undo that. Of a letter that
/// has no revision, what waits is later, and what came through since the letter was kept.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.dlq_messages.is_superseded", skip_all)]
pub async fn is_superseded(connection: &mut PgConnection, letter: &Letter) -> Result<bool, sqlx::Error> {
    let Some(told) = memory_of(letter) else { return Ok(false) };
    sqlx::query_scalar!(
        r#"WITH versions AS (
             SELECT COALESCE(revision, id) AS revision, status <> 'sent' AS waits, updated_at
             FROM memory_write_outbox
             WHERE tenant = $1 AND dedupe_key = $2 AND status IN ('pending', 'sending')
             UNION ALL
             SELECT COALESCE(revision, id), false, updated_at
             FROM memory_write_outbox
             WHERE tenant = $1 AND dedupe_key = $2 AND status IN ('sent', 'failed') AND status = 'sent'
             UNION ALL
             SELECT COALESCE(revision, id), status <> 'sent', updated_at
             FROM memory_write_outbox
             WHERE tenant = $1 AND beside_id = $2 AND status <> 'failed'
             UNION ALL
             -- What another system wrote may say anything, which `jsonb` would not take.
             SELECT substring(
                     COALESCE(payload::json, convert_from(payload_bytes, 'UTF8')::json) ->> 'revision' FROM '^\d{1,18}$'
                 )::bigint,
                 status <> 'sent', updated_at
             FROM message_outbox
             WHERE tenant = $1 AND topic = 'memory.wal' AND dedupe_key = $2 AND status <> 'failed'
             UNION ALL
             SELECT revision, false, COALESCE(updated_at, created_at)
             FROM memory_replica
             WHERE tenant = $1 AND event_id = $2
             UNION ALL
             SELECT revision, false, created_at
             FROM memory_tombstones
             WHERE tenant = $1 AND event_id = $2
         )
         SELECT EXISTS (
             SELECT FROM versions WHERE CASE WHEN $3::bigint IS NULL THEN waits OR updated_at > $4 ELSE revision > $3 END
         ) AS "is_superseded!""#,
        letter.tenant,
        told.event_id,
        told.revision,
        letter.created_at,
    )
    .fetch_one(connection)
    .await
}

/// Puts `outgoing` where it goes, in this order: records among themselves, and memories among themselves.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.dlq_messages.send", skip_all)]
pub async fn send(
    connection: &mut PgConnection,
    outgoing: Vec<Outgoing>,
    at: OffsetDateTime,
) -> Result<Enqueued, sqlx::Error> {
    let mut records = Vec::new();
    for one in outgoing {
        match one {
            Outgoing::Record(record) => {
                if let Some(memory) = &record.dedupe_key {
                    message_outbox::forget_failed(connection, &record.tenant, memory).await?;
                }
                records.push(record);
            }
            Outgoing::Memory(memory) => memory_write_outbox::put_back(connection, &memory, at).await?,
        }
    }
    if records.is_empty() {
        return Ok(Enqueued::default());
    }
    message_outbox::insert_bytes(connection, &records, at).await
}

/// Takes a letter out of the table.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.dlq_messages.take", skip_all)]
pub async fn take(rows: &mut TenantTx<'_>, tenant: &str, topic: &str, id: i64) -> Result<Option<Letter>, sqlx::Error> {
    sqlx::query_as!(
        Letter,
        r#"DELETE FROM dlq_messages
         WHERE tenant = $1 AND topic = $2 AND id = $3
         RETURNING id, tenant, topic, source_topic, partition_key, headers, original, error, error_class, error_code,
                attempts, history, origin, session_id, seq, partition, "offset", created_at, updated_at"#,
        tenant,
        topic,
        id,
    )
    .fetch_optional(&mut **rows)
    .await
}

/// Up to `limit` letters with numbers above `after` and up to `upto`, the oldest first, locked. They end after about
/// `max_bytes` of records.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.dlq_messages.lock_page", skip_all)]
pub async fn lock_page(
    connection: &mut PgConnection,
    tenant: &str,
    topic: &str,
    filter: &LetterFilter,
    (after, upto): (i64, i64),
    limit: i64,
    max_bytes: i64,
) -> Result<Vec<Letter>, sqlx::Error> {
    sqlx::query_as!(
        Letter,
        r#"SELECT id, tenant, topic, source_topic, partition_key, headers, original, error, error_class, error_code,
                attempts, history, origin, session_id, seq, partition, "offset", created_at, updated_at
         FROM dlq_messages
         WHERE id = ANY (ARRAY (
             SELECT id
             FROM (
                 SELECT id, sum(octet_length(original)) OVER (ORDER BY id) - octet_length(original) AS older_bytes
                 FROM (
                     SELECT id, original
                     FROM dlq_messages
                     WHERE tenant = $1 AND topic = $2 AND id > $3 AND id <= $4
                       AND ($5::text IS NULL OR strpos(lower(error), lower($5)) > 0)
                       AND ($6::timestamptz IS NULL OR created_at >= $6)
                       AND ($7::timestamptz IS NULL OR created_at < $7)
                     ORDER BY id
                     LIMIT $8
                 ) AS page
             ) AS sized
             WHERE older_bytes < $9
         ))
         ORDER BY id
         FOR UPDATE"#,
        tenant,
        topic,
        after,
        upto,
        filter.containing,
        filter.from,
        filter.before,
        limit,
        max_bytes,
    )
    .fetch_all(connection)
    .await
}

/// Deletes letters by their numbers.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.dlq_messages.delete_all", skip_all)]
pub async fn delete_all(connection: &mut PgConnection, tenant: &str, ids: &[i64]) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!("DELETE FROM dlq_messages WHERE tenant = $1 AND id = ANY ($2)", tenant, ids);
    Ok(done.execute(connection).await?.rows_affected())
}

/// Deletes up to `limit` letters of a topic with numbers up to `upto`, the oldest first.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.dlq_messages.delete_page", skip_all)]
pub async fn delete_page(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    topic: &str,
    upto: i64,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "DELETE FROM dlq_messages
         WHERE id = ANY (ARRAY (
             SELECT id FROM dlq_messages WHERE tenant = $1 AND topic = $2 AND id <= $3 ORDER BY id LIMIT $4 FOR UPDATE
         ))",
        tenant,
        topic,
        upto,
        limit,
    );
    Ok(done.execute(&mut **rows).await?.rows_affected())
}

/// How many letters of a topic match, and the number of the newest of them; only those with numbers up to `upto` count.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.dlq_messages.count", skip_all)]
pub async fn count(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    topic: &str,
    filter: &LetterFilter,
    upto: i64,
) -> Result<(i64, i64), sqlx::Error> {
    let row = sqlx::query!(
        r#"SELECT count(*) AS "letters!", COALESCE(max(id), 0) AS "newest!"
         FROM dlq_messages
         WHERE tenant = $1 AND topic = $2 AND id <= $3
           AND ($4::text IS NULL OR strpos(lower(error), lower($4)) > 0)
           AND ($5::timestamptz IS NULL OR created_at >= $5)
           AND ($6::timestamptz IS NULL OR created_at < $6)"#,
        tenant,
        topic,
        upto,
        filter.containing,
        filter.from,
        filter.before,
    )
    .fetch_one(&mut **rows)
    .await?;
    Ok((row.letters, row.newest))
}
