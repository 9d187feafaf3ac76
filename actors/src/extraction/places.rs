//! Places for work, shared out fairly: whoever waits is served in turn with the others, and nobody has all of them while there is more
//! than one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Places for work. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Places(Arc<Mutex<State>>);

/// A place that somebody has, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    whose: String,
    places: Places,
}

/// Those of one who wait.
type Line = VecDeque<oneshot::Sender<Place>>;

#[derive(Debug)]
struct State {
    free: usize,
    /// Most that one has at a time.
    most: usize,
    /// How many each has.
    taken: HashMap<String, usize>,
    /// Whoever is served next is in front.
    waiting: VecDeque<(String, Line)>,
}

impl Places {
    pub(super) fn new(count: usize) -> Self {
        let (free, most) = (count.max(1), count.saturating_sub(1).max(1));
        Self(Arc::new(Mutex::new(State { free, most, taken: HashMap::new(), waiting: VecDeque::new() })))
    }

    /// Waits for a place. Whoever drops the future waits no more.
    pub(super) async fn place(&self, whose: &str) -> Option<Place> {
        let (sender, receiver) = oneshot::channel();
        self.0.lock().line_up(whose, sender);
        self.serve();
        // Places are there for as long as somebody waits for them.
        receiver.await.ok()
    }

    fn serve(&self) {
        loop {
            // A place that nobody takes is dropped, and locks again.
            let next = self.0.lock().next();
            let Some((whose, sender)) = next else { return };
            drop(sender.send(Place { whose, places: self.clone() }));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.0.lock().release(&self.whose);
        self.places.serve();
    }
}

impl State {
    fn line_up(&mut self, whose: &str, sender: oneshot::Sender<Place>) {
        match self.waiting.iter_mut().find(|(other, _)| other == whose) {
            Some((_, line)) => line.push_back(sender),
            None => self.waiting.push_back((whose.to_owned(), VecDeque::from([sender]))),
        }
    }

    /// Takes a place for the first in turn who may have one.
    fn next(&mut self) -> Option<(String, oneshot::Sender<Place>)> {
        if self.free == 0 {
            return None;
        }
        for _ in 0..self.waiting.len() {
            let (whose, mut line) = self.waiting.pop_front()?;
            line.retain(|sender| !sender.is_closed());
            let has = self.taken.get(&whose).copied().unwrap_or_default();
            let sender = if has < self.most { line.pop_front() } else { None };
            if !line.is_empty() {
                self.waiting.push_back((whose.clone(), line));
            }
            if let Some(sender) = sender {
                self.free -= 1;
                self.taken.insert(whose.clone(), has + 1);
                return Some((whose, sender));
            }
        }
        None
    }

    fn release(&mut self, whose: &str) {
        self.free += 1;
        if let Some(has) = self.taken.get_mut(whose) {
            *has -= 1;
            if *has == 0 {
                self.taken.remove(whose);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use std::pin::Pin;

    use futures_util::FutureExt as _;

    use super::*;

    type Waiting = Pin<Box<dyn Future<Output = Option<Place>>>>;

    fn wait(places: &Places, whose: &'static str) -> Waiting {
        let places = places.clone();
        Box::pin(async move { places.place(whose).await })
    }

    fn served(waiting: &mut Waiting) -> Option<Place> {
        waiting.now_or_never().flatten()
    }

    #[test]
    fn one_who_wants_much_leaves_a_place_to_others() {
        let places = Places::new(2);
        let mut greedy = [(); 3].map(|()| wait(&places, "a"));
        let first = served(&mut greedy[0]).unwrap();
        assert!(served(&mut greedy[1]).is_none(), "one place is for others");
        let other = served(&mut wait(&places, "b")).unwrap();
        drop(first);
        let second = served(&mut greedy[1]).unwrap();
        drop(other);
        assert!(served(&mut greedy[2]).is_none());
        drop(second);
        assert!(served(&mut greedy[2]).is_some());
    }

    #[test]
    fn those_who_wait_are_served_in_turn() {
        let places = Places::new(1);
        let first = served(&mut wait(&places, "a")).unwrap();
        let mut waiting = ["a", "a", "b", "c"].map(|whose| wait(&places, whose));
        for waiting in &mut waiting {
            assert!(served(waiting).is_none());
        }
        drop(first);
        let [a, again, b, c] = &mut waiting;
        let place = served(a).unwrap();
        assert!(served(b).is_none());
        drop(place);
        let place = served(b).unwrap();
        drop(place);
        let place = served(c).unwrap();
        assert!(served(again).is_none());
        drop(place);
        assert!(served(again).is_some());
    }

    #[test]
    fn whoever_gives_up_keeps_no_place() {
        let places = Places::new(1);
        let first = served(&mut wait(&places, "a")).unwrap();
        let (mut gone, mut late) = (wait(&places, "b"), wait(&places, "b"));
        assert!(served(&mut gone).is_none() && served(&mut late).is_none());
        drop(gone);
        drop(first);
        // One that got its place and never looked.
        drop(late);
        assert!(served(&mut wait(&places, "c")).is_some());
        let state = places.0.lock();
        assert!(state.free == 1 && state.taken.is_empty() && state.waiting.is_empty());
    }
}
