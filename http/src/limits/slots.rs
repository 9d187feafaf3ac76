//! How many streams are open at a time: of each caller, and in all.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use parking_lot::Mutex;
use prometheus::IntGauge;

/// The streams that are open. What is known of a caller is forgotten with their last one.
pub(super) struct Streams {
    most: usize,
    most_each: usize,
    open: Mutex<Open>,
    gauge: IntGauge,
}

#[derive(Default)]
struct Open {
    all: usize,
    each: HashMap<u64, usize>,
}

/// Why another stream may not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The caller has as many as one may have.
    Caller,
    /// All together have.
    All,
}

/// One open stream, for as long as this exists.
pub(crate) struct StreamSlot {
    streams: Arc<Streams>,
    whose: Option<u64>,
}

impl Streams {
    /// At most `most` streams, and `most_each` of one caller; 0 is no limit. `gauge` shows how many there are.
    pub(super) fn new(most: usize, most_each: usize, gauge: IntGauge) -> Arc<Self> {
        Arc::new(Self { most, most_each, open: Mutex::default(), gauge })
    }

    /// Opens a stream of a caller, whose hash is `whose`, or of one who is not counted.
    ///
    /// # Errors
    /// There are as many as may be.
    pub(super) fn open(self: &Arc<Self>, whose: Option<u64>) -> Result<StreamSlot, Full> {
        let mut open = self.open.lock();
        if self.most > 0 && open.all >= self.most {
            return Err(Full::All);
        }
        if let Some(whose) = whose {
            let own = open.each.entry(whose).or_default();
            if self.most_each > 0 && *own >= self.most_each {
                return Err(Full::Caller);
            }
            *own += 1;
        }
        open.all += 1;
        self.gauge.inc();
        Ok(StreamSlot { streams: Arc::clone(self), whose })
    }
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock();
        open.all = open.all.saturating_sub(1);
        if let Some(Entry::Occupied(mut own)) = self.whose.map(|whose| open.each.entry(whose)) {
            *own.get_mut() = own.get().saturating_sub(1);
            if *own.get() == 0 {
                own.remove();
            }
        }
        self.streams.gauge.dec();
    }
}

#[cfg(test)]
impl StreamSlot {
    /// A stream that only `gauge` knows of.
    pub(crate) fn of(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self { streams: Streams::new(0, 0, gauge.clone()), whose: None }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    #[test]
    fn a_stream_that_ends_makes_room_for_one_of_the_same_caller() {
        let gauge = IntGauge::new("g", "g").unwrap();
        let streams = Streams::new(5, 2, gauge.clone());
        let [first, second] = [streams.open(Some(1)).unwrap(), streams.open(Some(1)).unwrap()];
        assert_eq!(streams.open(Some(1)).err(), Some(Full::Caller));
        let others = [Some(2), None, None].map(|whose| streams.open(whose).unwrap());
        for whose in [None, Some(1), Some(3)] {
            assert_eq!(streams.open(whose).err(), Some(Full::All));
        }
        assert_eq!(gauge.get(), 5);
        drop(others);
        assert_eq!(streams.open(Some(1)).err(), Some(Full::Caller));
        drop(first);
        drop(streams.open(Some(1)).unwrap());
        drop(second);
        let left = streams.open.lock();
        assert_eq!((gauge.get(), left.all, left.each.len()), (0, 0, 0));
    }

    #[test]
    fn no_limit_is_none() {
        let streams = Streams::new(0, 0, IntGauge::new("g", "g").unwrap());
        let open: Vec<_> = (0..1_000).map(|_| streams.open(Some(1)).unwrap()).collect();
        assert_eq!(streams.open.lock().each.values().sum::<usize>(), open.len());
    }
}
