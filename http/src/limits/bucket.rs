//! Token buckets: full at first, refilled at a steady pace (governor's GCRA).

use std::{num::NonZeroU32, time::Duration};

use governor::{
    NotUntil, Quota, RateLimiter,
    clock::Clock,
    middleware::{StateInformationMiddleware, StateSnapshot},
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};
use tokio::time::Instant;

use super::cells::{Cells, Draw};

/// The time since a bucket was made, by the clock that tests can hold.
#[derive(Clone, Debug)]
struct Elapsed(Instant);

impl Clock for Elapsed {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.elapsed().into()
    }
}

/// How somebody stands with a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The name of the limit.
    pub(super) policy: &'static str,
    /// Requests of a full bucket.
    pub(super) quota: u32,
    /// Whole seconds in which an empty one fills.
    pub(super) window_seconds: u64,
    /// Requests that are left.
    pub(super) remaining: u32,
    /// Whole seconds until the bucket is full, or, for somebody who was refused, until there is a next request.
    pub(super) reset_seconds: u64,
}

/// A bucket of a limit: how fast it fills, and how much it holds.
#[derive(Clone, Copy, Debug)]
struct Size {
    policy: &'static str,
    quota: Quota,
}

impl Size {
    /// None where nothing is limited: at a pace of 0.
    fn new(policy: &'static str, rps: f64, burst: u32) -> Option<Self> {
        let period = Duration::try_from_secs_f64(rps.recip()).ok()?;
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        Some(Self { policy, quota: Quota::with_period(period)?.allow_burst(burst) })
    }

    fn standing(&self, remaining: u32, reset: Duration) -> Standing {
        let Self { policy, quota } = self;
        let window_seconds = ceil_seconds(quota.burst_size_replenished_in()).max(1);
        Standing {
            policy,
            quota: quota.burst_size().get(),
            window_seconds,
            remaining,
            reset_seconds: ceil_seconds(reset),
        }
    }

    fn judge(&self, outcome: Result<StateSnapshot, NotUntil<Nanos>>, now: Nanos) -> Result<Standing, Standing> {
        match outcome {
            Ok(taken) => {
                let remaining = taken.remaining_burst_capacity();
                let missing = self.quota.burst_size().get().saturating_sub(remaining);
                Ok(self.standing(remaining, self.quota.replenish_interval().saturating_mul(missing)))
            }
            Err(refusal) => Err(self.standing(0, refusal.wait_time_from(now).max(Duration::from_secs(1)))),
        }
    }
}

fn ceil_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// One bucket for all.
pub(super) struct Shared {
    size: Size,
    limiter: RateLimiter<NotKeyed, InMemoryState, Elapsed, StateInformationMiddleware>,
}

impl Shared {
    /// None at a pace of 0 a second.
    pub(super) fn new(policy: &'static str, rps: f64, burst: u32) -> Option<Self> {
        let size = Size::new(policy, rps, burst)?;
        let limiter = RateLimiter::new(size.quota, InMemoryState::default(), Elapsed(Instant::now()));
        Some(Self { size, limiter })
    }

    /// Takes one request.
    ///
    /// # Errors
    /// There is none left.
    pub(super) fn take(&self) -> Result<Standing, Standing> {
        self.size.judge(self.limiter.check(), self.limiter.clock().now())
    }
}

/// A bucket for each caller, known by a hash.
pub(super) struct Each {
    size: Size,
    limiter: RateLimiter<Draw, Cells, Elapsed, StateInformationMiddleware>,
}

impl Each {
    /// None at a pace of 0 a second.
    pub(super) fn new(policy: &'static str, rps: f64, burst: u32) -> Option<Self> {
        let size = Size::new(policy, rps, burst)?;
        let limiter = RateLimiter::new(size.quota, Cells::new(), Elapsed(Instant::now()));
        Some(Self { size, limiter })
    }

    /// Takes one request.
    ///
    /// # Errors
    /// The caller has none left.
    pub(super) fn take(&self, hash: u64) -> Result<Standing, Standing> {
        self.draw(Draw { hash, keep: true })
    }

    /// As [`Each::take`], but leaves what is there.
    ///
    /// # Errors
    /// The caller has none left.
    pub(super) fn look(&self, hash: u64) -> Result<Standing, Standing> {
        self.draw(Draw { hash, keep: false })
    }

    /// What the callers take.
    #[cfg(test)]
    pub(super) fn bytes(self) -> usize {
        self.limiter.into_state_store().bytes()
    }

    fn draw(&self, draw: Draw) -> Result<Standing, Standing> {
        self.size.judge(self.limiter.check_key(&draw), self.limiter.clock().now())
    }
}
