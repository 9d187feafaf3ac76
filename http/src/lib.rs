//! The front door: turns HTTP requests into asks and replies into HTTP and SSE.
//!
//! | room | holds |
//! | --- | --- |
//! | [`server`] | the listeners: sockets, timeouts, workers |
//! | `routes` | one file a topic; `routes::TABLE` is the one list of what the door answers |
//! | `extract` | what a handler may ask of a request: caller, session id, body, query, idempotency key |
//! | `middleware` | what happens around every request: correlation id, span, metrics, headers, other sites, who asks |
//! | `limits` | how much callers may ask for |
//! | `client` | whom a request is from and which host it was sent to, behind proxies or not |
//! | `link`, `wire` | the header `Link`; times and events as they look in JSON |
//! | [`problem`] | every way a request can fail, as RFC 9457 problem details; `problems.md` explains each code |
//! | `tus` | what the protocol of uploads in pieces writes into heads |
//! | `sse` | a subscription as a `text/event-stream` response |
//! | [`render`] | Markdown as HTML that is safe to insert |
//! | [`openapi`] | the description of all of the above; `openapi.json` is its committed copy |
//! | `fuzzing` | what fuzzers feed: the readers of what strangers write |
//! | [`settings`], [`door`] | what the process configures and hands in |
//!
//! A handler extracts, asks and answers; it decides nothing about conversations. This crate holds no SQL, no broker and
//! no HTTP client, reads no environment variable and starts no thread of its own besides the server's workers.

mod client;
pub mod door;
mod download;
mod extract;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
pub mod health;
mod limits;
mod link;
mod metrics;
mod middleware;
pub mod openapi;
pub mod problem;
pub mod render;
mod routes;
pub mod server;
pub mod settings;
mod sse;
#[cfg(test)]
mod testing;
mod tus;
mod wire;

pub use door::{Door, Draining, Facts};
pub use settings::DoorSettings;
