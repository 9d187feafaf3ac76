//! What one file may cost; the section `extraction` of the configuration.

use std::time::Duration;

use serde::Deserialize;

/// Bounds of an [`Extractor`](super::Extractor). All hold for one file, but `places` and `wait_ms`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExtractionSettings {
    /// How many files are worked on at once, each in a process of its own; at least one.
    pub places: usize,
    /// Longest wait for a place, in milliseconds.
    pub wait_ms: u64,
    /// Longest time for one file, its arrival included, in milliseconds.
    pub timeout_ms: u64,
    /// Longest time of a processor, in seconds.
    pub cpu_seconds: u64,
    /// Most memory beyond that of the program itself, in MiB. Held to on Linux only.
    pub memory_mib: u64,
    /// Largest file, in bytes. It is in that memory, whole.
    pub max_bytes: u64,
    /// Most pages that are read of a document that has pages.
    pub max_pages: u32,
    /// Most pixels of an image of which a picture is made.
    pub max_pixels: u64,
}

impl Default for ExtractionSettings {
    fn default() -> Self {
        Self {
            places: 2,
            wait_ms: 30_000,
            timeout_ms: 30_000,
            cpu_seconds: 20,
            memory_mib: 512,
            max_bytes: 64 * 1024 * 1024,
            max_pages: 500,
            max_pixels: 40_000_000,
        }
    }
}

impl ExtractionSettings {
    pub(super) const fn wait(&self) -> Duration {
        Duration::from_millis(self.wait_ms)
    }

    pub(super) const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}
