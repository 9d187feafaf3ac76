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
    /// Begins to look through a file; waits for a place, at most a stated time.
    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Scan>, ScanError>>;
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

/// Why nobody knows what is in a file.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// Nobody has begun to look: all of them look through other files.
    #[error("nobody is free to look through the file")]
    Busy,
    /// It was tried.
    #[error("the file could not be looked through: {0}")]
    Failed(String),
    /// Nobody was there to try it.
    #[error("nobody is there to look through the file: {0}")]
    Away(String),
}

impl Scanner for Scanners {
    fn open(&self) -> BoxFuture<'_, Result<Box<dyn Scan>, ScanError>> {
        Box::pin(async move { Ok(Box::new(Self::open(self).await?) as Box<dyn Scan>) })
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
    /// It failed.
    Failed(ScanError),
}

impl Scanning {
    /// Begins, as the rules say. Where files are to be looked through and there is nobody who could, it has failed.
    pub(super) async fn open(rules: &Antivirus, scanner: Option<&Arc<dyn Scanner>>) -> Self {
        if !rules.enabled {
            return Self::Off;
        }
        let Some(scanner) = scanner else { return Self::Failed(ScanError::Failed("there is no scanner".to_owned())) };
        match scanner.open().await {
            Ok(scan) => Self::On(scan),
            Err(error) => Self::Failed(error),
        }
    }

    /// Whether nobody was free to begin.
    pub(super) const fn is_busy(&self) -> bool {
        matches!(self, Self::Failed(ScanError::Busy))
    }

    /// Hands bytes on. What fails has failed for the whole file.
    pub(super) async fn feed(&mut self, bytes: &Bytes) {
        if let Self::On(scan) = self
            && let Err(error) = scan.feed(bytes.clone()).await
        {
            *self = Self::Failed(error);
        }
    }

    /// What was found; `None` if nobody looked.
    ///
    /// # Errors
    /// It failed.
    pub(super) async fn verdict(self) -> Result<Option<Found>, ScanError> {
        match self {
            Self::Off => Ok(None),
            Self::On(scan) => scan.verdict().await.map(Some),
            Self::Failed(error) => Err(error),
        }
    }

    /// Whether it has failed.
    pub(super) const fn has_failed(&self) -> bool {
        matches!(self, Self::Failed(_))
    }
}

impl fmt::Debug for Scanning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "Off",
            Self::On(_) => "On",
            Self::Failed(_) => "Failed",
        })
    }
}
