//! How many of something there are at a time: of each caller, and in all.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use parking_lot::Mutex;
use prometheus::IntGauge;

/// Slots that are held for as long as something lasts, such as an open stream. What is known of a caller is forgotten with their
/// last one.
pub(super) struct Slots {
    most: usize,
    most_each: usize,
    held: Mutex<Held>,
    gauge: IntGauge,
}

#[derive(Default)]
struct Held {
    all: usize,
    each: HashMap<u64, usize>,
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The caller has as many as one may have.
    Caller,
    /// All together have.
    All,
}

/// One slot, for as long as this exists.
pub(crate) struct Slot {
    slots: Arc<Slots>,
    whose: Option<u64>,
}

impl Slots {
    /// At most `most` slots, and `most_each` of one caller; 0 is no limit. `gauge` shows how many are held.
    pub(super) fn new(most: usize, most_each: usize, gauge: IntGauge) -> Arc<Self> {
        Arc::new(Self { most, most_each, held: Mutex::default(), gauge })
    }

    /// Takes a slot for a caller, whose hash is `whose`, or for one who is not counted.
    ///
    /// # Errors
    /// As many are held as may be.
    pub(super) fn take(self: &Arc<Self>, whose: Option<u64>) -> Result<Slot, Full> {
        let mut held = self.held.lock();
        if self.most > 0 && held.all >= self.most {
            return Err(Full::All);
        }
        if let Some(whose) = whose {
            let own = held.each.entry(whose).or_default();
            if self.most_each > 0 && *own >= self.most_each {
                return Err(Full::Caller);
            }
            *own += 1;
        }
        held.all += 1;
        self.gauge.inc();
        Ok(Slot { slots: Arc::clone(self), whose })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut held = self.slots.held.lock();
        held.all = held.all.saturating_sub(1);
        if let Some(Entry::Occupied(mut own)) = self.whose.map(|whose| held.each.entry(whose)) {
            *own.get_mut() = own.get().saturating_sub(1);
            if *own.get() == 0 {
                own.remove();
            }
        }
        self.slots.gauge.dec();
    }
}

#[cfg(test)]
impl Slot {
    /// One that only `gauge` knows of.
    pub(crate) fn of(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self { slots: Slots::new(0, 0, gauge.clone()), whose: None }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    #[test]
    fn what_ends_makes_room_for_another_of_the_same_caller() {
        let gauge = IntGauge::new("g", "g").unwrap();
        let slots = Slots::new(5, 2, gauge.clone());
        let [first, second] = [slots.take(Some(1)).unwrap(), slots.take(Some(1)).unwrap()];
        assert_eq!(slots.take(Some(1)).err(), Some(Full::Caller));
        let others = [Some(2), None, None].map(|whose| slots.take(whose).unwrap());
        for whose in [None, Some(1), Some(3)] {
            assert_eq!(slots.take(whose).err(), Some(Full::All));
        }
        assert_eq!(gauge.get(), 5);
        drop(others);
        assert_eq!(slots.take(Some(1)).err(), Some(Full::Caller));
        drop(first);
        drop(slots.take(Some(1)).unwrap());
        drop(second);
        let left = slots.held.lock();
        assert_eq!((gauge.get(), left.all, left.each.len()), (0, 0, 0));
    }

    #[test]
    fn no_limit_is_none() {
        let slots = Slots::new(0, 0, IntGauge::new("g", "g").unwrap());
        let held: Vec<_> = (0..1_000).map(|_| slots.take(Some(1)).unwrap()).collect();
        assert_eq!(slots.held.lock().each.values().sum::<usize>(), held.len());
    }
}
