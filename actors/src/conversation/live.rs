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
    /// The latest of each kind that readers of whole texts got, in the order of their numbers.
    kept: Vec<(Kind, Arc<Frame>)>,
    /// For each piece: its number and the length of the text after it.
    marks: Vec<(u32, usize)>,
    /// Length of the text in the last whole frame.
    shown: usize,
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
        Self { attempt, n: 0, text: String::new(), kept: Vec::new(), marks: Vec::new(), shown: 0 }
    }

    /// The text so far.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Announces the attempt, to all readers.
    pub fn started(&mut self, head: i64, event: Value) -> Arc<Frame> {
        self.announce(Kind::Started, head, event)
    }

    /// Announces that the model is thinking, or what it thinks, to all readers. Text must have been [shown](Self::show) before:
    /// whoever has seen this number has seen all text before it.
    pub fn thinking(&mut self, head: i64, event: Value) -> Arc<Frame> {
        self.announce(Kind::Thinking, head, event)
    }

    fn announce(&mut self, kind: Kind, head: i64, event: Value) -> Arc<Frame> {
        self.n += 1;
        let frame = self.frame(head, FrameBody::Event(event));
        self.keep(kind, &frame);
        frame
    }

    /// Adds a piece of text. The frame is for readers of pieces.
    pub fn push(&mut self, head: i64, event: Value, piece: String) -> Arc<Frame> {
        self.n += 1;
        self.text.push_str(&piece);
        self.marks.push((self.n, self.text.len()));
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

    /// What a reader of pieces lacks: the announcements, and one frame with all the text after its last piece.
    #[must_use]
    pub fn missed_pieces(&self, seen: Option<LivePosition>, head: i64, event: Value) -> Vec<Arc<Frame>> {
        let n = self.seen(seen);
        let announced = self.kept.iter().filter(|(kind, frame)| *kind != Kind::SoFar && number(frame) > n);
        let mut frames: Vec<_> = announced.map(|(_, frame)| Arc::clone(frame)).collect();
        let from = self.marks.iter().take_while(|(mark, _)| *mark <= n).last().map_or(0, |(_, length)| *length);
        if let (Some((last, _)), true) = (self.marks.last(), from < self.text.len()) {
            let delta = self.text[from..].to_owned();
            let id = Cursor::live(head, self.attempt, *last);
            let frame = Arc::new(Frame::new(Some(id), FrameBody::Delta { event, delta }));
            // Thinking may go on after text began: what has the higher number comes later.
            let place = frames.iter().position(|frame| number(frame) > *last).unwrap_or(frames.len());
            frames.insert(place, frame);
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
            let mut frames = vec![live.started(1, json!({})), live.thinking(1, json!({}))];
            for (thinks, piece) in &pieces {
                if *thinks {
                    live.show(1, json!({}));
                    frames.push(live.thinking(1, json!({})));
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
                        let thought = live.thinking(1, json!({}));
                        whole.push((Arc::clone(&thought), live.shown));
                        pieces.push((thought, live.text().len()));
                    }
                    1 => pieces.push((live.push(1, json!({}), format!("{count} ")), live.text().len())),
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
            let rest = live.missed_pieces(Some(at(last)), 1, json!({}));
            let rest: String = rest.iter().map(|frame| delta(frame)).collect();
            if pieces_first {
                // The whole text comes again at the latest with the end; until then nothing that was seen goes away.
                let shown = live.missed_full(Some(at(last)));
                let so_far = shown.iter().filter_map(|frame| if let FrameBody::SoFar { text, .. } = &frame.body { Some(&**text) } else { None });
                prop_assert!(so_far.into_iter().all(|text| text.len() > known.len()));
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
