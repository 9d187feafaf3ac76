//! The frames of an attempt while it streams: numbered, shared, and enough of them kept for a reader who comes late.
//!
//! Readers of whole texts and readers of pieces see different frames, so each way of reading has its own numbers, which
//! rise by one: from 1 for whole texts, from above [`PIECES_AFTER`] for pieces. A reader who names the last number it saw
//! gets exactly what it lacks; one that comes back to read the other way gets the attempt from its start.

use std::sync::Arc;

use serde_json::Value;

use super::frames::{Frame, FrameBody};
use crate::domain::cursor::{Cursor, LivePosition};

/// Numbers up to here are those of whole texts: far more than an attempt can show at their rate.
const PIECES_AFTER: u32 = 1_000_000;

/// The running attempt as readers see it.
#[derive(Debug)]
pub struct LiveAnswer {
    attempt: i32,
    /// The last number given to a frame for readers of whole texts.
    whole: u32,
    /// The last number given to a frame for readers of pieces.
    pieces: u32,
    text: String,
    reasoning: String,
    /// What was announced to readers of pieces.
    announced: Vec<Arc<Frame>>,
    /// The latest of each kind that readers of whole texts got, in the order of their numbers.
    kept: Vec<(Kind, Arc<Frame>)>,
    marks: Vec<Mark>,
    /// Length of the text in the last whole frame.
    shown: usize,
}

/// What pieces are pieces of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// The answer.
    Text,
    /// What the model thinks before it.
    Reasoning,
}

/// A piece: its number, and the length of what it belongs to after it.
#[derive(Debug)]
struct Mark {
    n: u32,
    of: Said,
    length: usize,
}

/// The same news for both kinds of readers.
#[derive(Clone, Debug)]
pub struct Both {
    /// For readers of whole texts.
    pub whole: Arc<Frame>,
    /// For readers of pieces.
    pub piece: Arc<Frame>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Started,
    Thinking,
    SoFar,
}

impl LiveAnswer {
    /// An attempt that has said nothing.
    #[must_use]
    pub const fn new(attempt: i32) -> Self {
        Self {
            attempt,
            whole: 0,
            pieces: PIECES_AFTER,
            text: String::new(),
            reasoning: String::new(),
            announced: Vec::new(),
            kept: Vec::new(),
            marks: Vec::new(),
            shown: 0,
        }
    }

    /// The text so far.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The reasoning so far.
    #[must_use]
    pub fn reasoning(&self) -> &str {
        &self.reasoning
    }

    /// Announces the attempt.
    pub fn started(&mut self, head: i64, event: Value) -> Both {
        self.announce(Kind::Started, head, event)
    }

    /// Announces that the model is thinking.
    pub fn thinking(&mut self, head: i64, event: Value) -> Both {
        self.announce(Kind::Thinking, head, event)
    }

    fn announce(&mut self, kind: Kind, head: i64, event: Value) -> Both {
        let whole = self.show_as(kind, head, FrameBody::Event(event.clone()));
        self.pieces += 1;
        let piece = self.frame(head, self.pieces, FrameBody::Event(event));
        self.announced.push(Arc::clone(&piece));
        Both { whole, piece }
    }

    /// Notes what the model thinks.
    pub fn think(&mut self, piece: &str) {
        self.reasoning.push_str(piece);
    }

    /// The reasoning so far, for readers of whole texts.
    pub fn show_thought(&mut self, head: i64, event: Value) -> Arc<Frame> {
        let text = Arc::from(self.reasoning.as_str());
        self.show_as(Kind::Thinking, head, FrameBody::SoFar { event, text })
    }

    /// What is new of the reasoning, for readers of pieces.
    pub fn push_thought(&mut self, head: i64, event: Value) -> Arc<Frame> {
        let delta = self.reasoning[self.told(Said::Reasoning, self.pieces)..].to_owned();
        self.mark(Said::Reasoning);
        self.frame(head, self.pieces, FrameBody::Delta { event, delta })
    }

