//! Table `brain_memories`: what the embedded SomaBrain stand-in remembers.
//!
//! A row is one memory, the newest value of its `(tenant, namespace, key)`. Every function takes the tenant, and none
//! looks beyond it.

use serde_json::Value;
use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::instrument;

/// A memory to be written.
#[derive(Debug, Clone)]
pub struct NewMemory {
    /// Its name inside tenant and namespace.
    pub key: String,
    /// What is remembered. Must not hold U+0000, which `jsonb` cannot.
    pub value: Value,
    /// The part of it that is searched. Must not hold U+0000; only its first 100 000 characters are found.
    pub text: String,
    /// Three numbers that name it too.
    pub coordinate: [f64; 3],
}

/// Where a memory lives.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Whose it is.
    pub tenant: &'a str,
    /// The sub-space; part of the key.
    pub namespace: &'a str,
    /// The knowledge base; not part of the key, so a key moves when it is written to another one.
    pub universe: &'a str,
}

/// A memory that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its name.
    pub key: String,
    /// What is remembered.
    pub value: Value,
    /// Its three numbers.
    pub coordinate: Vec<f64>,
    /// How well it fits, above 0 up to 1: about the part of the searched words that it has.
    pub score: f64,
}

/// Writes memories at time `at`. A key that exists gets the new value; of a key given twice the last one stays.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.brain_memories.remember", skip_all)]
pub async fn remember(
    conn: &mut PgConnection,
    place: Place<'_>,
    memories: &[NewMemory],
    at: OffsetDateTime,
) -> sqlx::Result<()> {
    let keys: Vec<_> = memories.iter().map(|memory| memory.key.clone()).collect();
    let values: Vec<_> = memories.iter().map(|memory| memory.value.clone()).collect();
    let texts: Vec<_> = memories.iter().map(|memory| memory.text.clone()).collect();
    let axis = |n: usize| memories.iter().map(|memory| memory.coordinate[n]).collect::<Vec<_>>();
    sqlx::query!(
        "INSERT INTO brain_memories
             (tenant, namespace, universe, key, value, text, coordinate, created_at, updated_at)
         SELECT DISTINCT ON (item.key) $1, $2, $3, item.key, item.value, item.text, ARRAY[item.x, item.y, item.z], $4, $4
         FROM unnest($5::text[], $6::jsonb[], $7::text[], $8::float8[], $9::float8[], $10::float8[])
             WITH ORDINALITY AS item (key, value, text, x, y, z, position)
         ORDER BY item.key, item.position DESC
         ON CONFLICT (tenant, namespace, key) DO UPDATE SET
             universe = excluded.universe,
             value = excluded.value,
             text = excluded.text,
             coordinate = excluded.coordinate,
             updated_at = excluded.updated_at",
        place.tenant,
        place.namespace,
        place.universe,
        at,
        &keys,
        &values,
        &texts,
        &axis(0),
        &axis(1),
        &axis(2),
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Finds the memories that have any word of `query`, best first, at most `limit`; of equals the newest first. What was said
/// again and again is found once, as it was said last: otherwise it would leave no room for the rest.
///
/// Words are compared as they are written, without regard to case. Of a long query the 64 longest words count.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.brain_memories.recall", skip_all)]
pub async fn recall(conn: &mut PgConnection, place: Place<'_>, query: &str, limit: i64) -> sqlx::Result<Vec<Found>> {
    sqlx::query_as!(
        Found,
        r#"WITH asked AS (
             SELECT string_agg('''' || replace(replace(lexeme, '\', '\\'), '''', '''''') || '''', ' | ')::tsquery AS query
             FROM (
                 SELECT lexeme FROM unnest(to_tsvector('simple', left($4, 100000)))
                 ORDER BY length(lexeme) DESC, lexeme
                 LIMIT 64
             ) AS word
         )
         SELECT key AS "key!", value AS "value!", coordinate AS "coordinate!", score AS "score!"
         FROM (
             SELECT DISTINCT ON (md5(memory.text))
                 memory.key,
                 memory.value,
                 memory.coordinate,
                 memory.updated_at,
                 ts_rank('{1, 1, 1, 1}', memory.words, asked.query)::float8 AS score
             FROM asked
             JOIN brain_memories AS memory ON memory.words @@ asked.query
             WHERE memory.tenant = $1 AND memory.namespace = $2 AND memory.universe = $3
             ORDER BY md5(memory.text), memory.updated_at DESC, memory.key
         ) AS found
         ORDER BY score DESC, updated_at DESC, key
         LIMIT $5"#,
        place.tenant,
        place.namespace,
        place.universe,
        query,
        limit,
    )
    .fetch_all(conn)
    .await
}

/// The value of a key, held against writers until the transaction ends.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.brain_memories.lock", skip_all)]
pub async fn lock(conn: &mut PgConnection, tenant: &str, namespace: &str, key: &str) -> sqlx::Result<Option<Value>> {
    sqlx::query_scalar!(
        "SELECT value FROM brain_memories WHERE tenant = $1 AND namespace = $2 AND key = $3 FOR UPDATE",
        tenant,
        namespace,
        key,
    )
    .fetch_optional(conn)
    .await
}

/// How many memories a namespace has.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.brain_memories.count", skip_all)]
pub async fn count(conn: &mut PgConnection, tenant: &str, namespace: &str) -> sqlx::Result<i64> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM brain_memories WHERE tenant = $1 AND namespace = $2"#,
        tenant,
        namespace,
    )
    .fetch_one(conn)
    .await
}

