//! How the replica is kept.

use serde::Deserialize;

/// The section `replicator` of the configuration.
#[derive(Clone, Debug, Deserialize)]
pub struct ReplicatorSettings {
    /// The group under which the log is read: `MEMORY_REPLICATOR_GROUP`.
    pub group: String,
    /// Records applied in one transaction.
    pub batch_size: usize,
}

impl Default for ReplicatorSettings {
    fn default() -> Self {
        Self { group: "memory-replicator".to_owned(), batch_size: 500 }
    }
}
