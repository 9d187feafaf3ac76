//! The actors of SomaAgent01 and what they stand on.
//!
//! | room | holds |
//! | --- | --- |
//! | [`conversation`] | one actor per live session: accepts messages, runs turns, streams answers |
//! | [`journal`] | the one writer of session history: group commit with a fence |
//! | [`retry`] | when an outside service is asked again |
//! | [`store`] | SQL, one file a table; the only place that knows PostgreSQL |
//! | [`domain`] | the rules as values and functions, without I/O |
//!
//! Families use `store`, `store` uses `domain`, `domain` uses nothing of the project. A family talks to another only
//! through its `messages`. This crate never reads the environment, never listens on a socket, and knows no HTTP route.

pub mod domain;
pub mod somabrain;
pub mod store;
