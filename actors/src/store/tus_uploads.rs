//! Table `tus_uploads`: files that come in pieces, over as many requests as it takes.
//!
//! The bytes of one are a blob that arrives ([`attachment_blobs`]). Whoever adds to it, or makes an attachment of it, has
//! first [taken](take) the upload and is its last writer: what a former one still had in hand is refused by its number. What
//! takes an [`Owner`] finds the uploads of that one only.

use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use super::{attachment_blobs, audit_event, wall::TenantTx};

/// A file that comes in pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TusUpload {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub tenant: String,
    /// `whole`, `partial` (a part of others) or `final` (made of such parts).
    pub kind: String,
    /// The session that its attachment belongs to, if any.
    pub session_id: Option<Uuid>,
    /// The persona that it is for, if any.
    pub persona_id: Option<String>,
    /// Who began it, if that was known …
    pub subject: Option<String>,
    /// … and who vouches for them.
    pub issuer: Option<String>,
    /// What its sender calls it.
    pub filename: Option<String>,
    /// What its sender calls its type.
    pub declared_mime: Option<String>,
    /// What its sender says of it, as it was written.
    pub metadata: Option<String>,
    /// How many bytes it has when it is whole.
    pub length: i64,
    /// So many of its first bytes are kept.
    pub arrived: i64,
    /// What its sender says it has to do with others, as it was written.
    pub concat: Option<String>,
    /// What it was made of.
    pub parts: Option<Vec<Uuid>>,
    /// The number of the last one who began to write.
    pub writer: i64,
    /// Until then somebody looks through it.
    pub finishing_until: Option<OffsetDateTime>,
    /// Its bytes, until they are an attachment's.
    pub blob_id: Option<Uuid>,
    /// What it has become.
    pub attachment_id: Option<Uuid>,
    /// When it was begun.
    pub created_at: OffsetDateTime,
    /// When it is given up, unless more comes.
    pub expires_at: OffsetDateTime,
}

/// Whose uploads are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The tenant.
    pub tenant: String,
    /// Who it is, if that is known …
    pub subject: Option<String>,
    /// … and who vouches for them.
    pub issuer: Option<String>,
}

/// Who writes an upload: nobody, once another one has taken it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writer {
    /// Whose it is.
    pub tenant: String,
    /// The upload.
    pub id: Uuid,
    /// The number that it was taken by.
    pub number: i64,
}

/// Writes an upload down.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.tus_uploads.insert", skip_all)]
pub async fn insert(rows: &mut TenantTx<'_>, new: &TusUpload) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO tus_uploads (
             id, tenant, kind, session_id, persona_id, subject, issuer, filename, declared_mime, metadata, length, arrived, parts,
             writer, finishing_until, blob_id, attachment_id, created_at, expires_at, concat
         )
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)",
        new.id,
        new.tenant,
        new.kind,
        new.session_id,
        new.persona_id,
        new.subject,
        new.issuer,
        new.filename,
        new.declared_mime,
        new.metadata,
        new.length,
        new.arrived,
        new.parts.as_deref(),
        new.writer,
        new.finishing_until,
        new.blob_id,
        new.attachment_id,
        new.created_at,
        new.expires_at,
        new.concat,
    )
    .execute(&mut **rows)
    .await?;
    Ok(())
}

/// Whether somebody may begin one more upload, of `most` that they may have. Until the transaction ends no other one begins.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.tus_uploads.has_place", skip_all)]
pub async fn has_place(rows: &mut TenantTx<'_>, owner: &Owner, most: i64) -> Result<bool, sqlx::Error> {
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(hashtextextended(jsonb_build_array('tus_uploads', $1::text, $2::text, $3::text)::text, 0))",
        owner.tenant,
        owner.subject.as_deref(),
        owner.issuer.as_deref(),
    )
    .execute(&mut **rows)
    .await?;
    Ok(count_open(rows, owner).await? < most)
}

/// How many uploads of somebody have bytes that no attachment has, or were made of parts: of those a few bytes make many.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.tus_uploads.count_open", skip_all)]
async fn count_open(rows: &mut TenantTx<'_>, owner: &Owner) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM tus_uploads
           WHERE tenant = $1 AND subject IS NOT DISTINCT FROM $2 AND issuer IS NOT DISTINCT FROM $3
             AND (blob_id IS NOT NULL OR kind = 'final')"#,
        owner.tenant,
        owner.subject.as_deref(),
        owner.issuer.as_deref(),
    )
    .fetch_one(&mut **rows)
    .await
}

