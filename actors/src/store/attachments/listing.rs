//! Attachments of a tenant, the latest first.

use tracing::instrument;
use uuid::Uuid;

use super::Attachment;
use crate::{domain::list_cursor::ListCursor, store::wall::TenantTx};

/// Which attachments are listed; what is `None` says nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachmentFilter {
    /// Those of this session.
    pub session_id: Option<Uuid>,
    /// Those of this status.
    pub status: Option<String>,
    /// Those that were quarantined for this reason, also if they were released since.
    pub quarantine_reason: Option<String>,
    /// Those that were deleted, or those that were not.
    pub deleted: Option<bool>,
}

/// Up to `limit` attachments of the tenant after the place `after`.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.list", skip_all)]
pub async fn list(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    filter: &AttachmentFilter,
    after: Option<ListCursor>,
    limit: i64,
) -> Result<Vec<Attachment>, sqlx::Error> {
    sqlx::query_as!(
        Attachment,
        "SELECT id, tenant, session_id, persona_id, subject, issuer, filename, mime, declared_mime, size, sha256, status,
                quarantine_reason, threat, scanned_at, signatures, blob_id, external_url, created_at, deleted_at, released_at,
                released_by
         FROM attachments
         WHERE tenant = $1
           AND ($2::uuid IS NULL OR session_id = $2)
           AND ($3::text IS NULL OR status = $3)
           AND ($4::text IS NULL OR quarantine_reason = $4)
           AND ($5::boolean IS NULL OR (deleted_at IS NOT NULL) = $5)
           AND ($6::timestamptz IS NULL OR (created_at, id) < ($6, $7))
         ORDER BY created_at DESC, id DESC
         LIMIT $8",
        tenant,
        filter.session_id,
        filter.status,
        filter.quarantine_reason,
        filter.deleted,
        after.map(|after| after.at),
        after.map(|after| after.id),
        limit,
    )
    .fetch_all(&mut **rows)
    .await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use sqlx::PgPool;
    use time::{Duration, OffsetDateTime};

    use super::*;
    use crate::store::{
        attachments::tests::{of, put},
        wall::within,
    };

    #[sqlx::test(migrations = "../migrations")]
    async fn a_list_has_what_fits_from_the_latest_on_and_nothing_of_others(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        let at = |second| OffsetDateTime::UNIX_EPOCH + Duration::seconds(second);
        let clean =
            |created_at| Attachment { status: "clean".into(), quarantine_reason: None, created_at, ..of("t", None) };
        let infected = Attachment { created_at: at(1), ..of("t", None) };
        let twins = [clean(at(2)), clean(at(2))];
        let elsewhere = Attachment { session_id: None, ..clean(at(3)) };
        let deleted = Attachment { deleted_at: Some(at(9)), ..clean(at(4)) };
        for new in [&infected, &twins[0], &twins[1], &elsewhere, &deleted, &of("u", None)] {
            put(&mut connection, new).await;
        }
        let mut listed = async |filter: AttachmentFilter, after: Option<ListCursor>, limit| {
            let found = within(&mut connection, "t", async |rows| list(rows, "t", &filter, after, limit).await).await;
            found.into_iter().map(|found| found.id).collect::<Vec<_>>()
        };
        let mut both = twins.each_ref().map(|twin| twin.id);
        both.sort_unstable();
        both.reverse();
        let all = [deleted.id, elsewhere.id, both[0], both[1], infected.id];
        let any = AttachmentFilter::default;
        assert_eq!(listed(any(), None, 9).await, all);
        assert_eq!(listed(any(), None, 3).await, all[..3]);
        let place = ListCursor { at: at(2), id: both[0] };
        assert_eq!(listed(any(), Some(place), 9).await, all[3..], "of two of one moment the second is not left out");
        let of_session = AttachmentFilter { session_id: infected.session_id, deleted: Some(false), ..any() };
        assert_eq!(listed(of_session, None, 9).await, all[2..]);
        assert_eq!(listed(AttachmentFilter { deleted: Some(true), ..any() }, None, 9).await, all[..1]);
        assert_eq!(listed(AttachmentFilter { status: Some("quarantined".into()), ..any() }, None, 9).await, all[4..]);
        let reason = |reason: &str| AttachmentFilter { quarantine_reason: Some(reason.into()), ..any() };
        assert_eq!(listed(reason("infected"), None, 9).await, all[4..]);
        assert!(listed(reason("av_error"), None, 9).await.is_empty());
    }
}
