//! Table `message_outbox`: records that wait for their place in the log.

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::instrument;

use super::{
    outbox::{ClaimTerms, Key, Settled, purge, settle},
    outbox_events::Enqueued,
    outbox_leases::{Leased, lease, release, rows_of_keys, taken},
};

/// A row that was claimed.
#[derive(Clone, Debug)]
pub struct ClaimedMessage {
    /// The row.
    pub id: i64,
    /// Whose it is.
    pub tenant: String,
    /// The session it tells of.
    pub session_id: Option<uuid::Uuid>,
    /// The event it comes from, by its number in the session.
    pub seq: Option<i64>,
    /// Where it goes.
    pub topic: String,
    /// Records of one key keep their order.
    pub key: String,
    /// The record, JSON unless it came from elsewhere.
    pub payload: Vec<u8>,
    /// Its headers, a JSON object of texts.
    pub headers: Value,
    /// How often it was tried before.
    pub retry_count: i32,
    /// When it was put here.
    pub created_at: OffsetDateTime,
}

impl ClaimedMessage {
    /// What its claim has leased.
    #[must_use]
    pub fn queue_key(&self) -> Key {
        (self.topic.clone(), self.key.clone())
    }
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
#[instrument(level = "debug", name = "db.message_outbox.claim", skip_all)]
pub async fn claim(
    connection: &mut PgConnection,
    from: &Place,
    terms: ClaimTerms,
) -> Result<(Vec<ClaimedMessage>, Place), sqlx::Error> {
    let (leased, next) = lease(connection, from, terms).await?;
    if leased.keys.is_empty() {
        return Ok((Vec::new(), next));
    }
    let rows = rows_of_keys!(
        "message_outbox",
        ("topic", "partition_key", "text"),
        (
            "id, tenant, session_id, seq, topic, partition_key, payload, payload_bytes, headers, retry_count, created_at",
            r#"id, tenant, session_id, seq, topic, partition_key,
               COALESCE(payload_bytes, convert_to(payload::text, 'UTF8')) AS "payload!", headers, retry_count, created_at"#
        ),
        &mut *connection,
        leased,
        terms.now
    );
    let claimed: Vec<_> = taken(rows, |row| row.payload.len())
        .await?
        .into_iter()
        .map(|row| ClaimedMessage {
            id: row.id,
            tenant: row.tenant,
            session_id: row.session_id,
            seq: row.seq,
            topic: row.topic,
            key: row.partition_key,
            payload: row.payload,
            headers: row.headers,
            retry_count: row.retry_count,
            created_at: row.created_at,
        })
        .collect();
    let without = leased.without(&claimed.iter().map(ClaimedMessage::queue_key).collect());
    if !without.is_empty() {
        drop(release(connection, "message_outbox", terms.claim, &without).await?);
    }
    Ok((claimed, next))
}

async fn lease(
    connection: &mut PgConnection,
    from: &Place,
    terms: ClaimTerms,
) -> Result<(Leased<String>, Place), sqlx::Error> {
    let rows = lease!("message_outbox", ("topic", "partition_key"), connection, (from.topic, from.key), terms)?;
    let walked = rows.first().and_then(|row| {
        let place = Place { topic: row.last_scope.clone()?, key: row.last_key.clone()? };
        Some((place, row.keys_seen?))
    });
    let last = rows.last().and_then(|row| Some(Place { topic: row.scope.clone()?, key: row.key.clone()? }));
    let mut leased = Leased::none();
    for row in rows.into_iter().filter(|row| row.is_leased) {
        leased.scopes.extend(row.scope);
        leased.keys.extend(row.key);
        leased.counts.extend(row.count);
    }
    Ok((leased, terms.next_place(last, walked)))
}

/// Ends leases of `claim` and writes down what became of rows, as far as it still holds their keys. Returns those rows. Call
/// it in a transaction: until that ends nobody else has the keys.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.message_outbox.settle", skip_all)]
pub async fn settle(
    connection: &mut PgConnection,
    claim: uuid::Uuid,
    settled: &Settled,
    at: OffsetDateTime,
) -> Result<Vec<i64>, sqlx::Error> {
    let held = release(&mut *connection, "message_outbox", claim, &settled.distinct_keys()).await?;
    let columns = settled.columns(&held);
    settle!("message_outbox", ", log_partition = s.partition, log_offset = s.place", connection, columns, at)
}

/// Removes up to `limit` rows that were sent or given up before `before`. Returns how many.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.message_outbox.purge", skip_all)]
pub async fn purge(connection: &mut PgConnection, before: OffsetDateTime, limit: i64) -> Result<u64, sqlx::Error> {
    purge!("message_outbox", connection, before, limit)
}

/// A record to be put into the outbox.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Whose it is.
    pub tenant: String,
    /// The session it tells of.
    pub session_id: uuid::Uuid,
    /// The event it comes from, by its number in the session.
    pub seq: Option<i64>,
    /// Where it goes.
    pub topic: &'static str,
    /// Headers that it has beside those that every record gets, a JSON object of texts.
    pub headers: Value,
    /// The record.
    pub payload: Value,
    /// What makes it the same record when it is put here twice.
    pub dedupe_key: Option<String>,
}

