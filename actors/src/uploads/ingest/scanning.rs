//! Looking through a file while it comes: the seam between taking files and who looks through them.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::uploads::{
    rules::Antivirus,
    scanner::{self, Scanners},
};

/// Who looks through files.
pub trait Scanner: Send + Sync + 'static {
    /// Begins to look through a file.
    fn open(&self, wait: Wait) -> BoxFuture<'_, Result<Box<dyn Scan>, ScanError>>;
}

/// How long to wait for somebody who looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    Never,
    /// A stated time.
    AWhile,
}

/// A file that is being looked through.
pub trait Scan: Send {
    /// Hands the next bytes on, as fast as they are taken.
    fn feed(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), ScanError>>;
    /// What was found, when all bytes were handed on.
    fn verdict(self: Box<Self>) -> BoxFuture<'static, Result<Found, ScanError>>;
}

/// What was found, and by which signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What was found.
    pub verdict: Verdict,
    /// The version of the signatures, if it is known.
    pub signatures: Option<String>,
}

/// What was found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Clean,
    /// Something that a signature knows.
    Infected {
        /// The signature.
        signature: String,
    },
    /// It is too large, too deep or too much to be looked through to its end.
    LimitsExceeded {
        /// Which limit.
        what: String,
    },
}

impl Verdict {
    /// Why nobody is to get the file, if that is so, and what was found.
    pub(in crate::uploads) fn reason(self) -> (Option<&'static str>, Option<String>) {
        match self {
            Self::Clean => (None, None),
            Self::Infected { signature } => (Some("infected"), Some(signature)),
            Self::LimitsExceeded { what } => (Some("limits_exceeded"), Some(what)),
        }
    }
}

/// Why nobody knows what is in a file.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// Nobody has begun to look: all of them look through other files.
    #[error("nobody is free to look through the file")]
    Busy,
    /// The sender kept whoever looks through the file waiting for too long, and others wait, too.
    #[error("the file came too slowly to be looked through while it came")]
    Starved,
    /// It was tried.
    #[error("the file could not be looked through: {0}")]
    Failed(String),
    /// Nobody was there to try it.
    #[error("nobody is there to look through the file: {0}")]
    Away(String),
}

impl Scanner for Scanners {
    fn open(&self, wait: Wait) -> BoxFuture<'_, Result<Box<dyn Scan>, ScanError>> {
        Box::pin(async move {
            let scan = match wait {
                Wait::Never => self.open_now().await?,
                Wait::AWhile => Self::open(self).await?,
            };
            Ok(Box::new(scan) as Box<dyn Scan>)
        })
    }
}

impl Scan for scanner::Scan {
    fn feed(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), ScanError>> {
        Box::pin(async move { Ok(Self::feed(self, bytes).await?) })
    }

    fn verdict(self: Box<Self>) -> BoxFuture<'static, Result<Found, ScanError>> {
        Box::pin(async move {
            let signatures = Some(self.signatures().to_string());
            let verdict = match Self::verdict(*self).await? {
                scanner::Verdict::Clean => Verdict::Clean,
                scanner::Verdict::Infected { signature } => Verdict::Infected { signature },
                scanner::Verdict::LimitsExceeded { what } => Verdict::LimitsExceeded { what },
            };
            Ok(Found { verdict, signatures })
        })
    }
}

impl From<scanner::ScanError> for ScanError {
    fn from(error: scanner::ScanError) -> Self {
        match error {
            scanner::ScanError::Busy | scanner::ScanError::Draining => Self::Busy,
            scanner::ScanError::Starved { .. } => Self::Starved,
            error if error.is_retryable() && !error.may_be_the_files() => Self::Away(error.to_string()),
            error => Self::Failed(error.to_string()),
        }
    }
}

/// How a file is looked through.
pub(super) enum Scanning {
    /// Not at all: that is switched off.
    Off,
    /// It goes on.
    On(Box<dyn Scan>),
    /// Once all of it is here: nobody was free, or it came too slowly for whoever was.
    PutOff,
    /// It failed.
    Failed(ScanError),
}

impl Scanning {
    /// Begins, as the rules say. Where files are to be looked through and there is nobody who could, it has failed.
    pub(super) async fn open(rules: &Antivirus, scanner: Option<&Arc<dyn Scanner>>, wait: Wait) -> Self {
        if !rules.enabled {
            return Self::Off;
        }
        let Some(scanner) = scanner else { return Self::Failed(ScanError::Failed("there is no scanner".to_owned())) };
        match scanner.open(wait).await {
            Ok(scan) => Self::On(scan),
            Err(error) => Self::after(error),
        }
    }

    /// Hands bytes on, if there are any. What fails has failed for the whole file.
    pub(super) async fn feed(&mut self, bytes: Bytes) {
        if let Self::On(scan) = self
            && !bytes.is_empty()
            && let Err(error) = scan.feed(bytes).await
        {
            *self = Self::after(error);
        }
    }

    /// What came of it, once all bytes were handed on.
    pub(super) async fn end(self) -> Ended {
        match self {
            Self::Off => Ended::Unseen,
            Self::On(scan) => match scan.verdict().await {
                Ok(found) => Ended::Found(found),
                Err(error) => Self::after(error).ended(),
            },
            Self::PutOff | Self::Failed(_) => self.ended(),
        }
    }

    /// What follows from an error: nothing is wrong with a file for which there only was no time.
    fn after(error: ScanError) -> Self {
        match error {
            ScanError::Busy | ScanError::Starved => Self::PutOff,
            ScanError::Away(_) | ScanError::Failed(_) => Self::Failed(error),
        }
    }

    fn ended(self) -> Ended {
        match self {
            Self::Failed(error) => Ended::Failed(error),
            Self::Off | Self::On(_) | Self::PutOff => Ended::PutOff,
        }
    }

    /// Whether it has failed.
    pub(super) const fn has_failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

/// What came of looking through a file.
#[derive(Debug)]
pub(super) enum Ended {
    /// Nobody looked: that is switched off.
    Unseen,
    /// This was found.
    Found(Found),
    /// Nobody has looked yet.
    PutOff,
    /// It failed.
    Failed(ScanError),
}

impl fmt::Debug for Scanning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "Off",
            Self::On(_) => "On",
            Self::PutOff => "PutOff",
            Self::Failed(_) => "Failed",
        })
    }
}