/// One upload, unless it is over at `now`.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.tus_uploads.get", skip_all)]
pub async fn get(
    rows: &mut TenantTx<'_>,
    owner: &Owner,
    id: Uuid,
    now: OffsetDateTime,
) -> Result<Option<TusUpload>, sqlx::Error> {
    sqlx::query_as!(
        TusUpload,
        "SELECT id, tenant, kind, session_id, persona_id, subject, issuer, filename, declared_mime, metadata, length, arrived, concat, parts,
                writer, finishing_until, blob_id, attachment_id, created_at, expires_at
         FROM tus_uploads
         WHERE tenant = $1 AND id = $2 AND subject IS NOT DISTINCT FROM $3 AND issuer IS NOT DISTINCT FROM $4 AND expires_at > $5",
        owner.tenant,
        id,
        owner.subject.as_deref(),
        owner.issuer.as_deref(),
        now,
    )
    .fetch_optional(&mut **rows)
    .await
}

/// The same, and until the transaction ends nobody else changes it.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.tus_uploads.lock", skip_all)]
pub async fn lock(
    rows: &mut TenantTx<'_>,
    owner: &Owner,
    id: Uuid,
    now: OffsetDateTime,
) -> Result<Option<TusUpload>, sqlx::Error> {
    hold_row(rows, &owner.tenant, id).await?;
    get(rows, owner, id, now).await
}

/// Makes whoever asks its last writer, who may look through it until `finishing_until`. Returns the number.
///
/// # Errors
/// The database's; also if there is no such upload.
#[instrument(level = "debug", name = "db.tus_uploads.take", skip_all)]
pub async fn take(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    id: Uuid,
    finishing_until: Option<OffsetDateTime>,
) -> Result<Writer, sqlx::Error> {
    let number = sqlx::query_scalar!(
        "UPDATE tus_uploads SET writer = writer + 1, finishing_until = $3 WHERE tenant = $1 AND id = $2 RETURNING writer",
        tenant,
        id,
        finishing_until,
    )
    .fetch_one(&mut **rows)
    .await?;
    Ok(Writer { tenant: tenant.to_owned(), id, number })
}

/// Says that of an upload, of which `from` bytes were kept, `to` are now. Returns whether the writer still is one.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.tus_uploads.advance", skip_all)]
pub async fn advance(
    rows: &mut TenantTx<'_>,
    writer: &Writer,
    (from, to): (i64, i64),
    expires_at: OffsetDateTime,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE tus_uploads SET arrived = $5, expires_at = $6
         WHERE tenant = $1 AND id = $2 AND writer = $3 AND arrived = $4 AND attachment_id IS NULL",
        writer.tenant,
        writer.id,
        writer.number,
        from,
        to,
        expires_at,
    )
    .execute(&mut **rows)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Lets the writer look through it until `until`, or no longer. Returns whether it still is one.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.tus_uploads.hold", skip_all)]
pub async fn hold(
    rows: &mut TenantTx<'_>,
    writer: &Writer,
    until: Option<OffsetDateTime>,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE tus_uploads SET finishing_until = $4 WHERE tenant = $1 AND id = $2 AND writer = $3 AND attachment_id IS NULL",
        writer.tenant,
        writer.id,
        writer.number,
        until,
    )
    .execute(&mut **rows)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Keeps everybody else from an upload until the transaction ends. Call it before anything is done to its bytes, as all do who change
/// both.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.tus_uploads.hold_row", skip_all)]
pub async fn hold_row(rows: &mut TenantTx<'_>, tenant: &str, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query_scalar!("SELECT id FROM tus_uploads WHERE tenant = $1 AND id = $2 FOR UPDATE", tenant, id)
        .fetch_optional(&mut **rows)
        .await?;
    Ok(())
}

/// Takes an upload away of which there will be no attachment, and gives its bytes up, if the writer still is one. Returns whether it
/// was.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.tus_uploads.refuse", skip_all)]
pub async fn refuse(rows: &mut TenantTx<'_>, writer: &Writer) -> Result<bool, sqlx::Error> {
    let was = sqlx::query_scalar!(
        r#"DELETE FROM tus_uploads WHERE tenant = $1 AND id = $2 AND writer = $3 AND attachment_id IS NULL
         RETURNING blob_id AS "blob_id!""#,
        writer.tenant,
        writer.id,
        writer.number,
    )
    .fetch_optional(&mut **rows)
    .await?;
    if let Some(blob) = was {
        attachment_blobs::abandon(rows, &writer.tenant, blob).await?;
    }
    Ok(was.is_some())
}

