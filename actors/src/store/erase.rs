//! Takes a session's history away: for a reset, which keeps the envelope, or a deletion, which leaves a tombstone.
//!
//! A long history cannot be deleted in one statement: it would take longer than a statement may. So [`erase`] only raises
//! the envelope's `erased_seq`, below which nobody reads, and [`sweep`] deletes the rows later, page by page. Whoever finds
//! a session in [`unswept`] may go on with it, also two at once: a page deleted twice is deleted.

use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use super::{attachments, audit_event, tus_uploads, wall::TenantTx};
use crate::domain::{append::AuditWrite, ids::SessionKey};

/// What is left of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// The envelope; numbers go on after `head`.
    Envelope,
    /// A tombstone.
    Tombstone,
}

/// Hides all events and turns for good if the fence `(epoch, head)` holds, with their audit row, and deletes the session's
/// attachments. Rows of events and turns are left to [`sweep`]. Returns how many events were erased, or `None` when the writer is stale and nothing was done.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.session_events.erase", skip_all)]
pub async fn erase(
    rows: &mut TenantTx<'_>,
    key: &SessionKey,
    (epoch, head): (i64, i64),
    leave: Leave,
    at: OffsetDateTime,
    audit: &AuditWrite,
) -> Result<Option<u64>, sqlx::Error> {
    let (tenant, id) = (key.tenant.as_str(), key.session_id);
    let is_deleted = leave == Leave::Tombstone;
    let was = sqlx::query!(
        r#"UPDATE session_envelopes AS e
         SET updated_at = $5,
             erased_seq = e.last_seq,
             analysis = '{}',
             title = CASE WHEN $6 THEN NULL ELSE e.title END,
             title_folded = CASE WHEN $6 THEN NULL ELSE e.title_folded END,
             metadata = CASE WHEN $6 THEN '{}' ELSE e.metadata END,
             deleted_at = CASE WHEN $6 THEN $5 ELSE e.deleted_at END
         FROM (
             SELECT tenant, session_id, erased_seq, title, metadata::text, analysis::text
             FROM session_envelopes
             WHERE tenant = $1 AND session_id = $2 AND epoch = $3 AND last_seq = $4 AND deleted_at IS NULL
             FOR UPDATE
         ) AS before
         WHERE e.tenant = before.tenant AND e.session_id = before.session_id
         RETURNING before.erased_seq AS "erased!", e.last_seq AS "last!", COALESCE(before.title, '') AS "title!",
             before.metadata AS "metadata!", before.analysis AS "analysis!""#,
        tenant,
        id,
        epoch,
        head,
        at,
        is_deleted,
    )
    .fetch_optional(&mut **rows)
    .await?;
    let Some(was) = was else { return Ok(None) };
    // Which events there were is told by their numbers, which have no gaps: their content may be more than can be read at once.
    let events = was.last - was.erased;
    let history = if events > 0 { format!("{} to {}", was.erased + 1, was.last) } else { String::new() };
    let mut audit = changed(audit.clone(), "history", &history, "");
    let attachments = attachments::delete_of_session(rows, key, at).await?;
    // What is still on its way to it never comes.
    tus_uploads::remove_of_session(rows, tenant, id).await?;
    if attachments > 0 {
        audit.details["attachments"] = attachments.into();
    }
    audit = changed(audit, "analysis", &was.analysis, "{}");
    if is_deleted {
        audit = changed(audit, "title", &was.title, "");
        audit = changed(audit, "metadata", &was.metadata, "{}");
    }
    audit_event::insert_of_session(rows, key, &audit, at).await?;
    Ok(Some(u64::try_from(events).unwrap_or_default()))
}

/// Keeps a session from being erased until the transaction ends; what is said in it meanwhile is not kept waiting. Returns whether it
/// was deleted already. One that nobody has begun is not.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.session_envelopes.hold_off_erasure", skip_all)]
pub async fn hold_off(rows: &mut TenantTx<'_>, key: &SessionKey) -> Result<bool, sqlx::Error> {
    // Of all writers only `erase` takes a lock with which this one is at odds.
    let deleted = sqlx::query_scalar!(
        r#"SELECT deleted_at IS NOT NULL AS "is_deleted!" FROM session_envelopes
         WHERE tenant = $1 AND session_id = $2
         FOR KEY SHARE"#,
        key.tenant.as_str(),
        key.session_id,
    )
    .fetch_optional(&mut **rows)
    .await?;
    Ok(deleted.unwrap_or_default())
}

fn changed(audit: AuditWrite, name: &str, before: &str, after: &str) -> AuditWrite {
    if before == after { audit } else { audit.changing(name, before.as_bytes(), after.as_bytes()) }
}

/// A session with rows that nobody may read.
#[derive(Clone, Debug)]
pub struct Unswept {
    /// Its tenant.
    pub tenant: String,
    /// Its id.
    pub session_id: Uuid,
    /// Rows up to this number are gone …
    pub swept: i64,
    /// … and those up to this one are to go.
    pub erased: i64,
}

/// Finds up to `limit` sessions with rows to delete.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.session_events.unswept", skip_all)]
pub async fn unswept(connection: &mut PgConnection, limit: i64) -> Result<Vec<Unswept>, sqlx::Error> {
    sqlx::query_as!(
        Unswept,
        "SELECT tenant, session_id, swept_seq AS swept, erased_seq AS erased
         FROM session_envelopes
         WHERE swept_seq < erased_seq
         ORDER BY tenant, session_id
         LIMIT $1",
        limit,
    )
    .fetch_all(connection)
    .await
}

/// Deletes the rows of the next `page` numbers of a session, then notes that they are gone. A crash in between costs one
/// page a second time. The envelope is not locked meanwhile: messages are accepted beside it.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.session_events.sweep", skip_all)]
pub async fn sweep(connection: &mut PgConnection, session: &Unswept, page: i64) -> Result<(), sqlx::Error> {
    let upto = session.erased.min(session.swept.saturating_add(page));
    sqlx::query!(
        "WITH swept AS (
             DELETE FROM turns WHERE tenant = $1 AND session_id = $2 AND turn_seq > $3 AND turn_seq <= $4
         )
         DELETE FROM session_events WHERE tenant = $1 AND session_id = $2 AND seq > $3 AND seq <= $4",
        session.tenant,
        session.session_id,
        session.swept,
        upto,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "UPDATE session_envelopes SET swept_seq = GREATEST(swept_seq, $3) WHERE tenant = $1 AND session_id = $2",
        session.tenant,
        session.session_id,
        upto,
    )
    .execute(connection)
    .await?;
    Ok(())
}
