//! Reading dead letters, always those of one tenant.

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use crate::store::wall::TenantTx;

/// Most bytes of records on a page of a list; at least one record is on it.
const PAGE_BYTES: i64 = 4 << 20;

/// A topic that has dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSummary {
    /// The dead-letter topic.
    pub topic: String,
    /// How many letters there are.
    pub depth: i64,
    /// When the oldest came.
    pub oldest: Option<OffsetDateTime>,
    /// When the newest came.
    pub newest: Option<OffsetDateTime>,
}

/// Which letters of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// Whose error contains this, in either case.
    pub containing: Option<String>,
    /// That came at this time or later.
    pub from: Option<OffsetDateTime>,
    /// That came before this time.
    pub before: Option<OffsetDateTime>,
}

/// A letter as lists show it.
#[derive(Clone, Debug)]
pub struct ListedLetter {
    /// Its number.
    pub id: i64,
    /// Its dead-letter topic.
    pub topic: String,
    /// The record, if it is JSON.
    pub event: Option<Value>,
    /// Why it is here.
    pub error: String,
    /// Since when.
    pub created_at: OffsetDateTime,
}

/// A page of letters.
#[derive(Clone, Debug, Default)]
pub struct LetterPage {
    /// The newest first.
    pub letters: Vec<ListedLetter>,
    /// Whether there are older ones.
    pub more: bool,
}

/// Everything about a letter.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Its number.
    pub id: i64,
    /// Whose it is.
    pub tenant: String,
    /// Its dead-letter topic.
    pub topic: String,
    /// The topic the record was for.
    pub source_topic: String,
    /// What ordered it.
    pub partition_key: Option<String>,
    /// Its headers, a JSON object of texts.
    pub headers: Value,
    /// The record, byte by byte.
    pub original: Vec<u8>,
    /// Why it is here.
    pub error: String,
    /// The kind of error.
    pub error_class: String,
    /// What the other side called it.
    pub error_code: Option<String>,
    /// How often it was tried in all.
    pub attempts: i32,
    /// Each time it was given up, the oldest first.
    pub history: Value,
    /// What gave it up.
    pub origin: String,
    /// The session it tells of.
    pub session_id: Option<Uuid>,
    /// The event it comes from, by its number in the session.
    pub seq: Option<i64>,
    /// The partition it was read from.
    pub partition: Option<i32>,
    /// Its place there.
    pub offset: Option<i64>,
    /// Since when it is here.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
}

/// How many letters each topic has, of all tenants together.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.dlq_messages.depths", skip_all)]
pub async fn depths(connection: &mut PgConnection) -> Result<Vec<(String, i64)>, sqlx::Error> {
    let rows = sqlx::query!(r#"SELECT topic, count(*) AS "depth!" FROM dlq_messages GROUP BY topic"#)
        .fetch_all(connection)
        .await?;
    Ok(rows.into_iter().map(|row| (row.topic, row.depth)).collect())
}

/// How many letters a topic has, of all tenants together; at most `most` are counted.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.dlq_messages.depth", skip_all)]
pub async fn depth(connection: &mut PgConnection, topic: &str, most: i64) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "depth!" FROM (SELECT FROM dlq_messages WHERE topic = $1 LIMIT $2) AS counted"#,
        topic,
        most,
    )
    .fetch_one(connection)
    .await
}

/// The topics with letters of a tenant, by name.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.dlq_messages.topics", skip_all)]
pub async fn topics(rows: &mut TenantTx<'_>, tenant: &str) -> Result<Vec<TopicSummary>, sqlx::Error> {
    sqlx::query_as!(
        TopicSummary,
        r#"SELECT topic, count(*) AS "depth!", min(created_at) AS oldest, max(created_at) AS newest
         FROM dlq_messages
         WHERE tenant = $1
         GROUP BY topic
         ORDER BY topic"#,
        tenant,
    )
    .fetch_all(&mut **rows)
    .await
}

/// Up to `limit` letters of a topic with a number below `before`, the newest first; fewer where they are large.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.dlq_messages.list", skip_all)]
pub async fn list(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    topic: &str,
    filter: &LetterFilter,
    before: Option<i64>,
    limit: i64,
) -> Result<LetterPage, sqlx::Error> {
    // One more than asked for tells whether there is a next page.
    let rows = sqlx::query!(
        r#"SELECT id, topic, event, error, created_at, found AS "found!"
         FROM (
             SELECT page.*, count(*) OVER () AS found,
                    sum(octet_length(original)) OVER (ORDER BY id DESC) - octet_length(original) AS newer_bytes
             FROM (
                 SELECT id, topic, event, error, created_at, original
                 FROM dlq_messages
                 WHERE tenant = $1 AND topic = $2 AND ($3::bigint IS NULL OR id < $3)
                   AND ($4::text IS NULL OR strpos(lower(error), lower($4)) > 0)
                   AND ($5::timestamptz IS NULL OR created_at >= $5)
                   AND ($6::timestamptz IS NULL OR created_at < $6)
                 ORDER BY id DESC
                 LIMIT $7::bigint + 1
             ) AS page
         ) AS sized
         WHERE newer_bytes < $8
         ORDER BY id DESC
         LIMIT $7::bigint"#,
        tenant,
        topic,
        before,
        filter.containing,
        filter.from,
        filter.before,
        limit,
        PAGE_BYTES,
    )
    .fetch_all(&mut **rows)
    .await?;
    let found = rows.first().map_or(0, |row| row.found);
    let letters: Vec<_> = rows
        .into_iter()
        .map(|row| ListedLetter {
            id: row.id,
            topic: row.topic,
            event: row.event,
            error: row.error,
            created_at: row.created_at,
        })
        .collect();
    let more = found > i64::try_from(letters.len()).unwrap_or(i64::MAX);
    Ok(LetterPage { letters, more })
}

/// One letter.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.dlq_messages.get", skip_all)]
pub async fn get(rows: &mut TenantTx<'_>, tenant: &str, topic: &str, id: i64) -> Result<Option<Letter>, sqlx::Error> {
    sqlx::query_as!(
        Letter,
        r#"SELECT id, tenant, topic, source_topic, partition_key, headers, original, error, error_class, error_code,
                attempts, history, origin, session_id, seq, partition, "offset", created_at, updated_at
         FROM dlq_messages
         WHERE tenant = $1 AND topic = $2 AND id = $3"#,
        tenant,
        topic,
        id,
    )
    .fetch_optional(&mut **rows)
    .await
}
