//! Many measurements of one thing, and what is told of them.

use crate::clock::{self, Nanos};

/// Measurements, in milliseconds unless their owner says otherwise.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    values: Vec<f64>,
}

impl Samples {
    /// Adds the time from one instant to another.
    pub fn between(&mut self, from: Nanos, to: Nanos) {
        self.push(clock::millis_between(from, to));
    }

    /// Adds a value.
    pub fn push(&mut self, value: f64) {
        self.values.push(value);
    }

    /// Adds all of `others`.
    pub fn extend(&mut self, others: &Self) {
        self.values.extend_from_slice(&others.values);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// The smallest value that at least `percent` of all values do not exceed (nearest rank); not a number if there are none.
    #[must_use]
    pub fn percentile(&self, percent: u32) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent as usize).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    /// The middle value.
    #[must_use]
    pub fn median(&self) -> f64 {
        self.percentile(50)
    }

    /// The largest value.
    #[must_use]
    pub fn max(&self) -> f64 {
        self.percentile(100)
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self { values: values.into_iter().collect() }
    }
}

/// How much happened in a second, from one instant to another.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^53")]
pub fn rate(count: u64, from: Nanos, to: Nanos) -> f64 {
    count as f64 / (clock::millis_between(from, to) / 1e3)
}

/// Bytes as MiB.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "memory stays far below 2^53")]
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Bytes that were added from one reading to another, shared out among `count`, in KiB.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "memory and counts stay far below 2^53")]
pub fn kibibytes_each(before: u64, after: u64, count: usize) -> f64 {
    after.saturating_sub(before) as f64 / 1024.0 / count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let samples: Samples = (1..=200).rev().map(f64::from).collect();
        for (percent, value) in [(0, 1.0), (1, 2.0), (50, 100.0), (99, 198.0), (100, 200.0)] {
            assert!((samples.percentile(percent) - value).abs() < 1e-9, "{percent}");
        }
        assert!((samples.median() - 100.0).abs() < 1e-9 && (samples.max() - 200.0).abs() < 1e-9);
    }

    #[test]
    fn one_value_is_every_percentile_and_none_is_no_number() {
        let one: Samples = [7.0].into_iter().collect();
        assert!((one.percentile(1) - 7.0).abs() < 1e-9 && (one.percentile(99) - 7.0).abs() < 1e-9);
        assert!(Samples::default().percentile(50).is_nan());
    }

    #[test]
    fn rates_and_sizes_are_per_second_and_per_thing() {
        assert!((rate(500, 1_000_000_000, 3_000_000_000) - 250.0).abs() < 1e-9);
        assert!((kibibytes_each(1024, 1024 + 4096, 2) - 2.0).abs() < 1e-9);
        assert!(kibibytes_each(4096, 1024, 2).abs() < 1e-9);
        assert!((mebibytes(3 << 19) - 1.5).abs() < 1e-9);
    }
}
