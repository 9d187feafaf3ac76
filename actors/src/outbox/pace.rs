//! How much a round takes and how long the rest after an empty one is. Sending never stops: a memory service that is not
//! well only makes it slower.

use std::time::Duration;

use super::settings::QueueSettings;
use crate::somabrain::messages::HealthState;

/// Rounds under way while all is well.
const ROUNDS: usize = 4;

/// What the next round may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Rows it may take.
    pub rows: u32,
    /// Rounds that may be under way at a time: while one is claimed, others are sent and settled.
    pub rounds: usize,
    /// Rest after a round that found nothing more.
    pub rest: Duration,
}

impl Pace {
    /// The pace while the memory service is `state`; one that was never asked is taken for well.
    pub fn of(settings: &QueueSettings, state: Option<HealthState>) -> Self {
        let (rows, rest) = (settings.batch_size.max(1), settings.interval());
        match state {
            None | Some(HealthState::Normal) => Self { rows, rounds: ROUNDS, rest },
            Some(HealthState::Degraded) => {
                Self { rows: rows.min(25), rounds: 1, rest: rest.max(Duration::from_secs(1)) }
            }
            Some(HealthState::Down) => Self { rows: 1, rounds: 1, rest: (2 * rest).max(Duration::from_secs(3)) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worse_the_memory_service_is_the_slower_is_the_outbox() {
        let settings = QueueSettings::OUTBOX;
        let pace = |state| Pace::of(&settings, state);
        let of = |rows, rounds, ms| Pace { rows, rounds, rest: Duration::from_millis(ms) };
        assert_eq!(pace(None), of(1_000, ROUNDS, 500));
        assert_eq!(pace(Some(HealthState::Normal)), of(1_000, ROUNDS, 500));
        assert_eq!(pace(Some(HealthState::Degraded)), of(25, 1, 1_000));
        assert_eq!(pace(Some(HealthState::Down)), of(1, 1, 3_000));
    }
}
