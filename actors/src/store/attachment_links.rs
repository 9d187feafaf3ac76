//! Table `attachment_links`: links by which anybody who has one fetches an attachment. Of a token only its SHA-256 is stored.

use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use super::wall::TenantTx;

/// SHA-256 of a token.
pub type TokenSum = [u8; 32];

/// A link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its id.
    pub id: Uuid,
    /// Who made it, if that was known …
    pub subject: Option<String>,
    /// … and who vouches for them.
    pub issuer: Option<String>,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// Until when it is good.
    pub expires_at: OffsetDateTime,
}

/// Writes a link to an attachment down, unless there are `most` that are good. Returns whether it did.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachment_links.insert", skip_all)]
pub async fn insert(
    rows: &mut TenantTx<'_>,
    (tenant, attachment): (&str, Uuid),
    link: &Link,
    token: &TokenSum,
    most: i64,
) -> Result<bool, sqlx::Error> {
    // Two that are made at once count each other.
    sqlx::query!("SELECT 1 AS one FROM attachments WHERE tenant = $1 AND id = $2 FOR UPDATE", tenant, attachment)
        .fetch_optional(&mut **rows)
        .await?;
    let written = sqlx::query!(
        "INSERT INTO attachment_links (id, tenant, attachment_id, token_sha256, subject, issuer, created_at, expires_at)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8
         WHERE (
             SELECT count(*) FROM attachment_links
             WHERE tenant = $2 AND attachment_id = $3 AND revoked_at IS NULL AND expires_at > $7
         ) < $9",
        link.id,
        tenant,
        attachment,
        token,
        link.subject,
        link.issuer,
        link.created_at,
        link.expires_at,
        most,
    )
    .execute(&mut **rows)
    .await?;
    Ok(written.rows_affected() == 1)
}

/// The links to an attachment that are good at `at`, the latest first.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachment_links.list", skip_all)]
pub async fn list(
    rows: &mut TenantTx<'_>,
    (tenant, attachment): (&str, Uuid),
    at: OffsetDateTime,
) -> Result<Vec<Link>, sqlx::Error> {
    sqlx::query_as!(
        Link,
        "SELECT id, subject, issuer, created_at, expires_at FROM attachment_links
         WHERE tenant = $1 AND attachment_id = $2 AND revoked_at IS NULL AND expires_at > $3
         ORDER BY created_at DESC, id DESC",
        tenant,
        attachment,
        at,
    )
    .fetch_all(&mut **rows)
    .await
}

/// Takes a link back. Returns whether it was good.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachment_links.revoke", skip_all)]
pub async fn revoke(
    rows: &mut TenantTx<'_>,
    (tenant, attachment): (&str, Uuid),
    id: Uuid,
    at: OffsetDateTime,
) -> Result<bool, sqlx::Error> {
    let revoked = sqlx::query!(
        "UPDATE attachment_links SET revoked_at = $4
         WHERE tenant = $1 AND attachment_id = $2 AND id = $3 AND revoked_at IS NULL AND expires_at > $4",
        tenant,
        attachment,
        id,
        at,
    )
    .execute(&mut **rows)
    .await?;
    Ok(revoked.rows_affected() == 1)
}

/// A link, by what it leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The link.
    pub id: Uuid,
    /// Whose it is.
    pub tenant: String,
    /// The attachment.
    pub attachment_id: Uuid,
}

/// Which link has this token, whoever asks; `None` if it is not good at `at`.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachment_links.target_of", skip_all)]
pub async fn target_of(
    connection: &mut PgConnection,
    token: &TokenSum,
    at: OffsetDateTime,
) -> Result<Option<Target>, sqlx::Error> {
    sqlx::query_as!(
        Target,
        "SELECT id, tenant, attachment_id FROM attachment_links
         WHERE token_sha256 = $1 AND revoked_at IS NULL AND expires_at > $2",
        token,
        at,
    )
    .fetch_optional(connection)
    .await
}

/// Removes up to `limit` links that were over before `before`, and returns how many. One that was taken back stays for a day, for
/// whoever still fetches a file by it.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachment_links.purge", skip_all)]
pub async fn purge(connection: &mut PgConnection, before: OffsetDateTime, limit: i64) -> Result<u64, sqlx::Error> {
    let removed = sqlx::query!(
        "DELETE FROM attachment_links WHERE id IN (
             SELECT id FROM attachment_links
             WHERE expires_at < $1 AND (revoked_at IS NULL OR revoked_at < $1 - interval '1 day')
             ORDER BY expires_at
             LIMIT $2
             FOR UPDATE SKIP LOCKED
         )",
        before,
        limit,
    )
    .execute(connection)
    .await?;
    Ok(removed.rows_affected())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use sqlx::PgPool;

    use super::*;
    use crate::store::attachments::tests::{of, put};

    #[sqlx::test(migrations = "../migrations")]
    async fn what_is_over_goes_and_what_was_taken_back_a_day_later(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        let attachment = of("t", None);
        put(&mut connection, &attachment).await;
        let links = [("good", 100, None), ("over", 10, None), ("lately", 10, Some(9)), ("long ago", 11, Some(8))];
        for (at, (_, expires_at, revoked_at)) in (0_u8..).zip(links) {
            let sql = "INSERT INTO attachment_links
                           (id, tenant, attachment_id, token_sha256, created_at, expires_at, revoked_at)
                       VALUES ($1, 't', $2, $3, 'epoch', $4, $5)";
            sqlx::query(sql)
                .bind(Uuid::from_u128(at.into()))
                .bind(attachment.id)
                .bind(vec![at; 32])
                .bind(hours(expires_at))
                .bind(revoked_at.map(hours))
                .execute(&mut *connection)
                .await
                .unwrap();
        }
        assert_eq!(purge(&mut connection, hours(33), 9).await.unwrap(), 2);
        let left: Vec<Uuid> = sqlx::query_scalar("SELECT id FROM attachment_links ORDER BY id")
            .fetch_all(&mut *connection)
            .await
            .unwrap();
        let left: Vec<&str> = left.into_iter().map(|id| links[usize::try_from(id.as_u128()).unwrap()].0).collect();
        assert_eq!(left, ["good", "lately"]);
    }

    fn hours(count: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + time::Duration::hours(count)
    }
}
