//! Table `outbox_leases`: who is sending which keys of the queues `message_outbox` and `memory_write_outbox`.

use std::collections::HashSet;

use futures_util::{Stream, TryStreamExt};
use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use super::outbox::Key;

/// Bytes of payloads after which a claim takes no more rows.
const CLAIM_BYTES: usize = 16 * 1024 * 1024;

/// Keys that a claim leased, and how many rows of each it may take.
#[derive(Debug)]
pub struct Leased<K> {
    /// The first part of each.
    pub scopes: Vec<String>,
    /// The second part.
    pub keys: Vec<K>,
    /// Rows that may be taken.
    pub counts: Vec<i64>,
}

impl<K> Leased<K> {
    /// No key at all.
    #[must_use]
    pub const fn none() -> Self {
        Self { scopes: Vec::new(), keys: Vec::new(), counts: Vec::new() }
    }
}

impl<K: ToString> Leased<K> {
    /// Those of which no row is among `taken`.
    #[must_use]
    pub fn without(&self, taken: &HashSet<Key>) -> Vec<Key> {
        let keys = self.scopes.iter().zip(&self.keys).map(|(scope, key)| (scope.clone(), key.to_string()));
        keys.filter(|key| !taken.contains(key)).collect()
    }
}

/// The leases of `claim` on `keys` of `queue` end. Returns those that it held: until the transaction ends nobody else has them.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.outbox_leases.release", skip_all)]
pub async fn release(
    connection: &mut PgConnection,
    queue: &str,
    claim: Uuid,
    keys: &[Key],
) -> Result<HashSet<Key>, sqlx::Error> {
    let (scopes, keys): (Vec<&str>, Vec<&str>) = keys.iter().map(|(scope, key)| (scope.as_str(), key.as_str())).unzip();
    let held = sqlx::query!(
        "DELETE FROM outbox_leases
         WHERE (queue, scope, key) IN (
             -- In the order in which claims take them: nobody waits in a circle.
             SELECT l.queue, l.scope, l.key
             FROM unnest($3::text[], $4::text[]) AS k(scope, key)
             JOIN outbox_leases AS l ON l.queue = $1 AND l.scope = k.scope AND l.key = k.key
             WHERE l.claim = $2
             ORDER BY l.scope, l.key
             FOR UPDATE OF l
         )
         RETURNING scope, key",
        queue,
        claim,
        &scopes as _,
        &keys as _,
    )
    .fetch_all(connection)
    .await?;
    Ok(held.into_iter().map(|row| (row.scope, row.key)).collect())
}

/// Removes leases that ran out before `before`: of dead claimers whose rows are gone too, since the next claim of a key takes
/// over its lease.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.outbox_leases.forget_leases", skip_all)]
pub async fn forget_leases(connection: &mut PgConnection, before: OffsetDateTime) -> Result<(), sqlx::Error> {
    sqlx::query!("DELETE FROM outbox_leases WHERE lease_until < $1", before).execute(connection).await?;
    Ok(())
}

