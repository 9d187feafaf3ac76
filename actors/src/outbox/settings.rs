//! How the queues are emptied.

use std::time::Duration;

use serde::Deserialize;

/// Settings of a queue: the sections `outbox` and `memory_sync` of the configuration. The names of the environment are the
/// original's (`OUTBOX_SYNC_…`, `MEMORY_SYNC_…`).
#[derive(Clone, Debug, Deserialize)]
pub struct QueueSettings {
    /// Rows taken at a time while all is well.
    pub batch_size: u32,
    /// Seconds between two looks at an empty queue.
    pub interval_seconds: f64,
    /// Refusals of a row before it becomes a dead letter. A service that is not available does not count: it is tried for
    /// ever.
    pub max_retries: u32,
    /// First wait of a row that was not taken, in seconds; it doubles with each try.
    pub backoff_base_seconds: f64,
    /// Longest wait of a row that was not taken, in seconds.
    pub backoff_max_seconds: f64,
    /// After this many milliseconds the rows of a claim that nobody settled are free again.
    pub lease_ms: u64,
    /// How long sent rows are kept, in milliseconds.
    pub retention_ms: u64,
}

impl QueueSettings {
    /// The defaults of the outbox.
    pub const OUTBOX: Self = Self {
        batch_size: 1_000,
        interval_seconds: 0.5,
        max_retries: 8,
        backoff_base_seconds: 1.0,
        backoff_max_seconds: 60.0,
        lease_ms: 60_000,
        retention_ms: 86_400_000,
    };
    /// The defaults of the memories.
    pub const MEMORY_SYNC: Self = Self { batch_size: 100, interval_seconds: 1.0, max_retries: 6, ..Self::OUTBOX };

    /// Wait between two looks at an empty queue.
    #[must_use]
    pub fn interval(&self) -> Duration {
        seconds(self.interval_seconds)
    }

    /// How long a claim holds its rows.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    /// How long sent rows are kept.
    #[must_use]
    pub const fn retention(&self) -> Duration {
        Duration::from_millis(self.retention_ms)
    }

    /// The wait before a row is tried again that was tried `tries` times, at least one.
    #[must_use]
    pub fn backoff(&self, tries: u32) -> Duration {
        let doubled = seconds(self.backoff_base_seconds).saturating_mul(1 << tries.clamp(1, 16).saturating_sub(1));
        doubled.min(seconds(self.backoff_max_seconds))
    }
}

/// Unusable numbers are no wait at all; the configuration's check refuses them.
fn seconds(value: f64) -> Duration {
    Duration::try_from_secs_f64(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_maximum_and_never_end() {
        let settings = QueueSettings::OUTBOX;
        let waits: Vec<u64> = [1, 2, 3, 4, 5, 6, 7, 1_000].map(|tries| settings.backoff(tries).as_secs()).into();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
    }
}
