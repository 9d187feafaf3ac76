//! What readers of a stream get: one shared value a frame, encoded once for each way of reading it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::Value;

use crate::domain::{
    cursor::Cursor,
    event::{StoredEvent, size_bytes},
};

/// How a reader wants the answer to grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamMode {
    /// Each frame has the text so far, at a bounded rate: what the original's clients expect.
    #[default]
    Full,
    /// One frame a piece, with that piece only.
    Delta,
    /// As `Full`, with the sanitised HTML of the text so far beside it.
    Html,
}

impl StreamMode {
    const COUNT: usize = 3;

    const fn index(self) -> usize {
        match self {
            Self::Full => 0,
            Self::Delta => 1,
            Self::Html => 2,
        }
    }
}

/// One frame, shared by all readers.
#[derive(Debug)]
pub struct Frame {
    /// Where a reader stands after it; `None` for frames that change no position.
    pub id: Option<Cursor>,
    /// What it says.
    pub body: FrameBody,
    size_bytes: usize,
    encoded: [OnceLock<Bytes>; StreamMode::COUNT],
}

/// What a frame says.
#[derive(Clone, Debug)]
pub enum FrameBody {
    /// A whole event.
    Event(Value),
    /// An `assistant.stream` event without its message, and the text so far.
    SoFar {
        /// The event; its `message` is empty.
        event: Value,
        /// The text.
        text: Arc<str>,
    },
    /// An `assistant.stream` event and the piece that it adds.
    Delta {
        /// The event, without `message`.
        event: Value,
        /// The piece.
        delta: String,
    },
}

/// About how many bytes a frame takes beside what it says.
const FRAME_BYTES: usize = 256;

impl FrameBody {
    fn size_bytes(&self) -> usize {
        match self {
            Self::Event(event) => size_bytes(event),
            Self::SoFar { event, text } => size_bytes(event) + text.len(),
            Self::Delta { event, delta } => size_bytes(event) + delta.len(),
        }
    }
}

impl Frame {
    /// A frame with a position.
    #[must_use]
    pub fn new(id: Option<Cursor>, body: FrameBody) -> Self {
        let size_bytes = FRAME_BYTES + body.size_bytes();
        Self { id, body, size_bytes, encoded: Default::default() }
    }

    /// About how many bytes of memory it takes before it is encoded.
    #[must_use]
    pub const fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Whether a reader who gets this frame right after `earlier` does not need `earlier`: both say the same text so far.
    #[must_use]
    pub fn replaces(&self, earlier: &Self) -> bool {
        let (FrameBody::SoFar { event, .. }, FrameBody::SoFar { event: before, .. }) = (&self.body, &earlier.body)
        else {
            return false;
        };
        let of = |event: &Value| ["turn", "attempt"].map(|name| event["metadata"][name].as_i64());
        event["type"] == before["type"] && of(event) == of(before)
    }

    /// A stored event.
    #[must_use]
    pub fn stored(event: &StoredEvent) -> Self {
        Self::new(Some(Cursor::after(event.seq)), FrameBody::Event(event.payload.clone()))
    }

    /// The bytes of this frame for `mode`: made by the first reader that needs them, shared by all others.
    pub fn encoded(&self, mode: StreamMode, make: impl FnOnce(&Self) -> Bytes) -> Bytes {
        self.encoded[mode.index()].get_or_init(|| make(self)).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_encoded_once_for_each_mode() {
        let frame = Frame::new(None, FrameBody::Event(Value::Null));
        let first = frame.encoded(StreamMode::Full, |_| Bytes::from_static(b"a"));
        let again = frame.encoded(StreamMode::Full, |_| Bytes::from_static(b"b"));
        let other = frame.encoded(StreamMode::Html, |_| Bytes::from_static(b"c"));
        assert_eq!((&*first, &*again, &*other), (&b"a"[..], &b"a"[..], &b"c"[..]));
    }
}