    fn mark(&mut self, of: Said) {
        self.pieces += 1;
        self.marks.push(Mark { n: self.pieces, of, length: self.said(of).len() });
    }

    fn said(&self, of: Said) -> &str {
        match of {
            Said::Text => &self.text,
            Said::Reasoning => &self.reasoning,
        }
    }

    /// How much of it was told in pieces up to number `n`.
    fn told(&self, of: Said, n: u32) -> usize {
        self.marks.iter().rev().find(|mark| mark.of == of && mark.n <= n).map_or(0, |mark| mark.length)
    }

    /// Adds a piece of text. The frame is for readers of pieces.
    pub fn push(&mut self, head: i64, event: Value, piece: String) -> Arc<Frame> {
        self.text.push_str(&piece);
        self.mark(Said::Text);
        self.frame(head, self.pieces, FrameBody::Delta { event, delta: piece })
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
        self.show_as(Kind::SoFar, head, FrameBody::SoFar { event, text })
    }

    fn show_as(&mut self, kind: Kind, head: i64, body: FrameBody) -> Arc<Frame> {
        self.whole += 1;
        let frame = self.frame(head, self.whole, body);
        self.kept.retain(|(kept, _)| *kept != kind);
        self.kept.push((kind, Arc::clone(&frame)));
        frame
    }

    fn frame(&self, head: i64, n: u32, body: FrameBody) -> Arc<Frame> {
        Arc::new(Frame::new(Some(Cursor::live(head, self.attempt, n)), body))
    }

    /// What a reader of whole texts lacks who has seen `seen` of this turn and every stored event up to `head`.
    #[must_use]
    pub fn missed_full(&self, seen: Option<LivePosition>, head: i64) -> Vec<Arc<Frame>> {
        let n = self.seen(seen).filter(|n| *n <= PIECES_AFTER).unwrap_or(0);
        self.kept.iter().filter(|(_, frame)| number(frame) > n).map(|(_, frame)| at_head(frame, head)).collect()
    }

    /// What a reader of pieces lacks: the announcements, and all that was said after its last piece in as few frames as the
    /// order of text and reasoning allows. `event` makes their events.
    #[must_use]
    pub fn missed_pieces(
        &self,
        seen: Option<LivePosition>,
        head: i64,
        event: impl Fn(Said) -> Value,
    ) -> Vec<Arc<Frame>> {
        let n = self.seen(seen).filter(|n| *n > PIECES_AFTER).unwrap_or(PIECES_AFTER);
        let announced = self.announced.iter().filter(|frame| number(frame) > n);
        let mut frames: Vec<_> = announced.map(|frame| at_head(frame, head)).collect();
        let missed = &self.marks[self.marks.partition_point(|mark| mark.n <= n)..];
        for run in missed.chunk_by(|one, next| one.of == next.of) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let delta = self.said(last.of)[self.told(last.of, first.n - 1)..last.length].to_owned();
            frames.push(self.frame(head, last.n, FrameBody::Delta { event: event(last.of), delta }));
        }
        frames
    }

    /// The number a reader has seen of this attempt; of another attempt it has seen nothing that counts.
    fn seen(&self, seen: Option<LivePosition>) -> Option<u32> {
        seen.filter(|at| at.attempt == self.attempt).map(|at| at.n)
    }
}

/// A kept frame for a reader who has seen the stored events up to `head`: its id must not send them again.
fn at_head(frame: &Arc<Frame>, head: i64) -> Arc<Frame> {
    match frame.id {
        Some(id) if id.seq != head => Arc::new(Frame::new(Some(Cursor { seq: head, ..id }), frame.body.clone())),
        _ => Arc::clone(frame),
    }
}