/// Puts records into the outbox, keyed by their session. One that waits there already is not put twice, except on the topic
/// of the memories, where each is another version.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.message_outbox.insert", skip_all)]
pub async fn insert(
    connection: &mut PgConnection,
    messages: &[NewMessage],
    at: OffsetDateTime,
) -> Result<Enqueued, sqlx::Error> {
    let tenants: Vec<&str> = messages.iter().map(|message| message.tenant.as_str()).collect();
    let sessions: Vec<uuid::Uuid> = messages.iter().map(|message| message.session_id).collect();
    let seqs: Vec<Option<i64>> = messages.iter().map(|message| message.seq).collect();
    let topics: Vec<&str> = messages.iter().map(|message| message.topic).collect();
    let headers: Vec<Value> = messages.iter().map(|message| message.headers.clone()).collect();
    let payloads: Vec<Value> = messages.iter().map(|message| message.payload.clone()).collect();
    let keys: Vec<Option<&str>> = messages.iter().map(|message| message.dedupe_key.as_deref()).collect();
    let done = sqlx::query!(
        "INSERT INTO message_outbox (
             tenant, session_id, seq, topic, partition_key, headers, payload, dedupe_key, next_attempt_at, created_at,
             updated_at
         )
         SELECT tenant, session_id, seq, topic, session_id::text, headers, payload, dedupe_key, $8, $8, $8
         FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::text[], $5::jsonb[], $6::jsonb[], $7::text[])
             WITH ORDINALITY AS m(tenant, session_id, seq, topic, headers, payload, dedupe_key, place)
         ORDER BY place
         ON CONFLICT DO NOTHING",
        &tenants as _,
        &sessions,
        &seqs as _,
        &topics as _,
        &headers,
        &payloads,
        &keys as _,
        at,
    )
    .execute(connection)
    .await?;
    Ok(Enqueued::of(messages.len(), done.rows_affected()))
}

/// A record whose bytes are kept as they are.
#[derive(Clone, Debug)]
pub struct NewBytes {
    /// Whose it is.
    pub tenant: String,
    /// The session it tells of.
    pub session_id: Option<uuid::Uuid>,
    /// The event it comes from, by its number in the session.
    pub seq: Option<i64>,
    /// Where it goes.
    pub topic: String,
    /// What orders it.
    pub key: String,
    /// Its headers, a JSON object of texts.
    pub headers: Value,
    /// The record.
    pub payload: Vec<u8>,
    /// What makes it the same record when it is put here twice.
    pub dedupe_key: Option<String>,
}

/// Puts records into the outbox as they are. One that waits there already is not put twice.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.message_outbox.insert_bytes", skip_all)]
pub async fn insert_bytes(
    connection: &mut PgConnection,
    records: &[NewBytes],
    at: OffsetDateTime,
) -> Result<Enqueued, sqlx::Error> {
    let text = |of: fn(&NewBytes) -> &str| records.iter().map(of).collect::<Vec<_>>();
    let sessions: Vec<Option<uuid::Uuid>> = records.iter().map(|record| record.session_id).collect();
    let seqs: Vec<Option<i64>> = records.iter().map(|record| record.seq).collect();
    let headers: Vec<Value> = records.iter().map(|record| record.headers.clone()).collect();
    let payloads: Vec<&[u8]> = records.iter().map(|record| record.payload.as_slice()).collect();
    let keys: Vec<Option<&str>> = records.iter().map(|record| record.dedupe_key.as_deref()).collect();
    let done = sqlx::query!(
        "INSERT INTO message_outbox (
             tenant, session_id, seq, topic, partition_key, headers, payload_bytes, dedupe_key, next_attempt_at, created_at,
             updated_at
         )
         SELECT tenant, session_id, seq, topic, key, headers, payload, dedupe_key, $9, $9, $9
         FROM unnest(
             $1::text[], $2::uuid[], $3::bigint[], $4::text[], $5::text[], $6::jsonb[], $7::bytea[], $8::text[]
         ) WITH ORDINALITY AS m(tenant, session_id, seq, topic, key, headers, payload, dedupe_key, place)
         ORDER BY place
         ON CONFLICT DO NOTHING",
        &text(|record| &record.tenant) as _,
        &sessions as _,
        &seqs as _,
        &text(|record| &record.topic) as _,
        &text(|record| &record.key) as _,
        &headers,
        &payloads as _,
        &keys as _,
        at,
    )
    .execute(connection)
    .await?;
    Ok(Enqueued::of(records.len(), done.rows_affected()))
}

/// Forgets that records of a memory were given up: one of them is sent again.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.message_outbox.forget_failed", skip_all)]
pub async fn forget_failed(connection: &mut PgConnection, tenant: &str, memory: &str) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "DELETE FROM message_outbox
         WHERE tenant = $1 AND topic = 'memory.wal' AND dedupe_key = $2 AND status = 'failed'",
        tenant,
        memory,
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests;
