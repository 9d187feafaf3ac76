//! An export: lines of JSON, a page at a time, and a last line by which a reader knows that it has all of them.

use std::sync::Arc;

use bytes::Bytes;
use time::OffsetDateTime;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    item::MemoryItem,
    queries::{Memories, ReplicaFilter},
};
use crate::{
    domain::{ids::Tenant, lines::Lines},
    store::StoreError,
};

/// What is exported.
#[derive(Clone, Debug, Default)]
pub struct ExportOf {
    /// Which memories.
    pub filter: ReplicaFilter,
    /// Only rows before this one: the id in the last line that a broken download received.
    pub after: Option<i64>,
    /// Most rows, if less than the settings allow.
    pub limit: Option<u64>,
}

/// An export under way. It holds one of the places for exports, a page at a time, and no connection between two pages.
#[derive(Debug)]
pub struct Export {
    memories: Memories,
    tenant: Tenant,
    filter: Arc<ReplicaFilter>,
    page_rows: u32,
    begun_at: OffsetDateTime,
    progress: Progress,
    ended: bool,
    _place: Option<OwnedSemaphorePermit>,
}

/// How far an export is: what it takes to go on with it, in another process if need be.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// Only rows before this one are left. At the end: where the next export goes on, if there is more.
    pub(super) cursor: Option<i64>,
    /// Most rows that are left.
    left: u64,
    /// What went out.
    pub(super) lines: Lines,
}

impl Progress {
    /// Before the row `cursor`, with at most `left` rows.
    pub(super) fn beginning(cursor: Option<i64>, left: u64) -> Self {
        Self { cursor, left, lines: Lines::default() }
    }

    /// After `rows` lines whose checksum is `digest`. `None` if these bytes are no checksum.
    pub(super) fn after(cursor: Option<i64>, left: u64, rows: u64, digest: &[u8]) -> Option<Self> {
        Some(Self { lines: Lines::after(rows, digest)?, ..Self::beginning(cursor, left) })
    }
}

impl Memories {
    /// Begins an export of `tenant`'s memories. Waits for a place.
    pub async fn export(&self, tenant: &Tenant, of: ExportOf) -> Export {
        // Nobody closes the semaphore.
        let place = Arc::clone(&self.exports).acquire_owned().await.ok();
        let most = self.settings.export_max_rows;
        let left = of.limit.map_or(most, |limit| limit.min(most));
        let progress = Progress::beginning(of.after, left);
        let export = self.go_on(tenant, of.filter, self.settings.export_page_size, progress);
        Export { _place: place, ..export }
    }

    /// Goes on with an export, `page_rows` at a time. It holds no place.
    pub(super) fn go_on(&self, tenant: &Tenant, filter: ReplicaFilter, page_rows: u32, progress: Progress) -> Export {
        Export {
            memories: self.clone(),
            tenant: tenant.clone(),
            filter: Arc::new(filter),
            page_rows,
            begun_at: (self.clock)(),
            progress,
            ended: false,
            _place: None,
        }
    }
}

impl Export {
    /// When it began.
    #[must_use]
    pub const fn begun_at(&self) -> OffsetDateTime {
        self.begun_at
    }

    /// How far it is.
    pub(super) const fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Whether the last line is out.
    pub(super) const fn ended(&self) -> bool {
        self.ended
    }

    /// The next lines, `None` after the last one.
    ///
    /// # Errors
    /// The store's. The same page is read again by the next call.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let (page, left) = (i64::from(self.page_rows).max(1), self.progress.left);
        let rows = page.min(i64::try_from(left).unwrap_or(page));
        // Without room for more, the row that would come next tells whether there is one.
        let found = self.memories.page(&self.tenant, &self.filter, self.progress.cursor, rows.max(1)).await?;
        if found.is_empty() || left == 0 {
            self.ended = true;
            return Ok(Some(self.trailer(!found.is_empty())));
        }
        self.progress.cursor = found.last().map(|row| row.id);
        self.progress.left -= u64::try_from(found.len()).unwrap_or(left);
        Ok(Some(self.progress.lines.pack(found.into_iter().map(MemoryItem::exported)).into()))
    }

    fn trailer(&mut self, more: bool) -> Bytes {
        self.progress.cursor = self.progress.cursor.filter(|_| more);
        self.progress.lines.trailer(self.progress.cursor).into()
    }
}

#[cfg(test)]
pub(super) mod tests;