/// The number of a live frame.
fn number(frame: &Frame) -> u32 {
    frame.id.and_then(|id| id.live).map_or(0, |at| at.n)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn at(frame: &Frame) -> LivePosition {
        frame.id.and_then(|id| id.live).unwrap_or(LivePosition { attempt: 0, n: 0 })
    }

    fn kind(of: Said) -> Value {
        json!(of == Said::Text)
    }

    fn delta(frame: &Frame, of: Said) -> &str {
        match &frame.body {
            FrameBody::Delta { event, delta } if *event == kind(of) => delta,
            _ => "",
        }
    }

    fn spelled<'a>(frames: impl IntoIterator<Item = &'a Arc<Frame>>, of: Said) -> String {
        frames.into_iter().map(|frame| delta(frame, of)).collect()
    }

    proptest! {
        #[test]
        fn whoever_stops_after_any_frame_and_comes_back_has_each_piece_once(
            pieces in proptest::collection::vec((any::<bool>(), "[a-zäß🚆]{1,5}"), 1..30),
            cut in 0_usize..40,
        ) {
            let mut live = LiveAnswer::new(2);
            let mut frames = vec![live.started(1, json!({})).piece, live.thinking(1, json!({})).piece];
            for (thinks, piece) in &pieces {
                if *thinks {
                    live.think(piece);
                    frames.push(live.push_thought(1, kind(Said::Reasoning)));
                }
                frames.push(live.push(1, kind(Said::Text), piece.clone()));
            }
            let numbers: Vec<_> = frames.iter().map(|frame| at(frame).n - PIECES_AFTER).collect();
            prop_assert_eq!(numbers, (1..).take(frames.len()).collect::<Vec<_>>());
            let cut = cut.min(frames.len());
            let seen = frames[..cut].last().map(|frame| at(frame));
            let rest = live.missed_pieces(seen, 1, kind);
            prop_assert!(rest.iter().map(|frame| at(frame).n).is_sorted());
            let other_attempt = Some(LivePosition { attempt: 1, n: 99 });
            let anew = live.missed_pieces(other_attempt, 1, kind);
            for (of, all) in [(Said::Text, live.text()), (Said::Reasoning, live.reasoning())] {
                prop_assert_eq!(spelled(frames[..cut].iter().chain(&rest), of), all);
                prop_assert_eq!(spelled(&anew, of), all);
            }
        }
    }

    #[test]
    fn whoever_comes_back_to_read_the_other_way_gets_the_attempt_from_its_start() {
        let mut live = LiveAnswer::new(1);
        let started = live.started(1, json!("started"));
        let piece = live.push(1, kind(Said::Text), "a".into());
        let whole = live.show(1, json!({}));
        live.push(1, kind(Said::Text), "b".into());
        live.show(1, json!({}));
        let pieces = live.missed_pieces(Some(at(&whole)), 1, kind);
        assert_eq!((at(&pieces[0]), spelled(&pieces, Said::Text)), (at(&started.piece), "ab".into()));
        let wholes = live.missed_full(Some(at(&piece)), 1);
        assert_eq!(wholes.iter().map(|frame| at(frame).n).collect::<Vec<_>>(), [1, 3]);
    }

    #[test]
    fn a_kept_frame_does_not_send_back_to_events_that_were_seen() {
        let mut live = LiveAnswer::new(1);
        live.started(1, json!({}));
        let late = [live.missed_full(None, 2), live.missed_pieces(None, 2, kind)].concat();
        assert!(late.iter().all(|frame| frame.id.is_some_and(|id| id.seq == 2)) && late.len() == 2);
    }

    #[test]
    fn a_reader_of_whole_texts_gets_the_last_one_and_only_once() {
        let mut live = LiveAnswer::new(1);
        let started = live.started(1, json!({})).whole;
        live.push(1, json!({}), "a".into());
        live.show(1, json!({}));
        live.push(1, json!({}), "b".into());
        let last = live.show(1, json!({}));
        let numbers = |seen| live.missed_full(seen, 1).iter().map(|frame| at(frame).n).collect::<Vec<_>>();
        assert_eq!(numbers(Some(at(&started))), [3]);
        assert!(numbers(Some(at(&last))).is_empty());
        assert_eq!(numbers(None), [1, 3]);
        assert!(!live.has_unshown_text());
    }
}
