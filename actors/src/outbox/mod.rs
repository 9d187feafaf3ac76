//! Carries committed records on: out of the outbox, into the log.
//!
//! | file | holds |
//! | --- | --- |
//! | [`relay`] | the actor `outbox-relay` |
//! | `round` | one round of it: claim, append, settle |
//! | `pace` | how much and how often, by the health of the memory service |
//! | [`settings`], [`metrics`] | the section `outbox` of the configuration; Prometheus |
//!
//! A record leaves the outbox at least once, in the order of its key. What the log refuses for good becomes a dead letter
//! in the same transaction that gives the row up.

pub mod metrics;
mod pace;
pub mod relay;
mod round;
pub mod settings;

pub use metrics::OutboxMetrics;
pub use relay::{OutboxRelay, RelayDeps};
pub use settings::OutboxSettings;
