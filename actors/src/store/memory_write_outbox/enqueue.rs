//! Memories that somebody brings into the queue.

use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use crate::{
    domain::{brought::Brought, ids::Tenant},
    store::{memory_lock::lock_shared, wall::TenantTx},
};

/// Where a memory waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    /// What keeps it in order with others.
    pub lane: Uuid,
    /// Whether an earlier version of it waits there too.
    pub behind: bool,
}

/// Puts memories of `tenant` into their queue, in order as far as nobody else puts some of them there. One that waits there
/// word for word, and is the newest that does, is not put twice. Beside another version that waits, a memory goes without its
/// key, and into the lane of that one: the later one is written last, also if it names another session. No two of `memories`
/// may have one id.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.memory_write_outbox.enqueue", skip_all)]
pub async fn enqueue(
    rows: &mut TenantTx<'_>,
    tenant: &Tenant,
    memories: &[Brought],
    at: OffsetDateTime,
) -> Result<Vec<Put>, sqlx::Error> {
    let mut all = vec![None; memories.len()];
    let mut left: Vec<usize> = (0..memories.len()).collect();
    lock_shared(rows, tenant, &memories.iter().map(|memory| memory.id.as_str()).collect::<Vec<_>>()).await?;
    // One that another transaction has put there meanwhile, in its first version, is left out: the next statement sees that.
    while !left.is_empty() {
        let some: Vec<&Brought> = left.iter().map(|index| &memories[*index]).collect();
        for (index, put) in left.iter().zip(put(rows, tenant, &some, at).await?) {
            all[*index] = put;
        }
        left.retain(|index| all[*index].is_none());
    }
    Ok(all.into_iter().flatten().collect())
}

