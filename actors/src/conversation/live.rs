//! The frames of an attempt while it streams: numbered, shared, and enough of them kept for a reader who comes late.
//!
//! Readers of whole texts and readers of pieces see different frames, so each kind has its own [`Track`] of numbers. In
//! both, numbers rise by one, and a reader who names the last number it saw gets exactly what it lacks.

use std::sync::Arc;

use serde_json::Value;

use super::frames::{Frame, FrameBody};
use crate::domain::cursor::{Cursor, LivePosition};

/// The running attempt as readers see it.
#[derive(Debug)]
pub struct LiveAnswer {
    attempt: i32,
    text: String,
    full: Track,
    pieces: Track,
    /// For each frame of pieces: its number and the length of the text after it.
    marks: Vec<(u32, usize)>,
    /// Length of the text in the last whole frame.
    shown: usize,
}

#[derive(Debug, Default)]
struct Track {
    n: u32,
    /// The latest frame of each kind, in the order of their numbers: started, thinking, text so far.
    kept: Vec<(Kind, Arc<Frame>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Started,
    Thinking,
    SoFar,
}

/// The same news for both kinds of readers.
#[derive(Clone, Debug)]
pub struct Both {
    /// For readers of whole texts.
    pub full: Arc<Frame>,
    /// For readers of pieces.
    pub pieces: Arc<Frame>,
}

impl Track {
    fn next(&mut self, head: i64, attempt: i32, body: FrameBody) -> Arc<Frame> {
        self.n += 1;
        Arc::new(Frame::new(Some(Cursor::live(head, attempt, self.n)), body))
    }

    fn keep(&mut self, kind: Kind, frame: Arc<Frame>) {
        self.kept.retain(|(kept, _)| *kept != kind);
        self.kept.push((kind, frame));
    }

    fn after(&self, n: u32) -> impl Iterator<Item = Arc<Frame>> {
        let later = move |frame: &Frame| frame.id.and_then(|id| id.live).is_some_and(|at| at.n > n);
        self.kept.iter().filter(move |(_, frame)| later(frame)).map(|(_, frame)| Arc::clone(frame))
    }
}

impl LiveAnswer {
    /// An attempt that has said nothing.
    #[must_use]
    pub const fn new(attempt: i32) -> Self {
        Self {
            attempt,
            text: String::new(),
            full: Track { n: 0, kept: Vec::new() },
            pieces: Track { n: 0, kept: Vec::new() },
            marks: Vec::new(),
            shown: 0,
        }
    }

    /// The text so far.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Announces the attempt.
    pub fn started(&mut self, head: i64, event: Value) -> Both {
        self.both(Kind::Started, head, event)
    }

    /// Announces that the model is thinking, or what it thinks.
    pub fn thinking(&mut self, head: i64, event: Value) -> Both {
        self.both(Kind::Thinking, head, event)
    }

    fn both(&mut self, kind: Kind, head: i64, event: Value) -> Both {
        let full = self.full.next(head, self.attempt, FrameBody::Event(event.clone()));
        let pieces = self.pieces.next(head, self.attempt, FrameBody::Event(event));
        self.full.keep(kind, Arc::clone(&full));
        self.pieces.keep(kind, Arc::clone(&pieces));
        Both { full, pieces }
    }

    /// Adds a piece of text. The frame is for readers of pieces.
    pub fn push(&mut self, head: i64, event: Value, piece: String) -> Arc<Frame> {
        self.text.push_str(&piece);
        let frame = self.pieces.next(head, self.attempt, FrameBody::Delta { event, delta: piece });
        self.marks.push((self.pieces.n, self.text.len()));
        frame
    }

    /// Whether there is text that no whole frame has shown.
    #[must_use]
    pub const fn has_unshown_text(&self) -> bool {
        self.shown < self.text.len()
    }

    /// The text so far as a frame for readers of whole texts.
    pub fn show(&mut self, head: i64, event: Value) -> Arc<Frame> {
        self.shown = self.text.len();
        let text = Arc::from(self.text.as_str());
        let frame = self.full.next(head, self.attempt, FrameBody::SoFar { event, text });
        self.full.keep(Kind::SoFar, Arc::clone(&frame));
        frame
    }

