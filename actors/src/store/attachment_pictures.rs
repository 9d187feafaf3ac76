//! Table `attachment_pictures`: smaller pictures of images, or why there is none. They go with the bytes that they were made of.

use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use super::wall::TenantTx;

/// Which picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    /// Whose.
    pub tenant: &'a str,
    /// Of which bytes.
    pub blob_id: Uuid,
    /// What for: `thumbnail` or `model`.
    pub purpose: &'a str,
}

/// What was made of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row {
    /// A picture.
    Picture {
        /// Its file.
        bytes: Vec<u8>,
        /// Pixels across.
        width: i64,
        /// Pixels down.
        height: i64,
    },
    /// None, and why.
    None(String),
}

/// What was made of an image. That there is no picture is believed if it was found out after `believed`.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachment_pictures.get", skip_all)]
pub async fn get(rows: &mut TenantTx<'_>, key: Key<'_>, believed: OffsetDateTime) -> Result<Option<Row>, sqlx::Error> {
    let found = sqlx::query!(
        "SELECT bytes, failure, width, height FROM attachment_pictures
         WHERE tenant = $1 AND blob_id = $2 AND purpose = $3 AND (failure IS NULL OR made_at > $4)",
        key.tenant,
        key.blob_id,
        key.purpose,
        believed,
    )
    .fetch_optional(&mut **rows)
    .await?;
    Ok(found.map(|row| match (row.bytes, row.width, row.height) {
        (Some(bytes), Some(width), Some(height)) => Row::Picture { bytes, width, height },
        _ => Row::None(row.failure.unwrap_or_default()),
    }))
}

/// Keeps what was made of an image, in place of what was there. Nothing is kept of bytes that have gone meanwhile.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachment_pictures.put", skip_all)]
pub async fn put(rows: &mut TenantTx<'_>, key: Key<'_>, made: &Row, at: OffsetDateTime) -> Result<(), sqlx::Error> {
    let (bytes, failure, size) = match made {
        Row::Picture { bytes, width, height } => (Some(bytes), None, Some((*width, *height))),
        Row::None(why) => (None, Some(why), None),
    };
    sqlx::query!(
        "WITH blob AS (
             SELECT id FROM attachment_blobs WHERE tenant = $1 AND id = $2 AND state = 'whole' FOR KEY SHARE
         )
         INSERT INTO attachment_pictures (tenant, blob_id, purpose, bytes, failure, width, height, made_at)
         SELECT $1, id, $3, $4, $5, $6, $7, $8 FROM blob
         ON CONFLICT (blob_id, purpose) DO UPDATE
         SET bytes = excluded.bytes, failure = excluded.failure, width = excluded.width, height = excluded.height,
             made_at = excluded.made_at",
        key.tenant,
        key.blob_id,
        key.purpose,
        bytes,
        failure,
        size.map(|(width, _)| width),
        size.map(|(_, height)| height),
        at,
    )
    .execute(&mut **rows)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use sqlx::PgPool;
    use time::Duration;

    use super::*;
    use crate::store::{attachment_blobs, wall::within};

    const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    #[sqlx::test(migrations = "../migrations")]
    async fn a_picture_is_kept_for_its_purpose_and_its_tenant_and_goes_with_its_bytes(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        let blob_id = attachment_blobs::tests::whole(&mut connection, "t", &[b"x"]).await;
        let key = Key { tenant: "t", blob_id, purpose: "thumbnail" };
        let (none, some) = (Row::None("no".into()), Row::Picture { bytes: b"webp".to_vec(), width: 2, height: 1 });
        within(&mut connection, "t", async |rows| put(rows, key, &none, AT).await).await;
        let before = AT - Duration::SECOND;
        assert_eq!(within(&mut connection, "t", async |rows| get(rows, key, before).await).await, Some(none));
        assert_eq!(within(&mut connection, "t", async |rows| get(rows, key, AT).await).await, None, "it is too old");
        within(&mut connection, "t", async |rows| put(rows, key, &some, AT).await).await;
        assert_eq!(within(&mut connection, "t", async |rows| get(rows, key, AT).await).await, Some(some.clone()));
        let other = Key { purpose: "model", ..key };
        assert_eq!(within(&mut connection, "t", async |rows| get(rows, other, AT).await).await, None);
        assert_eq!(within(&mut connection, "u", async |rows| get(rows, key, AT).await).await, None);
        within(&mut connection, "t", async |rows| attachment_blobs::release(rows, "t", blob_id).await).await;
        within(&mut connection, "t", async |rows| put(rows, other, &some, AT).await).await;
        while attachment_blobs::sweep(&mut connection, AT, 10).await.unwrap() {}
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM attachment_pictures").fetch_one(&pool).await.unwrap();
        assert_eq!(left, 0);
    }
}
