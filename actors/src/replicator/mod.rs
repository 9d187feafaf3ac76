//! Keeps a copy of what was remembered, as the log tells it, and the log short.
//!
//! | file | holds |
//! | --- | --- |
//! | [`wal_replicator`] | the actor `wal-replicator` |
//! | [`log_keeper`] | the actor `log-keeper`: removes old records of the log inside the database |
//! | `work` | one step of the replicator: apply, and meanwhile commit and read ahead |
//! | `apply` | a batch and its position in one transaction, bad records apart |
//! | [`settings`], [`metrics`] | the section `replicator` of the configuration; Prometheus |
//!
//! The replica's own position, which changes in the transaction that changes the replica, is the truth; the group's
//! commit in the log only tells the log what is done with. So a replicator that dies between the two repeats nothing,
//! and one that has lost its partition changes nothing. A record that cannot be applied becomes a dead letter in that
//! transaction too. A database that is not there is waited for.

mod apply;
pub mod log_keeper;
pub mod metrics;
pub mod settings;
pub mod wal_replicator;
mod work;

pub use log_keeper::{LogKeeper, LogKeeperDeps};
pub use metrics::ReplicatorMetrics;
pub use settings::ReplicatorSettings;
pub use wal_replicator::{ReplicatorDeps, WalReplicator};

#[cfg(test)]
mod tests;