/// Forgets a key of one namespace; `false` if there is none.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.brain_memories.forget", skip_all)]
pub async fn forget(conn: &mut PgConnection, tenant: &str, namespace: &str, key: &str) -> sqlx::Result<bool> {
    let done = sqlx::query!(
        "DELETE FROM brain_memories WHERE tenant = $1 AND namespace = $2 AND key = $3",
        tenant,
        namespace,
        key,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// Forgets a key wherever the tenant has it, but for the namespaces `except`; returns how many memories that were.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.brain_memories.forget_everywhere", skip_all)]
pub async fn forget_everywhere(
    conn: &mut PgConnection,
    tenant: &str,
    key: &str,
    except: &[String],
) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "DELETE FROM brain_memories WHERE tenant = $1 AND key = $2 AND namespace <> ALL($3)",
        tenant,
        key,
        except,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

/// Forgets what the tenant has at a coordinate, but for the namespaces `except`; returns how many memories that were.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.brain_memories.forget_at", skip_all)]
pub async fn forget_at(
    conn: &mut PgConnection,
    tenant: &str,
    coordinate: &[f64],
    except: &[String],
) -> sqlx::Result<u64> {
    let done = sqlx::query!(
        "DELETE FROM brain_memories WHERE tenant = $1 AND coordinate = $2 AND namespace <> ALL($3)",
        tenant,
        coordinate,
        except,
    )
    .execute(conn)
    .await?;
    Ok(done.rows_affected())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use serde_json::json;
    use sqlx::{PgPool, pool::PoolConnection};

    use super::*;

    const HERE: Place<'_> = Place { tenant: "acme", namespace: "wm", universe: "real" };
    const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn memory(key: &str, text: &str) -> NewMemory {
        NewMemory { key: key.into(), value: json!({"content": text}), text: text.into(), coordinate: [0.1, 0.2, 0.3] }
    }

    /// Writes each text under its place in the list, a second apart.
    async fn told(pool: &PgPool, texts: &[&str]) -> PoolConnection<sqlx::Postgres> {
        let mut conn = pool.acquire().await.unwrap();
        for (n, text) in (0_u32..).zip(texts) {
            let at = AT + time::Duration::seconds(n.into());
            remember(&mut conn, HERE, &[memory(&n.to_string(), text)], at).await.unwrap();
        }
        conn
    }

    async fn keys(conn: &mut PgConnection, place: Place<'_>, query: &str) -> Vec<String> {
        recall(conn, place, query, 10).await.unwrap().into_iter().map(|found| found.key).collect()
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn recall_ranks_by_the_words_that_fit(pool: PgPool) {
        let texts = ["I drink black tea", "Tea comes from China", "The cat sleeps"];
        let mut conn = told(&pool, &texts).await;
        assert_eq!(keys(&mut conn, HERE, "black TEA, please?").await, ["0", "1"]);
        assert_eq!(keys(&mut conn, HERE, "tea").await, ["1", "0"], "of equals the newest comes first");
        assert_eq!(recall(&mut conn, HERE, "tea", 1).await.unwrap().len(), 1);
        let found = recall(&mut conn, HERE, "black tea", 1).await.unwrap().remove(0);
        assert!(found.score > 0.5 && found.score <= 1.0, "{}", found.score);
        assert_eq!((found.value, found.coordinate), (json!({"content": texts[0]}), vec![0.1, 0.2, 0.3]));
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn what_was_said_again_leaves_room_for_the_rest(pool: PgPool) {
        let mut texts = vec!["Where is the key?"; 20];
        texts.extend(["The key hangs behind the clock", "Where is the key?"]);
        let mut conn = told(&pool, &texts).await;
        assert_eq!(keys(&mut conn, HERE, "where is the key").await, ["21", "20"]);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn no_query_is_an_error_whatever_it_holds(pool: PgPool) {
        let mut conn = told(&pool, &["it's 100% a \\ backslash | O'Neil & sons /etc/passwd"]).await;
        for query in ["", "?!", "'", "\\", "a' | 'b", "!x & (y", ":*", "\u{1F375}", &"word ".repeat(60_000)] {
            recall(&mut conn, HERE, query, 10).await.unwrap();
        }
        for query in ["O'Neil", "backslash \\", "100%", "/etc/passwd"] {
            assert_eq!(keys(&mut conn, HERE, query).await, ["0"], "{query}");
        }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn tenant_namespace_and_universe_keep_memories_apart(pool: PgPool) {
        let mut conn = told(&pool, &["tea"]).await;
        for place in [
            Place { tenant: "other", ..HERE },
            Place { namespace: "real", ..HERE },
            Place { universe: "wm", ..HERE },
            Place { namespace: "real", universe: "wm", ..HERE },
        ] {
            assert!(keys(&mut conn, place, "tea").await.is_empty(), "{place:?}");
        }
        assert_eq!(keys(&mut conn, HERE, "tea").await, ["0"]);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn the_newest_value_of_a_key_is_kept(pool: PgPool) {
        let mut conn = told(&pool, &["tea"]).await;
        let again = [memory("0", "coffee"), memory("1", "milk"), memory("0", "cocoa")];
        remember(&mut conn, HERE, &again, AT).await.unwrap();
        assert_eq!(count(&mut conn, "acme", "wm").await.unwrap(), 2);
        assert_eq!(keys(&mut conn, HERE, "cocoa tea coffee").await, ["0"]);
        assert_eq!(lock(&mut conn, "acme", "wm", "0").await.unwrap(), Some(json!({"content": "cocoa"})));
        assert_eq!(lock(&mut conn, "other", "wm", "0").await.unwrap(), None);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn forgetting_spares_other_tenants_and_excepted_namespaces(pool: PgPool) {
        let mut conn = told(&pool, &["tea", "milk"]).await;
        let others = [Place { tenant: "other", ..HERE }, Place { namespace: "kept", ..HERE }];
        for place in others {
            remember(&mut conn, place, &[memory("0", "tea")], AT).await.unwrap();
        }
        let kept = ["kept".to_owned()];
        assert_eq!(forget_everywhere(&mut conn, "acme", "0", &kept).await.unwrap(), 1);
        assert_eq!(forget_everywhere(&mut conn, "acme", "0", &kept).await.unwrap(), 0);
        assert_eq!(forget_at(&mut conn, "acme", &[0.1, 0.2, 0.3], &kept).await.unwrap(), 1, "the milk");
        for place in others {
            assert_eq!(keys(&mut conn, place, "tea").await, ["0"], "{place:?}");
            assert!(forget(&mut conn, place.tenant, place.namespace, "0").await.unwrap());
        }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_very_long_text_is_stored_and_found_by_its_beginning(pool: PgPool) {
        let words: Vec<_> = (0..200_000).map(|n| format!("w{n}")).collect();
        let mut conn = told(&pool, &[&words.join(" ")]).await;
        assert_eq!(keys(&mut conn, HERE, "w5").await, ["0"]);
        assert!(keys(&mut conn, HERE, "w199999").await.is_empty());
    }
}
