//! An export: lines of JSON, a page at a time, and a last line by which a reader knows that it has all of them.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    item::MemoryItem,
    queries::{Memories, ReplicaFilter},
};
use crate::{
    domain::{hex::hex, ids::Tenant},
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
    begun_at: OffsetDateTime,
    cursor: Option<i64>,
    left: u64,
    rows: u64,
    hash: Sha256,
    ended: bool,
    _place: Option<OwnedSemaphorePermit>,
}

/// The last line.
#[derive(Serialize)]
struct Trailer {
    r#type: &'static str,
    /// Lines before this one.
    rows: u64,
    /// SHA-256 of their bytes, line ends included.
    sha256: String,
    /// Where the next export goes on, if there is more.
    cursor: Option<i64>,
}

impl Memories {
    /// Begins an export of `tenant`'s memories. Waits for a place.
    pub async fn export(&self, tenant: &Tenant, of: ExportOf) -> Export {
        // Nobody closes the semaphore.
        let place = Arc::clone(&self.exports).acquire_owned().await.ok();
        let most = self.settings.export_max_rows;
        Export {
            memories: self.clone(),
            tenant: tenant.clone(),
            filter: Arc::new(of.filter),
            begun_at: (self.clock)(),
            cursor: of.after,
            left: of.limit.map_or(most, |limit| limit.min(most)),
            rows: 0,
            hash: Sha256::new(),
            ended: false,
            _place: place,
        }
    }
}

impl Export {
    /// When it began.
    #[must_use]
    pub const fn begun_at(&self) -> OffsetDateTime {
        self.begun_at
    }

    /// Lines so far, the last one not counted.
    #[must_use]
    pub const fn rows(&self) -> u64 {
        self.rows
    }

    /// The next lines, `None` after the last one.
    ///
    /// # Errors
    /// The store's. The same page is read again by the next call.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let page = i64::from(self.memories.settings.export_page_size).max(1);
        let rows = page.min(i64::try_from(self.left).unwrap_or(page));
        // Without room for more, the row that would come next tells whether there is one.
        let found = self.memories.page(&self.tenant, &self.filter, self.cursor, rows.max(1)).await?;
        if found.is_empty() || self.left == 0 {
            self.ended = true;
            return Ok(Some(self.trailer(!found.is_empty())));
        }
        let mut lines = Vec::new();
        for row in found {
            self.cursor = Some(row.id);
            self.rows += 1;
            self.left -= 1;
            // Nothing of an item can fail to be written.
            serde_json::to_writer(&mut lines, &MemoryItem::exported(row)).unwrap_or_default();
            lines.push(b'\n');
        }
        self.hash.update(&lines);
        Ok(Some(lines.into()))
    }

    fn trailer(&mut self, more: bool) -> Bytes {
        let sha256 = hex(&self.hash.finalize_reset());
        let cursor = self.cursor.filter(|_| more);
        let trailer = Trailer { r#type: "trailer", rows: self.rows, sha256, cursor };
        let mut line = serde_json::to_vec(&trailer).unwrap_or_default();
        line.push(b'\n');
        line.into()
    }
}

#[cfg(test)]
mod tests;
