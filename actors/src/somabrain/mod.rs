//! Memory: the client of SomaBrain, a server that remembers for us and speaks HTTP.
//!
//! | file | holds |
//! | --- | --- |
//! | [`messages`] | what may be asked, and what comes back |
//! | [`client`] | the actor `brain-client` |
//! | `exchange`, `connection` | one call with its attempts; one attempt over HTTP |
//! | [`breaker`] | when to leave the server alone |
//! | [`health`] | how the server is, for readers that do not ask |
//! | [`wire`] | paths and the shapes of requests and answers |
//! | [`settings`], [`metrics`] | the section `brain` of the configuration; Prometheus |
//!
//! The tenant comes with every ask and is never guessed here. Universe and namespace are different things and no code
//! puts one where the other belongs. The key is in a header and nowhere else: not in errors, logs or metrics.

pub mod breaker;
pub mod client;
mod connection;
mod exchange;
pub mod health;
pub mod messages;
pub mod metrics;
pub mod settings;
#[cfg(test)]
mod testing;
pub mod wire;

pub use client::{BrainClient, BrainDeps};
pub use health::{HealthReader, HealthReport, HealthState};
pub use messages::{BrainError, CheckHealth, Memory, Recall, Recalled};
pub use metrics::BrainMetrics;
pub use settings::{BrainSettings, SettingsError};