/// Puts those that nobody else is putting there at this moment; `None` of the others.
async fn put(
    rows: &mut TenantTx<'_>,
    tenant: &Tenant,
    memories: &[&Brought],
    at: OffsetDateTime,
) -> Result<Vec<Option<Put>>, sqlx::Error> {
    let ids: Vec<&str> = memories.iter().map(|memory| memory.id.as_str()).collect();
    let lanes: Vec<Uuid> = memories.iter().map(|memory| memory.lane).collect();
    let payloads: Vec<serde_json::Value> = memories.iter().map(|memory| memory.payload.clone()).collect();
    let keys: Vec<&str> = memories.iter().map(|memory| memory.idempotency_key.as_str()).collect();
    let rows = sqlx::query!(
        r#"WITH placed AS MATERIALIZED (
             SELECT n.id, n.payload, n.key, n.place,
                 COALESCE(waiting.session_id, n.lane) AS lane,
                 waiting.id IS NOT NULL AS beside,
                 -- The key of a memory that brings none has the time in it.
                 n.payload - 'idempotency_key' IS NOT DISTINCT FROM waiting.payload - 'idempotency_key' AS known,
                 waiting.versions = 1 AND waiting.dedupe_key IS NOT NULL AS alone
             FROM unnest($2::text[], $3::uuid[], $4::jsonb[], $5::text[])
                 WITH ORDINALITY AS n(id, lane, payload, key, place)
             LEFT JOIN LATERAL (
                 SELECT *, count(*) OVER () AS versions
                 FROM (
                     SELECT o.id, o.payload, o.session_id, o.dedupe_key
                     FROM memory_write_outbox AS o
                     WHERE o.tenant = $1 AND o.dedupe_key = n.id AND o.status IN ('pending', 'sending')
                     UNION ALL
                     (
                         SELECT o.id, o.payload, o.session_id, o.dedupe_key
                         FROM memory_write_outbox AS o
                         WHERE o.tenant = $1 AND o.beside_id = n.id
                           AND o.status IN ('pending', 'sending')
                         ORDER BY o.id DESC
                         LIMIT 1
                     )
                 ) AS version
                 ORDER BY version.id DESC
                 LIMIT 1
             ) AS waiting ON true
         ),
         put AS (
             INSERT INTO memory_write_outbox (
                 tenant, session_id, persona_id, payload, idempotency_key, dedupe_key, next_attempt_at, created_at, updated_at
             )
             SELECT $1, lane, payload ->> 'persona_id', payload, key,
                 CASE
                     WHEN NOT EXISTS (
                         SELECT FROM memory_write_outbox AS o
                         WHERE o.tenant = $1 AND o.dedupe_key = placed.id AND o.status IN ('pending', 'sending')
                     )
                     THEN placed.id
                 END,
                 $6, $6, $6
             FROM placed
             WHERE NOT known
             ORDER BY place
             ON CONFLICT DO NOTHING
             RETURNING payload ->> 'id' AS id
         )
         SELECT lane AS "lane!", beside AND NOT (known AND alone) AS "behind!",
             known OR id IN (SELECT put.id FROM put) AS "is_there!"
         FROM placed
         ORDER BY place"#,
        tenant.as_str(),
        &ids as _,
        &lanes,
        &payloads,
        &keys as _,
        at,
    )
    .fetch_all(&mut **rows)
    .await?;
    Ok(rows.into_iter().map(|row| row.is_there.then_some(Put { lane: row.lane, behind: row.behind })).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use serde_json::json;
    use sqlx::{PgConnection, PgPool};

    use super::*;
    use crate::store::wall::{Entrance, Purpose, Wall, within};

    fn memory(id: &str, said: &str, key: &str) -> Brought {
        let payload = json!({"id": id, "content": said, "idempotency_key": key});
        Brought { id: id.into(), lane: Uuid::nil(), payload, idempotency_key: key.into() }
    }

    async fn put(connection: &mut PgConnection, brought: &[Brought]) -> Vec<Put> {
        let tenant = Tenant::new("t").unwrap();
        within(connection, "t", async |rows| enqueue(rows, &tenant, brought, OffsetDateTime::UNIX_EPOCH).await).await
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_memory_waits_once_and_a_changed_one_behind_it(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        let first = [memory("a", "one", "k1"), memory("b", "two", "k1")];
        for brought in [&first[..], &[memory("a", "one", "k2"), memory("b", "changed", "k2")]] {
            put(&mut connection, brought).await;
        }
        let sql = "SELECT payload ->> 'content', dedupe_key FROM memory_write_outbox ORDER BY id";
        let rows: Vec<(String, Option<String>)> = sqlx::query_as(sql).fetch_all(&pool).await.unwrap();
        let expected = [("one", Some("a")), ("two", Some("b")), ("changed", None)];
        assert_eq!(rows, expected.map(|(said, key)| (said.to_owned(), key.map(str::to_owned))));
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_version_that_comes_back_is_the_last_one(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        for said in ["one", "other", "one", "one"] {
            let brought = [memory("a", said, "k")];
            put(&mut connection, &brought).await;
        }
        let sql = "SELECT payload ->> 'content' FROM memory_write_outbox ORDER BY id";
        let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(&pool).await.unwrap();
        assert_eq!(rows, ["one", "other", "one"]);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_version_of_another_session_waits_behind_the_one_before(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        let (here, there) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut bring = async |id: &str, said: &str, lane| {
            let brought = [Brought { lane, ..memory(id, said, "k") }];
            let put = put(&mut connection, &brought).await;
            (put[0].lane, put[0].behind)
        };
        assert_eq!(bring("a", "one", here).await, (here, false));
        assert_eq!(bring("a", "one", there).await, (here, false), "it is there already");
        assert_eq!(bring("a", "moved", there).await, (here, true));
        assert_eq!(bring("a", "moved", there).await, (here, true), "it is there already");
        assert_eq!(bring("b", "two", there).await, (there, false));
        sqlx::query("UPDATE memory_write_outbox SET status = 'sent'").execute(&pool).await.unwrap();
        assert_eq!(bring("a", "moved again", there).await, (there, false));
        let sql = "SELECT payload ->> 'content', session_id FROM memory_write_outbox ORDER BY id";
        let rows: Vec<(String, Uuid)> = sqlx::query_as(sql).fetch_all(&pool).await.unwrap();
        let expected = [("one", here), ("moved", here), ("two", there), ("moved again", there)];
        assert_eq!(rows, expected.map(|(said, lane)| (said.to_owned(), lane)));
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn of_versions_that_come_at_once_none_is_left_out(pool: PgPool) {
        let tenant = Tenant::new("t").unwrap();
        let brought = |n: u32| {
            [memory("b", "same", "k"), Brought { lane: Uuid::from_u128(n.into()), ..memory("a", &n.to_string(), "k") }]
        };
        let mut connection = pool.acquire().await.unwrap();
        let mut first =
            TenantTx::begin(&mut connection, &Wall::Up(Entrance::ASKING), &tenant, Purpose::Change).await.unwrap();
        enqueue(&mut first, &tenant, &brought(1), OffsetDateTime::UNIX_EPOCH).await.unwrap();
        let late = async |n: u32| {
            let mut connection = pool.acquire().await.unwrap();
            put(&mut connection, &brought(n)).await
        };
        let commit = async {
            let waiting =
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
            while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&pool).await.unwrap() < 2 {}
            first.end().await.unwrap();
        };
        let (two, three, ()) = tokio::join!(late(2), late(3), commit);
        for put in [two, three] {
            let lane = Uuid::from_u128(1);
            assert_eq!(put, [Put { lane: Uuid::nil(), behind: false }, Put { lane, behind: true }]);
        }
        let sql = "SELECT session_id, payload ->> 'id', payload ->> 'content', dedupe_key IS NOT NULL FROM memory_write_outbox
                   ORDER BY 2, 3";
        let rows: Vec<(Uuid, String, String, bool)> = sqlx::query_as(sql).fetch_all(&pool).await.unwrap();
        let one = |said: &str, keyed| (Uuid::from_u128(1), "a".to_owned(), said.to_owned(), keyed);
        let same = (Uuid::nil(), "b".to_owned(), "same".to_owned(), true);
        assert_eq!(rows, [one("1", true), one("2", false), one("3", false), same]);
    }
}
