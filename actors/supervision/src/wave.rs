//! The order in which children are stopped.

use std::collections::BTreeSet;

/// Stops children in reverse start order, each awaited before the next. `Temporary` children that
/// follow one another have no order among themselves and go together.
#[derive(Debug)]
pub(crate) struct Wave {
    remaining: Vec<(u64, bool)>,
    waiting: BTreeSet<u64>,
}

impl Wave {
    /// `children` in start order, each with whether it is `Temporary`.
    pub(crate) fn new(children: Vec<(u64, bool)>) -> Self {
        Self { remaining: children, waiting: BTreeSet::new() }
    }

    /// The children to stop now; none when all have stopped.
    pub(crate) fn next(&mut self) -> Vec<u64> {
        let mut batch = Vec::new();
        while let Some((order, temporary)) = self.remaining.pop() {
            batch.push(order);
            let more = temporary && self.remaining.last().is_some_and(|(_, temporary)| *temporary);
            if !more {
                break;
            }
        }
        self.waiting = batch.iter().copied().collect();
        batch
    }

    /// Notes that a child has stopped; true when it was the last of its batch.
    pub(crate) fn stopped(&mut self, order: u64) -> bool {
        self.waiting.remove(&order) && self.waiting.is_empty()
    }

    /// The children awaited.
    pub(crate) fn waiting(&self) -> &BTreeSet<u64> {
        &self.waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_stop_one_by_one_in_reverse_and_temporaries_together() {
        let mut wave = Wave::new(vec![(1, false), (2, false), (3, true), (4, true), (5, false)]);
        assert_eq!(wave.next(), [5]);
        assert!(wave.stopped(5));
        assert_eq!(wave.next(), [4, 3]);
        assert!(!wave.stopped(3));
        assert!(!wave.stopped(3), "counted once");
        assert!(wave.stopped(4));
        assert_eq!(wave.next(), [2]);
        assert!(!wave.stopped(1), "not its turn");
        assert!(wave.stopped(2));
        assert_eq!(wave.next(), [1]);
        assert!(wave.stopped(1));
        assert!(wave.next().is_empty());
    }
}
