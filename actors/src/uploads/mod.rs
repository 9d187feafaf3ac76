//! Files that people send: taken while they stream, kept in the database and nowhere else, and let go when they are old.
//!
//! | file | holds |
//! | --- | --- |
//! | [`external`] | files elsewhere, fetched from where that is allowed and from nowhere else |
//! | [`ingest`] | the one pipeline for every way in: count, hash, type, look through, write |
//! | `desk` | [`Uploads`], the door's handle |
//! | [`downloads`] | bounded reads of what was sent |
//! | [`links`] | links by which anybody who has one fetches a file |
//! | [`verdicts`] | what people decide about attachments: deleted, released, cleared; and the list of them |
//! | [`janitor`] | the actor `attachment-janitor`: old attachments, bytes that nobody refers to |
//! | [`remembering`] | what is remembered of an attachment, and how that is taken back with it |
//! | [`rescanner`], [`rescanning`] | the actor `attachment-rescanner`: what was sent lately is looked through again; and how |
//! | [`quota`] | how much may be kept by each tenant and in each session, and what is left of it |
//! | [`rules`] | what uploads are held to, as it is in force now |
//! | [`scanner`] | asks clamd whether bytes are infected, while they arrive |
//! | [`tus`] | files that come in pieces, over as many requests as it takes |
//! | [`settings`], [`metrics`] | the section `uploads` of the configuration; Prometheus |
//!
//! No part of this opens a file.

mod desk;
pub mod downloads;
pub mod external;
pub mod ingest;
pub mod janitor;
pub mod links;
pub mod metrics;
pub mod quota;
pub mod remembering;
pub mod rescanner;
pub mod rescanning;
pub mod rules;
pub mod scanner;
pub mod settings;
pub mod tus;
pub mod verdicts;

pub use desk::{SessionRefused, Uploads};
pub use ingest::{Declared, Ingest, IngestError, Judged, Keeping, Source};
pub use janitor::{AttachmentJanitor, JanitorDeps};
pub use metrics::UploadMetrics;
pub use rescanner::{AttachmentRescanner, RescannerDeps};

pub use crate::store::attachments::Attachment;

/// Tells the time.
pub type Clock = fn() -> time::OffsetDateTime;

#[cfg(test)]
mod tests;
