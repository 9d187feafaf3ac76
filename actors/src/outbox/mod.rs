//! Carries on what was committed: memories to the memory service, records to the log.
//!
//! | file | holds |
//! | --- | --- |
//! | [`relay`] | the actor `outbox-relay` |
//! | `round` | one round of it: claim, append, settle; `headers` tells what its records hold |
//! | [`memory_sync`] | the actor `memory-sync` |
//! | `claiming` | its claims: what of which sessions is written now |
//! | `write` | its work on one session: write, settle; `sending` asks the policy and the memory service |
//! | [`through`] | memories that somebody waits for |
//! | [`finish`] | how both end |
//! | `pace` | how much and how often, by the health of the memory service |
//! | [`settings`], [`metrics`] | the sections `outbox` and `memory_sync` of the configuration; Prometheus |
//!
//! Both are done at least once and in the order of a session: the memory service and the readers of the log know a repetition
//! by its key. A memory that was taken puts its record for the log into the outbox in the transaction that marks it sent.
//! What is refused for good becomes a dead letter in the transaction that gives the row up.

mod claiming;
pub mod finish;
mod headers;
pub mod memory_sync;
pub mod metrics;
mod pace;
pub mod relay;
mod round;
mod sending;
pub mod settings;
pub mod through;
mod write;

pub use finish::Finish;
pub use memory_sync::{MemorySync, MemorySyncDeps};
pub use metrics::{MemorySyncMetrics, OutboxMetrics};
pub use relay::{OutboxRelay, RelayDeps};
pub use settings::QueueSettings;
pub use through::{Cause, Outcome, WriteThrough};
