//! Tables `memory_replica` and `memory_replica_offsets`: what was remembered, as the log told it, and how far that is
//! applied.
//!
//! Which of two records of a memory is the later one, their revisions tell, and where one has none their places or their times:
//! see `memory_precedes` in the migrations. A record that comes once more, late, or by another partition than the one after it
//! changes nothing.

pub mod reads;
pub mod search_index;
pub mod tombstones;

use std::collections::HashMap;

use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::instrument;

/// A memory as a record of the log tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct NewReplica {
    /// Whose it is.
    pub tenant: String,
    /// Its id, unique for the tenant.
    pub event_id: String,
    /// The session it comes from.
    pub session_id: Option<String>,
    /// The persona it was said to or by.
    pub persona_id: Option<String>,
    /// Who said it.
    pub role: Option<String>,
    /// Where the memory service put it.
    pub coord: Option<String>,
    /// The memory service's name of the request.
    pub request_id: Option<String>,
    /// The memory service's name of the trace.
    pub trace_id: Option<String>,
    /// The memory, JSON text.
    pub payload: String,
    /// Which writing of the memory it is, if its writer says so.
    pub revision: Option<i64>,
    /// When the record was published, in seconds since 1970.
    pub wal_timestamp: Option<f64>,
    /// The record's number in its partition.
    pub offset: i64,
    /// SHA-256 of the record's bytes.
    pub sha256: [u8; 32],
}

/// A partition of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPartition {
    /// Which log: offsets of one say nothing of another.
    pub source: &'static str,
    /// The topic.
    pub topic: String,
    /// The partition of the topic.
    pub partition: i32,
}