/// Leases keys of a table. Walks the keys that have unsent rows, from the one after a place, at most `terms.keys` of them, and
/// counts their rows, at most `terms.rows_a_key` of a key and `terms.rows` in all. The walk goes no further than it takes to
/// find those. A key whose first row is not due, or which is leased, is passed over.
///
/// Each row of the result is a key with rows, and whether it was leased: another claim may just have been quicker. If there are
/// fewer rows than asked for, the last key of the walk comes with every row, and alone if there is no other.
macro_rules! lease {
    ($table:tt, ($scope:tt, $key:tt), $connection:expr, ($from_scope:expr, $from_key:expr), $terms:expr) => {
        sqlx::query!(
            "WITH RECURSIVE walk AS (
                 (
                     SELECT "
                + $scope
                + " AS scope, "
                + $key
                + " AS key, next_attempt_at, 1::bigint AS place
                     FROM "
                + $table
                + " WHERE status IN ('pending', 'sending') AND ("
                + $scope
                + ", "
                + $key
                + ") > ($1, $2)
                     ORDER BY "
                + $scope
                + ", "
                + $key
                + ", id
                     LIMIT 1
                 )
                 UNION ALL
                 SELECT next.scope, next.key, next.next_attempt_at, walk.place + 1
                 FROM walk
                 CROSS JOIN LATERAL (
                     SELECT "
                + $scope
                + " AS scope, "
                + $key
                + " AS key, next_attempt_at
                     FROM "
                + $table
                + " WHERE status IN ('pending', 'sending') AND ("
                + $scope
                + ", "
                + $key
                + ") > (walk.scope, walk.key)
                     ORDER BY "
                + $scope
                + ", "
                + $key
                + ", id
                     LIMIT 1
                 ) AS next
                 WHERE walk.place < $3
             ),
             batch AS (
                 SELECT walk.scope, walk.key
                 FROM walk
                 CROSS JOIN LATERAL (
                     SELECT FROM "
                + $table
                + " WHERE status IN ('pending', 'sending') AND "
                + $scope
                + " = walk.scope AND "
                + $key
                + r#" = walk.key
                     ORDER BY id
                     LIMIT $5
                 ) AS unsent
                 WHERE walk.next_attempt_at <= $4
                   AND NOT EXISTS (
                     SELECT FROM outbox_leases AS l
                     WHERE l.queue = $9 AND l.scope = walk.scope AND l.key = walk.key::text AND l.lease_until > $4
                 )
                 LIMIT $6
             ),
             found AS (
                 SELECT scope, key, count(*) AS count FROM batch GROUP BY scope, key
             ),
             leased AS (
                 INSERT INTO outbox_leases AS l (queue, scope, key, claim, lease_until)
                 -- All in one order: nobody waits in a circle.
                 SELECT $9, scope, key::text, $7, $8 FROM found ORDER BY scope, key
                 ON CONFLICT (queue, scope, key) DO UPDATE SET claim = EXCLUDED.claim, lease_until = EXCLUDED.lease_until
                 WHERE l.lease_until <= $4
                 RETURNING l.scope, l.key
             )
             SELECT last.scope AS "last_scope?", last.key AS "last_key?", last.place AS "keys_seen?",
                 found.scope AS "scope?", found.key AS "key?", found.count AS "count?",
                 leased.key IS NOT NULL AS "is_leased!"
             FROM (VALUES (true)) AS always
             LEFT JOIN (
                 SELECT scope, key, place FROM walk WHERE (SELECT count(*) FROM batch) < $6 ORDER BY place DESC LIMIT 1
             ) AS last ON true
             LEFT JOIN found ON true
             LEFT JOIN leased ON leased.scope = found.scope AND leased.key = found.key::text
             ORDER BY found.scope, found.key"#,
            $from_scope,
            $from_key,
            $terms.keys,
            $terms.now,
            $terms.rows_a_key,
            $terms.rows,
            $terms.claim,
            $terms.lease_until,
            $table,
        )
        .fetch_all($connection)
        .await
    };
}

/// The first rows of leased keys in order, as many of each as were counted: some columns, and how they are shown. A key whose
/// first row was put off meanwhile has none.
macro_rules! rows_of_keys {
    ($table:tt, ($scope:tt, $key:tt, $type:tt), ($columns:tt, $shown:tt), $connection:expr, $found:expr, $now:expr) => {
        sqlx::query!(
            "SELECT "
                + $shown
                + " FROM unnest($1::text[], $2::"
                + $type
                + "[], $3::bigint[]) WITH ORDINALITY AS leased(scope, key, count, place)
             CROSS JOIN LATERAL (
                 SELECT next_attempt_at FROM "
                + $table
                + " WHERE status IN ('pending', 'sending') AND "
                + $scope
                + " = leased.scope AND "
                + $key
                + " = leased.key
                 ORDER BY id
                 LIMIT 1
             ) AS head
             CROSS JOIN LATERAL (
                 SELECT "
                + $columns
                + " FROM "
                + $table
                + " WHERE status IN ('pending', 'sending') AND "
                + $scope
                + " = leased.scope AND "
                + $key
                + " = leased.key
                 ORDER BY id
                 LIMIT leased.count
             ) AS o
             WHERE head.next_attempt_at <= $4
             ORDER BY leased.place, o.id",
            &$found.scopes as _,
            &$found.keys as _,
            &$found.counts,
            $now,
        )
        .fetch($connection)
    };
}

/// Takes rows until their payloads have `CLAIM_BYTES`: a thousand of the longest would be gigabytes. The others wait, as rows do
/// for which there was no room.
#[instrument(level = "debug", name = "db.outbox_leases.taken", skip_all)]
pub async fn taken<T>(
    mut rows: impl Stream<Item = Result<T, sqlx::Error>> + Unpin,
    payload_bytes: impl Fn(&T) -> usize,
) -> Result<Vec<T>, sqlx::Error> {
    let (mut taken, mut bytes) = (Vec::new(), 0);
    while bytes < CLAIM_BYTES
        && let Some(row) = rows.try_next().await?
    {
        bytes += payload_bytes(&row);
        taken.push(row);
    }
    Ok(taken)
}

pub(super) use {lease, rows_of_keys};
