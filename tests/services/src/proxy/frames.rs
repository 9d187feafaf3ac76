//! PostgreSQL's message framing, as far as the proxy needs it: where a statement's text is, where a batch ends, and which
//! reply tells that it has been committed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// What the proxy knows about the bytes it passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Bytes,
    Postgres,
}

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// Whether a statement changes anything or ends a transaction that may have.
pub(super) fn writes(sql: &str) -> bool {
    let sql = sql.to_lowercase();
    ["insert into", "update ", "delete from", "commit"].iter().any(|word| sql.contains(word))
}

/// One whole message: its type (0 for those of the start, which have none) and all its bytes.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: u8,
    pub(super) bytes: Vec<u8>,
}

/// Cuts a stream of bytes into messages.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    kept: Vec<u8>,
}

impl Cutter {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.kept.extend_from_slice(bytes);
    }

    /// The next whole message. `typed` is false for what a client sends before the server has accepted it.
    pub(super) fn next(&mut self, typed: bool) -> Option<Message> {
        let start = usize::from(typed);
        let length = u32::from_be_bytes(self.kept.get(start..start + 4)?.try_into().ok()?);
        let end = start + usize::try_from(length).ok()?.max(4);
        if self.kept.len() < end {
            return None;
        }
        let bytes: Vec<u8> = self.kept.drain(..end).collect();
        Some(Message { kind: if typed { bytes[0] } else { 0 }, bytes })
    }

    /// One bare byte: the server's answer to a request for encryption.
    pub(super) fn next_byte(&mut self) -> Option<u8> {
        (!self.kept.is_empty()).then(|| self.kept.remove(0))
    }

    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.kept)
    }
}

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Phase {
    /// The client's messages have no type yet.
    #[default]
    Opening,
    /// The client has asked for encryption and waits for one byte.
    AskedEncryption,
    /// Encrypted: only bytes can be passed.
    Opaque,
    /// Messages have types.
    Started,
}

/// Which statements are under way on one connection; both directions look at it.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    pub(super) phase: Phase,
    /// The server has been ready once: each further `ReadyForQuery` ends a batch.
    ready: bool,
    texts: HashMap<Vec<u8>, Arc<str>>,
    gathering: Vec<Arc<str>>,
    under_way: VecDeque<Vec<Arc<str>>>,
}

impl Conversation {
    /// Notes a message without a type.
    pub(super) fn opening(&mut self, message: &Message) {
        let code = message.bytes.get(4..8).and_then(|code| code.try_into().ok()).map_or(0, u32::from_be_bytes);
        match code {
            SSL_REQUEST | GSS_REQUEST => self.phase = Phase::AskedEncryption,
            CANCEL_REQUEST => {}
            _ => self.phase = Phase::Started,
        }
    }

    /// Notes the one byte that answers a request for encryption.
    pub(super) fn encryption(&mut self, answer: u8) {
        self.phase = if answer == b'N' { Phase::Opening } else { Phase::Opaque };
    }

    /// Notes a client's message. When it ends a batch: the batch's statements, which the server is about to run.
    pub(super) fn asked(&mut self, message: &Message) -> Option<Vec<Arc<str>>> {
        let body = message.bytes.get(5..).unwrap_or_default();
        match message.kind {
            b'P' => {
                let mut parts = body.split(|byte| *byte == 0);
                let name = parts.next().unwrap_or_default().to_vec();
                let text = String::from_utf8_lossy(parts.next().unwrap_or_default());
                self.texts.insert(name, text.into());
                None
            }
            b'B' => {
                let statement = body.split(|byte| *byte == 0).nth(1).unwrap_or_default();
                if let Some(text) = self.texts.get(statement) {
                    self.gathering.push(text.clone());
                }
                None
            }
            b'Q' => {
                let text = String::from_utf8_lossy(body.strip_suffix(&[0]).unwrap_or(body));
                self.gathering.push(text.into());
                Some(self.close_batch())
            }
            b'S' => Some(self.close_batch()),
            _ => None,
        }
    }

    fn close_batch(&mut self) -> Vec<Arc<str>> {
        let batch = std::mem::take(&mut self.gathering);
        self.under_way.push_back(batch.clone());
        batch
    }

    /// Notes a server's message. When it tells that a batch is committed: the batch's statements.
    pub(super) fn replied(&mut self, message: &Message) -> Option<Vec<Arc<str>>> {
        if message.kind != b'Z' {
            return None;
        }
        if !self.ready {
            self.ready = true;
            return None;
        }
        let batch = self.under_way.pop_front()?;
        // `I`: no transaction is open, so what the batch wrote is durable. `T`, `E`: it is not, or not yet.
        (message.bytes.get(5) == Some(&b'I')).then_some(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Message {
        let length = u32::try_from(body.len() + 4).unwrap_or_default();
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(body);
        Message { kind, bytes }
    }

    fn talking() -> Conversation {
        Conversation { phase: Phase::Started, ready: true, ..Conversation::default() }
    }

    #[test]
    fn messages_are_whole_however_they_arrive() {
        let sent = [message(b'Q', b"SELECT 1\0"), message(b'S', b"")];
        let stream: Vec<u8> = sent.iter().flat_map(|message| message.bytes.clone()).collect();
        let mut cutter = Cutter::default();
        let mut got = Vec::new();
        for byte in stream {
            cutter.feed(&[byte]);
            while let Some(message) = cutter.next(true) {
                got.push((message.kind, message.bytes));
            }
        }
        assert_eq!(got, sent.map(|message| (message.kind, message.bytes)));
    }

    #[test]
    fn a_bound_statement_is_known_by_its_text() {
        let mut talk = talking();
        talk.asked(&message(b'P', b"s1\0INSERT INTO t VALUES ($1)\0\0\0"));
        assert_eq!(talk.asked(&message(b'S', b"")), Some(vec![]));
        assert_eq!(talk.replied(&message(b'Z', b"I")), Some(vec![]));
        talk.asked(&message(b'B', b"\0s1\0rest"));
        talk.asked(&message(b'S', b""));
        assert_eq!(talk.replied(&message(b'C', b"INSERT 0 1\0")), None);
        assert_eq!(talk.replied(&message(b'Z', b"I")), Some(vec!["INSERT INTO t VALUES ($1)".into()]));
    }

    #[test]
    fn an_open_transaction_is_no_commit() {
        let mut talk = talking();
        talk.asked(&message(b'Q', b"INSERT INTO t VALUES (1)\0"));
        assert_eq!(talk.replied(&message(b'Z', b"T")), None);
    }
}
