//! Attachments that are looked through again: which are due, and what follows from what was found.

use sqlx::PgConnection;
use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use crate::store::{
    attachment_blobs::{self, Sum},
    wall::TenantTx,
};

/// The lease of whoever does this.
const LEASE: &str = "attachment_rescans";

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// What was sent before that is left alone.
    pub sent_since: OffsetDateTime,
    /// What was last tried since then is, too.
    pub tried_before: OffsetDateTime,
    /// What was looked through before that is due …
    pub scanned_before: OffsetDateTime,
    /// … and what was by signatures of a lower number.
    pub signatures: i64,
}

/// Bytes that are due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Whose.
    pub tenant: String,
    /// Which.
    pub blob_id: Uuid,
    /// How many.
    pub size: i64,
}

/// Takes the lease for `claim`, or keeps it. Returns whether `claim` has it until `until`.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.lease_rescans", skip_all)]
pub async fn lease(
    connection: &mut PgConnection,
    claim: Uuid,
    now: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<bool, sqlx::Error> {
    let held = sqlx::query!(
        "INSERT INTO outbox_leases AS l (queue, scope, key, claim, lease_until) VALUES ($1, '', '', $2, $4)
         ON CONFLICT (queue, scope, key) DO UPDATE SET claim = EXCLUDED.claim, lease_until = EXCLUDED.lease_until
         WHERE l.claim = $2 OR l.lease_until <= $3",
        LEASE,
        claim,
        now,
        until,
    )
    .execute(connection)
    .await?;
    Ok(held.rows_affected() == 1)
}

/// Gives the lease back.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.end_rescans", skip_all)]
pub async fn end(connection: &mut PgConnection, claim: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!("DELETE FROM outbox_leases WHERE queue = $1 AND scope = '' AND key = '' AND claim = $2", LEASE, claim)
        .execute(connection)
        .await?;
    Ok(())
}

/// The bytes that are due next, those first that were looked through longest ago or never: those of attachments that are clean, or
/// that nobody could look through.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.due_for_rescan", skip_all)]
pub async fn next(connection: &mut PgConnection, terms: Terms) -> Result<Option<Due>, sqlx::Error> {
    sqlx::query_as!(
        Due,
        r#"SELECT tenant, blob_id AS "blob_id!", size FROM attachments
         WHERE blob_id IS NOT NULL AND created_at >= $1
           AND (status = 'clean' OR quarantine_reason = 'av_error')
           AND (rescan_tried_at IS NULL OR rescan_tried_at < $2)
           AND (
               scanned_at IS NULL OR scanned_at < $3
               OR CASE WHEN signatures ~ '/[0-9]{1,9}$' THEN substring(signatures FROM '[0-9]+$')::bigint ELSE 0 END < $4
           )
         ORDER BY scanned_at NULLS FIRST, id
         LIMIT 1"#,
        terms.sent_since,
        terms.tried_before,
        terms.scanned_before,
        terms.signatures,
    )
    .fetch_optional(connection)
    .await
}

/// How many attachments are due.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.count_due_for_rescan", skip_all)]
pub async fn waiting(connection: &mut PgConnection, terms: Terms) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM attachments
         WHERE blob_id IS NOT NULL AND created_at >= $1
           AND (status = 'clean' OR quarantine_reason = 'av_error')
           AND (rescan_tried_at IS NULL OR rescan_tried_at < $2)
           AND (
               scanned_at IS NULL OR scanned_at < $3
               OR CASE WHEN signatures ~ '/[0-9]{1,9}$' THEN substring(signatures FROM '[0-9]+$')::bigint ELSE 0 END < $4
           )"#,
        terms.sent_since,
        terms.tried_before,
        terms.scanned_before,
        terms.signatures,
    )
    .fetch_one(connection)
    .await
}

/// Notes that bytes could not be looked through: they are not tried again at once.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.tried_to_rescan", skip_all)]
pub async fn tried(rows: &mut TenantTx<'_>, tenant: &str, blob: Uuid, at: OffsetDateTime) -> Result<(), sqlx::Error> {
    sqlx::query!("UPDATE attachments SET rescan_tried_at = $3 WHERE tenant = $1 AND blob_id = $2", tenant, blob, at)
        .execute(&mut **rows)
        .await?;
    Ok(())
}

/// What was found in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Why nobody is to get them, if that is so.
    pub reason: Option<&'static str>,
    /// What was found.
    pub threat: Option<String>,
    /// By which signatures.
    pub signatures: Option<String>,
    /// Whether that nothing was found lets out what was quarantined for something that was; in any case it lets out what could
    /// not be looked through.
    pub acquits: bool,
    /// Whether bytes in which something was found are dropped.
    pub drops_bytes: bool,
}

/// An attachment that was judged again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Which.
    pub id: Uuid,
    /// Its session, if it has one.
    pub session_id: Option<Uuid>,
    /// What it was …
    pub before: String,
    /// … and what it is now.
    pub after: String,
    /// Its bytes.
    pub blob_id: Uuid,
}

