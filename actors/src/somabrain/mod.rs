//! Memory: the client of SomaBrain, a server that remembers for us and speaks HTTP.
//!
//! | file | holds |
//! | --- | --- |
//! | [`messages`] | what may be asked, and what comes back |
//! | [`client`] | the actor `brain-client` |
//! | `lane` | places for calls of one kind, and who waits for them |
//! | `recalling`, `writing` | what is sent for an ask, and how its answer is read |
//! | `consulting` | one path for all other calls: [`Consult`] and its [`Question`]s |
//! | [`context`], [`documents`], [`deletion`] | those questions, and their answers |
//! | [`placement`] | which tenant, namespace and universe a memory belongs to |
//! | `caller` | one call on behalf of an ask: request, attempts, metrics |
//! | `exchange`, `connection` | one call with its attempts; one attempt over HTTP |
//! | `credentials`, `tls` | the secret of every call and its exchange; how each side proves who it is |
//! | `budget` | how many retries all calls may make |
//! | [`health`] | how the server is, for readers that do not ask |
//! | [`looking`] | how the server is and whether it takes the secret, for whoever sets it up |
//! | [`endpoint`], `wire` | methods and paths; the shapes of a recall |
//! | [`settings`], [`metrics`] | the section `brain` of the configuration; Prometheus |
//!
//! The tenant comes with every ask and is never guessed here. Universe and namespace are different things and no code
//! puts one where the other belongs. The key is in a header and nowhere else: not in errors, logs or metrics.

mod budget;
mod caller;
#[cfg(test)]
mod canary;
pub mod client;
mod connection;
mod consulting;
pub mod context;
mod credentials;
pub mod deletion;
pub mod documents;
pub mod endpoint;
mod exchange;
pub mod health;
mod lane;
pub mod looking;
pub mod messages;
pub mod metrics;
pub mod placement;
mod recalling;
pub mod settings;
#[cfg(test)]
mod testing;
mod tls;
mod wire;
mod writing;

pub use client::{BrainClient, BrainDeps};
pub use consulting::{Consult, Question};
pub use health::{HealthReader, HealthReport, HealthState};
pub use messages::{
    Asker, BrainError, CheckHealth, Memory, MemoryWrite, Recall, Recalled, Remember, RememberBatch, Remembered,
};
pub use metrics::BrainMetrics;
pub use settings::{BrainSettings, SettingsError};
