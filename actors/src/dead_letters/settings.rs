//! How dead letters are looked after.

use std::time::Duration;

use serde::Deserialize;

use crate::domain::{dead_letter, wal::MEMORY_WAL};

/// Shortest time between two counts.
const POLL_AT_LEAST: Duration = Duration::from_secs(10);
/// Longest wait for the first count.
const FIRST_AT_MOST: Duration = Duration::from_secs(5);

/// The section `dead_letters` of the configuration.
#[derive(Clone, Debug, Deserialize)]
pub struct DeadLetterSettings {
    /// Topics of dead letters that are shown and counted also while they are empty, with commas between them. Empty: that of
    /// the memories' log.
    pub topics: String,
    /// Seconds between two counts of the letters; at least 10.
    pub poll_seconds: u64,
    /// Letters that an order to send many again takes at a time.
    pub page_letters: u32,
    /// How long an order that is over is shown, in milliseconds since its end.
    pub job_retention_ms: u64,
}

impl Default for DeadLetterSettings {
    fn default() -> Self {
        Self { topics: String::new(), poll_seconds: 30, page_letters: 100, job_retention_ms: 604_800_000 }
    }
}

impl DeadLetterSettings {
    /// The topics that are always shown.
    #[must_use]
    pub fn shown_topics(&self) -> Vec<String> {
        let topics = self.topics.split(',').map(str::trim).filter(|topic| !topic.is_empty());
        let topics: Vec<_> = topics.map(ToOwned::to_owned).collect();
        if topics.is_empty() { vec![dead_letter::topic_of(MEMORY_WAL)] } else { topics }
    }

    /// Time between two counts.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::from_secs(self.poll_seconds).max(POLL_AT_LEAST)
    }

    /// Wait for the first count.
    #[must_use]
    pub fn first_after(&self) -> Duration {
        (self.interval() / 10).min(FIRST_AT_MOST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_early_and_not_too_often() {
        let times = |poll_seconds| {
            let settings = DeadLetterSettings { poll_seconds, ..DeadLetterSettings::default() };
            (settings.interval().as_secs(), settings.first_after().as_secs())
        };
        assert_eq!([1, 30, 600].map(times), [(10, 1), (30, 3), (600, 5)]);
    }

    #[test]
    fn the_log_of_memories_is_shown_unless_others_are_named() {
        let topics = |text: &str| DeadLetterSettings { topics: text.into(), ..Default::default() }.shown_topics();
        assert_eq!(topics(" , "), ["memory.wal.dlq"]);
        assert_eq!(topics("a.dlq, b.dlq"), ["a.dlq", "b.dlq"]);
    }
}