/// Keeps everybody else from all attachments of the tenant that have bytes of these SHA-256, until the transaction ends. Call it before
/// several are [judged](judge): each of those would lock some, and others lock them in the order of their ids.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.hold_all", skip_all)]
pub async fn hold_all(rows: &mut TenantTx<'_>, tenant: &str, sums: &[&str]) -> Result<(), sqlx::Error> {
    sqlx::query_scalar!(
        "SELECT id FROM attachments
         WHERE tenant = $1 AND blob_id IS NOT NULL AND sha256 = ANY ($2::text[])
         ORDER BY id
         FOR UPDATE",
        tenant,
        sums as _,
    )
    .fetch_all(&mut **rows)
    .await?;
    Ok(())
}

/// Writes down what was found in bytes, for all attachments of the tenant that have them, also where they are kept twice. One that
/// was released in spite of the very same finding stays released.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.attachments.judge", skip_all)]
pub async fn judge(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    bytes: &Sum,
    finding: &Finding,
    at: OffsetDateTime,
) -> Result<Vec<Judged>, sqlx::Error> {
    // Whoever keeps the same bytes meanwhile, and looked through them before, waits, and then knows of this; or this waits.
    attachment_blobs::lock_sums(rows, tenant, &[&bytes.sha256]).await?;
    let judged = sqlx::query_as!(
        Judged,
        "WITH was AS (
             SELECT id, status, blob_id,
                    released_at IS NOT NULL
                        AND ($3::text IS NULL OR quarantine_reason = $3 AND threat IS NOT DISTINCT FROM $4) AS stays
             FROM attachments
             WHERE tenant = $1 AND blob_id IS NOT NULL AND sha256 = $2 AND size = $8
               AND ($3 IS NOT NULL OR status = 'clean' OR quarantine_reason = 'av_error' OR $6)
             ORDER BY id
             FOR UPDATE
         )
         UPDATE attachments AS a
         SET scanned_at = $7,
             rescan_tried_at = $7,
             signatures = $5,
             status = CASE WHEN stays OR $3 IS NULL THEN 'clean' ELSE 'quarantined' END,
             quarantine_reason = CASE WHEN stays THEN quarantine_reason ELSE $3 END,
             threat = CASE WHEN stays THEN threat ELSE $4 END,
             released_at = CASE WHEN stays THEN released_at END,
             released_by = CASE WHEN stays THEN released_by END
         FROM was
         WHERE a.id = was.id
         RETURNING a.id, a.session_id, was.status AS before, a.status AS after, was.blob_id AS \"blob_id!\"",
        tenant,
        bytes.sha256,
        finding.reason,
        finding.threat,
        finding.signatures,
        finding.acquits,
        at,
        bytes.size,
    )
    .fetch_all(&mut **rows)
    .await?;
    let dropped = judged.iter().filter(|judged| finding.drops_bytes && judged.after == "quarantined");
    let (dropped, blobs): (Vec<Uuid>, Vec<Uuid>) = dropped.map(|judged| (judged.id, judged.blob_id)).unzip();
    if !dropped.is_empty() {
        sqlx::query!("UPDATE attachments SET blob_id = NULL WHERE tenant = $1 AND id = ANY ($2)", tenant, &dropped)
            .execute(&mut **rows)
            .await?;
        attachment_blobs::release_all(rows, &vec![tenant.to_owned(); blobs.len()], &blobs).await?;
    }
    Ok(judged)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use sqlx::PgPool;
    use time::Duration;

    use super::*;
    use crate::store::{
        attachment_blobs::tests::{counts, whole},
        attachments::{
            Attachment,
            tests::{of, put, read},
        },
        wall::within,
    };

    const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn at(seconds: i64) -> OffsetDateTime {
        AT + Duration::seconds(seconds)
    }

    fn clean(blob: Uuid) -> Attachment {
        Attachment {
            status: "clean".into(),
            quarantine_reason: None,
            threat: None,
            scanned_at: Some(at(10)),
            signatures: Some("ClamAV 1/27".into()),
            ..of("t", Some(blob))
        }
    }

    const TERMS: Terms = Terms { sent_since: AT, tried_before: AT, scanned_before: AT, signatures: 0 };

    #[sqlx::test(migrations = "../migrations")]
    async fn what_is_due_is_young_and_was_looked_through_long_ago_or_by_older_signatures_or_never(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        let young = Terms { tried_before: at(50), ..TERMS };
        for (change, terms, is_due) in [
            ("status = status", young, false),
            ("status = status", Terms { signatures: 27, ..young }, false),
            ("status = status", Terms { signatures: 28, ..young }, true),
            ("signatures = 'ClamAV 1'", Terms { signatures: 28, ..young }, true),
            ("status = status", Terms { signatures: 28, sent_since: at(1), ..young }, false),
            ("status = status", Terms { scanned_before: at(10), ..young }, false),
            ("status = status", Terms { scanned_before: at(11), ..young }, true),
            ("scanned_at = NULL, signatures = NULL", young, true),
            ("scanned_at = NULL, rescan_tried_at = '1970-01-01 00:00:50Z'", young, false),
            ("scanned_at = NULL, rescan_tried_at = '1970-01-01 00:00:49Z'", young, true),
            ("scanned_at = NULL, status = 'quarantined', quarantine_reason = 'av_error'", young, true),
            ("scanned_at = NULL, status = 'quarantined', quarantine_reason = 'infected'", young, false),
            ("scanned_at = NULL, blob_id = NULL", young, false),
        ] {
            sqlx::raw_sql("TRUNCATE attachments, attachment_blobs CASCADE").execute(&mut *connection).await.unwrap();
            let blob = whole(&mut connection, "t", &[b"hello"]).await;
            put(&mut connection, &clean(blob)).await;
            let change = format!("UPDATE attachments SET {change}");
            sqlx::raw_sql(sqlx::AssertSqlSafe(change.clone())).execute(&mut *connection).await.unwrap();
            let due = next(&mut connection, terms).await.unwrap();
            let expected = is_due.then(|| Due { tenant: "t".into(), blob_id: blob, size: 5 });
            assert_eq!(due, expected, "{change} {terms:?}");
            assert_eq!(waiting(&mut connection, terms).await.unwrap(), i64::from(is_due), "{change} {terms:?}");
        }
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn what_is_found_counts_for_all_that_have_the_bytes_but_for_those_released_in_spite_of_it(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        let blob = whole(&mut connection, "t", &[b"hello"]).await;
        let released = |threat: &str| Attachment {
            quarantine_reason: Some("infected".into()),
            threat: Some(threat.into()),
            released_at: Some(at(20)),
            released_by: Some("root".into()),
            ..clean(blob)
        };
        let unseen =
            Attachment { status: "quarantined".into(), quarantine_reason: Some("av_error".into()), ..clean(blob) };
        let infected = Attachment {
            status: "quarantined".into(),
            threat: Some("Old".into()),
            quarantine_reason: Some("infected".into()),
            ..clean(blob)
        };
        let all = [clean(blob), released("Bad"), released("Other"), unseen, infected];
        for new in &all {
            let unjudged = Attachment { quarantine_reason: None, ..new.clone() };
            put(&mut connection, if new.released_at.is_some() { &unjudged } else { new }).await;
            if new.released_at.is_some() {
                let sql = "UPDATE attachments SET status = 'clean', quarantine_reason = 'infected', released_at = $2, released_by = 'root' WHERE id = $1";
                sqlx::query(sql).bind(new.id).bind(new.released_at).execute(&mut *connection).await.unwrap();
            }
        }
        let nothing =
            Finding { reason: None, threat: None, signatures: Some("s".into()), acquits: false, drops_bytes: false };
        let bad =
            Finding { reason: Some("infected"), threat: Some("Bad".into()), drops_bytes: true, ..nothing.clone() };
        let bytes = Sum { sha256: "5f".to_owned(), size: 5 };
        for (finding, expected) in [
            (nothing.clone(), ["clean", "clean", "clean", "clean", "quarantined"]),
            (
                Finding { drops_bytes: false, ..bad.clone() },
                ["quarantined", "clean", "quarantined", "quarantined", "quarantined"],
            ),
            (Finding { acquits: true, ..nothing }, ["clean"; 5]),
            (bad, ["quarantined", "clean", "quarantined", "quarantined", "quarantined"]),
        ] {
            let judged =
                within(&mut connection, "t", async |rows| judge(rows, "t", &bytes, &finding, at(60)).await).await;
            assert!(judged.len() >= 4, "{judged:?}");
            for (new, status) in all.iter().zip(expected) {
                let found = read(&mut connection, "t", new.id).await.unwrap();
                assert_eq!(found.status, status, "{finding:?} {:?}", new.threat);
                assert_eq!(found.quarantine_reason.is_some(), status == "quarantined" || found.released_at.is_some());
                assert_eq!(found.blob_id.is_none(), finding.drops_bytes && status == "quarantined");
            }
            assert_eq!(counts(&pool).await.0, 1, "one that was released has the bytes");
        }
        let kept = read(&mut connection, "t", all[1].id).await.unwrap();
        assert_eq!((kept.threat.as_deref(), kept.released_by.as_deref()), (Some("Bad"), Some("root")));
        assert_eq!((kept.scanned_at, kept.signatures.as_deref()), (Some(at(60)), Some("s")));
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn one_at_a_time_has_the_lease_and_keeps_it_until_its_end(pool: PgPool) {
        let mut connection = pool.acquire().await.unwrap();
        let [one, two] = [1, 2].map(Uuid::from_u128);
        assert!(lease(&mut connection, one, at(0), at(10)).await.unwrap());
        assert!(!lease(&mut connection, two, at(9), at(20)).await.unwrap());
        assert!(lease(&mut connection, one, at(9), at(20)).await.unwrap(), "whoever has it keeps it");
        assert!(lease(&mut connection, two, at(20), at(30)).await.unwrap());
        end(&mut connection, one).await.unwrap();
        assert!(!lease(&mut connection, one, at(21), at(40)).await.unwrap(), "it was not theirs to give back");
        end(&mut connection, two).await.unwrap();
        assert!(lease(&mut connection, one, at(22), at(40)).await.unwrap());
    }
}
