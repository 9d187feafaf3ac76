//! API keys: what programs show that have no issuer of tokens.
//!
//! | file | holds |
//! | --- | --- |
//! | `secret` | the text of a key: made, read, hashed |
//! | `known` | what was found out about keys that were shown, for a while and bounded |
//! | `prover` | [`ApiKeys`], the door's handle: proves keys |
//! | `desk` | and makes, lists and revokes them |
//! | [`logins`] | and logs people in and out, lists logins and ends them: a login is a key that a browser keeps |
//! | [`watcher`] | the actor `api-key-watcher`: learns of revocations, notes when keys are used |
//! | [`metrics`] | Prometheus |
//!
//! A key that was proved is believed without being hashed again, as long as the database has said within [`BELIEVED_FOR`] that it
//! was not revoked. The watcher asks for all keys in use at once, every second; a key that nobody has used for a while is
//! asked for when it comes back. So a revocation is known to every process within four seconds, also to one that
//! cannot reach the database: it believes no key any more. What a key began ends with it.
//!
//! Guessing costs little: a key that does not exist is never hashed, a wrong secret is remembered, each key is hashed by one request
//! at a time and few at all.

mod desk;
mod known;
pub mod logins;
pub mod metrics;
mod prover;
mod secret;
pub mod watcher;

use std::time::Duration;

pub use desk::{CreateError, Created, KeyOrder};
pub use known::Standing;
pub use metrics::ApiKeyMetrics;
pub use prover::{ApiKeyError, ApiKeys, ProvenKey};
pub use secret::PREFIX;
pub use watcher::ApiKeyWatcher;

pub use crate::store::{StoreError, api_keys::ListedApiKey};

/// How long after the database was last asked a key is believed.
pub const BELIEVED_FOR: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests;
