//! For how long the own token is good.

use std::time::Duration;

use tokio::time::Instant;

/// A token that is renewed later than this before its end may end first.
const MARGIN: Duration = Duration::from_secs(2);

/// A longer time is cut to this: the token is renewed before it.
const MOST_SECONDS: u64 = 10 * 365 * 86_400;

/// What is known of the own token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    /// When that was told.
    at: Instant,
    /// How long it is good from then on; nothing if for ever.
    good_for: Option<Duration>,
    is_renewable: bool,
}

impl Lease {
    /// As Vault tells it: no seconds means for ever.
    pub(super) fn told(seconds: u64, is_renewable: bool, now: Instant) -> Self {
        let good_for = (seconds > 0).then(|| Duration::from_secs(seconds.min(MOST_SECONDS)));
        Self { at: now, good_for, is_renewable }
    }

    /// When it is to be renewed: after two thirds of its time, so that two more attempts fit in. Never if it ends never, or cannot be.
    pub(super) fn renewal(&self) -> Option<Instant> {
        let good_for = self.good_for.filter(|_| self.is_renewable)?;
        Some(self.at + (good_for * 2 / 3).min(good_for.saturating_sub(MARGIN)))
    }

    /// How long a renewal that failed may wait: half of the time that is left, so that further ones fit in however long that is.
    /// Without end once it has ended: then no renewal is in time.
    pub(super) fn patience(&self, now: Instant) -> Duration {
        self.left(now).filter(|left| !left.is_zero()).map_or(Duration::MAX, |left| left / 2)
    }

    /// When it ends, if nothing can be done about it.
    pub(super) fn certain_end(&self) -> Option<Instant> {
        self.good_for.filter(|_| !self.is_renewable).map(|good_for| self.at + good_for)
    }

    /// How long it is good yet; nothing if for ever.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        self.good_for.map(|good_for| (self.at + good_for).saturating_duration_since(now))
    }

    /// The same, which cannot be renewed after all.
    pub(super) const fn unrenewable(self) -> Self {
        Self { is_renewable: false, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_time_longer_than_any_clock_is_cut() {
        let now = Instant::now();
        let [renewable, other] = [true, false].map(|is_renewable| Lease::told(u64::MAX, is_renewable, now));
        let most = Duration::from_secs(MOST_SECONDS);
        assert!(renewable.renewal().is_some_and(|at| at < now + most));
        assert_eq!((other.certain_end(), other.left(now)), (Some(now + most), Some(most)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_well_before_its_end_or_never() {
        let now = Instant::now();
        let renewal = |seconds, is_renewable| Lease::told(seconds, is_renewable, now).renewal();
        assert_eq!(renewal(90, true), Some(now + Duration::from_mins(1)));
        assert_eq!(renewal(3, true), Some(now + Duration::from_secs(1)));
        assert_eq!(renewal(1, true), Some(now), "at once");
        assert_eq!((renewal(90, false), renewal(0, true)), (None, None));
        assert_eq!(Lease::told(90, false, now).certain_end(), Some(now + Duration::from_secs(90)));
        assert_eq!(Lease::told(90, true, now).certain_end(), None);
        assert_eq!(Lease::told(90, true, now).unrenewable().renewal(), None);
        assert_eq!(Lease::told(0, true, now).left(now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_failed_waits_for_half_of_what_is_left() {
        let now = Instant::now();
        let lease = Lease::told(90, true, now);
        let after = |seconds| lease.patience(now + Duration::from_secs(seconds));
        assert_eq!([after(60), after(80), after(89)].map(|wait| wait.as_millis()), [15_000, 5_000, 500]);
        assert_eq!((after(90), Lease::told(0, true, now).patience(now)), (Duration::MAX, Duration::MAX));
    }
}
