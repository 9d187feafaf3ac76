//! How long a conversation may answer from memory: while its lease runs by this process's own clock, which no other process
//! and no standstill can set back.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// What a conversation holds of its session. Shared with those who renew its lease.
#[derive(Debug, Default)]
pub struct Tenure {
    held: Mutex<Held>,
}

#[derive(Clone, Copy, Debug, Default)]
enum Held {
    /// The store was not read yet, or the session is refused.
    #[default]
    Nothing,
    /// The session had no row.
    Unused,
    /// The session is ours under this fence, for sure until then.
    Owned { epoch: i64, until: Instant },
}

/// Whether what a conversation remembers is true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Yes: nobody else can have changed it.
    Sure,
    /// Only the store knows: the lease may be over, or nothing is owned.
    Ask,
}

/// The time for which an answer that was asked for now makes a lease of `lease` sure. Shorter than the lease by a tenth,
/// because the others compare its end with clocks of their own.
#[must_use]
pub fn sure_until(lease: Duration) -> Instant {
    Instant::now() + lease - lease / 10
}

impl Tenure {
    /// Notes that the session is ours under `epoch`, sure until `until`.
    pub fn owns(&self, epoch: i64, until: Instant) {
        *self.held.lock() = Held::Owned { epoch, until };
    }

    /// Notes that the session had no row.
    pub fn unused(&self) {
        *self.held.lock() = Held::Unused;
    }

    /// Notes that the lease was renewed.
    pub fn renewed(&self, sure_until: Instant) {
        if let Held::Owned { until, .. } = &mut *self.held.lock() {
            *until = (*until).max(sure_until);
        }
    }

    /// The fence, if the session is owned.
    #[must_use]
    pub fn epoch(&self) -> Option<i64> {
        if let Held::Owned { epoch, .. } = *self.held.lock() { Some(epoch) } else { None }
    }

    /// Whether the lease may be over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(*self.held.lock(), Held::Owned { until, .. } if until <= Instant::now())
    }

    /// Whether memory may be believed. What has not read the store yet will read it before it answers.
    #[must_use]
    pub fn trust(&self) -> Trust {
        self.trust_for(Duration::ZERO)
    }

    /// Whether memory may be believed for `time` from now on.
    #[must_use]
    pub fn trust_for(&self, time: Duration) -> Trust {
        match *self.held.lock() {
            Held::Nothing => Trust::Sure,
            Held::Owned { until, .. } if until > Instant::now() + time => Trust::Sure,
            Held::Unused | Held::Owned { .. } => Trust::Ask,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn memory_is_believed_a_little_shorter_than_the_lease_runs() {
        let tenure = Tenure::default();
        assert_eq!((tenure.trust(), tenure.epoch()), (Trust::Sure, None));
        tenure.owns(7, sure_until(LEASE));
        tokio::time::advance(Duration::from_millis(8999)).await;
        assert_eq!((tenure.trust(), tenure.epoch(), tenure.is_over()), (Trust::Sure, Some(7), false));
        assert_eq!(tenure.trust_for(LEASE / 2), Trust::Ask);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!((tenure.trust(), tenure.is_over()), (Trust::Ask, true));
        tenure.renewed(sure_until(LEASE));
        assert_eq!((tenure.trust(), tenure.epoch()), (Trust::Sure, Some(7)));
    }

    #[test]
    fn a_session_without_a_row_has_no_lease_to_believe_in() {
        let tenure = Tenure::default();
        tenure.unused();
        assert_eq!((tenure.trust(), tenure.is_over()), (Trust::Ask, false));
    }
}
