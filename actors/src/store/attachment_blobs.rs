//! Tables `attachment_blobs` and `attachment_chunks`: bytes of files, in pieces of bounded size.
//!
//! A blob is `arriving` while its pieces come, each in a transaction of its own. Nothing refers to it until [`complete`] makes it
//! `whole`, in the transaction that writes the first attachment of it. One that nobody may refer to any more is
//! `going`, and stays so: [`sweep`] takes its pieces away, some at a time, and itself last.

use std::collections::HashMap;

use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use super::wall::TenantTx;

/// Most bytes of one piece.
pub const CHUNK_BYTES: usize = 256 << 10;

/// One piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where its first byte is, counted from 0.
    pub at: i64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Makes a blob whose bytes are to come.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachment_blobs.begin", skip_all)]
pub async fn begin(rows: &mut TenantTx<'_>, tenant: &str, id: Uuid, at: OffsetDateTime) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO attachment_blobs (id, tenant, state, created_at, touched_at) VALUES ($1, $2, 'arriving', $3, $3)",
        id,
        tenant,
        at,
    )
    .execute(&mut **rows)
    .await?;
    Ok(())
}

/// Keeps a piece of a blob that arrives; `offset` is where its first byte is. Returns whether the blob still arrives: else
/// it was given up, and nothing was kept.
///
/// # Errors
/// The database's; also if there is a piece at that place.
#[instrument(level = "debug", name = "db.attachment_chunks.append", skip_all)]
pub async fn append(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    id: Uuid,
    (offset, bytes): (i64, &[u8]),
    at: OffsetDateTime,
) -> Result<bool, sqlx::Error> {
    // That it arrives is written down now and then, so that `touched_at` may be 10 s old: each time leaves a dead row behind. The
    // bytes are bound last, for whatever is bound behind them has them copied into a larger buffer.
    let kept = sqlx::query!(
        "WITH live AS (
             SELECT id FROM attachment_blobs WHERE tenant = $1 AND id = $2 AND state = 'arriving' FOR NO KEY UPDATE
         ), touched AS (
             UPDATE attachment_blobs SET touched_at = $4
             WHERE tenant = $1 AND id = (SELECT id FROM live) AND touched_at + interval '10 seconds' <= $4
         )
         INSERT INTO attachment_chunks (tenant, blob_id, at, bytes) SELECT $1, id, $3, $5 FROM live",
        tenant,
        id,
        offset,
        at,
        bytes,
    )
    .execute(&mut **rows)
    .await?;
    Ok(kept.rows_affected() == 1)
}

/// Takes the last piece of a blob away if it has at most `most` bytes, to be put back with more behind it. Call it in the
/// transaction that does that.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachment_chunks.take_last", skip_all)]
pub async fn take_last(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    id: Uuid,
    most: i32,
) -> Result<Option<Chunk>, sqlx::Error> {
    sqlx::query_as!(
        Chunk,
        "DELETE FROM attachment_chunks
         WHERE tenant = $1 AND blob_id = $2 AND octet_length(bytes) <= $3
           AND at = (SELECT max(at) FROM attachment_chunks WHERE tenant = $1 AND blob_id = $2)
         RETURNING at, bytes",
        tenant,
        id,
        most,
    )
    .fetch_optional(&mut **rows)
    .await
}

/// Takes the pieces of a blob away that begin at `from` or behind it.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachment_chunks.cut", skip_all)]
pub async fn cut(rows: &mut TenantTx<'_>, tenant: &str, id: Uuid, from: i64) -> Result<(), sqlx::Error> {
    sqlx::query!("DELETE FROM attachment_chunks WHERE tenant = $1 AND blob_id = $2 AND at >= $3", tenant, id, from,)
        .execute(&mut **rows)
        .await?;
    Ok(())
}

