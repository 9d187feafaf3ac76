//! Random schedules that can be played again.
//!
//! Every case draws all its choices from one generator. When a case fails, its seed is printed; `SA01_TEST_SEED` set to
//! that number plays the one case again with the same choices.

use std::ops::RangeInclusive;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// The variable that names one case to play again.
pub const VARIABLE: &str = "SA01_TEST_SEED";

/// One case of a random schedule: the source of all its choices. Prints its seed when dropped by a panic.
#[derive(Debug)]
pub struct Case {
    name: &'static str,
    seed: u64,
    rng: StdRng,
}

impl Case {
    /// The case of `seed` in the schedule called `name`.
    #[must_use]
    pub fn new(name: &'static str, seed: u64) -> Self {
        Self { name, seed, rng: StdRng::seed_from_u64(seed) }
    }

    /// The number that plays this case again.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number of `range`.
    pub fn number(&mut self, range: RangeInclusive<u64>) -> u64 {
        self.rng.random_range(range)
    }

    /// An index below `len`, which must not be 0.
    pub fn index(&mut self, len: usize) -> usize {
        self.rng.random_range(0..len)
    }

    /// One of `items`, which must not be empty.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.index(items.len())]
    }

    /// True `percent` times in a hundred.
    pub fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_ratio(percent.min(100), 100)
    }

    /// An independent source of choices, for a task that runs beside this one.
    #[must_use]
    pub fn branch(&mut self) -> Self {
        let seed = self.rng.random();
        Self { name: self.name, seed: self.seed, rng: StdRng::seed_from_u64(seed) }
    }
}

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: failed; play it again with {VARIABLE}={}", self.name, self.seed);
        }
    }
}

/// The seeds a schedule has to play: `count` fresh ones, or the one that [`VARIABLE`] names.
///
/// # Panics
/// When the variable is set and is no number.
#[expect(clippy::panic, reason = "a seed that cannot be read must not be ignored")]
#[must_use]
pub fn cases(name: &'static str, count: usize) -> Vec<Case> {
    if let Ok(text) = std::env::var(VARIABLE) {
        let seed = text.trim().parse();
        let seed = seed.unwrap_or_else(|_| panic!("{VARIABLE} is no number: {text}"));
        return vec![Case::new(name, seed)];
    }
    let fresh = (0..count).map(|_| Case::new(name, u64::from(rand::random::<u32>())));
    fresh.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_the_same_choices_twice() {
        let draw = || {
            let mut case = Case::new("draw", 42);
            let branch = case.branch().number(0..=1_000_000);
            (0..50).map(|_| case.number(0..=1_000_000)).chain([branch]).collect::<Vec<_>>()
        };
        assert_eq!(draw(), draw());
    }
}
