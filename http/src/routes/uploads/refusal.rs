//! Why files are not taken, as problems.

use somaagent_actors::conversation::queries::StoreError;
use somaagent_actors::uploads::{IngestError, SessionRefused, quota::OverQuota};

use crate::problem::{Code, Problem};

/// What a request with files may be refused with.
pub(super) const CODES: [Code; 20] = [
    Code::UploadsDisabled,
    Code::NoFiles,
    Code::TooManyFiles,
    Code::BadMultipart,
    Code::UnsupportedMediaType,
    Code::MimeNotAllowed,
    Code::FileTooLarge,
    Code::InlineCapExceeded,
    Code::QuotaExceeded,
    Code::BodyTooLarge,
    Code::InvalidBody,
    Code::RequestTimeout,
    Code::TooManyBodies,
    Code::SessionNotFound,
    Code::SessionDeleted,
    Code::AntivirusError,
    Code::Overloaded,
    Code::Unavailable,
    Code::Draining,
    Code::OutcomeUnknown,
];

/// What a request for a file that is elsewhere may be refused with.
pub(super) const FETCHING: [Code; 18] = [
    Code::UploadsDisabled,
    Code::ExternalDisabled,
    Code::ExternalNotAllowed,
    Code::ExternalFailed,
    Code::MimeNotAllowed,
    Code::FileTooLarge,
    Code::QuotaExceeded,
    Code::RequestTimeout,
    Code::TokenInvalid,
    Code::TooManyBodies,
    Code::SessionNotFound,
    Code::SessionDeleted,
    Code::AntivirusError,
    Code::Overloaded,
    Code::Unavailable,
    Code::Draining,
    Code::OutcomeUnknown,
    Code::InvalidBody,
];

/// A file that is not taken.
pub(super) struct Refused {
    /// Its name.
    pub(super) filename: String,
    /// Why.
    pub(super) problem: Problem,
}

/// Why a file is not taken while it comes: nothing of it is kept.
pub(in crate::routes) fn refused(error: IngestError) -> Problem {
    match error {
        IngestError::MimeNotAllowed(mime) => {
            Problem::new(Code::MimeNotAllowed).because(format!("MIME type not allowed: {mime}"))
        }
        IngestError::TooLarge(most) => {
            Problem::new(Code::FileTooLarge).because(format!("File too large (max {most} bytes)"))
        }
        IngestError::OverInlineCap(most) => {
            Problem::new(Code::InlineCapExceeded).because(format!("File exceeds inline cap ({} MB)", most >> 20))
        }
        IngestError::OverQuota(over) => over_quota(over),
        IngestError::TooManyUploads => Code::TooManyUploads.into(),
        IngestError::Busy => Code::Overloaded.into(),
        IngestError::Scan(error) => Problem::new(Code::AntivirusError).caused_by(error),
        IngestError::GivenUp => Problem::new(Code::RequestTimeout).because("the file came too slowly"),
        IngestError::SessionDeleted => Code::SessionDeleted.into(),
        // Nobody refers to what of it may be there.
        IngestError::Store(error @ (StoreError::TimedOut | StoreError::Interrupted(_))) => {
            Problem::new(Code::Unavailable).caused_by(error)
        }
        IngestError::Store(error) => error.into(),
    }
}

/// There is no room for a file.
fn over_quota(over: OverQuota) -> Problem {
    let OverQuota { scope, quota } = over;
    Problem::new(Code::QuotaExceeded)
        .because(over.to_string())
        .with("scope", scope.as_str())
        .with("limit", quota.limit)
        .with("used", quota.used)
        .with("left", quota.left())
}

/// Why a file is not kept in the end: if the database did not say, it may be.
pub(in crate::routes) fn unkept(error: IngestError) -> Problem {
    match error {
        IngestError::Store(error @ (StoreError::TimedOut | StoreError::Interrupted(_))) => {
            Problem::new(Code::OutcomeUnknown).caused_by(error)
        }
        error => refused(error),
    }
}

/// Why files are not taken for a session.
pub(in crate::routes) fn not_there(refused: SessionRefused) -> Problem {
    match refused {
        SessionRefused::NotFound => Code::SessionNotFound.into(),
        SessionRefused::Deleted => Code::SessionDeleted.into(),
        SessionRefused::Store(error) => error.into(),
    }
}
