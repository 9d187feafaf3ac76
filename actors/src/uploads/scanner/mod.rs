//! Asks clamd whether bytes are infected, while they arrive.
//!
//! | file | holds |
//! | --- | --- |
//! | [`handle`](Scanners) | [`Scanners`] gives a [`Scan`] to whoever has bytes; waits for a free scanner |
//! | `upload_scanner` | the actor `upload-scanner`: one connection, one scan at a time |
//! | `session` | a connection to clamd: every wait has a bound |
//! | `wire` | what clamd's answers mean, without I/O |
//! | `bench` | which scanners are free |
//! | `target` | where clamd is, which may change while the process runs |
//! | [`eicar`] | proves that infected bytes are found: EICAR's test string and a harmless one |
//! | [`settings`], [`metrics`] | the section `antivirus` of the configuration; Prometheus |
//!
//! Bytes go to clamd by `INSTREAM` in the order they came and are kept nowhere here: at most [`PIECES_AHEAD`] pieces wait for
//! clamd. Two scans never share a connection at a time, and a connection on which anything but a whole answer was the last
//! thing is closed, so that no scan is told the verdict of another. Whatever is not understood is no verdict.

mod bench;
pub mod eicar;
mod handle;
pub mod metrics;
mod session;
pub mod settings;
mod target;
mod upload_scanner;
mod wire;

use std::time::Duration;

pub use eicar::{Report, Tried, Watched};
pub use handle::{PIECES_AHEAD, Scan, Scanners, Standing};
pub use metrics::ScannerMetrics;
pub use settings::AntivirusSettings;
pub use upload_scanner::UploadScanner;
pub use wire::Signatures;

/// What takes clamd its time once it has all bytes.
const COME_TO_A_VERDICT: &str = "come to a verdict";

/// What clamd thinks of the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was found.
    Clean,
    /// They fit a signature.
    Infected {
        /// Its name, such as `Win.Test.EICAR_HDB-1`.
        signature: String,
    },
    /// They are larger, deeper or more than clamd looks at, so that nobody knows.
    LimitsExceeded {
        /// Which limit, in clamd's words.
        what: String,
    },
}

/// Why there is no verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// Nobody wants scans: an operator has switched them off.
    #[error("the antivirus is off")]
    Off,
    /// No scanner became free in time.
    #[error("all scanners are busy")]
    Busy,
    /// The process is about to end.
    #[error("the scanners take no more scans")]
    Draining,
    /// clamd did not answer lately and is left alone.
    #[error("clamd gave no answer lately: it is left alone for {} ms", .retry_after.as_millis())]
    Resting {
        /// Until it is tried again.
        retry_after: Duration,
    },
    /// clamd cannot be reached, or went away.
    #[error("clamd is away: {0}")]
    Unavailable(String),
    /// clamd takes nothing or says nothing.
    #[error("clamd did not {step} within {} ms", .within.as_millis())]
    TimedOut {
        /// What it did not do.
        step: &'static str,
        /// How long it had.
        within: Duration,
    },
    /// Whoever has the bytes kept the scanner waiting for too long.
    #[error("the bytes to scan came more than {} ms late", .within.as_millis())]
    Starved {
        /// How long all waits may take together.
        within: Duration,
    },
    /// clamd says that it could not scan; in its words.
    #[error("clamd could not scan: {0}")]
    Refused(String),
    /// clamd said what is no answer, or another server stands in its place.
    #[error("clamd gave no answer that can be read: {0}")]
    Protocol(String),
}

impl ScanError {
    /// Whether the same bytes may get a verdict a little later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Busy
            | Self::Draining
            | Self::Resting { .. }
            | Self::Unavailable(_)
            | Self::TimedOut { .. }
            | Self::Starved { .. } => true,
            Self::Off | Self::Refused(_) | Self::Protocol(_) => false,
        }
    }

    /// Whether other bytes may get a verdict where these got none.
    #[must_use]
    pub fn may_be_the_files(&self) -> bool {
        match self {
            Self::TimedOut { step, .. } => *step == COME_TO_A_VERDICT,
            Self::Refused(_) => true,
            _ => false,
        }
    }

    /// Whether clamd is at fault, as far as the breaker cares.
    const fn blames_clamd(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::TimedOut { .. } | Self::Refused(_) | Self::Protocol(_))
    }
}

#[cfg(test)]
mod testing;
