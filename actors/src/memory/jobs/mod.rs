//! Export jobs: exports that go on by themselves, and whose results are fetched later.
//!
//! | file | holds |
//! | --- | --- |
//! | `desk` | [`ExportJobs`], the door's handle: orders, looks, ends, fetches |
//! | [`runner`] | the actor `export-runner` |
//! | `page` | one page of one job |
//! | `sweep` | results and jobs whose time is over |
//! | [`messages`] | the hint that there is something to do |
//! | [`settings`], [`metrics`] | the section `export_jobs` of the configuration; Prometheus |
//!
//! A result is what the streamed export would have been, byte by byte, in rows of bounded size; nothing of it is on a disk of
//! this machine. A page, its chunk and how far the job is are one transaction, so that a job that was cut off anywhere goes on
//! after its last page, in any process, with the same bytes.

mod desk;
pub mod messages;
pub mod metrics;
mod page;
pub mod runner;
pub mod settings;
mod sweep;

pub use desk::{Chunks, ExportJobs, Fetched};
pub use metrics::ExportJobMetrics;
pub use runner::{ExportRunner, RunnerDeps};
pub use settings::ExportJobSettings;

pub use crate::store::export_jobs::ExportJob;

/// The kind of thing that audit rows name.
const RESOURCE: &str = "export_job";

/// What the audit rows of one job have in common.
fn workflow(id: i64) -> String {
    format!("memory.export/{id}")
}

#[cfg(test)]
mod tests;
