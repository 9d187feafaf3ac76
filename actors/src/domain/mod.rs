//! The rules of conversations as plain values and functions.
//!
//! Nothing here does I/O, reads a clock, makes a random number or knows actix: time and ids come in as arguments, so
//! every rule is tested by calling it. The actors above apply what these functions decide; the store below writes it.

pub mod analysis;
pub mod append;
pub mod attached;
pub mod audit_chain;
pub mod audit_walk;
pub mod brought;
pub mod cadence;
pub mod caller;
pub mod context;
pub mod cursor;
pub mod dead_letter;
pub mod event;
pub mod filename;
pub mod harmless;
pub mod hex;
pub mod host;
pub mod idempotency;
pub mod identity;
pub mod ids;
pub mod lines;
pub mod list_cursor;
pub mod media_type;
pub mod memory;
pub mod message;
pub mod origin;
pub mod receipt;
pub mod session;
pub mod settings;
pub mod strict_json;
pub mod text;
pub mod title;
pub mod tokens;
pub mod trace_context;
pub mod transcript;
pub mod turn;
pub mod wal;
pub mod whose;
