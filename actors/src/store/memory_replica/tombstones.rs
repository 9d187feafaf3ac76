//! Table `memory_tombstones`: memories that were taken back. An earlier record of one may still be on its way, through another
//! partition or once more through this one, and must not bring the memory back.
//!
//! Two transactions may meet here, one that brings a memory and one that takes it back, neither of which sees what the other
//! does. Both write the memory's row first, so that one waits for the other, and look at the rest in another statement, which
//! sees what the other has done.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};
use tracing::instrument;

use super::{LogPartition, NewReplica};
use crate::domain::wal::TakenBack;

/// How long a tombstone is kept: longer than logs keep records by default, which is a week.
const KEPT: Duration = Duration::days(30);
/// Old ones removed with each new one.
const PURGED: i64 = 10;

/// Removes the memory that `back`, the record at `offset`, takes back, and keeps it from coming again by an earlier record. A
/// later record that tells of it stays in effect.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.memory_tombstones.remove", skip_all)]
pub async fn remove(
    connection: &mut PgConnection,
    place: &LogPartition,
    back: &TakenBack,
    offset: i64,
    at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    // A row that is older than anything, and gone by the end of this.
    sqlx::query!(
        r#"INSERT INTO memory_replica (tenant, event_id, payload, source, topic, partition, "offset", sha256, created_at)
           VALUES ($1, $2, 'null', $3, $4, $5, -1, '', $6)
           ON CONFLICT (tenant, event_id) DO UPDATE SET created_at = memory_replica.created_at"#,
        back.tenant,
        back.event_id,
        place.source,
        place.topic,
        place.partition,
        at,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        r#"INSERT INTO memory_tombstones AS t (
             tenant, event_id, revision, source, topic, partition, "offset", wal_timestamp, created_at
         )
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (tenant, event_id) DO UPDATE SET
             revision = EXCLUDED.revision,
             source = EXCLUDED.source,
             topic = EXCLUDED.topic,
             partition = EXCLUDED.partition,
             "offset" = EXCLUDED."offset",
             wal_timestamp = EXCLUDED.wal_timestamp,
             created_at = EXCLUDED.created_at
         WHERE memory_precedes(
             t.revision, t.source, t.topic, t.partition, t."offset", t.wal_timestamp,
             EXCLUDED.revision, EXCLUDED.source, EXCLUDED.topic, EXCLUDED.partition, EXCLUDED."offset",
             EXCLUDED.wal_timestamp
         )"#,
        back.tenant,
        back.event_id,
        back.revision,
        place.source,
        place.topic,
        place.partition,
        offset,
        back.timestamp,
        at,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        r#"DELETE FROM memory_replica
         WHERE tenant = $1 AND event_id = $2
           AND memory_precedes(
               revision, source, topic, partition, "offset", wal_timestamp, $3, $4, $5, $6, $7, $8
           )"#,
        back.tenant,
        back.event_id,
        back.revision,
        place.source,
        place.topic,
        place.partition,
        offset,
        back.timestamp,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "DELETE FROM memory_tombstones
         WHERE (tenant, event_id) IN (
             SELECT tenant, event_id FROM memory_tombstones WHERE created_at < $1
             ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED
         )",
        at - KEPT,
        PURGED,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes those of `rows` that were written now although the memory was taken back after them.
pub(super) async fn apply(connection: &mut PgConnection, rows: &[&NewReplica]) -> Result<(), sqlx::Error> {
    let tenants: Vec<&str> = rows.iter().map(|row| row.tenant.as_str()).collect();
    let ids: Vec<&str> = rows.iter().map(|row| row.event_id.as_str()).collect();
    sqlx::query!(
        r#"DELETE FROM memory_replica AS r
           USING memory_tombstones AS t, unnest($1::text[], $2::text[]) AS n(tenant, event_id)
           WHERE t.tenant = n.tenant AND t.event_id = n.event_id AND r.tenant = n.tenant AND r.event_id = n.event_id
             AND memory_precedes(
                 r.revision, r.source, r.topic, r.partition, r."offset", r.wal_timestamp,
                 t.revision, t.source, t.topic, t.partition, t."offset", t.wal_timestamp
             )"#,
        &tenants as _,
        &ids as _,
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use sqlx::{Connection, PgPool};

    use super::*;
    use crate::store::memory_replica::upsert;

    const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn place(source: &'static str, partition: i32) -> LogPartition {
        LogPartition { source, topic: "memory.wal".into(), partition }
    }

    fn row(second: Option<f64>, offset: i64) -> NewReplica {
        NewReplica {
            tenant: "t".into(),
            event_id: "a".into(),
            session_id: None,
            persona_id: None,
            role: None,
            coord: None,
            request_id: None,
            trace_id: None,
            payload: "{}".into(),
            revision: None,
            wal_timestamp: second,
            offset,
            sha256: [7; 32],
        }
    }

    fn back(second: Option<f64>) -> TakenBack {
        TakenBack { tenant: "t".into(), event_id: "a".into(), revision: None, timestamp: second }
    }

    async fn is_there(pool: &PgPool) -> bool {
        sqlx::query_scalar("SELECT count(*) > 0 FROM memory_replica").fetch_one(pool).await.unwrap()
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_memory_is_taken_back_by_a_later_record_only_whichever_comes_first(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        let ours = place("table", 1);
        for (elsewhere, offset, second, stays) in [
            (&ours, 7, Some(99.0), true),
            (&ours, 9, Some(1.0), false),
            (&ours, 9, None, false),
            (&place("table", 2), 99, Some(5.0), true),
            (&place("table", 2), 99, None, true),
            (&place("table", 2), 0, Some(20.0), false),
            (&place("kafka", 1), 99, Some(5.0), true),
            (&place("kafka", 1), 0, Some(20.0), false),
        ] {
            for late in [false, true] {
                sqlx::raw_sql("TRUNCATE memory_replica, memory_tombstones").execute(&mut *connection).await.unwrap();
                if late {
                    remove(&mut connection, elsewhere, &back(second), offset, AT).await.unwrap();
                    assert!(!is_there(&pool).await);
                }
                upsert(&mut connection, &ours, &[&row(Some(10.0), 8)], AT).await.unwrap();
                if !late {
                    remove(&mut connection, elsewhere, &back(second), offset, AT).await.unwrap();
                }
                assert_eq!(is_there(&pool).await, stays, "{elsewhere:?} {offset} {second:?} {late}");
            }
        }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn revisions_say_what_was_taken_back_wherever_and_whenever_they_come(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        let (here, there) = (place("table", 1), place("table", 2));
        let end = TakenBack { revision: Some(5), ..back(Some(20.0)) };
        for (at, offset, revision, second, stays) in [
            (&here, 9, 4, 30.0, false),
            (&there, 9, 4, 30.0, false),
            (&here, 1, 6, 10.0, true),
            (&there, 1, 6, 10.0, true),
        ] {
            for late in [false, true] {
                sqlx::raw_sql("TRUNCATE memory_replica, memory_tombstones").execute(&mut *connection).await.unwrap();
                let memory = NewReplica { revision: Some(revision), ..row(Some(second), offset) };
                if late {
                    remove(&mut connection, &here, &end, 3, AT).await.unwrap();
                }
                upsert(&mut connection, at, &[&memory], AT).await.unwrap();
                if !late {
                    remove(&mut connection, &here, &end, 3, AT).await.unwrap();
                }
                assert_eq!(is_there(&pool).await, stays, "{at:?} {offset} {revision} {late}");
            }
        }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn the_last_of_several_tombstones_counts_and_old_ones_go(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        for (partition, second) in [(1, 10.0), (2, 30.0), (3, 20.0)] {
            remove(&mut connection, &place("table", partition), &back(Some(second)), 5, AT).await.unwrap();
        }
        upsert(&mut connection, &place("table", 4), &[&row(Some(25.0), 0)], AT).await.unwrap();
        assert!(!is_there(&pool).await);
        let other = TakenBack { event_id: "b".into(), ..back(None) };
        remove(&mut connection, &place("table", 1), &other, 6, AT + KEPT).await.unwrap();
        let left = "SELECT array_agg(event_id ORDER BY event_id) FROM memory_tombstones";
        assert_eq!(sqlx::query_scalar::<_, Vec<String>>(left).fetch_one(&pool).await.unwrap(), ["a", "b"]);
        remove(&mut connection, &place("table", 1), &other, 7, AT + KEPT + Duration::SECOND).await.unwrap();
        assert_eq!(sqlx::query_scalar::<_, Vec<String>>(left).fetch_one(&pool).await.unwrap(), ["b"]);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn two_that_meet_do_not_miss_each_other(pool: PgPool) {
        let (mut bringing, mut taking) = (pool.acquire().await.unwrap(), pool.acquire().await.unwrap());
        let (here, there) = (place("table", 1), place("table", 2));
        for first in ["brought", "taken back"] {
            sqlx::raw_sql("TRUNCATE memory_replica, memory_tombstones").execute(&pool).await.unwrap();
            let (mut brings, mut takes) = (bringing.begin().await.unwrap(), taking.begin().await.unwrap());
            let (memory, end) = (row(Some(10.0), 3), back(Some(20.0)));
            let rows = [&memory];
            if first == "brought" {
                upsert(&mut brings, &here, &rows, AT).await.unwrap();
                let (removed, committed) = tokio::join!(remove(&mut takes, &there, &end, 0, AT), brings.commit());
                committed.and(removed).unwrap();
                takes.commit().await.unwrap();
            } else {
                remove(&mut takes, &there, &end, 0, AT).await.unwrap();
                let (brought, committed) = tokio::join!(upsert(&mut brings, &here, &rows, AT), takes.commit());
                committed.and(brought).unwrap();
                brings.commit().await.unwrap();
            }
            assert!(!is_there(&pool).await, "{first} first");
        }
    }
}
