//! The log: records by topic, in order by key, for whoever wants to read them.
//!
//! | file | holds |
//! | --- | --- |
//! | [`table`] | the log inside the database |
//!
//! A record is appended at least once: a writer that does not learn what became of an append repeats it. Readers know a
//! record by the ids inside it.

pub mod table;

use futures_util::future::BoxFuture;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What may be appended.
#[derive(Clone, Debug)]
pub struct Record {
    /// Where to.
    pub topic: String,
    /// Records of a topic with one key keep their order.
    pub key: String,
    /// A JSON object of texts.
    pub headers: Value,
    /// What it says, UTF-8 JSON.
    pub payload: Vec<u8>,
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The partition of its topic.
    pub partition: i32,
    /// Its number there.
    pub offset: i64,
}

/// Why a record is not in the log, or may not be.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// The log cannot be reached now; the record may be there all the same. The same again later.
    #[error("the log is not available: {0}")]
    Unavailable(String),
    /// The log will never take this record.
    #[error("the log refuses the record: {0}")]
    Refused(String),
}

/// Somewhere to append to.
pub trait Log: Send + Sync {
    /// Appends `records`, those of one key in their order, and tells what became of each, in their order. After an error
    /// of one record, later ones of its key may be in the log only if that error is [`LogError::Refused`].
    fn append(&self, records: Vec<Record>) -> BoxFuture<'_, Vec<Result<Position, LogError>>>;
}

/// The partition of `key` among `partitions`, the same for ever.
#[must_use]
pub fn partition_of(key: &str, partitions: i32) -> i32 {
    let digest = Sha256::digest(key.as_bytes());
    let number = digest.iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    let count = u32::try_from(partitions.max(1)).unwrap_or(1);
    i32::try_from(number % count).unwrap_or_default()
}
