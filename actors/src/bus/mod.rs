//! The log: records by topic, in order by key, for whoever wants to read them.
//!
//! | file | holds |
//! | --- | --- |
//! | [`kafka`] | the log on Apache Kafka |
//! | [`table`] | the log inside the database |
//!
//! A record is appended at least once: a writer that does not learn what became of an append repeats it. Readers know a
//! record by the ids inside it. What is read comes at least once too: a group goes on where its last commit was.

pub mod kafka;
pub mod table;

use std::time::Duration;

use futures_util::future::BoxFuture;
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

/// Longest payload of a record in bytes: more than any answer and its metadata have, escaped as JSON.
pub const MAX_RECORD_BYTES: usize = 16 << 20;

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

/// A record as a reader sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct LoggedRecord {
    /// Its number in its partition; later records have higher ones.
    pub offset: i64,
    /// What orders it.
    pub key: Option<String>,
    /// A JSON object of texts.
    pub headers: Value,
    /// What it says; empty for a record that says nothing.
    pub payload: Vec<u8>,
    /// When it was appended.
    pub appended_at: OffsetDateTime,
}

/// Records of one partition in their order, never none.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The partition.
    pub partition: i32,
    /// The records.
    pub records: Vec<LoggedRecord>,
}

/// How far a partition goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The partition.
    pub partition: i32,
    /// The offset of its first record that is still there, or that would be.
    pub first: i64,
    /// The offset that its next record will have.
    pub next: i64,
}

/// Why the log did not do what it was asked for, or may not have.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    /// The log cannot be reached now; the record may be there all the same. The same again later.
    #[error("the log is not available: {0}")]
    Unavailable(String),
    /// The log will never take this record.
    #[error("the log refuses the record: {0}")]
    Refused(String),
    /// The partition belongs to another reader.
    #[error("the partition belongs to another reader: {0}")]
    Lost(String),
}

/// A member of a group. The partitions of the topic are shared out among the group's living members, one reader each; a
/// new group begins with the earliest record. Who joins or leaves moves no more partitions than needed, and a member keeps
/// the others. Dropping a reader leaves the group, at once or when its lease ends.
pub trait Reader: Send {
    /// Up to `limit` records of one of its partitions; `None` if none came within `within`.
    fn next(&mut self, limit: usize, within: Duration) -> BoxFuture<'_, Result<Option<Batch>, LogError>>;

    /// Goes on with `at.offset` in `at.partition`, or with the first record after it that there is; what was read ahead is
    /// forgotten. [`LogError::Lost`] if the partition is another's by now.
    fn seek(&mut self, at: Position) -> BoxFuture<'_, Result<(), LogError>>;

    /// Everything before `next.offset` is done: the group goes on there after a crash. [`LogError::Lost`] if the partition
    /// is another's by now.
    fn commit(&mut self, next: Position) -> BoxFuture<'_, Result<(), LogError>>;

    /// Leaves the group now, so that the others need not wait.
    fn leave(self: Box<Self>) -> BoxFuture<'static, ()>;
}

/// Somewhere to append to and to read from.
pub trait Log: Send + Sync {
    /// Appends `records`, those of one key in their order, and tells what became of each, in their order. After an error
    /// of one record, later ones of its key may be in the log only if that error is [`LogError::Refused`].
    fn append(&self, records: Vec<Record>) -> BoxFuture<'_, Vec<Result<Position, LogError>>>;

    /// Whether it can be reached now, [`LogError::Unavailable`] if not. May be asked often. A log that is where everything
    /// else is has nothing to say of its own.
    fn reached(&self) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// How far every partition of `topic` goes now: a reader that has come so far has seen everything that was there. A log that
    /// cannot tell is not available for whoever must know.
    fn ends(&self, topic: &str) -> BoxFuture<'_, Result<Vec<End>, LogError>> {
        let told = LogError::Unavailable(format!("it does not tell how far {topic} goes"));
        Box::pin(std::future::ready(Err(told)))
    }

    /// A new member of `group`, which reads `topic`.
    fn join(&self, group: &str, topic: &str) -> BoxFuture<'_, Result<Box<dyn Reader>, LogError>>;
}

/// The partition of `key` among `partitions`, the same for ever.
#[must_use]
pub fn partition_of(key: &str, partitions: i32) -> i32 {
    let digest = Sha256::digest(key.as_bytes());
    let number = digest.iter().take(4).fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    let count = u32::try_from(partitions.max(1)).unwrap_or(1);
    i32::try_from(number % count).unwrap_or_default()
}
