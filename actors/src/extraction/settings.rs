//! What one file may cost; the section `extraction` of the configuration.

use std::time::Duration;

use serde::Deserialize;

/// Bounds of an [`Extractor`](super::Extractor). All hold for one file, but the places and the waits for them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExtractionSettings {
    /// How many files are worked on at once, each in a process of its own; at least one. No tenant has all of several.
    pub places: usize,
    /// Longest wait for a place, in milliseconds.
    pub wait_ms: u64,
    /// The same for thumbnails, which have places of their own.
    pub thumbnail_places: usize,
    /// Longest wait for one of those, in milliseconds.
    pub thumbnail_wait_ms: u64,
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
            places: 3,
            wait_ms: 30_000,
            thumbnail_places: 3,
            thumbnail_wait_ms: 5_000,
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

    pub(super) const fn thumbnail_wait(&self) -> Duration {
        Duration::from_millis(self.thumbnail_wait_ms)
    }

    /// How many processes there are at a time.
    #[must_use]
    pub const fn at_once(&self) -> usize {
        self.places.saturating_add(self.thumbnail_places)
    }

    pub(super) const fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}
