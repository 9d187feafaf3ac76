//! Stops asking a server that does not answer, and finds out when it answers again.
//!
//! A plain state machine: the caller asks for a [`Ticket`] before each attempt, hands it back with what came of the
//! attempt, and passes the time in. Nothing here waits, logs or counts.
//!
//! Two rules keep late answers from doing harm. Every change of state begins a new generation, and a ticket of an
//! earlier one changes nothing: an attempt sent off while the server was well says nothing about the trial that runs
//! now. And a trial nobody reports (its task was dropped) is given up after one cooldown, so that the breaker cannot
//! wait for ever.

use std::time::Duration;

use tokio::time::Instant;

/// When a [`Breaker`] opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerRules {
    /// Failures in a row that open it; 0 is taken as 1.
    pub failures: u32,
    /// How long it stays open before it lets one trial through.
    pub cooldown: Duration,
}

/// What the breaker thinks of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything goes through.
    Closed,
    /// Nothing goes through.
    Open,
    /// One trial at a time goes through.
    HalfOpen,
}

impl BreakerState {
    /// The fixed lower-case word for logs and the supervision tree.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// What came of an attempt, as far as the breaker cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The server did its work.
    Succeeded,
    /// The server could not be reached, gave no answer in time, or reported a fault of its own.
    Failed,
    /// The server is alive but the answer says nothing about its health: a refusal (4xx), a plea to come later (429),
    /// or a fault that is going to be tried again.
    Neutral,
}

/// Leave for one attempt. Give it back with [`Breaker::settle`].
#[derive(Debug)]
#[must_use = "an attempt whose ticket is not settled is not counted"]
pub struct Ticket {
    generation: u64,
    trial: bool,
}

impl Ticket {
    /// Whether the attempt decides if the breaker closes. A failed trial is not repeated by its caller.
    #[must_use]
    pub const fn is_trial(&self) -> bool {
        self.trial
    }
}

/// The breaker is open: the server may be tried again after this long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Time until the next trial, or until the one under way must have ended.
    pub retry_after: Duration,
}

/// The circuit breaker of one server.
#[derive(Debug)]
pub struct Breaker {
    rules: BreakerRules,
    generation: u64,
    inner: Inner,
}

#[derive(Debug, Clone, Copy)]
enum Inner {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen { lost_at: Instant },
}

impl Breaker {
    /// A closed breaker.
    #[must_use]
    pub const fn new(rules: BreakerRules) -> Self {
        Self { rules, generation: 0, inner: Inner::Closed { failures: 0 } }
    }

