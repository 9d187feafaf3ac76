//! How often a growing answer is sent whole.

use std::time::Duration;

/// The shortest time between two frames that carry the text so far.
pub const MIN_INTERVAL: Duration = Duration::from_millis(50);

/// Bytes of text that add another [`MIN_INTERVAL`] between frames.
const STEP_BYTES: usize = 16 * 1024;

/// The time to wait between two frames that each carry all `text_bytes` so far. Sending the whole text again and again
/// costs the square of its length, so the interval grows with it and the bytes per second stay bounded.
#[must_use]
pub fn interval(text_bytes: usize) -> Duration {
    let steps = u32::try_from(text_bytes / STEP_BYTES).unwrap_or(u32::MAX).saturating_add(1);
    MIN_INTERVAL.saturating_mul(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_sent_per_second_stay_bounded() {
        assert_eq!(interval(0), MIN_INTERVAL);
        for kib in 0..2048_u32 {
            let bytes = kib * 1024;
            let per_second = f64::from(bytes) / interval(bytes as usize).as_secs_f64();
            assert!(per_second <= 330_000.0, "{kib} KiB: {per_second} bytes a second");
        }
    }
}
