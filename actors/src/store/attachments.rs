//! Table `attachments`: files that people have sent. What was deleted leaves a tombstone: its row, without bytes.

pub mod listing;
pub mod memories;
pub mod quota;
pub mod rescans;
pub mod verdicts;

use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use super::{attachment_blobs, audit_event, wall::TenantTx};
use crate::domain::ids::SessionKey;

/// A file that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its id.
    pub id: Uuid,
    /// Whose it is.
    pub tenant: String,
    /// The session that it was sent to, if any.
    pub session_id: Option<Uuid>,
    /// The persona that it was sent to, if any.
    pub persona_id: Option<String>,
    /// Who sent it, if that was known …
    pub subject: Option<String>,
    /// … and who vouches for them.
    pub issuer: Option<String>,
    /// Its name, safe to show and to save under.
    pub filename: String,
    /// What its bytes are.
    pub mime: String,
    /// What its sender calls them.
    pub declared_mime: Option<String>,
    /// How many bytes it has, or had.
    pub size: i64,
    /// Their SHA-256 in hexadecimal digits.
    pub sha256: String,
    /// `clean` or `quarantined`.
    pub status: String,
    /// Why it is quarantined: `infected`, `av_error` or `limits_exceeded`.
    pub quarantine_reason: Option<String>,
    /// What was found in it.
    pub threat: Option<String>,
    /// When it was looked through, if it was …
    pub scanned_at: Option<OffsetDateTime>,
    /// … and with which version of the signatures.
    pub signatures: Option<String>,
    /// Its bytes; `None` if they were dropped, are gone, or are elsewhere.
    pub blob_id: Option<Uuid>,
    /// Where its bytes are, if that is elsewhere. It may hold a secret, and is for nobody but those who may fetch the file.
    pub external_url: Option<String>,
    /// When it was sent.
    pub created_at: OffsetDateTime,
    /// When it was deleted, if it was.
    pub deleted_at: Option<OffsetDateTime>,
    /// When somebody let it go out although it was quarantined, if that was done …
    pub released_at: Option<OffsetDateTime>,
    /// … and who, if that was known.
    pub released_by: Option<String>,
}

/// Writes an attachment down. Call it in the transaction that makes its blob whole.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.insert", skip_all)]
pub async fn insert(rows: &mut TenantTx<'_>, new: &Attachment) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "INSERT INTO attachments (
             id, tenant, session_id, persona_id, subject, issuer, filename, mime, declared_mime, size, sha256, status,
             quarantine_reason, threat, scanned_at, signatures, blob_id, external_url, created_at, deleted_at
         )
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)",
        new.id,
        new.tenant,
        new.session_id,
        new.persona_id,
        new.subject,
        new.issuer,
        new.filename,
        new.mime,
        new.declared_mime,
        new.size,
        new.sha256,
        new.status,
        new.quarantine_reason,
        new.threat,
        new.scanned_at,
        new.signatures,
        new.blob_id,
        new.external_url,
        new.created_at,
        new.deleted_at,
    )
    .execute(&mut **rows)
    .await?;
    Ok(())
}

/// One attachment of a tenant, also if only its tombstone is left.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.get", skip_all)]
pub async fn get(rows: &mut TenantTx<'_>, tenant: &str, id: Uuid) -> Result<Option<Attachment>, sqlx::Error> {
    sqlx::query_as!(
        Attachment,
        "SELECT id, tenant, session_id, persona_id, subject, issuer, filename, mime, declared_mime, size, sha256, status,
                quarantine_reason, threat, scanned_at, signatures, blob_id, external_url, created_at, deleted_at, released_at,
                released_by
         FROM attachments
         WHERE tenant = $1 AND id = $2",
        tenant,
        id,
    )
    .fetch_optional(&mut **rows)
    .await
}

/// Whose an attachment is, whoever asks.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.tenant_of", skip_all)]
pub async fn tenant_of(connection: &mut PgConnection, id: Uuid) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar!("SELECT tenant FROM attachments WHERE id = $1", id).fetch_optional(connection).await
}

/// Deletes an attachment and lets its bytes go. Returns whether it was there; then only a tombstone is.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.delete", skip_all)]
pub async fn delete(rows: &mut TenantTx<'_>, tenant: &str, id: Uuid, at: OffsetDateTime) -> Result<bool, sqlx::Error> {
    let was = sqlx::query_scalar!(
        "WITH was AS (
             SELECT id, blob_id FROM attachments WHERE tenant = $1 AND id = $2 AND deleted_at IS NULL FOR UPDATE
         )
         UPDATE attachments AS a SET deleted_at = $3, blob_id = NULL, external_url = NULL FROM was WHERE a.id = was.id
         RETURNING was.blob_id",
        tenant,
        id,
        at,
    )
    .fetch_optional(&mut **rows)
    .await?;
    if let Some(Some(blob)) = was {
        attachment_blobs::release(rows, tenant, blob).await?;
    }
    Ok(was.is_some())
}

/// Deletes all attachments of a session and lets their bytes go. Returns how many.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.delete_of_session", skip_all)]
pub async fn delete_of_session(
    rows: &mut TenantTx<'_>,
    key: &SessionKey,
    at: OffsetDateTime,
) -> Result<usize, sqlx::Error> {
    let tenant = key.tenant.as_str();
    let gone = sqlx::query_scalar!(
        "WITH was AS (
             SELECT id, blob_id FROM attachments
             WHERE tenant = $1 AND session_id = $2 AND deleted_at IS NULL
             ORDER BY id
             FOR UPDATE
         )
         UPDATE attachments AS a SET deleted_at = $3, blob_id = NULL, external_url = NULL FROM was WHERE a.id = was.id
         RETURNING was.blob_id",
        tenant,
        key.session_id,
        at,
    )
    .fetch_all(&mut **rows)
    .await?;
    let count = gone.len();
    let blobs: Vec<Uuid> = gone.into_iter().flatten().collect();
    if !blobs.is_empty() {
        attachment_blobs::release_all(rows, &vec![tenant.to_owned(); blobs.len()], &blobs).await?;
    }
    Ok(count)
}

/// Deletes up to `limit` attachments that were sent before `before`, lets their bytes go, writes down which, and returns how many.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.expire", skip_all)]
pub async fn expire(
    connection: &mut PgConnection,
    before: OffsetDateTime,
    at: OffsetDateTime,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let gone = sqlx::query!(
        "WITH old AS (
             SELECT id, blob_id FROM attachments
             WHERE created_at < $1 AND deleted_at IS NULL
             ORDER BY created_at
             LIMIT $3
             FOR UPDATE SKIP LOCKED
         )
         UPDATE attachments AS a SET deleted_at = $2, blob_id = NULL, external_url = NULL FROM old WHERE a.id = old.id
         RETURNING a.tenant, a.id, old.blob_id",
        before,
        at,
        limit,
    )
    .fetch_all(&mut *transaction)
    .await?;
    let count = gone.len();
    let blobs = gone.iter().filter_map(|row| Some((row.tenant.clone(), row.blob_id?)));
    let (tenants, ids): (Vec<String>, Vec<Uuid>) = blobs.unzip();
    attachment_blobs::release_all(&mut transaction, &tenants, &ids).await?;
    let gone = gone.into_iter().map(|row| (row.tenant, row.id));
    audit_event::insert_purge(&mut transaction, "attachment-janitor", ("attachments.expire", "attachment"), gone, at)
        .await?;
    transaction.commit().await?;
    Ok(u64::try_from(count).unwrap_or(u64::MAX))
}

#[cfg(test)]
pub(in crate::store) mod tests;