/// The offset up to which `place` is applied, not itself included. A partition nobody applied yet begins at 0.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.memory_replica.position", skip_all)]
pub async fn position(
    connection: &mut PgConnection,
    place: &LogPartition,
    at: OffsetDateTime,
) -> Result<i64, sqlx::Error> {
    sqlx::query!(
        "INSERT INTO memory_replica_offsets (source, topic, partition, updated_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING",
        place.source,
        place.topic,
        place.partition,
        at,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query_scalar!(
        "SELECT next_offset FROM memory_replica_offsets WHERE source = $1 AND topic = $2 AND partition = $3",
        place.source,
        place.topic,
        place.partition,
    )
    .fetch_one(connection)
    .await
}

/// Goes from `expected` to `next`, and keeps others from doing so until the transaction ends. Returns false if `place` is
/// somewhere else: then somebody else applies it, and this transaction must change nothing.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.memory_replica.advance", skip_all)]
pub async fn advance(
    connection: &mut PgConnection,
    place: &LogPartition,
    expected: i64,
    next: i64,
    at: OffsetDateTime,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE memory_replica_offsets SET next_offset = $5, updated_at = $6
         WHERE source = $1 AND topic = $2 AND partition = $3 AND next_offset = $4",
        place.source,
        place.topic,
        place.partition,
        expected,
        next,
        at,
    )
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Writes `rows`, in the order of their offsets. A memory that is there is changed only by a later record, and one that was
/// taken back comes only by a later record.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.memory_replica.upsert", skip_all)]
pub async fn upsert(
    connection: &mut PgConnection,
    place: &LogPartition,
    rows: &[&NewReplica],
    at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let rows = newest(rows);
    if rows.is_empty() {
        return Ok(());
    }
    let text = |of: fn(&NewReplica) -> &str| rows.iter().map(|row| of(row)).collect::<Vec<_>>();
    let maybe = |of: fn(&NewReplica) -> &Option<String>| rows.iter().map(|row| of(row).as_deref()).collect::<Vec<_>>();
    let revisions: Vec<Option<i64>> = rows.iter().map(|row| row.revision).collect();
    let timestamps: Vec<Option<f64>> = rows.iter().map(|row| row.wal_timestamp).collect();
    let offsets: Vec<i64> = rows.iter().map(|row| row.offset).collect();
    let hashes: Vec<&[u8]> = rows.iter().map(|row| row.sha256.as_slice()).collect();
    sqlx::query!(
        r#"INSERT INTO memory_replica AS r (
             tenant, event_id, session_id, persona_id, role, coord, request_id, trace_id, payload, revision, wal_timestamp,
             "offset", sha256, topic, partition, source, created_at
         )
         SELECT tenant, event_id, session_id, persona_id, role, coord, request_id, trace_id, payload::jsonb, revision,
             wal_timestamp, "offset", sha256, $14, $15, $16, $17
         FROM unnest(
             $1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
             $10::bigint[], $11::double precision[], $12::bigint[], $13::bytea[]
         ) WITH ORDINALITY AS n(
             tenant, event_id, session_id, persona_id, role, coord, request_id, trace_id, payload, revision, wal_timestamp,
             "offset", sha256, place
         )
         ORDER BY place
         ON CONFLICT (tenant, event_id) DO UPDATE SET
             session_id = EXCLUDED.session_id,
             persona_id = EXCLUDED.persona_id,
             role = EXCLUDED.role,
             coord = EXCLUDED.coord,
             request_id = EXCLUDED.request_id,
             trace_id = EXCLUDED.trace_id,
             payload = EXCLUDED.payload,
             revision = EXCLUDED.revision,
             wal_timestamp = EXCLUDED.wal_timestamp,
             "offset" = EXCLUDED."offset",
             sha256 = EXCLUDED.sha256,
             topic = EXCLUDED.topic,
             partition = EXCLUDED.partition,
             source = EXCLUDED.source,
             updated_at = EXCLUDED.created_at
         WHERE memory_precedes(
             r.revision, r.source, r.topic, r.partition, r."offset", r.wal_timestamp,
             EXCLUDED.revision, EXCLUDED.source, EXCLUDED.topic, EXCLUDED.partition, EXCLUDED."offset",
             EXCLUDED.wal_timestamp
         )"#,
        &text(|row| &row.tenant) as _,
        &text(|row| &row.event_id) as _,
        &maybe(|row| &row.session_id) as _,
        &maybe(|row| &row.persona_id) as _,
        &maybe(|row| &row.role) as _,
        &maybe(|row| &row.coord) as _,
        &maybe(|row| &row.request_id) as _,
        &maybe(|row| &row.trace_id) as _,
        &text(|row| &row.payload) as _,
        &revisions as _,
        &timestamps as _,
        &offsets,
        &hashes as _,
        place.topic,
        place.partition,
        place.source,
        at,
    )
    .execute(&mut *connection)
    .await?;
    tombstones::apply(connection, &rows).await
}

/// One row a memory, because one statement may not change a row twice: at the place of its first record what its latest one
/// says.
fn newest<'a>(rows: &[&'a NewReplica]) -> Vec<&'a NewReplica> {
    let mut places = HashMap::new();
    let mut newest: Vec<&NewReplica> = Vec::with_capacity(rows.len());
    for &row in rows {
        let place = *places.entry((&row.tenant, &row.event_id)).or_insert(newest.len());
        match newest.get_mut(place) {
            Some(known) if known.revision.zip(row.revision).is_none_or(|(known, here)| known < here) => *known = row,
            Some(_) => {}
            None => newest.push(row),
        }
    }
    newest
}

