//! The frames of an attempt while it streams: numbered, shared, and enough of them kept for a reader who comes late.
//!
//! Readers of whole texts and readers of pieces see different frames, but one numbering: a number stands for what had
//! happened by then. An announcement and a piece have the next one; a whole text has the number of the last piece in it. So a
//! reader who names the last number it saw gets exactly what it lacks, also when it comes back to read the other way.

use std::sync::Arc;

use serde_json::Value;

use super::frames::{Frame, FrameBody};
use crate::domain::cursor::{Cursor, LivePosition};

/// The running attempt as readers see it.
#[derive(Debug)]
pub struct LiveAnswer {
    attempt: i32,
    /// The last number given.
    n: u32,
    text: String,
    reasoning: String,
    /// What was announced, to all readers.
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
            n: 0,
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

    /// Announces the attempt, to all readers.
    pub fn started(&mut self, head: i64, event: Value) -> Arc<Frame> {
        self.announce(Kind::Started, head, event)
    }

    /// Announces that the model is thinking, to all readers.
    pub fn thinking(&mut self, head: i64, event: Value) -> Arc<Frame> {
        self.announce(Kind::Thinking, head, event)
    }

    fn announce(&mut self, kind: Kind, head: i64, event: Value) -> Arc<Frame> {
        self.n += 1;
        let frame = self.frame(head, FrameBody::Event(event));
        self.keep(kind, &frame);
        self.announced.push(Arc::clone(&frame));
        frame
    }

    /// Notes what the model thinks.
    pub fn think(&mut self, piece: &str) {
        self.reasoning.push_str(piece);
    }

    /// The reasoning so far for readers of whole texts, and what is new of it for readers of pieces. Text must have been
    /// [shown](Self::show) before: whoever has seen this number has seen all text before it.
    pub fn thought(&mut self, head: i64, whole: Value, piece: Value) -> (Arc<Frame>, Arc<Frame>) {
        let delta = self.reasoning[self.told(Said::Reasoning, self.n)..].to_owned();
        self.mark(Said::Reasoning);
        let text = Arc::from(self.reasoning.as_str());
        let whole = self.frame(head, FrameBody::SoFar { event: whole, text });
        self.keep(Kind::Thinking, &whole);
        (whole, self.frame(head, FrameBody::Delta { event: piece, delta }))
    }

    fn mark(&mut self, of: Said) {
        self.n += 1;
        self.marks.push(Mark { n: self.n, of, length: self.said(of).len() });
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
        self.frame(head, FrameBody::Delta { event, delta: piece })
    }

    /// Whether there is text that no whole frame has shown.
    #[must_use]
    pub const fn has_unshown_text(&self) -> bool {
        self.shown < self.text.len()
    }

    /// The text so far, of which a part is new, as a frame for readers of whole texts. The last number is that of a piece.
    pub fn show(&mut self, head: i64, event: Value) -> Arc<Frame> {
        self.shown = self.text.len();
        let text = Arc::from(self.text.as_str());
        let frame = self.frame(head, FrameBody::SoFar { event, text });
        self.keep(Kind::SoFar, &frame);
        frame
    }

    fn frame(&self, head: i64, body: FrameBody) -> Arc<Frame> {
        Arc::new(Frame::new(Some(Cursor::live(head, self.attempt, self.n)), body))
    }

    fn keep(&mut self, kind: Kind, frame: &Arc<Frame>) {
        self.kept.retain(|(kept, _)| *kept != kind);
        self.kept.push((kind, Arc::clone(frame)));
    }

