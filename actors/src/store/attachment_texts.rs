//! Table `attachment_texts`: the texts of files, or why there is none. They go with the bytes that they were read from.

use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use super::wall::TenantTx;

/// Which text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    /// Whose.
    pub tenant: &'a str,
    /// Of which bytes.
    pub blob_id: Uuid,
    /// How they were read: `plain`, `xml`, `html`, `pdf` or `docx`.
    pub kind: &'a str,
}

/// What was made of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its text, or the beginning of it; `None` if there is none.
    pub text: Option<String>,
    /// Why there is none.
    pub failure: Option<String>,
    /// How many characters there are beyond these.
    pub missing_chars: i64,
    /// Of a document that has pages, how many were read …
    pub pages_read: Option<i64>,
    /// … of how many.
    pub pages_total: Option<i64>,
}

/// What was made of a file, with at most `max_chars` of its text. That there was none is believed if it was found out after
/// `believed`.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachment_texts.get", skip_all)]
pub async fn get(
    rows: &mut TenantTx<'_>,
    key: Key<'_>,
    max_chars: i32,
    believed: OffsetDateTime,
) -> Result<Option<Row>, sqlx::Error> {
    sqlx::query_as!(
        Row,
        r#"SELECT left(text, $4) AS text, failure,
                  missing_chars + greatest(COALESCE(length(text), 0) - $4, 0) AS "missing_chars!", pages_read, pages_total
           FROM attachment_texts
           WHERE tenant = $1 AND blob_id = $2 AND kind = $3 AND (failure IS NULL OR made_at > $5)"#,
        key.tenant,
        key.blob_id,
        key.kind,
        max_chars,
        believed,
    )
    .fetch_optional(&mut **rows)
    .await
}

/// Keeps what was made of a file, in place of what was there. Nothing is kept of bytes that have gone meanwhile.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachment_texts.put", skip_all)]
pub async fn put(rows: &mut TenantTx<'_>, key: Key<'_>, made: &Row, at: OffsetDateTime) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "WITH blob AS (
             SELECT id FROM attachment_blobs WHERE tenant = $1 AND id = $2 AND state = 'whole' FOR KEY SHARE
         )
         INSERT INTO attachment_texts
             (tenant, blob_id, kind, text, failure, missing_chars, pages_read, pages_total, made_at)
         SELECT $1, id, $3, $4, $5, $6, $7, $8, $9 FROM blob
         ON CONFLICT (blob_id, kind) DO UPDATE
         SET text = excluded.text, failure = excluded.failure, missing_chars = excluded.missing_chars,
             pages_read = excluded.pages_read, pages_total = excluded.pages_total, made_at = excluded.made_at",
        key.tenant,
        key.blob_id,
        key.kind,
        made.text,
        made.failure,
        made.missing_chars,
        made.pages_read,
        made.pages_total,
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

    fn text(text: &str) -> Row {
        Row { text: Some(text.into()), failure: None, missing_chars: 2, pages_read: Some(1), pages_total: Some(3) }
    }

    fn none(why: &str) -> Row {
        Row { text: None, failure: Some(why.into()), missing_chars: 0, pages_read: None, pages_total: None }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_text_is_given_as_far_as_it_is_wanted_and_to_its_tenant_alone(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        let blob_id = attachment_blobs::tests::whole(&mut connection, "t", &[b"x"]).await;
        let key = Key { tenant: "t", blob_id, kind: "pdf" };
        within(&mut connection, "t", async |rows| put(rows, key, &text("grüner"), AT).await).await;
        let given = within(&mut connection, "t", async |rows| get(rows, key, 3, AT).await).await;
        assert_eq!(given, Some(Row { missing_chars: 5, ..text("grü") }));
        assert_eq!(within(&mut connection, "t", async |rows| get(rows, key, 9, AT).await).await, Some(text("grüner")));
        for other in [Key { kind: "plain", ..key }, Key { blob_id: Uuid::new_v4(), ..key }] {
            assert_eq!(within(&mut connection, "t", async |rows| get(rows, other, 9, AT).await).await, None);
        }
        assert_eq!(within(&mut connection, "u", async |rows| get(rows, key, 9, AT).await).await, None);
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_failure_is_believed_for_a_while_and_a_text_takes_its_place(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        let blob_id = attachment_blobs::tests::whole(&mut connection, "t", &[b"x"]).await;
        let key = Key { tenant: "t", blob_id, kind: "pdf" };
        within(&mut connection, "t", async |rows| put(rows, key, &none("broken"), AT).await).await;
        let before = AT - Duration::SECOND;
        let given = within(&mut connection, "t", async |rows| get(rows, key, 3, before).await).await;
        assert_eq!(given, Some(none("broken")));
        assert_eq!(within(&mut connection, "t", async |rows| get(rows, key, 3, AT).await).await, None);
        within(&mut connection, "t", async |rows| put(rows, key, &text("a"), AT).await).await;
        assert_eq!(within(&mut connection, "t", async |rows| get(rows, key, 3, AT).await).await, Some(text("a")));
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn a_text_goes_with_its_bytes_and_none_is_kept_of_bytes_that_go(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        let blob_id = attachment_blobs::tests::whole(&mut connection, "t", &[b"x"]).await;
        let (key, late) = (Key { tenant: "t", blob_id, kind: "pdf" }, Key { tenant: "t", blob_id, kind: "plain" });
        within(&mut connection, "t", async |rows| put(rows, key, &text("a"), AT).await).await;
        within(&mut connection, "t", async |rows| attachment_blobs::release(rows, "t", blob_id).await).await;
        within(&mut connection, "t", async |rows| put(rows, late, &text("a"), AT).await).await;
        assert_eq!(within(&mut connection, "t", async |rows| get(rows, late, 3, AT).await).await, None);
        while attachment_blobs::sweep(&mut connection, AT, 10).await.unwrap() {}
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM attachment_texts").fetch_one(&pool).await.unwrap();
        assert_eq!(left, 0);
    }
}