/// When the newest record of the replica was published, in seconds since 1970.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.memory_replica.newest_timestamp", skip_all)]
pub async fn newest_timestamp(connection: &mut PgConnection) -> Result<Option<f64>, sqlx::Error> {
    sqlx::query_scalar!("SELECT max(wal_timestamp) FROM memory_replica").fetch_one(connection).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use sqlx::{Connection, PgPool};

    use super::*;

    const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn place(partition: i32) -> LogPartition {
        LogPartition { source: "table", topic: "memory.wal".into(), partition }
    }

    fn row(event_id: &str, offset: i64, said: &str) -> NewReplica {
        NewReplica {
            tenant: "t".into(),
            event_id: event_id.into(),
            session_id: Some("s".into()),
            persona_id: None,
            role: Some("user".into()),
            coord: None,
            request_id: None,
            trace_id: None,
            payload: serde_json::json!({"content": said}).to_string(),
            revision: None,
            wal_timestamp: Some(1.5),
            offset,
            sha256: [7; 32],
        }
    }

    async fn stored(pool: &PgPool) -> Vec<(String, String, i32, i64)> {
        let sql = r#"SELECT event_id, payload ->> 'content', partition, "offset" FROM memory_replica ORDER BY id"#;
        sqlx::query_as(sql).fetch_all(pool).await.unwrap()
    }

    fn expected(rows: &[(&str, &str, i32, i64)]) -> Vec<(String, String, i32, i64)> {
        let owned = |(id, said, partition, offset): &(&str, &str, _, _)| {
            ((*id).to_owned(), (*said).to_owned(), *partition, *offset)
        };
        rows.iter().map(owned).collect()
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_memory_has_one_row_which_only_a_later_record_changes(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        let rows = [row("a", 3, "a"), row("b", 4, "b"), row("a", 5, "a again")];
        upsert(&mut connection, &place(1), &rows.iter().collect::<Vec<_>>(), AT).await.unwrap();
        let both = [("a", "a again", 1, 5), ("b", "b", 1, 4)];
        assert_eq!(stored(&pool).await, expected(&both));
        upsert(&mut connection, &place(1), &[&row("a", 4, "late")], AT).await.unwrap();
        upsert(&mut connection, &place(2), &[&row("a", 9, "elsewhere")], AT).await.unwrap();
        assert_eq!(stored(&pool).await, expected(&both));
        upsert(&mut connection, &place(1), &[&row("b", 6, "newer")], AT).await.unwrap();
        assert_eq!(stored(&pool).await, expected(&[both[0], ("b", "newer", 1, 6)]));
        assert_eq!(newest_timestamp(&mut connection).await.unwrap(), Some(1.5));
    }

    fn published(row: NewReplica, second: f64) -> NewReplica {
        NewReplica { wal_timestamp: Some(second), ..row }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn without_revisions_the_time_decides_between_partitions_and_logs(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        upsert(&mut connection, &place(1), &[&published(row("a", 8, "first"), 10.0)], AT).await.unwrap();
        upsert(&mut connection, &place(2), &[&published(row("a", 3, "moved"), 20.0)], AT).await.unwrap();
        let moved = expected(&[("a", "moved", 2, 3)]);
        assert_eq!(stored(&pool).await, moved);
        let untimed = |said: &str| NewReplica { wal_timestamp: None, ..row("a", 9, said) };
        upsert(&mut connection, &place(1), &[&published(row("a", 9, "late"), 15.0)], AT).await.unwrap();
        upsert(&mut connection, &place(1), &[&untimed("untimed")], AT).await.unwrap();
        assert_eq!(stored(&pool).await, moved);
        // Of the same partition the clock of a record says nothing.
        upsert(&mut connection, &place(2), &[&published(row("a", 4, "again"), 5.0)], AT).await.unwrap();
        assert_eq!(stored(&pool).await, expected(&[("a", "again", 2, 4)]));
        let other = LogPartition { source: "kafka", ..place(2) };
        upsert(&mut connection, &other, &[&published(row("a", 0, "another log"), 30.0)], AT).await.unwrap();
        assert_eq!(stored(&pool).await, expected(&[("a", "another log", 2, 0)]));
        // What has no time is older than what has one.
        sqlx::query("UPDATE memory_replica SET wal_timestamp = NULL").execute(&mut *connection).await.unwrap();
        upsert(&mut connection, &place(2), &[&untimed("untimed")], AT).await.unwrap();
        assert_eq!(stored(&pool).await, expected(&[("a", "another log", 2, 0)]));
        upsert(&mut connection, &place(2), &[&published(row("a", 9, "timed"), 1.0)], AT).await.unwrap();
        assert_eq!(stored(&pool).await, expected(&[("a", "timed", 2, 9)]));
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn the_highest_revision_counts_wherever_and_whenever_it_comes(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        let at = |revision, offset, said: &str| NewReplica { revision: Some(revision), ..row("a", offset, said) };
        let rows = [at(1, 3, "one"), at(2, 4, "two"), at(1, 5, "one once more")];
        upsert(&mut connection, &place(1), &rows.iter().collect::<Vec<_>>(), AT).await.unwrap();
        assert_eq!(stored(&pool).await, expected(&[("a", "two", 1, 4)]));
        upsert(&mut connection, &place(1), &[&at(1, 6, "one once more")], AT).await.unwrap();
        upsert(&mut connection, &place(2), &[&published(at(1, 7, "one elsewhere"), 99.0)], AT).await.unwrap();
        upsert(&mut connection, &place(1), &[&at(2, 8, "two once more")], AT).await.unwrap();
        assert_eq!(stored(&pool).await, expected(&[("a", "two", 1, 4)]));
        upsert(&mut connection, &place(2), &[&published(at(3, 0, "three"), 0.5)], AT).await.unwrap();
        assert_eq!(stored(&pool).await, expected(&[("a", "three", 2, 0)]));
        // Somebody else's record in the same partition is later by its place.
        upsert(&mut connection, &place(2), &[&row("a", 1, "theirs")], AT).await.unwrap();
        assert_eq!(stored(&pool).await, expected(&[("a", "theirs", 2, 1)]));
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_row_from_before_logs_were_told_apart_is_one_of_the_log_that_is_read(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        upsert(&mut connection, &place(1), &[&published(row("a", 5, "old"), 50.0)], AT).await.unwrap();
        sqlx::query("UPDATE memory_replica SET source = NULL").execute(&mut *connection).await.unwrap();
        upsert(&mut connection, &place(1), &[&published(row("a", 4, "late"), 60.0)], AT).await.unwrap();
        assert_eq!(stored(&pool).await, expected(&[("a", "old", 1, 5)]));
        upsert(&mut connection, &place(1), &[&published(row("a", 6, "newer"), 40.0)], AT).await.unwrap();
        assert_eq!(stored(&pool).await, expected(&[("a", "newer", 1, 6)]));
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn tenants_may_have_memories_of_one_id(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        let other = NewReplica { tenant: "other".into(), ..row("a", 1, "theirs") };
        upsert(&mut connection, &place(0), &[&row("a", 0, "ours"), &other], AT).await.unwrap();
        assert_eq!(stored(&pool).await, expected(&[("a", "ours", 0, 0), ("a", "theirs", 0, 1)]));
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn only_who_knows_the_position_advances_it_and_one_at_a_time(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        assert!(!advance(&mut connection, &place(0), 0, 5, AT).await.unwrap(), "a position nobody knows");
        assert_eq!(position(&mut connection, &place(0), AT).await.unwrap(), 0);
        assert!(!advance(&mut connection, &place(0), 4, 5, AT).await.unwrap());

        let mut first = connection.begin().await.unwrap();
        assert!(advance(&mut first, &place(0), 0, 5, AT).await.unwrap());
        let mut late = pool.acquire().await.unwrap();
        let elsewhere = place(0);
        // It waits for the first one, and then finds the position elsewhere.
        let (advanced, committed) = tokio::join!(advance(&mut late, &elsewhere, 0, 3, AT), first.commit());
        committed.unwrap();
        assert!(!advanced.unwrap());
        assert_eq!(position(&mut late, &place(0), AT).await.unwrap(), 5);
        let other = LogPartition { source: "kafka", ..place(0) };
        assert_eq!(position(&mut late, &other, AT).await.unwrap(), 0, "another log has positions of its own");
    }
}
