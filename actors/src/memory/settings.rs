//! What the process configures about reads and changes of memories.

use std::time::Duration;

use serde::Deserialize;

/// The section `memory` of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MemorySettings {
    /// Most items of one batch of writes.
    pub batch_max_items: usize,
    /// Most rows of one export.
    pub export_max_rows: u64,
    /// Rows that an export reads at a time.
    pub export_page_size: u32,
    /// Exports at a time; others wait.
    pub export_concurrency: usize,
    /// Whether an export must name its tenant.
    pub export_require_tenant: bool,
    /// Milliseconds that a read waits at most for the replica to have come as far as it asks.
    pub offset_wait_ms: u64,
    /// Whether the replica gets an index for text anywhere in a memory, where the server can make one.
    pub search_index: bool,
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self {
            batch_max_items: 500,
            export_max_rows: 100_000,
            export_page_size: 1_000,
            export_concurrency: 2,
            export_require_tenant: false,
            offset_wait_ms: 5_000,
            search_index: false,
        }
    }
}

impl MemorySettings {
    /// How long a read waits at most for the replica to have come as far as it asks.
    #[must_use]
    pub const fn offset_wait(&self) -> Duration {
        Duration::from_millis(self.offset_wait_ms)
    }
}
