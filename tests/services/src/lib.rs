//! Real services for the suites that look at the built system from outside.
//!
//! | module | is |
//! | --- | --- |
//! | [`postgres`] | a real PostgreSQL server, and a fresh database for each test |
//! | [`kafka`] | a real Apache Kafka |
//! | [`clamd`] | a real clamd
//! | [`proxy`] | a TCP proxy that cuts, stalls, delays and spoils what passes, on command or by seed |
//! | [`model`] | a scriptable server of the OpenAI chat-completions stream |
//! | [`brain`] | a scriptable SomaBrain |
//! | [`site`] | a server of documents |
//! | [`judge`] | a real OPA, a real OpenFGA |
//! | [`process`] | the built binary as a child process |
//! | [`port`] | ports that nothing else takes |
//! | [`papers`] | certificates |
//! | [`client`] | an HTTP and SSE client that records what it was sent |
//! | [`tokens`] | tokens, good and forged, and who signs them |
//! | [`seed`] | random schedules that can be played again |
//! | [`vault`] | a server that keeps secrets as Vault does |
//! | [`wait`] | conditions with a deadline |
//!
//! The program `with-postgres` runs a command with a server of [`postgres`].
//!
//! Everything binds 127.0.0.1 on a free port and ends with the value that started it. Nothing here may use a crate of the
//! system under test: the suites know it by its sockets, its files and its exit codes only.
#![allow(
    clippy::disallowed_methods,
    reason = "test services read the environment, keep real time and spawn their own tasks"
)]

pub mod brain;
pub mod clamd;
pub mod client;
mod http;
pub mod judge;
pub mod kafka;
mod lock;
pub mod model;
pub mod papers;
pub mod port;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod seed;
pub mod site;
pub mod tokens;
pub mod vault;
pub mod wait;
