//! An export: lines of JSON, a page at a time, and a last line by which a reader knows that it has all of them.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use sha2::{
    Digest, Sha256,
    digest::common::hazmat::{SerializableState, SerializedState},
};
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
    /// Lines so far, the last one not counted.
    pub(super) rows: u64,
    hash: Sha256,
}

impl Progress {
    /// Before the row `cursor`, with at most `left` rows.
    pub(super) fn beginning(cursor: Option<i64>, left: u64) -> Self {
        Self { cursor, left, rows: 0, hash: Sha256::new() }
    }

    /// After `rows` lines whose checksum [`digest`](Self::digest) gave. `None` if these bytes are no checksum.
    pub(super) fn after(cursor: Option<i64>, left: u64, rows: u64, digest: &[u8]) -> Option<Self> {
        let state = SerializedState::<Sha256>::try_from(digest).ok()?;
        Some(Self { rows, hash: Sha256::deserialize(&state).ok()?, ..Self::beginning(cursor, left) })
    }

    /// The checksum of the lines so far, as it stands between two of them.
    pub(super) fn digest(&self) -> Vec<u8> {
        self.hash.serialize().to_vec()
    }

    /// SHA-256 of the lines so far and `last` behind them.
    pub(super) fn sha256(&self, last: &[u8]) -> Vec<u8> {
        self.hash.clone().chain_update(last).finalize().to_vec()
    }
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
        let mut lines = Vec::new();
        for row in found {
            self.progress.cursor = Some(row.id);
            self.progress.rows += 1;
            self.progress.left -= 1;
            // Nothing of an item can fail to be written.
            serde_json::to_writer(&mut lines, &MemoryItem::exported(row)).unwrap_or_default();
            lines.push(b'\n');
        }
        self.progress.hash.update(&lines);
        Ok(Some(lines.into()))
    }

    fn trailer(&mut self, more: bool) -> Bytes {
        let cursor = self.progress.cursor.filter(|_| more);
        self.progress.cursor = cursor;
        let (rows, sha256) = (self.progress.rows, hex(&self.progress.sha256(b"")));
        let trailer = Trailer { r#type: "trailer", rows, sha256, cursor };
        let mut line = serde_json::to_vec(&trailer).unwrap_or_default();
        line.push(b'\n');
        line.into()
    }
}

#[cfg(test)]
pub(super) mod tests;