    /// What a reader of whole texts lacks who has seen `seen` of this turn.
    #[must_use]
    pub fn missed_full(&self, seen: Option<LivePosition>) -> Vec<Arc<Frame>> {
        self.full.after(self.seen(seen)).collect()
    }

    /// What a reader of pieces lacks: the announcements, and one frame with all the text after its last piece.
    #[must_use]
    pub fn missed_pieces(&self, seen: Option<LivePosition>, head: i64, event: Value) -> Vec<Arc<Frame>> {
        let n = self.seen(seen);
        let mut frames: Vec<_> = self.pieces.after(n).collect();
        let from = self.marks.iter().take_while(|(mark, _)| *mark <= n).last().map_or(0, |(_, length)| *length);
        if let (Some((last, _)), true) = (self.marks.last(), from < self.text.len()) {
            let delta = self.text[from..].to_owned();
            let id = Cursor::live(head, self.attempt, *last);
            let frame = Arc::new(Frame::new(Some(id), FrameBody::Delta { event, delta }));
            // Thinking may go on after text began: what has the higher number comes later.
            let later = |frame: &Arc<Frame>| frame.id.and_then(|id| id.live).is_some_and(|at| at.n > *last);
            let place = frames.iter().position(later).unwrap_or(frames.len());
            frames.insert(place, frame);
        }
        frames
    }

    /// The number a reader has seen of this attempt; of another attempt it has seen nothing that counts.
    fn seen(&self, seen: Option<LivePosition>) -> u32 {
        seen.filter(|at| at.attempt == self.attempt).map_or(0, |at| at.n)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn at(frame: &Frame) -> LivePosition {
        frame.id.and_then(|id| id.live).unwrap_or(LivePosition { attempt: 0, n: 0 })
    }

    fn delta(frame: &Frame) -> &str {
        if let FrameBody::Delta { delta, .. } = &frame.body { delta } else { "" }
    }

    proptest! {
        #[test]
        fn whoever_stops_after_any_frame_and_comes_back_has_each_piece_once(
            pieces in proptest::collection::vec((any::<bool>(), "[a-zäß🚆]{1,5}"), 1..30),
            cut in 0_usize..40,
        ) {
            let mut live = LiveAnswer::new(2);
            let mut frames = vec![live.started(1, json!({})).pieces, live.thinking(1, json!({})).pieces];
            for (thinks, piece) in &pieces {
                if *thinks {
                    frames.push(live.thinking(1, json!({})).pieces);
                }
                frames.push(live.push(1, json!({}), piece.clone()));
            }
            let numbers: Vec<_> = frames.iter().map(|frame| at(frame).n).collect();
            prop_assert_eq!(numbers, (1..).take(frames.len()).collect::<Vec<_>>());
            let cut = cut.min(frames.len());
            let seen = frames[..cut].last().map(|frame| at(frame));
            let rest = live.missed_pieces(seen, 1, json!({}));
            let text: String = frames[..cut].iter().chain(&rest).map(|frame| delta(frame)).collect();
            prop_assert_eq!(text, live.text());
            prop_assert!(rest.iter().map(|frame| at(frame).n).is_sorted());
            let other_attempt = Some(LivePosition { attempt: 1, n: 99 });
            let anew: String = live.missed_pieces(other_attempt, 1, json!({})).iter().map(|frame| delta(frame).to_owned()).collect();
            prop_assert_eq!(anew, live.text());
        }
    }

    #[test]
    fn a_reader_of_whole_texts_gets_the_last_one_and_only_once() {
        let mut live = LiveAnswer::new(1);
        let started = live.started(1, json!({})).full;
        live.push(1, json!({}), "a".into());
        live.show(1, json!({}));
        live.push(1, json!({}), "b".into());
        let last = live.show(1, json!({}));
        assert_eq!(live.missed_full(Some(at(&started))).iter().map(|frame| at(frame).n).collect::<Vec<_>>(), [3]);
        assert!(live.missed_full(Some(at(&last))).is_empty());
        assert_eq!(live.missed_full(None).len(), 2);
        assert!(!live.has_unshown_text());
    }
}
