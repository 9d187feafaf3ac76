//! Why there is no text, or no thumbnail.

use std::io;

use serde::{Deserialize, Serialize};

/// A file gave nothing. No variant holds a part of the file.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// It is of no kind that can be read.
    #[error("content of this kind cannot be read: {0}")]
    Unsupported(String),
    /// It is locked by a password.
    #[error("the document is encrypted")]
    Encrypted,
    /// It is, or becomes when unpacked, larger than allowed.
    #[error("the content is too large: {0}")]
    TooLarge(String),
    /// It is not what it says it is, or broken.
    #[error("the content is malformed: {0}")]
    Malformed(String),
    /// It took longer than allowed. That may have been the machine, or whoever sends the content.
    #[error("the content could not be read in time")]
    TimedOut,
    /// It took more of a processor than allowed.
    #[error("the content takes too long to be read")]
    OutOfTime,
    /// It took more memory than allowed.
    #[error("the content needs more memory than allowed")]
    OutOfMemory,
    /// The process that read it ended without an answer.
    #[error("reading the content failed: {0}")]
    Crashed(String),
    /// No place became free in time.
    #[error("too many files are being read")]
    Busy,
    /// The stream of the content failed.
    #[error("the content could not be had")]
    Content(#[source] io::Error),
    /// The process could not be started.
    #[error("the process that reads content cannot be started")]
    Start(#[source] io::Error),
    /// The process could not give up its rights, so it read nothing.
    #[error("the process that reads content cannot be confined: {0}")]
    Unconfined(String),
    /// The process answered with something else than an answer.
    #[error("the process that reads content answered with {0}")]
    Garbled(&'static str),
}

impl ExtractError {
    /// Every code, for metrics.
    pub const CODES: &[&str] = &[
        "unsupported",
        "encrypted",
        "too-large",
        "malformed",
        "timed-out",
        "out-of-time",
        "out-of-memory",
        "crashed",
        "busy",
        "content",
        "start",
        "unconfined",
        "garbled",
    ];

    /// Its stable name.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unsupported(_) => "unsupported",
            Self::Encrypted => "encrypted",
            Self::TooLarge(_) => "too-large",
            Self::Malformed(_) => "malformed",
            Self::TimedOut => "timed-out",
            Self::OutOfTime => "out-of-time",
            Self::OutOfMemory => "out-of-memory",
            Self::Crashed(_) => "crashed",
            Self::Busy => "busy",
            Self::Content(_) => "content",
            Self::Start(_) => "start",
            Self::Unconfined(_) => "unconfined",
            Self::Garbled(_) => "garbled",
        }
    }

    /// Whether the same file may well be read at another time; else it is its own fault, for good.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(self, Self::TimedOut | Self::Busy | Self::Content(_) | Self::Start(_) | Self::Unconfined(_))
    }
}

/// What the child says instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Refusal {
    Unsupported(String),
    Encrypted,
    TooLarge(String),
    Malformed(String),
    OutOfMemory,
    Panicked,
    Unconfined(String),
}

impl Refusal {
    pub(super) fn malformed(why: &str) -> Self {
        Self::Malformed(why.to_owned())
    }
}

impl From<Refusal> for ExtractError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unsupported(what) => Self::Unsupported(what),
            Refusal::Encrypted => Self::Encrypted,
            Refusal::TooLarge(what) => Self::TooLarge(what),
            Refusal::Malformed(why) => Self::Malformed(why),
            Refusal::OutOfMemory => Self::OutOfMemory,
            Refusal::Panicked => Self::Crashed("the reader gave up on it".to_owned()),
            Refusal::Unconfined(why) => Self::Unconfined(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_a_code_that_metrics_know() {
        let gone = || io::Error::other("gone");
        let all = [
            ExtractError::Unsupported(String::new()),
            ExtractError::Encrypted,
            ExtractError::TooLarge(String::new()),
            ExtractError::Malformed(String::new()),
            ExtractError::TimedOut,
            ExtractError::OutOfTime,
            ExtractError::OutOfMemory,
            ExtractError::Crashed(String::new()),
            ExtractError::Busy,
            ExtractError::Content(gone()),
            ExtractError::Start(gone()),
            ExtractError::Unconfined(String::new()),
            ExtractError::Garbled(""),
        ];
        assert_eq!(all.each_ref().map(ExtractError::code), ExtractError::CODES);
        let may_pass: Vec<_> = all.iter().filter(|error| error.may_pass()).map(ExtractError::code).collect();
        assert_eq!(may_pass, ["timed-out", "busy", "content", "start", "unconfined"]);
    }
}
