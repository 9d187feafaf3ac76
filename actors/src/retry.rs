//! How long to wait before asking an outside service again, and how long to let others go first, in one place.
//!
//! The waits come from the `backoff` crate, whose author no longer maintains it (RUSTSEC-2025-0012). It has no
//! known flaw and does exactly what is needed, so it stays, but only here: nothing else may name it, and a
//! successor is a change to this file alone. Only its arithmetic is used, none of its retry loops, because a loop
//! must know what its caller already showed to a person.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

/// When a service may be asked again, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RetryPolicy {
    /// Attempts after the first one; 0 never retries.
    pub max_retries: u32,
    /// Upper bound of the first wait, in milliseconds; it doubles with each retry.
    pub first_wait_ms: u64,
    /// Upper bound of every later wait, in milliseconds.
    pub max_wait_ms: u64,
    /// The longest `Retry-After` that is waited for, in milliseconds. A service that asks for more is not asked
    /// again: coming back sooner than it said would be rude, and a person does not wait that long.
    pub max_retry_after_ms: u64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { max_retries: 2, first_wait_ms: 500, max_wait_ms: 8_000, max_retry_after_ms: 30_000 }
    }
}

/// The waits of one request: exponential, with full jitter (each is drawn evenly from zero to its bound, so that
/// callers who failed together do not come back together).
#[derive(Debug)]
pub struct Retries {
    left: u32,
    max_retry_after: Duration,
    waits: ExponentialBackoff,
}

impl Retries {
    /// A fresh count for one request.
    #[must_use]
    pub fn new(policy: RetryPolicy) -> Self {
        // The crate draws from `interval ± factor × interval`; half the bound with factor 1 is `0..=bound`.
        let max_interval = Duration::from_millis(policy.max_wait_ms) / 2;
        let initial_interval = (Duration::from_millis(policy.first_wait_ms) / 2).min(max_interval);
        let waits = ExponentialBackoff {
            current_interval: initial_interval,
            initial_interval,
            randomization_factor: 1.0,
            multiplier: 2.0,
            max_interval,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        Self { left: policy.max_retries, max_retry_after: Duration::from_millis(policy.max_retry_after_ms), waits }
    }

    /// The wait before the next attempt, or `None` if there shall be none.
    ///
    /// `asked` is what the service said in `Retry-After`: the wait is never shorter, and one above the policy's cap
    /// ends the retries.
    pub fn next_wait(&mut self, asked: Option<Duration>) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let drawn = self.waits.next_backoff()?;
        match asked {
            Some(asked) if asked > self.max_retry_after => None,
            Some(asked) => Some(drawn.max(asked)),
            None => Some(drawn),
        }
    }
}

/// Part of the time that work of nobody's asking may take while people wait for the database.
const ONE_OF: u32 = 10;

/// The rest after such work that took `took`, at most `longest`.
#[must_use]
pub fn held_back(took: Duration, longest: Duration) -> Duration {
    (took * (ONE_OF - 1)).min(longest)
}

/// Reads a `Retry-After` header (RFC 9110 §10.2.3): seconds, or an HTTP date seen from `now`.
///
/// A date gone by is zero; anything unreadable is `None`. Pass the time of the answer's own `Date` header as `now`
/// where there is one: then the two clocks need not agree.
#[must_use]
pub fn retry_after(value: &str, now: OffsetDateTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit are a wait without end; the cap deals with it.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let at = http_date(value)?;
    Some(Duration::try_from(at - now).unwrap_or(Duration::ZERO))
}

/// Reads an HTTP date in its one current form, as in `Sun, 06 Nov 1994 08:49:37 GMT`.
#[must_use]
pub fn http_date(value: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(value.trim(), &Rfc2822).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy { max_retries: 4, first_wait_ms: 100, max_wait_ms: 300, max_retry_after_ms: 5_000 }
    }

    #[test]
    fn waits_stay_under_bounds_that_double_up_to_the_maximum() {
        for _ in 0..200 {
            let mut retries = Retries::new(policy());
            for bound_ms in [100, 200, 300, 300] {
                let wait = retries.next_wait(None).unwrap();
                assert!(wait <= Duration::from_millis(bound_ms + 1), "{wait:?} above {bound_ms} ms");
            }
            assert_eq!(retries.next_wait(None), None);
        }
    }

    #[test]
    fn jitter_uses_the_whole_range_down_to_zero() {
        let waits: Vec<_> = (0..400).map(|_| Retries::new(policy()).next_wait(None).unwrap()).collect();
        assert!(waits.iter().any(|w| w.as_millis() < 20));
        assert!(waits.iter().any(|w| w.as_millis() > 80));
    }

    #[test]
    fn retry_after_is_a_lower_bound_and_ends_retries_above_its_cap() {
        let mut retries = Retries::new(policy());
        let asked = Duration::from_secs(2);
        assert_eq!(retries.next_wait(Some(asked)), Some(asked));
        assert_eq!(retries.next_wait(Some(Duration::from_secs(6))), None);
    }

    #[test]
    fn no_retries_when_none_are_allowed() {
        assert_eq!(Retries::new(RetryPolicy { max_retries: 0, ..policy() }).next_wait(None), None);
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let cases = [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ];
        for (value, seconds) in cases {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value:?}");
        }
    }
}
