//! Looks after what could not be carried on: shows it, sends it again, lets it go.
//!
//! | file | holds |
//! | --- | --- |
//! | [`keeper`] | the actor `dlq-keeper` |
//! | [`messages`] | the asks: send one or all again, end that, delete one or all |
//! | [`queries`] | bounded reads, for lists and details |
//! | `desk` | [`DeadLetters`], the door's handle to both |
//! | `changes` | the asks as transactions |
//! | `job` | a page of an order to send many again |
//! | [`settings`], [`metrics`] | the section `dead_letters` of the configuration; Prometheus |
//!
//! Whoever gives a record up buries it with [`store::dead_letters::bury`](crate::store::dead_letters::bury); nothing here is
//! needed for that. Every change is one transaction with its audit row. A letter leaves the table only in the transaction that
//! puts its record back where it came from, so that sending it again twice has one effect.

mod changes;
mod desk;
mod job;
pub mod keeper;
pub mod messages;
pub mod metrics;
pub mod queries;
pub mod settings;

pub use desk::{DeadLetters, Ports};
pub use keeper::{DlqKeeper, KeeperDeps};
pub use metrics::DeadLetterMetrics;
pub use settings::DeadLetterSettings;
