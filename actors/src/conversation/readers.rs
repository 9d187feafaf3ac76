//! The readers of a session's stream.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    backlog::{Receiver, Sender, Sent, backlog},
    frames::{Frame, StreamMode},
};
use crate::domain::caller::Caller;

/// Fan-out of frames. A reader that is behind by its whole backlog is dropped: it never slows anyone.
#[derive(Default)]
pub struct Readers {
    readers: Vec<Reader>,
}

struct Reader {
    /// Who reads.
    caller: Caller,
    mode: StreamMode,
    frames: Sender,
}

/// Which readers a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// All.
    All,
    /// Readers of whole texts, with HTML or without.
    WholeTexts,
    /// Readers of pieces.
    Pieces,
}

impl Audience {
    fn has(self, mode: StreamMode) -> bool {
        match self {
            Self::All => true,
            Self::WholeTexts => mode != StreamMode::Delta,
            Self::Pieces => mode == StreamMode::Delta,
        }
    }
}

impl Readers {
    /// Adds the reader of a request of `caller`, which may be `buffer` frames behind.
    pub fn add(&mut self, caller: &Caller, mode: StreamMode, buffer: usize) -> Receiver {
        self.readers.retain(|reader| !reader.frames.is_gone());
        let (frames, receiver) = backlog(buffer);
        self.readers.push(Reader { caller: caller.clone(), mode, frames });
        receiver
    }

    /// Lets those wait for ever who are `strangers`: their streams do not end, and nothing more comes.
    pub fn hush(&mut self, strangers: impl Fn(&Caller) -> bool) {
        self.readers.extract_if(.., |reader| strangers(&reader.caller)).for_each(|reader| reader.frames.hush());
    }

    /// Sends a frame to its audience and returns which requests' readers were dropped because they were full.
    pub fn send(&mut self, audience: Audience, frame: &Arc<Frame>) -> Vec<Uuid> {
        let mut dropped = vec![];
        self.readers.retain(|reader| {
            if !audience.has(reader.mode) {
                return !reader.frames.is_gone();
            }
            let sent = reader.frames.send(frame);
            if sent == Sent::Full {
                dropped.push(reader.caller.correlation_id);
            }
            sent == Sent::Waits
        });
        dropped
    }

    /// Whether anybody of `audience` reads.
    #[must_use]
    pub fn has(&self, audience: Audience) -> bool {
        self.readers.iter().any(|reader| audience.has(reader.mode) && !reader.frames.is_gone())
    }

    /// How many read.
    #[must_use]
    pub fn count(&self) -> usize {
        self.readers.iter().filter(|reader| !reader.frames.is_gone()).count()
    }

    /// Ends every stream.
    pub fn close(&mut self) {
        self.readers.clear();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{conversation::frames::FrameBody, domain::ids::Tenant};

    fn by(correlation_id: Uuid) -> Caller {
        Caller::new(Tenant::new("t").unwrap_or_else(|| unreachable!()), correlation_id)
    }

    fn frame() -> Arc<Frame> {
        Arc::new(Frame::new(None, FrameBody::Event(Value::Null)))
    }

    #[test]
    fn a_reader_that_does_not_read_is_dropped_and_the_others_stay() {
        let mut readers = Readers::default();
        let stuck = readers.add(&by(Uuid::max()), StreamMode::Full, 1);
        let mut awake = readers.add(&by(Uuid::nil()), StreamMode::Full, 1);
        assert!(readers.send(Audience::All, &frame()).is_empty());
        assert!(awake.try_recv().is_some());
        assert_eq!(readers.send(Audience::All, &frame()), [Uuid::max()]);
        assert_eq!(readers.count(), 1);
        assert!(awake.try_recv().is_some());
        drop(stuck);
    }

    #[test]
    fn strangers_are_left_waiting_and_count_no_more() {
        let mut readers = Readers::default();
        let mut stranger = readers.add(&by(Uuid::max()), StreamMode::Full, 4);
        let mut known = readers.add(&by(Uuid::nil()), StreamMode::Full, 4);
        readers.hush(|caller| caller.correlation_id == Uuid::max());
        assert_eq!(readers.count(), 1);
        assert!(readers.send(Audience::All, &frame()).is_empty());
        assert!(known.try_recv().is_some() && stranger.try_recv().is_none());
        readers.close();
        assert!(stranger.is_hushed() && !known.is_hushed());
    }

    #[test]
    fn frames_reach_those_they_are_for() {
        let mut readers = Readers::default();
        let mut whole = readers.add(&by(Uuid::nil()), StreamMode::Html, 4);
        let mut pieces = readers.add(&by(Uuid::nil()), StreamMode::Delta, 4);
        readers.send(Audience::WholeTexts, &frame());
        assert!(whole.try_recv().is_some() && pieces.try_recv().is_none());
        readers.send(Audience::Pieces, &frame());
        assert!(whole.try_recv().is_none() && pieces.try_recv().is_some());
        drop(whole);
        assert!(!readers.has(Audience::WholeTexts) && readers.has(Audience::All));
        readers.close();
        assert!(pieces.try_recv().is_none() && readers.count() == 0);
    }
}
