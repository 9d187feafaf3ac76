//! Why uploads do not go on, as problems.

use std::time::Duration;

use somaagent_actors::{
    conversation::queries::StoreError,
    uploads::{IngestError, tus::TusError},
};

use super::super::uploads::refused;
use crate::problem::{Code, Problem};

/// What an upload may be refused with when it begins.
pub(super) const CREATING: [Code; 22] = [
    Code::UploadsDisabled,
    Code::UploadNotFound,
    Code::UploadIncomplete,
    Code::UploadConflict,
    Code::MimeNotAllowed,
    Code::FileTooLarge,
    Code::InlineCapExceeded,
    Code::QuotaExceeded,
    Code::SessionNotFound,
    Code::SessionDeleted,
    Code::TusVersionUnsupported,
    Code::ChecksumUnsupported,
    Code::TooManyUploads,
    Code::PolicyDenied,
    Code::AntivirusError,
    Code::Overloaded,
    Code::Unavailable,
    Code::Draining,
    Code::Timeout,
    Code::OutcomeUnknown,
    Code::InvalidHeader,
    Code::RequestTimeout,
];

/// What a look at one may be refused with.
pub(super) const LOOKING: [Code; 18] = [
    Code::UploadNotFound,
    Code::UploadIncomplete,
    Code::UploadConflict,
    Code::UploadLocked,
    Code::AttachmentGone,
    Code::MimeNotAllowed,
    Code::FileTooLarge,
    Code::InlineCapExceeded,
    Code::SessionNotFound,
    Code::SessionDeleted,
    Code::TusVersionUnsupported,
    Code::PolicyDenied,
    Code::InvalidHeader,
    Code::RequestTimeout,
    Code::Unavailable,
    Code::Draining,
    Code::Timeout,
    Code::OutcomeUnknown,
];

/// What a piece may be refused with.
pub(super) const WRITING: [Code; 25] = [
    Code::UploadsDisabled,
    Code::UploadNotFound,
    Code::UploadIncomplete,
    Code::UploadConflict,
    Code::UploadFinal,
    Code::UploadLocked,
    Code::ChecksumMismatch,
    Code::ChecksumUnsupported,
    Code::AttachmentGone,
    Code::BodyTooLarge,
    Code::MimeNotAllowed,
    Code::FileTooLarge,
    Code::InlineCapExceeded,
    Code::SessionNotFound,
    Code::SessionDeleted,
    Code::TusVersionUnsupported,
    Code::PolicyDenied,
    Code::TokenInvalid,
    Code::InvalidHeader,
    Code::AntivirusError,
    Code::Overloaded,
    Code::Unavailable,
    Code::Draining,
    Code::Timeout,
    Code::OutcomeUnknown,
];

/// What taking one away may be refused with.
pub(super) const REMOVING: [Code; 7] = [
    Code::UploadNotFound,
    Code::TusVersionUnsupported,
    Code::InvalidHeader,
    Code::Unavailable,
    Code::Draining,
    Code::Timeout,
    Code::OutcomeUnknown,
];

/// What finishing one may be refused with.
pub(super) const FINISHING: [Code; 19] = [
    Code::UploadsDisabled,
    Code::UploadNotFound,
    Code::UploadIncomplete,
    Code::UploadConflict,
    Code::UploadLocked,
    Code::AttachmentGone,
    Code::MimeNotAllowed,
    Code::FileTooLarge,
    Code::InlineCapExceeded,
    Code::SessionNotFound,
    Code::SessionDeleted,
    Code::TusVersionUnsupported,
    Code::PolicyDenied,
    Code::InvalidHeader,
    Code::AntivirusError,
    Code::Unavailable,
    Code::Draining,
    Code::Timeout,
    Code::OutcomeUnknown,
];

/// In whose words a refusal is told: the original answers some of them in its own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// In those of tus.
    Tus,
    /// The same, for an upload that begins.
    Create,
    /// In the original's, for a piece.
    Piece,
    /// In the original's, for an upload that is to be finished.
    Finalize,
}

/// Why an upload does not go on.
pub(super) fn told(error: TusError, spoken: Spoken) -> Problem {
    let conflict = |why: &'static str| Problem::new(Code::UploadConflict).because(why);
    match (error, spoken) {
        (TusError::NotFound, Spoken::Tus | Spoken::Create) => Code::UploadNotFound.into(),
        (TusError::NotFound, Spoken::Piece) => conflict("upload_not_found"),
        (TusError::NotFound, Spoken::Finalize) => Problem::new(Code::UploadIncomplete).because("upload_not_found"),
        (TusError::Incomplete, _) => Problem::new(Code::UploadIncomplete).because("upload_incomplete"),
        (TusError::ChecksumMismatch, Spoken::Piece) => conflict("checksum_mismatch"),
        (TusError::ChecksumMismatch, _) => Code::ChecksumMismatch.into(),
        (TusError::TooMany, _) => Code::TooManyUploads.into(),
        (TusError::Locked, _) => locked(),
        (TusError::OffsetMismatch(offset), _) => conflict("offset_mismatch").with("offset", offset),
        (TusError::TooLong, _) => conflict("chunk_exceeds_declared_size"),
        (TusError::Overtaken | TusError::Ingest(IngestError::GivenUp), _) => {
            conflict("another request went on with the upload")
        }
        (TusError::Final, _) => Code::UploadFinal.into(),
        (TusError::Ingest(error), _) => refused(error),
        (TusError::Store(error), Spoken::Create) => unsure(error),
        // Whoever asks where the upload stopped knows what came of it.
        (TusError::Store(error @ (StoreError::TimedOut | StoreError::Interrupted(_))), _) => {
            Problem::new(Code::Unavailable).caused_by(error)
        }
        (TusError::Store(error), _) => error.into(),
    }
}

/// The upload is being finished, or is to be soon.
pub(super) fn locked() -> Problem {
    Problem::new(Code::UploadLocked).retry_after(Duration::from_secs(1))
}

/// A change failed; if the database did not say, it was made perhaps.
pub(super) fn unsure(error: StoreError) -> Problem {
    match error {
        StoreError::TimedOut | StoreError::Interrupted(_) => Problem::new(Code::OutcomeUnknown).caused_by(error),
        error => error.into(),
    }
}
