//! How many retries all calls together may make, so that an outage does not multiply the traffic.
//!
//! Tokens in a bucket: each call puts a part of one in, each retry takes one out, and a little comes back with time, so
//! that a rare call can still be tried again. A call without a token is not retried; it fails as its last attempt did.

use tokio::time::Instant;

/// Tokens of a full bucket: retries that may follow each other at once.
const FULL: f64 = 20.0;
/// What a call adds: in the long run one retry for this many calls.
const PER_CALL: f64 = 0.2;
/// What a second adds.
const PER_SECOND: f64 = 0.5;

/// The retries that are left for one kind of calls.
#[derive(Debug)]
pub(super) struct RetryBudget {
    tokens: f64,
    at: Instant,
}

impl RetryBudget {
    /// A full bucket.
    pub const fn new(now: Instant) -> Self {
        Self { tokens: FULL, at: now }
    }

    /// Takes note of a call.
    pub fn deposit(&mut self) {
        self.tokens = (self.tokens + PER_CALL).min(FULL);
    }

    /// Takes leave for one retry.
    pub fn withdraw(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + passed * PER_SECOND).min(FULL);
        let granted = self.tokens >= 1.0;
        if granted {
            self.tokens -= 1.0;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_of_failures_is_retried_once_in_five_calls() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(now);
        let granted = (0..1_000).filter(|_| {
            budget.deposit();
            budget.withdraw(now)
        });
        assert!((215..=225).contains(&granted.count()));
    }

    #[test]
    fn a_spent_budget_comes_back_with_time() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(now);
        while budget.withdraw(now) {}
        assert!(!budget.withdraw(now + Duration::from_secs(1)));
        assert!(budget.withdraw(now + Duration::from_secs(2)));
        assert!(!budget.withdraw(now + Duration::from_secs(2)));
    }
}
