//! Where the limiter keeps what callers have used up: a table of fixed size, for any number of callers.
//!
//! A caller has one cell in each row, found by its hash, and the least of them counts; what it uses raises each of its cells to
//! that much and no further (a count-min sketch with conservative update, whose counts are the arrival times of governor).
//! So a caller is never taken for one that has used less than it did, whoever else comes. It is taken for one that has used
//! more only where others have used as much in every one of its rows: a flood of new callers fills a cell by one request
//! each, and cells empty themselves as time goes by.

use std::{
    array,
    sync::atomic::{AtomicU64, Ordering},
};

use governor::{nanos::Nanos, state::StateStore};

/// Rows of the table: how many strangers would have to share one's cells.
const ROWS: usize = 4;

/// Bits of a hash that find the cell in one row.
const ROW_BITS: u32 = u64::BITS / 4;

/// Cells of a row. With it a table takes 2 MiB, and never more.
const WIDTH: usize = 1 << ROW_BITS;

/// Asks for what a caller may still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Draw {
    /// Whose; made with a secret, or callers could choose whose cells they share.
    pub(super) hash: u64,
    /// Whether it is used up by asking.
    pub(super) keep: bool,
}

/// The table.
pub(super) struct Cells(Box<[AtomicU64]>);

impl Cells {
    /// A table in which nobody has used anything.
    pub(super) fn new() -> Self {
        Self((0..ROWS * WIDTH).map(|_| AtomicU64::new(0)).collect())
    }

    /// What it takes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }

    /// A caller's cells.
    fn of(&self, hash: u64) -> [&AtomicU64; ROWS] {
        let mut bits = hash;
        array::from_fn(|row| {
            let place = usize::try_from(bits & (WIDTH as u64 - 1)).unwrap_or_default();
            bits >>= ROW_BITS;
            &self.0[row * WIDTH + place]
        })
    }
}

impl StateStore for Cells {
    type Key = Draw;

    fn measure_and_replace<T, F, E>(&self, key: &Draw, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let cells = self.of(key.hash);
        loop {
            let seen = cells.map(|cell| cell.load(Ordering::Acquire));
            let (least, used) = seen.iter().enumerate().min_by_key(|(_, used)| **used).unwrap_or((0, &0));
            let (outcome, next) = decide(Some(Nanos::new(*used)))?;
            if !key.keep {
                return Ok(outcome);
            }
            let next = next.as_u64();
            // The least cell comes last. Cells only grow, so as long as it has not changed, what was decided holds.
            for (_, cell) in cells.iter().enumerate().filter(|(row, _)| *row != least) {
                cell.fetch_max(next, Ordering::AcqRel);
            }
            if cells[least].compare_exchange(*used, next, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return Ok(outcome);
            }
        }
    }
}