/// Ends the arrival of a blob: it has `size` bytes, whose SHA-256 in hexadecimal digits is `sha256`. Returns whether it still
/// arrived and all of them are here: a database that crashed may have forgotten some. Call it in the transaction that
/// writes the attachment.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachment_blobs.complete", skip_all)]
pub async fn complete(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    id: Uuid,
    (sha256, size): (&str, i64),
    at: OffsetDateTime,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE attachment_blobs SET state = 'whole', sha256 = $3, size = $4, touched_at = $5
         WHERE tenant = $1 AND id = $2 AND state = 'arriving'
           AND $4 = (
               SELECT coalesce(sum(octet_length(bytes)), 0) FROM attachment_chunks WHERE tenant = $1 AND blob_id = $2
           )",
        tenant,
        id,
        sha256,
        size,
        at,
    )
    .execute(&mut **rows)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Keeps everybody else from bytes of these SHA-256 until the transaction ends: from keeping them once more where they are kept once,
/// and from judging them. Call it before anything else is locked that they are part of.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachment_blobs.lock_sums", skip_all)]
pub async fn lock_sums(rows: &mut TenantTx<'_>, tenant: &str, sums: &[&str]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(key) FROM (
             SELECT DISTINCT hashtextextended('bytes ' || $1 || ' ' || sum, 0) AS key FROM unnest($2::text[]) AS sum ORDER BY 1
         ) AS keys",
        tenant,
        sums as _,
    )
    .execute(&mut **rows)
    .await?;
    Ok(())
}

/// Bytes that are here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sum {
    /// Their SHA-256 in hexadecimal digits.
    pub sha256: String,
    /// How many there are.
    pub size: i64,
}

/// The bytes of a blob, if they are all here.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachment_blobs.sum_of", skip_all)]
pub async fn sum_of(rows: &mut TenantTx<'_>, tenant: &str, id: Uuid) -> Result<Option<Sum>, sqlx::Error> {
    sqlx::query_as!(
        Sum,
        r#"SELECT sha256 AS "sha256!", size AS "size!" FROM attachment_blobs
         WHERE tenant = $1 AND id = $2 AND sha256 IS NOT NULL AND size IS NOT NULL"#,
        tenant,
        id,
    )
    .fetch_optional(&mut **rows)
    .await
}

/// Blobs of the tenant that have bytes of these SHA-256 already, the first of each. Until the transaction ends they do not go.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachment_blobs.same", skip_all)]
pub async fn same(rows: &mut TenantTx<'_>, tenant: &str, sums: &[&str]) -> Result<HashMap<Sum, Uuid>, sqlx::Error> {
    // In the order in which others lock several of them, too.
    let found = sqlx::query!(
        r#"SELECT id, sha256 AS "sha256!", size AS "size!" FROM attachment_blobs
         WHERE tenant = $1 AND sha256 = ANY ($2::text[]) AND state = 'whole'
         ORDER BY id
         FOR SHARE"#,
        tenant,
        sums as _,
    )
    .fetch_all(&mut **rows)
    .await?;
    let found = found.into_iter().rev().map(|row| (Sum { sha256: row.sha256, size: row.size }, row.id));
    Ok(found.collect())
}

/// An attachment that is being sent to somebody: as it was when they were let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    /// Which.
    pub attachment: Uuid,
    /// By which link, if by one.
    pub link: Option<Uuid>,
}

/// The piece in which the byte `offset` is; `None` behind the last one. Its bytes may begin before that. While an attachment is
/// `sending`, there is none either once it is deleted or not clean any more, or the link was taken back.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachment_chunks.around", skip_all)]
pub async fn around(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    (id, offset): (Uuid, i64),
    sending: Option<Sending>,
) -> Result<Option<Chunk>, sqlx::Error> {
    let found = sqlx::query_as!(
        Chunk,
        "SELECT at, bytes FROM attachment_chunks
         WHERE tenant = $1 AND blob_id = $2 AND at <= $3
           AND ($4::uuid IS NULL OR EXISTS (
               SELECT FROM attachments
               WHERE tenant = $1 AND id = $4 AND blob_id = $2 AND status = 'clean' AND deleted_at IS NULL
           ))
           AND NOT EXISTS (SELECT FROM attachment_links WHERE tenant = $1 AND id = $5 AND revoked_at IS NOT NULL)
         ORDER BY at DESC
         LIMIT 1",
        tenant,
        id,
        offset,
        sending.map(|sending| sending.attachment),
        sending.and_then(|sending| sending.link),
    )
    .fetch_optional(&mut **rows)
    .await?;
    Ok(found.filter(|chunk| offset < chunk.at.saturating_add(i64::try_from(chunk.bytes.len()).unwrap_or(i64::MAX))))
}

