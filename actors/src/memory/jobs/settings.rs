//! How export jobs are done, and how long they are kept.

use std::time::Duration;

use serde::Deserialize;

use crate::memory::settings::MemorySettings;

/// The section `export_jobs` of the configuration. The first four names of the environment are the original's
/// (`EXPORT_JOBS_…`).
#[derive(Clone, Debug, Deserialize)]
pub struct ExportJobSettings {
    /// Most rows of one job; 0: as many as an export may have.
    pub max_rows: u64,
    /// Rows that a job reads at a time; 0: as many as an export does.
    pub page_size: u32,
    /// Seconds between two looks for jobs.
    pub poll_seconds: f64,
    /// Jobs under way at a time in a process.
    pub concurrency: usize,
    /// Most bytes of one result.
    pub max_bytes: u64,
    /// Most jobs of one tenant that have a result or will have one.
    pub max_kept: u32,
    /// After this many milliseconds a page that nobody settled is begun anew.
    pub lease_ms: u64,
    /// How long a result is kept, in milliseconds.
    pub expire_ms: u64,
    /// How long a job that is over is shown, in milliseconds since its end.
    pub retention_ms: u64,
}

impl Default for ExportJobSettings {
    fn default() -> Self {
        Self {
            max_rows: 0,
            page_size: 0,
            poll_seconds: 2.0,
            concurrency: 1,
            max_bytes: 256 << 20,
            max_kept: 20,
            lease_ms: 30_000,
            expire_ms: 86_400_000,
            retention_ms: 604_800_000,
        }
    }
}

impl ExportJobSettings {
    /// Most rows of one job.
    #[must_use]
    pub const fn most_rows(&self, exports: &MemorySettings) -> u64 {
        if self.max_rows == 0 { exports.export_max_rows } else { self.max_rows }
    }

    /// Rows that a job reads at a time.
    #[must_use]
    pub const fn page_rows(&self, exports: &MemorySettings) -> u32 {
        if self.page_size == 0 { exports.export_page_size } else { self.page_size }
    }

    /// Time between two looks for jobs.
    #[must_use]
    pub fn interval(&self) -> Duration {
        Duration::try_from_secs_f64(self.poll_seconds).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_has_the_limits_of_an_export_unless_it_has_its_own() {
        let exports = MemorySettings { export_max_rows: 7, export_page_size: 3, ..MemorySettings::default() };
        let jobs = ExportJobSettings::default();
        assert_eq!((jobs.most_rows(&exports), jobs.page_rows(&exports)), (7, 3));
        let jobs = ExportJobSettings { max_rows: 9, page_size: 2, ..jobs };
        assert_eq!((jobs.most_rows(&exports), jobs.page_rows(&exports)), (9, 2));
    }
}
