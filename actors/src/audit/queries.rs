//! Bounded reads of the audit trail: they wake no actor.

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use time::{UtcOffset, format_description::StaticFormatDescription, macros::format_description};
use uuid::Uuid;

pub use crate::store::audit_trail::TrailFilter;
use crate::{
    domain::{hex::hex, ids::Tenant},
    store::{
        Store, StoreError,
        audit_trail::{self, From, TrailPage, TrailRow},
    },
};

/// Rows of an export read at a time.
const PAGE: i64 = 500;
/// Pages without enough rows that one list looks through.
const MOST_LOOKS: usize = 20;

const FORMAT: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");

/// Reads the audit trail.
#[derive(Clone, Debug)]
pub struct Trail {
    store: Store,
}

/// A row as people see it.
#[derive(Clone, Debug, Serialize)]
pub struct TrailItem {
    /// Its number.
    pub id: i64,
    /// When, RFC 3339 in UTC.
    pub ts: String,
    /// In which request.
    pub request_id: Option<String>,
    /// In which trace.
    pub trace_id: Option<String>,
    /// As a step of what.
    pub workflow_id: Option<String>,
    /// In which session.
    pub session_id: Option<Uuid>,
    /// Whose.
    pub tenant: String,
    /// Who.
    pub subject: Option<String>,
    /// Who vouched for them.
    pub issuer: Option<String>,
    /// What was done.
    pub action: String,
    /// To what kind of thing.
    pub resource: String,
    /// To which one.
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

impl std::convert::From<TrailRow> for TrailItem {
    fn from(row: TrailRow) -> Self {
        Self {
            id: row.id,
            ts: row.ts.to_offset(UtcOffset::UTC).format(FORMAT).unwrap_or_default(),
            request_id: row.request_id,
            trace_id: row.trace_id,
            workflow_id: row.workflow_id,
            session_id: row.session_id,
            tenant: row.tenant,
            subject: row.subject,
            issuer: row.issuer,
            action: row.action,
            resource: row.resource,
            target_id: row.target_id,
            decision: row.decision,
            ip: row.ip,
            user_agent: row.user_agent,
            details: row.details,
            diff: row.diff,
        }
    }
}

/// A page of a list.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// The rows, the newest first.
    pub items: Vec<TrailItem>,
    /// Where the next page begins, if there may be one.
    pub next: Option<i64>,
}

impl Trail {
    /// Reads from `store`.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Up to `limit` rows of `tenant` before the row `before`, the newest first. Where rows that pass the filter are rare a
    /// page has fewer, or none, and there may be more all the same.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(
        &self,
        tenant: &Tenant,
        filter: &TrailFilter,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Listed, StoreError> {
        let mut listed = Listed { items: Vec::new(), next: Some(before.unwrap_or(i64::MAX)) };
        for _ in 0..MOST_LOOKS {
            let left = limit - i64::try_from(listed.items.len()).unwrap_or(limit);
            let Some(from) = listed.next.filter(|_| left > 0) else { break };
            let page = self.page(tenant, filter, From::Before(from), left).await?;
            listed.items.extend(page.rows.into_iter().map(TrailItem::from));
            listed.next = page.next;
        }
        Ok(listed)
    }

    /// Begins an export of `tenant`'s rows after the row `after`, at most `limit`, the oldest first.
    #[must_use]
    pub fn export(&self, tenant: &Tenant, filter: TrailFilter, after: i64, limit: i64) -> TrailExport {
        TrailExport {
            trail: self.clone(),
            tenant: tenant.clone(),
            filter,
            after: Some(after),
            left: limit,
            rows: 0,
            hash: Sha256::new(),
            ended: false,
        }
    }

    async fn page(
        &self,
        tenant: &Tenant,
        filter: &TrailFilter,
        from: From,
        limit: i64,
    ) -> Result<TrailPage, StoreError> {
        let (whose, filter) = (tenant.clone(), filter.clone());
        let work = self.store.search_for(tenant.clone(), move |rows| {
            Box::pin(async move { audit_trail::page(rows, whose.as_str(), &filter, from, limit).await })
        });
        work.await
    }
}

/// An export under way: lines of JSON, a page at a time, and a last line by which a reader knows that it has all of them. It
/// holds no connection between two pages.
#[derive(Debug)]
pub struct TrailExport {
    trail: Trail,
    tenant: Tenant,
    filter: TrailFilter,
    after: Option<i64>,
    left: i64,
    rows: u64,
    hash: Sha256,
    ended: bool,
}

/// The last line.
#[derive(Serialize)]
struct Trailer {
    r#type: &'static str,
    /// Lines before this one.
    rows: u64,
    /// SHA-256 of their bytes, line ends included.
    sha256: String,
    /// Where the next export goes on, if there may be more.
    cursor: Option<i64>,
}

impl TrailExport {
    /// The next lines, `None` after the last one.
    ///
    /// # Errors
    /// The store's. The same page is read again by the next call.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        while let Some(after) = self.after.filter(|_| self.left > 0) {
            let page = self.trail.page(&self.tenant, &self.filter, From::After(after), PAGE.min(self.left)).await?;
            self.after = page.next;
            if !page.rows.is_empty() {
                return Ok(Some(self.lines(page.rows)));
            }
        }
        Ok((!std::mem::replace(&mut self.ended, true)).then(|| self.trailer()))
    }

    fn lines(&mut self, rows: Vec<TrailRow>) -> Bytes {
        let mut lines = Vec::new();
        for row in rows {
            self.rows += 1;
            self.left -= 1;
            // Nothing of an item can fail to be written.
            serde_json::to_writer(&mut lines, &TrailItem::from(row)).unwrap_or_default();
            lines.push(b'\n');
        }
        self.hash.update(&lines);
        lines.into()
    }

    fn trailer(&self) -> Bytes {
        let sha256 = hex(&self.hash.clone().finalize());
        let trailer = Trailer { r#type: "trailer", rows: self.rows, sha256, cursor: self.after };
        let mut line = serde_json::to_vec(&trailer).unwrap_or_default();
        line.push(b'\n');
        line.into()
    }
}

#[cfg(test)]
mod tests;
