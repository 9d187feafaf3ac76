//! The section `antivirus` of the configuration.

use std::time::Duration;

use serde::Deserialize;

use crate::{breaker::BreakerRules, uploads::rules::Antivirus};

/// Where clamd is, how many scans run at a time, and how long anything may take.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AntivirusSettings {
    /// Whether uploads are scanned.
    pub enabled: bool,
    /// Whether a file is refused that could not be scanned; else it is quarantined.
    pub strict: bool,
    /// Name or address of clamd's machine.
    pub host: String,
    /// clamd's port.
    pub port: u16,
    /// Scans at a time, each with a connection of its own. More than clamd's `MaxThreads` only wait there.
    pub scanners: usize,
    /// Longest wait for a free scanner.
    pub open_timeout_ms: u64,
    /// Longest time to reach clamd and to hear that it is there.
    pub connect_timeout_ms: u64,
    /// Longest time in which clamd takes none of the bytes it is sent.
    pub write_timeout_ms: u64,
    /// How long in all an upload may keep a scanner waiting for its bytes, beside a second for each MB; a slower one is looked through
    /// once it is here. Below clamd's `ReadTimeout`.
    pub feed_timeout_ms: u64,
    /// Longest wait for the verdict after the last byte. Above clamd's `MaxScanTime`.
    pub answer_timeout_ms: u64,
    /// How long a connection is kept for the next scan. Below clamd's `ReadTimeout`.
    pub idle_ms: u64,
    /// Scans in a row that clamd spoiled after which it is left alone.
    pub breaker_failures: u32,
    /// For so long.
    pub breaker_cooldown_ms: u64,
    /// Attachments that are not older than so many days are looked through again by newer signatures; 0: none are.
    pub rescan_days: u32,
    /// Seconds between two looks whether clamd has newer ones.
    pub rescan_interval_seconds: u64,
    /// Seconds after which they are looked through again in any case: clamd does not tell of all signatures that it gets.
    pub rescan_after_seconds: u64,
}

impl Default for AntivirusSettings {
    fn default() -> Self {
        Self {
            enabled: false,
            strict: false,
            host: "clamav".to_owned(),
            port: 3310,
            scanners: 10,
            open_timeout_ms: 10_000,
            connect_timeout_ms: 3_000,
            write_timeout_ms: 10_000,
            feed_timeout_ms: 5_000,
            answer_timeout_ms: 130_000,
            idle_ms: 20_000,
            breaker_failures: 5,
            breaker_cooldown_ms: 15_000,
            rescan_days: 7,
            rescan_interval_seconds: 60,
            rescan_after_seconds: 86_400,
        }
    }
}

impl AntivirusSettings {
    /// What is in force as long as nobody says otherwise.
    #[must_use]
    pub fn target(&self) -> Antivirus {
        Antivirus { enabled: self.enabled, strict: self.strict, host: self.host.clone(), port: self.port }
    }

    /// Longest wait for a verdict, once all bytes are there.
    pub(in crate::uploads) const fn answer_within(&self) -> Duration {
        Duration::from_millis(self.answer_timeout_ms)
    }

    /// Longest wait for a free scanner.
    pub(super) const fn open_within(&self) -> Duration {
        Duration::from_millis(self.open_timeout_ms)
    }

    pub(super) const fn limits(&self) -> Limits {
        Limits {
            connect: Duration::from_millis(self.connect_timeout_ms),
            write: Duration::from_millis(self.write_timeout_ms),
            feed: Duration::from_millis(self.feed_timeout_ms),
            answer: Duration::from_millis(self.answer_timeout_ms),
            idle: Duration::from_millis(self.idle_ms),
        }
    }

    pub(super) const fn breaker(&self) -> BreakerRules {
        BreakerRules { failures: self.breaker_failures, cooldown: Duration::from_millis(self.breaker_cooldown_ms) }
    }
}

/// How long a connection's steps may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// To connect, and to hear that clamd is there.
    pub connect: Duration,
    /// For clamd to take some of what it is sent.
    pub write: Duration,
    /// For the bytes of an upload to come, all waits together.
    pub feed: Duration,
    /// From the last byte to the verdict.
    pub answer: Duration,
    /// Between two scans.
    pub idle: Duration,
}
