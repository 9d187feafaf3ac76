//! Tables `event_log` and `event_log_partitions`: the log inside the database.
//!
//! Offsets of a partition come from its counter, which stays locked until the commit: whoever sees an offset sees all
//! before it.

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::instrument;

/// A record to be appended.
#[derive(Clone, Debug)]
pub struct NewRecord {
    /// Where to; the topic and its partition must exist.
    pub topic: String,
    /// In which partition.
    pub partition: i32,
    /// What orders it.
    pub key: String,
    /// A JSON object of texts.
    pub headers: Value,
    /// What it says.
    pub payload: Vec<u8>,
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRecord {
    /// Its number in its partition, from 0 without gaps.
    pub offset: i64,
    /// What orders it.
    pub key: Option<String>,
    /// A JSON object of texts.
    pub headers: Value,
    /// What it says.
    pub payload: Vec<u8>,
    /// When it was appended.
    pub created_at: OffsetDateTime,
}

/// Makes sure that `topic` has `partitions` partitions; more are left as they are.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.event_log.ensure_topic", skip_all)]
pub async fn ensure_topic(connection: &mut PgConnection, topic: &str, partitions: i32) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO event_log_partitions (topic, partition)
         SELECT $1, n FROM generate_series(0, $2 - 1) AS n
         ON CONFLICT DO NOTHING",
        topic,
        partitions,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Appends `records` in their order, all or none, and returns their offsets.
///
/// # Errors
/// The database's; `RowNotFound` if a topic or a partition does not exist, and then nothing was appended.
#[instrument(level = "debug", name = "db.event_log.append", skip_all)]
pub async fn append(
    connection: &mut PgConnection,
    records: &[NewRecord],
    at: OffsetDateTime,
) -> Result<Vec<i64>, sqlx::Error> {
    let topics: Vec<&str> = records.iter().map(|record| record.topic.as_str()).collect();
    let partitions: Vec<i32> = records.iter().map(|record| record.partition).collect();
    let keys: Vec<&str> = records.iter().map(|record| record.key.as_str()).collect();
    let headers: Vec<Value> = records.iter().map(|record| record.headers.clone()).collect();
    let payloads: Vec<&[u8]> = records.iter().map(|record| record.payload.as_slice()).collect();
    let rows = sqlx::query!(
        r#"WITH record AS (
             SELECT r.*, row_number() OVER (PARTITION BY r.topic, r.partition ORDER BY r.n) - 1 AS place
             FROM unnest($1::text[], $2::integer[], $3::text[], $4::jsonb[], $5::bytea[]) WITH ORDINALITY
                 AS r(topic, partition, key, headers, payload, n)
         ),
         needed AS (SELECT topic, partition, count(*) AS records FROM record GROUP BY topic, partition),
         -- In one order for everybody, so that nobody waits in a circle.
         locked AS (
             SELECT p.topic, p.partition, needed.records
             FROM event_log_partitions AS p
             JOIN needed ON needed.topic = p.topic AND needed.partition = p.partition
             ORDER BY p.topic, p.partition
             FOR UPDATE OF p
         ),
         advanced AS (
             UPDATE event_log_partitions AS p
             SET next_offset = p.next_offset + locked.records
             FROM locked
             WHERE p.topic = locked.topic AND p.partition = locked.partition
             RETURNING p.topic, p.partition, p.next_offset - locked.records AS first
         ),
         placed AS (
             SELECT record.*, advanced.first + record.place AS "offset"
             FROM record
             JOIN advanced ON advanced.topic = record.topic AND advanced.partition = record.partition
         ),
         written AS (
             INSERT INTO event_log (topic, partition, "offset", key, headers, payload, created_at)
             SELECT topic, partition, "offset", key, headers, payload, $6 FROM placed
         )
         SELECT "offset" AS "offset!" FROM placed ORDER BY n"#,
        &topics as _,
        &partitions,
        &keys as _,
        &headers,
        &payloads as _,
        at,
    )
    .fetch_all(connection)
    .await?;
    if rows.len() == records.len() {
        Ok(rows.into_iter().map(|row| row.offset).collect())
    } else {
        Err(sqlx::Error::RowNotFound)
    }
}

/// How much one read may take.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// Records.
    pub records: i64,
    /// Bytes of payload; one record is read whatever its length.
    pub bytes: i64,
}

/// Reads a page of a partition from `offset` on.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.event_log.read", skip_all)]
pub async fn read(
    connection: &mut PgConnection,
    topic: &str,
    partition: i32,
    offset: i64,
    page: Page,
) -> Result<Vec<StoredRecord>, sqlx::Error> {
    sqlx::query_as!(
        StoredRecord,
        r#"SELECT "offset", key, headers, payload, created_at
         FROM (
             SELECT *, sum(octet_length(payload)) OVER (ORDER BY "offset") - octet_length(payload) AS before
             FROM (
                 SELECT "offset", key, headers, payload, created_at
                 FROM event_log
                 WHERE topic = $1 AND partition = $2 AND "offset" >= $3
                 ORDER BY "offset"
                 LIMIT $4
             ) AS r
         ) AS page
         WHERE before < $5
         ORDER BY "offset""#,
        topic,
        partition,
        offset,
        page.records,
        page.bytes,
    )
    .fetch_all(connection)
    .await
}

/// For each partition of `topic` the offset that its next record will have.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.event_log.ends", skip_all)]
pub async fn ends(connection: &mut PgConnection, topic: &str) -> Result<Vec<(i32, i64)>, sqlx::Error> {
    let rows = sqlx::query!("SELECT partition, next_offset FROM event_log_partitions WHERE topic = $1", topic);
    let rows = rows.fetch_all(connection).await?;
    Ok(rows.into_iter().map(|row| (row.partition, row.next_offset)).collect())
}

/// Removes records that were appended before `before` and that every group which reads their topic has passed, at most
/// `limit` of each partition. Returns how many.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.event_log.purge", skip_all)]
pub async fn purge(connection: &mut PgConnection, before: OffsetDateTime, limit: i64) -> Result<u64, sqlx::Error> {
    // The age is asked of the first records only: those after them are younger, and there may be many. Where the rows are
    // is their address, because a planner that joins by key may read the whole table for a few of them.
    let done = sqlx::query!(
        r#"DELETE FROM event_log WHERE ctid = ANY (ARRAY (
             SELECT first.place
             FROM event_log_partitions AS p
             CROSS JOIN LATERAL (
                 SELECT ctid AS place, created_at
                 FROM event_log
                 WHERE topic = p.topic AND partition = p.partition AND "offset" < COALESCE(
                     (SELECT min(o.next_offset) FROM event_log_offsets AS o
                      WHERE o.topic = p.topic AND o.partition = p.partition),
                     p.next_offset
                 )
                 ORDER BY "offset"
                 LIMIT $2
             ) AS first
             WHERE first.created_at < $1
         ))"#,
        before,
        limit,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