    /// What a reader of whole texts lacks who has seen `seen` of this turn.
    #[must_use]
    pub fn missed_full(&self, seen: Option<LivePosition>) -> Vec<Arc<Frame>> {
        let n = self.seen(seen);
        self.kept.iter().filter(|(_, frame)| number(frame) > n).map(|(_, frame)| Arc::clone(frame)).collect()
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
        let n = self.seen(seen);
        let announced = self.announced.iter().filter(|frame| number(frame) > n);
        let mut frames: Vec<_> = announced.map(Arc::clone).collect();
        let missed = &self.marks[self.marks.partition_point(|mark| mark.n <= n)..];
        for run in missed.chunk_by(|one, next| one.of == next.of) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            let delta = self.said(last.of)[self.told(last.of, first.n - 1)..last.length].to_owned();
            let id = Cursor::live(head, self.attempt, last.n);
            frames.push(Arc::new(Frame::new(Some(id), FrameBody::Delta { event: event(last.of), delta })));
        }
        frames
    }

    /// The number a reader has seen of this attempt; of another attempt it has seen nothing that counts.
    fn seen(&self, seen: Option<LivePosition>) -> u32 {
        seen.filter(|at| at.attempt == self.attempt).map_or(0, |at| at.n)
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
            let mut frames = vec![live.started(1, json!({})), live.thinking(1, json!({}))];
            for (thinks, piece) in &pieces {
                if *thinks {
                    live.show(1, json!({}));
                    live.think(piece);
                    frames.push(live.thought(1, kind(Said::Reasoning), kind(Said::Reasoning)).1);
                }
                frames.push(live.push(1, kind(Said::Text), piece.clone()));
            }
            let numbers: Vec<_> = frames.iter().map(|frame| at(frame).n).collect();
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

        #[test]
        fn whoever_comes_back_to_read_the_other_way_loses_no_text(
            news in proptest::collection::vec(0..3_u8, 1..40),
            cut in 0_usize..60,
            pieces_first in any::<bool>(),
        ) {
            let mut live = LiveAnswer::new(1);
            let first = live.started(1, json!({}));
            // What each kind of reader was sent, with the length of the text that it knew then.
            let (mut whole, mut pieces) = (vec![(Arc::clone(&first), 0)], vec![(first, 0)]);
            for (count, what) in news.iter().enumerate() {
                match what {
                    0 => {
                        if live.has_unshown_text() {
                            whole.push((live.show(1, json!({})), live.text().len()));
                        }
                        live.think("hm ");
                        let thought = live.thought(1, kind(Said::Reasoning), kind(Said::Reasoning));
                        whole.push((thought.0, live.shown));
                        pieces.push((thought.1, live.text().len()));
                    }
                    1 => pieces.push((live.push(1, kind(Said::Text), format!("{count} ")), live.text().len())),
                    _ if live.has_unshown_text() => whole.push((live.show(1, json!({})), live.text().len())),
                    _ => {}
                }
            }
            for sent in [&whole, &pieces] {
                prop_assert!(sent.windows(2).all(|pair| at(&pair[0].0) < at(&pair[1].0)), "numbers rise");
            }
            let sent = if pieces_first { &pieces } else { &whole };
            let (last, known) = &sent[cut.min(sent.len() - 1)];
            let known = live.text()[..*known].to_owned();
            let rest = spelled(&live.missed_pieces(Some(at(last)), 1, kind), Said::Text);
            if pieces_first {
                // The whole text comes again at the latest with the end; until then nothing that was seen goes away.
                let shown = live.missed_full(Some(at(last)));
                let longer = |frame: &Arc<Frame>| match &frame.body {
                    FrameBody::SoFar { event, text } => *event == kind(Said::Reasoning) || text.len() > known.len(),
                    _ => true,
                };
                prop_assert!(shown.iter().all(longer));
            }
            prop_assert_eq!(known + &rest, live.text());
        }
    }

    #[test]
    fn a_reader_of_whole_texts_gets_the_last_one_and_only_once() {
        let mut live = LiveAnswer::new(1);
        let started = live.started(1, json!({}));
        live.push(1, json!({}), "a".into());
        live.show(1, json!({}));
        let piece = live.push(1, json!({}), "b".into());
        let last = live.show(1, json!({}));
        assert_eq!(live.missed_full(Some(at(&started))).iter().map(|frame| at(frame).n).collect::<Vec<_>>(), [3]);
        assert_eq!(at(&last).n, at(&piece).n, "a whole text stands where its last piece does");
        assert!(live.missed_full(Some(at(&last))).is_empty());
        assert_eq!(live.missed_full(None).len(), 2);
        assert!(!live.has_unshown_text());
    }
}
