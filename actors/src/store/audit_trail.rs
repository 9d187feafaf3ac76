//! Reads of table `audit_event` for people.

use serde::{Serialize, Serializer, ser::Error as _};
use serde_json::Value;
use time::{OffsetDateTime, UtcOffset, format_description::StaticFormatDescription, macros::format_description};
use tracing::instrument;
use uuid::Uuid;

use super::wall::TenantTx;

/// Rows looked at by one query that has no index for what it looks for.
const WINDOW: i64 = 5_000;

const FORMAT: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// A row of the audit trail, also as people see it.
#[derive(Clone, Debug, Serialize)]
pub struct TrailRow {
    /// Its number; later changes have higher ones.
    pub id: i64,
    /// When; people see RFC 3339 in UTC.
    #[serde(serialize_with = "in_utc")]
    pub ts: OffsetDateTime,
    /// In which request.
    pub request_id: Option<String>,
    /// In which trace.
    pub trace_id: Option<String>,
    /// As a step of what.
    pub workflow_id: Option<String>,
    /// In which session, if in one.
    pub session_id: Option<Uuid>,
    /// Whose.
    pub tenant: String,
    /// Who.
    pub subject: Option<String>,
    /// Who vouched for them.
    pub issuer: Option<String>,
    /// What was done …
    pub action: String,
    /// … to what kind of thing …
    pub resource: String,
    /// … and to which one.
    pub target_id: Option<String>,
    /// SHA-256 of what the policy was asked.
    pub decision: Option<String>,
    /// From which address.
    pub ip: Option<String>,
    /// With which program.
    pub user_agent: Option<String>,
    /// Names and sizes.
    pub details: Option<Value>,
    /// Sums of what was before and after.
    pub diff: Option<Value>,
}

/// Writes a time as people see it.
fn in_utc<S: Serializer>(ts: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    let text = ts.to_offset(UtcOffset::UTC).format(FORMAT).map_err(S::Error::custom)?;
    serializer.serialize_str(&text)
}

/// Which rows.
#[derive(Clone, Debug, Default)]
pub struct TrailFilter {
    /// Of this request.
    pub request_id: Option<String>,
    /// Of this session.
    pub session_id: Option<Uuid>,
    /// That are steps of this.
    pub workflow_id: Option<String>,
    /// Where this was done.
    pub action: Option<String>,
    /// Written then or later.
    pub since: Option<OffsetDateTime>,
    /// Written before.
    pub until: Option<OffsetDateTime>,
}

/// From where rows are read, and which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Those after this one, the oldest first.
    After(i64),
    /// Those before this one, the newest first.
    Before(i64),
}

/// Some rows.
#[derive(Clone, Debug, Default)]
pub struct TrailPage {
    /// Those that pass the filter; fewer than were asked for, or none, although there may be more.
    pub rows: Vec<TrailRow>,
    /// The last row that was looked at, if there may be more behind it.
    pub next: Option<i64>,
}

/// Runs a query for rows of `audit_event AS a`: its text behind their columns, and its arguments.
macro_rules! trail {
    ($after:tt, $($argument:expr),+ $(,)?) => {
        sqlx::query_as!(
            TrailRow,
            r#"SELECT a.id, a.ts, a.tenant, a.session_id, a.request_id, a.trace_id, a.workflow_id, a.subject, a.issuer,
                      a.action, a.resource, a.target_id, a.decision, a.details, a.diff, host(a.ip) AS ip, a.user_agent
               FROM audit_event AS a "#
                + $after,
            $($argument),+
        )
    };
}

/// Reads up to `limit` rows of `tenant`. What takes long to find comes page by page.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.audit_event.page", skip_all)]
pub async fn page(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    filter: &TrailFilter,
    from: From,
    limit: i64,
) -> Result<TrailPage, sqlx::Error> {
    // The rows of a session have an index.
    let window = if filter.session_id.is_some() { i64::MAX } else { WINDOW };
    let (last, whole) = seen(rows, tenant, from, window).await?;
    let Some(last) = last else { return Ok(TrailPage::default()) };
    let found = match from {
        From::After(after) => {
            trail!(
                "WHERE a.tenant = $1 AND a.id > $2 AND a.id <= $3
                   AND ($4::text IS NULL OR a.request_id = $4) AND ($5::uuid IS NULL OR a.session_id = $5)
                   AND ($6::text IS NULL OR a.action = $6) AND ($7::timestamptz IS NULL OR a.ts >= $7)
                   AND ($8::timestamptz IS NULL OR a.ts < $8) AND ($10::text IS NULL OR a.workflow_id = $10)
                 ORDER BY a.id
                 LIMIT $9",
                tenant,
                after,
                last,
                filter.request_id,
                filter.session_id,
                filter.action,
                filter.since,
                filter.until,
                limit,
                filter.workflow_id,
            )
            .fetch_all(&mut **rows)
            .await?
        }
        From::Before(before) => {
            trail!(
                "WHERE a.tenant = $1 AND a.id < $2 AND a.id >= $3
                   AND ($4::text IS NULL OR a.request_id = $4) AND ($5::uuid IS NULL OR a.session_id = $5)
                   AND ($6::text IS NULL OR a.action = $6) AND ($7::timestamptz IS NULL OR a.ts >= $7)
                   AND ($8::timestamptz IS NULL OR a.ts < $8) AND ($10::text IS NULL OR a.workflow_id = $10)
                 ORDER BY a.id DESC
                 LIMIT $9",
                tenant,
                before,
                last,
                filter.request_id,
                filter.session_id,
                filter.action,
                filter.since,
                filter.until,
                limit,
                filter.workflow_id,
            )
            .fetch_all(&mut **rows)
            .await?
        }
    };
    let is_full = i64::try_from(found.len()).is_ok_and(|found| found >= limit);
    let next = if is_full { found.last().map(|row| row.id) } else { whole.then_some(last) };
    Ok(TrailPage { rows: found, next })
}

/// The last of the next `window` rows, and whether there were so many.
async fn seen(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    from: From,
    window: i64,
) -> Result<(Option<i64>, bool), sqlx::Error> {
    if window == i64::MAX {
        return Ok((Some(if matches!(from, From::After(_)) { i64::MAX } else { 0 }), false));
    }
    let (last, count) = match from {
        From::After(after) => {
            let row = sqlx::query!(
                r#"SELECT max(id) AS last, count(*) AS "count!"
                   FROM (SELECT id FROM audit_event WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3) AS seen"#,
                tenant,
                after,
                window,
            );
            row.fetch_one(&mut **rows).await.map(|row| (row.last, row.count))?
        }
        From::Before(before) => {
            let row = sqlx::query!(
                r#"SELECT min(id) AS last, count(*) AS "count!"
                   FROM (SELECT id FROM audit_event WHERE tenant = $1 AND id < $2 ORDER BY id DESC LIMIT $3) AS seen"#,
                tenant,
                before,
                window,
            );
            row.fetch_one(&mut **rows).await.map(|row| (row.last, row.count))?
        }
    };
    Ok((last, count == window))
}