    /// The state as of the last call of [`admit`](Self::admit) or [`settle`](Self::settle); time alone changes nothing.
    #[must_use]
    pub const fn state(&self) -> BreakerState {
        match self.inner {
            Inner::Closed { .. } => BreakerState::Closed,
            Inner::Open { .. } => BreakerState::Open,
            Inner::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// Asks leave for one attempt at `now`.
    ///
    /// # Errors
    /// [`Refusal`] while open, and while a trial is under way.
    pub fn admit(&mut self, now: Instant) -> Result<Ticket, Refusal> {
        if let Some(refusal) = self.refuses(now) {
            return Err(refusal);
        }
        match self.inner {
            Inner::Closed { .. } => Ok(Ticket { generation: self.generation, trial: false }),
            Inner::Open { .. } | Inner::HalfOpen { .. } => {
                self.enter(Inner::HalfOpen { lost_at: now + self.rules.cooldown });
                Ok(Ticket { generation: self.generation, trial: true })
            }
        }
    }

    /// Whether an attempt at `now` would be refused.
    #[must_use]
    pub fn refuses(&self, now: Instant) -> Option<Refusal> {
        match self.inner {
            Inner::Open { until: end } | Inner::HalfOpen { lost_at: end } if now < end => {
                Some(Refusal { retry_after: end - now })
            }
            _ => None,
        }
    }

    /// Takes note at `now` of what came of an attempt.
    #[expect(clippy::needless_pass_by_value, reason = "taken away, so that an attempt counts once")]
    pub fn settle(&mut self, ticket: Ticket, verdict: Verdict, now: Instant) {
        if ticket.generation != self.generation {
            return;
        }
        let counted = match self.inner {
            Inner::Closed { failures } => failures,
            Inner::HalfOpen { .. } => self.threshold() - 1,
            Inner::Open { .. } => return,
        };
        match verdict {
            Verdict::Succeeded => self.close(0),
            // After a trial: the server lives, so stop refusing calls, but one more failure opens again.
            Verdict::Neutral => self.close(counted),
            Verdict::Failed if counted + 1 >= self.threshold() => {
                self.enter(Inner::Open { until: now + self.rules.cooldown });
            }
            Verdict::Failed => self.close(counted + 1),
        }
    }

    fn threshold(&self) -> u32 {
        self.rules.failures.max(1)
    }

    fn close(&mut self, failures: u32) {
        if let Inner::Closed { failures: count } = &mut self.inner {
            *count = failures;
        } else {
            self.enter(Inner::Closed { failures });
        }
    }

    fn enter(&mut self, inner: Inner) {
        self.generation += 1;
        self.inner = inner;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation ends the test")]

    use super::BreakerState::{Closed, HalfOpen, Open};
    use super::Verdict::{Failed, Neutral, Succeeded};
    use super::*;

    const COOLDOWN: Duration = Duration::from_secs(15);
    const RULES: BreakerRules = BreakerRules { failures: 3, cooldown: COOLDOWN };

    /// One step of a table: what happens, and the state after it.
    #[derive(Debug, Clone, Copy)]
    enum Step {
        /// An attempt is admitted and ends at once.
        Try(Verdict),
        /// An attempt is refused, to be tried again after so many seconds.
        Refused(u64),
        /// An attempt is admitted and left under way, in slot n.
        Begin(usize),
        /// The attempt in slot n ends.
        End(usize, Verdict),
        /// So many seconds pass.
        Wait(u64),
    }
    use Step::{Begin, End, Refused, Try, Wait};

    fn play(name: &str, steps: &[(Step, BreakerState)]) {
        let mut breaker = Breaker::new(RULES);
        let mut now = Instant::now();
        let mut under_way: Vec<Option<Ticket>> = Vec::new();
        for (at, (step, state)) in steps.iter().enumerate() {
            match *step {
                Try(verdict) => {
                    let ticket = breaker.admit(now).unwrap();
                    breaker.settle(ticket, verdict, now);
                }
                Refused(seconds) => {
                    let refusal = breaker.admit(now).unwrap_err();
                    assert_eq!(refusal.retry_after, Duration::from_secs(seconds), "{name}, step {at}");
                }
                Begin(slot) => {
                    assert_eq!(slot, under_way.len(), "{name}: slots are counted from 0");
                    under_way.push(Some(breaker.admit(now).unwrap()));
                }
                End(slot, verdict) => breaker.settle(under_way[slot].take().unwrap(), verdict, now),
                Wait(seconds) => now += Duration::from_secs(seconds),
            }
            assert_eq!(breaker.state(), *state, "{name}, step {at}: {step:?}");
        }
    }

    #[test]
    fn breaker_opens_after_three_failures_in_a_row() {
        play("three", &[(Try(Failed), Closed), (Try(Failed), Closed), (Try(Failed), Open), (Refused(15), Open)]);
    }

    #[test]
    fn breaker_count_starts_again_after_a_success() {
        let steps = [Failed, Failed, Succeeded, Failed, Failed].map(|verdict| (Try(verdict), Closed));
        play("success between", &steps);
    }

    #[test]
    fn breaker_neither_counts_nor_forgets_at_a_refusal() {
        let refusals = [Neutral; 20].map(|verdict| (Try(verdict), Closed));
        play("refusals alone", &refusals);
        play(
            "a refusal between",
            &[(Try(Failed), Closed), (Try(Failed), Closed), (Try(Neutral), Closed), (Try(Failed), Open)],
        );
    }

    #[test]
    fn breaker_half_opens_after_cooldown_with_one_trial_at_a_time() {
        play(
            "cooldown",
            &[
                (Try(Failed), Closed),
                (Try(Failed), Closed),
                (Try(Failed), Open),
                (Wait(14), Open),
                (Refused(1), Open),
                (Wait(1), Open),
                (Begin(0), HalfOpen),
                (Refused(15), HalfOpen),
                (Wait(2), HalfOpen),
                (Refused(13), HalfOpen),
                (End(0, Succeeded), Closed),
                (Try(Failed), Closed),
                (Try(Failed), Closed),
                (Try(Failed), Open),
            ],
        );
    }

    #[test]
    fn breaker_opens_again_when_the_trial_fails() {
        play(
            "failed trial",
            &[
                (Try(Failed), Closed),
                (Try(Failed), Closed),
                (Try(Failed), Open),
                (Wait(15), Open),
                (Try(Failed), Open),
                (Refused(15), Open),
                (Wait(15), Open),
                (Try(Succeeded), Closed),
            ],
        );
    }

    #[test]
    fn breaker_closes_on_probation_when_the_trial_is_refused() {
        play(
            "refused trial",
            &[
                (Try(Failed), Closed),
                (Try(Failed), Closed),
                (Try(Failed), Open),
                (Wait(15), Open),
                (Try(Neutral), Closed),
                (Try(Failed), Open),
            ],
        );
    }

    #[test]
    fn breaker_ignores_attempts_of_an_earlier_state() {
        play(
            "late answers",
            &[
                (Begin(0), Closed),
                (Begin(1), Closed),
                (Try(Failed), Closed),
                (Try(Failed), Closed),
                (Try(Failed), Open),
                (End(0, Succeeded), Open),
                (Wait(15), Open),
                (Begin(2), HalfOpen),
                (End(1, Failed), HalfOpen),
                (End(2, Succeeded), Closed),
            ],
        );
    }

    #[test]
    fn breaker_gives_up_a_trial_that_is_never_reported() {
        play(
            "lost trial",
            &[
                (Try(Failed), Closed),
                (Try(Failed), Closed),
                (Try(Failed), Open),
                (Wait(15), Open),
                (Begin(0), HalfOpen),
                (Wait(15), HalfOpen),
                (Begin(1), HalfOpen),
                (End(0, Failed), HalfOpen),
                (End(1, Succeeded), Closed),
            ],
        );
    }

    #[test]
    fn breaker_with_no_allowance_opens_at_the_first_failure() {
        let mut breaker = Breaker::new(BreakerRules { failures: 0, cooldown: COOLDOWN });
        let now = Instant::now();
        let ticket = breaker.admit(now).unwrap();
        breaker.settle(ticket, Failed, now);
        assert_eq!(breaker.state(), Open);
    }
}