/// Takes all uploads to a session away, and gives their bytes up.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.tus_uploads.remove_of_session", skip_all)]
pub async fn remove_of_session(rows: &mut TenantTx<'_>, tenant: &str, session: Uuid) -> Result<(), sqlx::Error> {
    let gone = sqlx::query_scalar!(
        "DELETE FROM tus_uploads WHERE tenant = $1 AND session_id = $2 RETURNING blob_id",
        tenant,
        session,
    )
    .fetch_all(&mut **rows)
    .await?;
    for blob in gone.into_iter().flatten() {
        attachment_blobs::abandon(rows, tenant, blob).await?;
    }
    Ok(())
}

/// Says what an upload has become: its bytes are the attachment's, or are given up. Returns whether the writer still is one. Call it
/// in the transaction that writes the attachment.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.tus_uploads.become", skip_all)]
pub async fn become_attachment(
    rows: &mut TenantTx<'_>,
    writer: &Writer,
    attachment_id: Uuid,
) -> Result<bool, sqlx::Error> {
    let was = sqlx::query_scalar!(
        r#"WITH was AS (
               SELECT id, blob_id FROM tus_uploads
               WHERE tenant = $1 AND id = $2 AND writer = $3 AND arrived = length AND attachment_id IS NULL
               FOR UPDATE
           )
           UPDATE tus_uploads AS t SET attachment_id = $4, blob_id = NULL, finishing_until = NULL FROM was WHERE t.id = was.id
           RETURNING was.blob_id AS "blob_id!""#,
        writer.tenant,
        writer.id,
        writer.number,
        attachment_id,
    )
    .fetch_optional(&mut **rows)
    .await?;
    if let Some(blob) = was {
        // One that the attachment has does not arrive any more.
        attachment_blobs::abandon(rows, &writer.tenant, blob).await?;
    }
    Ok(was.is_some())
}

/// Takes an upload away, and gives its bytes up if no attachment has them. Returns whether it was there.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.tus_uploads.remove", skip_all)]
pub async fn remove(rows: &mut TenantTx<'_>, owner: &Owner, id: Uuid) -> Result<bool, sqlx::Error> {
    let was = sqlx::query_scalar!(
        "DELETE FROM tus_uploads
         WHERE tenant = $1 AND id = $2 AND subject IS NOT DISTINCT FROM $3 AND issuer IS NOT DISTINCT FROM $4
         RETURNING blob_id",
        owner.tenant,
        id,
        owner.subject.as_deref(),
        owner.issuer.as_deref(),
    )
    .fetch_optional(&mut **rows)
    .await?;
    if let Some(Some(blob)) = was {
        attachment_blobs::abandon(rows, &owner.tenant, blob).await?;
    }
    Ok(was.is_some())
}

/// Takes up to `limit` uploads away that are over at `now`, gives their bytes up, writes down which of them never came to their end,
/// and returns how many there were.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.tus_uploads.expire", skip_all)]
pub async fn expire(connection: &mut PgConnection, now: OffsetDateTime, limit: i64) -> Result<u64, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let gone = sqlx::query!(
        "DELETE FROM tus_uploads WHERE id IN (
             SELECT id FROM tus_uploads WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED
         )
         RETURNING tenant, id, blob_id",
        now,
        limit,
    )
    .fetch_all(&mut *transaction)
    .await?;
    let open = || gone.iter().filter_map(|row| Some((row.tenant.clone(), row.id, row.blob_id?)));
    let blobs: Vec<Uuid> = open().map(|(.., blob)| blob).collect();
    sqlx::query!("UPDATE attachment_blobs SET state = 'going' WHERE id = ANY($1) AND state = 'arriving'", &blobs,)
        .execute(&mut *transaction)
        .await?;
    let names = open().map(|(tenant, id, _)| (tenant, id));
    audit_event::insert_purge(
        &mut transaction,
        "attachment-janitor",
        ("attachments.upload.expire", "upload"),
        names,
        now,
    )
    .await?;
    transaction.commit().await?;
    Ok(u64::try_from(gone.len()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
