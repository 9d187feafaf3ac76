//! What a reader was sent and has not taken: in order, bounded in frames and in bytes.
//!
//! A reader of whole texts who is slow needs only the latest: a text so far that waits takes the place of the shorter one
//! that waits right before it.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;

use super::frames::Frame;

/// Most bytes of events that may wait for one reader, unless a single frame has more.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// The conversation's end. When it is dropped, the reader gets what waits and then the end.
pub struct Sender {
    shared: Arc<Shared>,
    max_frames: usize,
}

/// The reader's end.
pub struct Receiver {
    shared: Arc<Shared>,
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// The reader will get it.
    Waits,
    /// Too much waits already.
    Full,
    /// The reader has gone.
    Gone,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    frames: VecDeque<Arc<Frame>>,
    bytes: usize,
    ended: bool,
    hushed: bool,
    waker: Option<Waker>,
}

/// The two ends of a backlog of at most `max_frames`.
#[must_use]
pub fn backlog(max_frames: usize) -> (Sender, Receiver) {
    let shared = Arc::<Shared>::default();
    (Sender { shared: Arc::clone(&shared), max_frames: max_frames.max(1) }, Receiver { shared })
}

impl Sender {
    /// Sends a frame, or says why not.
    pub fn send(&self, frame: &Arc<Frame>) -> Sent {
        if self.is_gone() {
            return Sent::Gone;
        }
        let mut state = self.shared.state.lock();
        if state.frames.back().is_some_and(|last| frame.replaces(last)) {
            state.drop_last();
        }
        let too_long = state.bytes + frame.size_bytes() > MAX_BYTES && !state.frames.is_empty();
        if too_long || state.frames.len() == self.max_frames {
            return Sent::Full;
        }
        state.bytes += frame.size_bytes();
        state.frames.push_back(Arc::clone(frame));
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        Sent::Waits
    }

    /// Ends it for a reader that must not learn that there was anything: what waits is taken back.
    pub fn hush(self) {
        let mut state = self.shared.state.lock();
        state.frames.clear();
        (state.bytes, state.hushed) = (0, true);
    }

    /// Whether the reader has gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.ended = true;
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn drop_last(&mut self) {
        self.bytes -= self.frames.pop_back().map_or(0, |frame| frame.size_bytes());
    }
}

impl Receiver {
    /// The next frame, or `None` when no more will come.
    pub async fn recv(&mut self) -> Option<Arc<Frame>> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// Whether the end is one that the reader must not learn of.
    #[must_use]
    pub fn is_hushed(&self) -> bool {
        self.shared.state.lock().hushed
    }

    /// The next frame if one waits.
    #[cfg(test)]
    pub fn try_recv(&mut self) -> Option<Arc<Frame>> {
        let context = Context::from_waker(Waker::noop());
        if let Poll::Ready(frame) = self.poll(&context) { frame } else { None }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<Option<Arc<Frame>>> {
        let mut state = self.shared.state.lock();
        if let Some(frame) = state.frames.pop_front() {
            state.bytes -= frame.size_bytes();
            return Poll::Ready(Some(frame));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        // The other end is dropped only when it next has something to send.
        *self.shared.state.lock() = State::default();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{conversation::frames::FrameBody, domain::cursor::Cursor};

    fn event(length: usize) -> Arc<Frame> {
        Arc::new(Frame::new(None, FrameBody::Event(json!({"message": "x".repeat(length)}))))
    }

    fn so_far(kind: &str, turn: i64, n: u32, length: usize) -> Arc<Frame> {
        let event = json!({"type": kind, "metadata": {"turn": turn, "attempt": 1}});
        let body = FrameBody::SoFar { event, text: "x".repeat(length).into() };
        Arc::new(Frame::new(Some(Cursor::live(1, 1, n)), body))
    }

    fn ids(receiver: &mut Receiver) -> Vec<String> {
        std::iter::from_fn(|| receiver.try_recv())
            .map(|frame| frame.id.map_or_else(String::new, |id| id.to_string()))
            .collect()
    }

    #[test]
    fn a_slow_reader_of_whole_texts_holds_only_the_latest_and_is_not_dropped() {
        let (sender, mut receiver) = backlog(4);
        let long = 1024 * 1024;
        assert_eq!(sender.send(&event(1)), Sent::Waits);
        for n in 1..1000 {
            assert_eq!(sender.send(&so_far("assistant.stream", 1, n, long)), Sent::Waits);
        }
        assert_eq!(sender.send(&event(long)), Sent::Waits);
        assert!(receiver.shared.state.lock().bytes < 3 * long);
        assert_eq!(ids(&mut receiver), ["", "1.1.999", ""]);
        assert_eq!(receiver.shared.state.lock().bytes, 0);
    }

    #[test]
    fn a_text_takes_the_place_of_its_own_earlier_state_only() {
        let (sender, mut receiver) = backlog(9);
        let sent = [
            so_far("assistant.thinking", 1, 3, 1),
            so_far("assistant.stream", 1, 4, 1),
            so_far("assistant.stream", 2, 5, 1),
            event(1),
            so_far("assistant.stream", 2, 6, 1),
            so_far("assistant.stream", 2, 7, 1),
        ];
        for frame in &sent {
            assert_eq!(sender.send(frame), Sent::Waits);
        }
        assert_eq!(ids(&mut receiver), ["1.1.3", "1.1.4", "1.1.5", "", "1.1.7"]);
    }

    #[test]
    fn bytes_and_frames_are_bounded_and_a_single_long_frame_passes() {
        let (sender, mut receiver) = backlog(3);
        assert_eq!(sender.send(&event(2 * MAX_BYTES)), Sent::Waits);
        assert_eq!(sender.send(&event(1)), Sent::Full);
        assert!(receiver.try_recv().is_some());
        for expected in [Sent::Waits, Sent::Waits, Sent::Waits, Sent::Full] {
            assert_eq!(sender.send(&Arc::new(Frame::new(None, FrameBody::Event(Value::Null)))), expected);
        }
        drop(receiver);
        assert_eq!(sender.send(&event(1)), Sent::Gone);
    }

    #[test]
    fn a_reader_that_is_hushed_gets_nothing_more_and_knows_that_this_is_no_end() {
        let (sender, mut receiver) = backlog(2);
        assert_eq!(sender.send(&event(1)), Sent::Waits);
        sender.hush();
        assert!(receiver.try_recv().is_none() && receiver.is_hushed());
        let (sender, receiver) = backlog(2);
        drop(sender);
        assert!(!receiver.is_hushed());
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken_by_a_frame_and_by_the_end() {
        let (sender, mut receiver) = backlog(1);
        let (frame, _) = tokio::join!(receiver.recv(), async { sender.send(&event(1)) });
        assert!(frame.is_some());
        let (end, ()) = tokio::join!(receiver.recv(), async { drop(sender) });
        assert!(end.is_none());
    }
}
