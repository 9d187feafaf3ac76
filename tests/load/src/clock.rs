//! One clock for everything that is compared: the model that sends and the reader that receives share this process.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// An instant, in nanoseconds since the first one that was asked for.
pub type Nanos = u64;

/// Now.
#[must_use]
pub fn now() -> Nanos {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    u64::try_from(BEGAN.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Milliseconds from one instant to another; negative if the second was earlier.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a run lasts minutes, far from 2^53 nanoseconds")]
pub fn millis_between(from: Nanos, to: Nanos) -> f64 {
    (to as f64 - from as f64) / 1e6
}

/// Waits until the instant `at`.
pub async fn until(at: Nanos) {
    let left = Duration::from_nanos(at.saturating_sub(now()));
    if !left.is_zero() {
        tokio::time::sleep(left).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_between_two_instants_has_a_sign() {
        assert!((millis_between(1_000_000, 3_500_000) - 2.5).abs() < 1e-9);
        assert!((millis_between(3_500_000, 1_000_000) + 2.5).abs() < 1e-9);
    }

    #[test]
    fn the_clock_never_goes_back() {
        let first = now();
        assert!(now() >= first);
    }
}
