//! Memories that somebody brings into the queue.

use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use crate::domain::{brought::Brought, ids::Tenant};

/// Puts memories of `tenant` into their queue, in order. One that waits there word for word, and is the newest that does, is not
/// put twice; beside another version that waits, a memory goes without its key. No two of `memories` may have one id.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.memory_write_outbox.enqueue", skip_all)]
pub async fn enqueue(
    connection: &mut PgConnection,
    tenant: &Tenant,
    memories: &[Brought],
    at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let ids: Vec<&str> = memories.iter().map(|memory| memory.id.as_str()).collect();
    let lanes: Vec<Uuid> = memories.iter().map(|memory| memory.lane).collect();
    let payloads: Vec<serde_json::Value> = memories.iter().map(|memory| memory.payload.clone()).collect();
    let keys: Vec<&str> = memories.iter().map(|memory| memory.idempotency_key.as_str()).collect();
    sqlx::query!(
        "INSERT INTO memory_write_outbox (
             tenant, session_id, persona_id, payload, idempotency_key, dedupe_key, next_attempt_at, created_at, updated_at
         )
         SELECT $1, n.lane, n.payload ->> 'persona_id', n.payload, n.key,
             CASE
                 WHEN NOT EXISTS (
                     SELECT FROM memory_write_outbox AS o
                     WHERE o.tenant = $1 AND o.dedupe_key = n.id AND o.status IN ('pending', 'sending')
                 )
                 THEN n.id
             END,
             $6, $6, $6
         FROM unnest($2::text[], $3::uuid[], $4::jsonb[], $5::text[]) WITH ORDINALITY AS n(id, lane, payload, key, place)
         -- The key of a memory that brings none has the time in it.
         WHERE n.payload - 'idempotency_key' IS DISTINCT FROM (
             SELECT newest.payload - 'idempotency_key'
             FROM (
                 SELECT o.id, o.payload
                 FROM memory_write_outbox AS o
                 WHERE o.tenant = $1 AND o.dedupe_key = n.id AND o.status IN ('pending', 'sending')
                 UNION ALL
                 (
                     SELECT o.id, o.payload
                     FROM memory_write_outbox AS o
                     WHERE o.tenant = $1 AND o.dedupe_key IS NULL AND o.payload ->> 'id' = n.id
                       AND o.status IN ('pending', 'sending')
                     ORDER BY o.id DESC
                     LIMIT 1
                 )
             ) AS newest
             ORDER BY newest.id DESC
             LIMIT 1
         )
         ORDER BY n.place
         ON CONFLICT DO NOTHING",
        tenant.as_str(),
        &ids as _,
        &lanes,
        &payloads,
        &keys as _,
        at,
    )
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use serde_json::json;
    use sqlx::PgPool;

    use super::*;

    fn memory(id: &str, said: &str, key: &str) -> Brought {
        let payload = json!({"id": id, "content": said, "idempotency_key": key});
        Brought { id: id.into(), lane: Uuid::nil(), payload, idempotency_key: key.into() }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_memory_waits_once_and_a_changed_one_behind_it(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        let tenant = Tenant::new("t").unwrap();
        let first = [memory("a", "one", "k1"), memory("b", "two", "k1")];
        for brought in [&first[..], &[memory("a", "one", "k2"), memory("b", "changed", "k2")]] {
            enqueue(&mut connection, &tenant, brought, OffsetDateTime::UNIX_EPOCH).await.unwrap();
        }
        let sql = "SELECT payload ->> 'content', dedupe_key FROM memory_write_outbox ORDER BY id";
        let rows: Vec<(String, Option<String>)> = sqlx::query_as(sql).fetch_all(&pool).await.unwrap();
        let expected = [("one", Some("a")), ("two", Some("b")), ("changed", None)];
        assert_eq!(rows, expected.map(|(said, key)| (said.to_owned(), key.map(str::to_owned))));
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_version_that_comes_back_is_the_last_one(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        let tenant = Tenant::new("t").unwrap();
        for said in ["one", "other", "one", "one"] {
            let brought = [memory("a", said, "k")];
            enqueue(&mut connection, &tenant, &brought, OffsetDateTime::UNIX_EPOCH).await.unwrap();
        }
        let sql = "SELECT payload ->> 'content' FROM memory_write_outbox ORDER BY id";
        let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(&pool).await.unwrap();
        assert_eq!(rows, ["one", "other", "one"]);
    }
}
