//! Bounded reads of the audit trail: they wake no actor.

use bytes::Bytes;

pub use crate::store::audit_trail::{TrailFilter, TrailRow};
use crate::{
    domain::{ids::Tenant, lines::Lines},
    store::{
        Store, StoreError,
        audit_trail::{self, From, TrailPage},
    },
};

/// Rows of an export read at a time.
const PAGE: i64 = 500;
/// Pages without enough rows that one list looks through.
const MOST_LOOKS: usize = 20;

/// Reads the audit trail.
#[derive(Clone, Debug)]
pub struct Trail {
    store: Store,
}

/// A page of a list.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// The rows, the newest first.
    pub items: Vec<TrailRow>,
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
            listed.items.extend(page.rows);
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
            lines: Lines::default(),
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
    lines: Lines,
    ended: bool,
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
                self.left -= i64::try_from(page.rows.len()).unwrap_or(self.left);
                return Ok(Some(self.lines.pack(page.rows).into()));
            }
        }
        Ok((!std::mem::replace(&mut self.ended, true)).then(|| self.lines.trailer(self.after).into()))
    }
}

#[cfg(test)]
mod tests;
