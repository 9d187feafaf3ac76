//! Secrets that are kept in Vault (KV version 2), or in whatever speaks its protocol.
//!
//! | file | holds |
//! | --- | --- |
//! | [`settings`] | the section `vault` of the configuration |
//! | [`place`] | where in Vault a secret is: [`Place`] |
//! | [`client`] | reads secrets and keeps the own token alive: [`Vault`] |
//! | [`keeper`] | reads them again while the process runs: [`VaultKeeper`] |
//! | `lease` | for how long the own token is good, and when it is renewed |
//! | [`metrics`] | Prometheus |
//!
//! Secrets are read once before the start, for the configuration needs them, and again and again after it. While Vault does not
//! answer what was read last is used on. Nothing is written anywhere, and no secret, no token and no word of Vault's is logged.

pub mod client;
pub mod keeper;
mod lease;
pub mod metrics;
pub mod place;
pub mod settings;

pub use client::{Vault, VaultError};
pub use keeper::{Condition, VaultDeps, VaultKeeper, Watched};
pub use metrics::VaultMetrics;
pub use place::Place;
pub use settings::VaultSettings;