/// Gives a blob up that arrives: nothing is added to it any more.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachment_blobs.abandon", skip_all)]
pub async fn abandon(rows: &mut TenantTx<'_>, tenant: &str, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE attachment_blobs SET state = 'going' WHERE tenant = $1 AND id = $2 AND state = 'arriving'",
        tenant,
        id,
    )
    .execute(&mut **rows)
    .await?;
    Ok(())
}

/// Lets a blob go if no attachment refers to it any more. Call it in the transaction that took the reference away.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachment_blobs.release", skip_all)]
pub async fn release(rows: &mut TenantTx<'_>, tenant: &str, id: Uuid) -> Result<(), sqlx::Error> {
    release_all(rows, &[tenant.to_owned()], &[id]).await
}

/// The same for many blobs: `tenants` says whose each is.
///
/// # Errors
/// The database's.
pub(super) async fn release_all(
    connection: &mut PgConnection,
    tenants: &[String],
    ids: &[Uuid],
) -> Result<(), sqlx::Error> {
    // Of two that take the last two references away neither sees what the other one did until it has the lock.
    sqlx::query!(
        "SELECT id FROM attachment_blobs
         WHERE (tenant, id) IN (SELECT * FROM unnest($1::text[], $2::uuid[]))
         ORDER BY id
         FOR UPDATE",
        tenants,
        ids,
    )
    .fetch_all(&mut *connection)
    .await?;
    sqlx::query!(
        "UPDATE attachment_blobs AS b SET state = 'going'
         WHERE (tenant, id) IN (SELECT * FROM unnest($1::text[], $2::uuid[])) AND state = 'whole'
           AND NOT EXISTS (SELECT FROM attachments AS a WHERE a.tenant = b.tenant AND a.blob_id = b.id)",
        tenants,
        ids,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Gives up what has stopped arriving before `before`, unless an upload in pieces still waits for the rest of it; takes up to `limit` pieces away of what goes, and the blobs of
/// which there are none left. Returns whether there may be more to do.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachment_blobs.sweep", skip_all)]
pub async fn sweep(connection: &mut PgConnection, before: OffsetDateTime, limit: i64) -> Result<bool, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::query!(
        "UPDATE attachment_blobs SET state = 'going'
         WHERE id IN (
             SELECT id FROM attachment_blobs AS b
             WHERE state = 'arriving' AND touched_at < $1
               AND NOT EXISTS (SELECT FROM tus_uploads AS t WHERE t.tenant = b.tenant AND t.blob_id = b.id)
             ORDER BY touched_at
             LIMIT $2
             FOR UPDATE OF b SKIP LOCKED
         )",
        before,
        limit,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    let pieces = sqlx::query!(
        "DELETE FROM attachment_chunks WHERE (blob_id, at) IN (
             SELECT c.blob_id, c.at
             FROM attachment_blobs AS b JOIN attachment_chunks AS c ON c.blob_id = b.id
             WHERE b.state = 'going'
             ORDER BY b.id
             LIMIT $1
             FOR UPDATE OF c SKIP LOCKED
         )",
        limit,
    )
    .execute(&mut *connection)
    .await?
    .rows_affected();
    let blobs = sqlx::query!(
        "DELETE FROM attachment_blobs WHERE id IN (
             SELECT id FROM attachment_blobs AS b
             WHERE state = 'going' AND NOT EXISTS (SELECT FROM attachment_chunks AS c WHERE c.blob_id = b.id)
             LIMIT $1
             FOR UPDATE SKIP LOCKED
         )",
        limit,
    )
    .execute(connection)
    .await?
    .rows_affected();
    Ok(pieces.max(blobs) >= limit.unsigned_abs())
}

#[cfg(test)]
pub(super) mod tests;
