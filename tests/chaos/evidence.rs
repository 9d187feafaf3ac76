//! What a run left behind, as anybody outside can see it: what clients were told, the gateway's replies, the records of the
//! log, what the memory service and the model were asked. The checker knows nothing else.

use std::collections::BTreeMap;

use serde_json::Value;
use somaagent_test_services::client::{Frame, Mode};
use somaagent_test_services::kafka::Kept;

/// A message that was acknowledged.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    pub session: String,
    pub message: String,
    pub event_id: String,
    pub seq: u64,
}

/// What the clients of one run were told.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Messages that were answered 200, those of a session in the order of their sending.
    pub acknowledged: Vec<Acknowledged>,
    /// Ids of events that, as the gateway said, were not stored.
    pub refused: Vec<String>,
    /// Texts of messages whose fate nobody told.
    pub unknown: Vec<String>,
    /// Replies that no client should ever get.
    pub absurd: Vec<String>,
}

impl Told {
    /// Adds what another client was told.
    pub fn extend(&mut self, other: Self) {
        self.acknowledged.extend(other.acknowledged);
        self.refused.extend(other.refused);
        self.unknown.extend(other.unknown);
        self.absurd.extend(other.absurd);
    }
}

/// A frame, and on which of its reader's connections it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub connection: usize,
    pub frame: Frame,
}

/// All that one reader of a session saw.
#[derive(Debug, Clone)]
pub struct Reading {
    pub session: String,
    pub mode: Mode,
    pub seen: Vec<Seen>,
}

/// A record that somebody else put into the log.
#[derive(Debug, Clone)]
pub struct Planted {
    pub partition: i32,
    pub offset: i64,
    pub payload: Vec<u8>,
    /// The id of its memory and its clock in seconds since 1970, if it can be applied.
    pub memory: Option<(String, f64)>,
}

/// What a step leaves of a memory that somebody brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Written,
    TakenBack,
}

/// A memory that somebody wrote anew and took back, and what its texts are at the end: `None` if it is to be gone.
#[derive(Debug, Clone)]
pub struct Note {
    pub id: String,
    /// What the step left that was acknowledged last.
    pub last: Option<String>,
    /// What the steps would leave whose fate nobody told.
    pub unknown: Vec<Option<String>>,
    /// Replies that no client should ever get.
    pub absurd: Vec<String>,
}

impl Note {
    /// One that was never written.
    pub const fn new(id: String) -> Self {
        Self { id, last: None, unknown: Vec::new(), absurd: Vec::new() }
    }
}

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    pub told: Told,
    /// The stored events of each session.
    pub histories: BTreeMap<String, Vec<Value>>,
    /// The rows of the replica.
    pub replica: Vec<Value>,
    /// Every dead letter in full.
    pub letters: Vec<Value>,
    /// The receipt of each memory, by its id.
    pub receipts: BTreeMap<String, Value>,
    /// The records of each topic.
    pub log: BTreeMap<&'static str, Vec<Kept>>,
    /// The key of every write that the memory service did, repeated ones repeated.
    pub received: Vec<String>,
    /// What the memory service keeps, as pairs of key and value.
    pub kept: Vec<(String, Value)>,
    pub readings: Vec<Reading>,
    pub planted: Vec<Planted>,
    pub notes: Vec<Note>,
    /// What the model was asked: the number of the request and the message it answered.
    pub asked: BTreeMap<u64, String>,
}

impl Evidence {
    /// Whether a memory is one that somebody brought.
    pub fn is_note(&self, id: &str) -> bool {
        self.notes.iter().any(|note| note.id == id)
    }
}

/// The topic of what was remembered.
pub const MEMORIES: &str = "memory.wal";
/// The topic of what people said.
pub const INBOUND: &str = "conversation.inbound";
/// The topic of what they were answered.
pub const OUTBOUND: &str = "conversation.outbound";
/// The topic of the dead letters of memories.
pub const LETTERS: &str = "memory.wal.dlq";

/// A piece of the answer to a request.
pub fn piece(request: u64, number: usize) -> String {
    format!("<{request} {number}> ")
}

/// Pieces of an answer.
pub const PIECES: usize = 6;

/// The whole answer to a request, which no other request gets.
pub fn answer(request: u64) -> String {
    (0..PIECES).map(|number| piece(request, number)).collect()
}

/// The request that an answer was for, by its first piece.
pub fn request_of(answer: &str) -> Option<u64> {
    answer.strip_prefix('<')?.split(' ').next()?.parse().ok()
}
