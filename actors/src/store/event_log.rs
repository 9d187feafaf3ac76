//! Tables `event_log` and `event_log_partitions`: the log inside the database.
//!
//! Offsets of a partition come from its counter, which stays locked until the commit: whoever sees an offset sees all
//! before it.

use std::collections::HashMap;

use serde_json::Value;
use sqlx::{PgConnection, types::Json};
use time::OffsetDateTime;
use tracing::instrument;

use crate::domain::audit_chain::CHECKPOINTS;

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
    let Places { topics, partitions, counts, of } = Places::of(records);
    let (parts, places): (Vec<i64>, Vec<i64>) = of.iter().copied().unzip();
    let keys: Vec<&str> = records.iter().map(|record| record.key.as_str()).collect();
    let headers: Vec<Json<&Value>> = records.iter().map(|record| Json(&record.headers)).collect();
    let payloads: Vec<&[u8]> = records.iter().map(|record| record.payload.as_slice()).collect();
    let rows = sqlx::query!(
        r#"WITH needed AS (
             SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[]) WITH ORDINALITY
                 AS n(topic, partition, records, part)
         ),
         -- In one order for everybody, so that nobody waits in a circle.
         locked AS (
             SELECT p.topic, p.partition, needed.records, needed.part
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
               AND (SELECT count(*) FROM locked) = (SELECT count(*) FROM needed)
             RETURNING p.topic, p.partition, p.next_offset - locked.records AS first, locked.part
         ),
         written AS (
             INSERT INTO event_log (topic, partition, "offset", key, headers, payload, created_at)
             SELECT a.topic, a.partition, a.first + r.place, r.key, r.headers, r.payload, $9
             FROM unnest($4::bigint[], $5::bigint[], $6::text[], $7::jsonb[], $8::bytea[])
                 AS r(part, place, key, headers, payload)
             JOIN advanced AS a ON a.part = r.part
         )
         SELECT part AS "part!", first AS "first!" FROM advanced"#,
        &topics as _,
        &partitions,
        &counts,
        &parts,
        &places,
        &keys as _,
        &headers as _,
        &payloads as _,
        at,
    )
    .fetch_all(connection)
    .await?;
    let firsts: HashMap<i64, i64> = rows.into_iter().map(|row| (row.part, row.first)).collect();
    of.into_iter()
        .map(|(part, place)| firsts.get(&part).map(|first| first + place).ok_or(sqlx::Error::RowNotFound))
        .collect()
}

/// Where records go: the partitions that some of them go to, and how many to each.
struct Places<'a> {
    topics: Vec<&'a str>,
    partitions: Vec<i32>,
    counts: Vec<i64>,
    /// Of each record, which of these it goes to, from 1, and how many go there before it.
    of: Vec<(i64, i64)>,
}

impl<'a> Places<'a> {
    fn of(records: &'a [NewRecord]) -> Self {
        let mut places = Self { topics: vec![], partitions: vec![], counts: vec![], of: vec![] };
        let mut known: HashMap<(&str, i32), usize> = HashMap::new();
        for record in records {
            let index = *known.entry((&record.topic, record.partition)).or_insert_with(|| {
                places.topics.push(&record.topic);
                places.partitions.push(record.partition);
                places.counts.push(0);
                places.counts.len() - 1
            });
            let part = i64::try_from(index + 1).unwrap_or(i64::MAX);
            places.of.push((part, places.counts[index]));
            places.counts[index] += 1;
        }
        places
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
/// `limit` of each partition. Returns how many. Checkpoints of the audit trail stay.
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
             WHERE first.created_at < $1 AND p.topic <> $3
         ))"#,
        before,
        limit,
        CHECKPOINTS,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}
