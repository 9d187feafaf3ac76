//! What people ask about memories: lists, one memory, exports, writes and deletions.
//!
//! | file | holds |
//! | --- | --- |
//! | [`queries`] | bounded reads of the replica, which wake no actor; waiting for the replica |
//! | [`receipts`] | how far a memory has come; waiting for the replica to have it |
//! | [`export`] | lines of JSON a page at a time, with a checksum at their end |
//! | [`jobs`] | exports that go on by themselves, by the actor `export-runner`, and are fetched later |
//! | [`writes`] | memories that people bring: checked, and put into their queue |
//! | [`deletion`] | a memory is taken back |
//! | [`item`] | a memory as people read it |
//! | [`search_indexer`] | the actor `search-indexer`, which makes the index for searches |
//! | [`settings`] | the section `memory` of the configuration |
//!
//! Everything here is of one tenant, the asker's. The replica follows the log: a memory that was just written is found a
//! little later, and who cannot wait names the place in the log that must have been applied.

pub mod deletion;
pub mod export;
pub mod item;
pub mod jobs;
pub mod queries;
pub mod receipts;
pub mod search_indexer;
pub mod settings;
pub mod writes;
