//! The audit trail: chains over it, signed ends of the chains, and what tells whether anybody touched them.
//!
//! | file | holds |
//! | --- | --- |
//! | [`sealer`] | the actor that makes the chains |
//! | [`checkpoint`] | signed ends of chains, and takeovers |
//! | [`told`] | the checkpoints that the log has |
//! | [`queries`] | lists and exports |
//! | [`verify`] | finds what does not fit |
//!
//! Every change writes its row in its own transaction (`store::audit_event`). The chains are made afterwards: a chain is one
//! row after the other, and the changes of a tenant are not. Whoever owns the database can make a chain anew; that it was
//! another one before is known by the checkpoints, which are where the owner of the database is not.

pub mod checkpoint;
mod metrics;
pub mod queries;
pub mod sealer;
pub mod settings;
pub mod told;
pub mod verify;

pub use checkpoint::{CheckpointKey, CheckpointSigner};
pub use metrics::AuditMetrics;
pub use sealer::{AuditSealer, SealerDeps};
pub use settings::AuditSettings;
