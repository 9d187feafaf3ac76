//! Which attachments are remembered, and which of those memories are to be taken back.

use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use crate::store::wall::TenantTx;

/// How far the memory of an attachment that was deleted is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is still here.
    Queued,
    /// The memory service is still to be told.
    Withdrawn,
}

impl Stage {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// A memory that is to be taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// Whose it is.
    pub tenant: String,
    /// The attachment that was deleted …
    pub id: Uuid,
    /// … and when.
    pub deleted_at: OffsetDateTime,
}

/// Notes that a memory of an attachment is on its way. Call it in the transaction that puts it there.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.queued", skip_all)]
pub async fn queued(rows: &mut TenantTx<'_>, tenant: &str, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!("UPDATE attachments SET memory = 'queued' WHERE tenant = $1 AND id = $2", tenant, id)
        .execute(&mut **rows)
        .await?;
    Ok(())
}

/// Up to `limit` memories that are to be taken back and got so far, those first whose attachments were deleted first; only those behind
/// `after`, and not those of the tenants `but`.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.forgotten", skip_all)]
pub async fn forgotten(
    connection: &mut PgConnection,
    stage: Stage,
    (after, but): (Option<(OffsetDateTime, Uuid)>, &[String]),
    limit: i64,
) -> Result<Vec<Forgotten>, sqlx::Error> {
    let (deleted_at, id) = after.unzip();
    sqlx::query_as!(
        Forgotten,
        r#"SELECT tenant, id, deleted_at AS "deleted_at!" FROM attachments
         WHERE memory IS NOT NULL AND deleted_at IS NOT NULL AND memory = $1
           AND ($2::timestamptz IS NULL OR (deleted_at, id) > ($2, $3))
           AND tenant <> ALL ($4::text[])
         ORDER BY deleted_at, id
         LIMIT $5"#,
        stage.as_str(),
        deleted_at,
        id,
        but,
        limit,
    )
    .fetch_all(connection)
    .await
}

/// Notes that the memory of an attachment that was deleted is not here any more. Returns whether it still was: else somebody else
/// does this. Call it in the transaction that takes it back.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.withdrawn", skip_all)]
pub async fn withdrawn(rows: &mut TenantTx<'_>, tenant: &str, id: Uuid) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "UPDATE attachments SET memory = 'withdrawn'
         WHERE tenant = $1 AND id = $2 AND memory = 'queued' AND deleted_at IS NOT NULL",
        tenant,
        id,
    )
    .execute(&mut **rows)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Notes that the memory service knows that a memory was taken back.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.forgotten_there", skip_all)]
pub async fn forgotten_there(rows: &mut TenantTx<'_>, tenant: &str, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "UPDATE attachments SET memory = NULL WHERE tenant = $1 AND id = $2 AND memory = 'withdrawn'",
        tenant,
        id,
    )
    .execute(&mut **rows)
    .await?;
    Ok(())
}
