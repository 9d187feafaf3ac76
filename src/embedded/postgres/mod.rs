//! The PostgreSQL inside the process: one real server compiled to WebAssembly, reached by a Unix socket.
//!
//! What it lacks, and what follows for everybody who uses it (measured with `pglite-oxide` 0.5.1):
//!
//! - It serves one connection. A second one waits, without a word, until the first is closed; so there is one pool, of
//!   one connection, that is never exchanged for a younger one.
//! - `statement_timeout` and cancel requests have no effect: a statement cannot be interrupted, only awaited.
//! - It would keep its files as changes to a template outside the data folder, and a kill at the wrong moment would cut
//!   one short; so it gets a whole cluster of its own, and a kill costs no more than PostgreSQL's own recovery.
//! - It does not call `fsync`: the end of the process loses nothing, a power cut can.
//! - No other process works for it, so nothing writes checkpoints and nothing vacuums: without upkeep its log would
//!   grow for ever (70 MB for 100 MB of rows), and so would the start after a kill, which replays the log at about
//!   50 MB/s. Closing the connection writes a checkpoint.
//! - A client that talks rubbish or goes away in the middle of a statement costs its own connection; the next one is a
//!   new backend on the same data.

mod files;
mod keeper;
mod server;
mod socket;
mod upkeep;

pub use keeper::EmbeddedPostgres;
pub use server::{EmbeddedServer, EmbeddedServerError};
