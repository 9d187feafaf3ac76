//! Restart intensity and backoff, as plain values fed with times.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use crate::{deadline::deadline, spec::BackoffSpec};

/// The sliding window of a supervisor's restarts.
#[derive(Debug)]
pub(crate) struct Window {
    max: u32,
    within: Duration,
    restarts: VecDeque<Instant>,
}

impl Window {
    pub(crate) fn new(max: u32, within: Duration) -> Self {
        Self { max, within, restarts: VecDeque::new() }
    }

    /// Counts one restart at `now`; false when it is one too many. A restart exactly `within` ago
    /// still counts, as in OTP.
    pub(crate) fn admit(&mut self, now: Instant) -> bool {
        while let Some(oldest) = self.restarts.front() {
            if now.duration_since(*oldest) <= self.within {
                break;
            }
            self.restarts.pop_front();
        }
        self.restarts.push_back(now);
        u32::try_from(self.restarts.len()).is_ok_and(|count| count <= self.max)
    }
}

/// The wait before a child's next restart.
#[derive(Debug)]
pub(crate) struct Backoff {
    current: Duration,
    running_since: Instant,
}

impl Backoff {
    /// The wait for a failure at `now`, remembered in `slot` for the failure after it.
    pub(crate) fn next(slot: &mut Option<Self>, spec: &BackoffSpec, now: Instant) -> Duration {
        let current = match slot {
            Some(last) if now.duration_since(last.running_since) < spec.reset_after => {
                last.current.saturating_mul(2).clamp(spec.min, spec.max)
            }
            _ => spec.min,
        };
        *slot = Some(Self { current, running_since: deadline(now, current) });
        current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn window_admits_max_restarts_and_refuses_the_next() {
        let start = Instant::now();
        let mut window = Window::new(2, 10 * SECOND);
        assert!(window.admit(start));
        assert!(window.admit(start + SECOND));
        assert!(!window.admit(start + 2 * SECOND));
    }

    #[test]
    fn window_slides() {
        let start = Instant::now();
        let mut window = Window::new(1, 10 * SECOND);
        assert!(window.admit(start));
        assert!(window.admit(start + 11 * SECOND), "the first has left the window");
        assert!(!window.admit(start + 21 * SECOND), "exactly the period ago still counts");
    }

    #[test]
    fn window_of_zero_refuses_the_first() {
        assert!(!Window::new(0, SECOND).admit(Instant::now()));
    }

    #[test]
    fn backoff_doubles_up_to_its_maximum_and_resets_after_quiet() {
        let spec = BackoffSpec { min: SECOND, max: 5 * SECOND, reset_after: 60 * SECOND };
        let mut slot = None;
        let mut now = Instant::now();
        for expected in [1, 2, 4, 5, 5] {
            let wait = Backoff::next(&mut slot, &spec, now);
            assert_eq!(wait, expected * SECOND);
            now += wait + SECOND;
        }
        assert_eq!(
            Backoff::next(&mut slot, &spec, now + 60 * SECOND),
            SECOND,
            "quiet for the period after its restart"
        );
    }
}
