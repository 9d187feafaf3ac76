//! Files elsewhere: fetched for whoever names where they are, from where that is allowed and from nowhere else.
//!
//! Whoever names an address has this process connect to it, which reaches what they do not. So a host must be on the list of the
//! rules; its name is looked up once, here, and asked only if all of its addresses are such as everybody can reach; and the
//! connection goes to the very addresses that were looked at. What is sent elsewhere from there is looked at in the same way.
//!
//! | file | holds |
//! | --- | --- |
//! | `place` | what is judged of a URL before its name is looked up |
//! | [`addresses`] | which addresses everybody can reach, and which an operator lets in beside them |
//! | `resolving` | names become addresses, once |
//! | [`fetching`] | asking, following, reading |

pub mod addresses;
pub mod fetching;
mod place;
mod resolving;

pub use addresses::Networks;
pub use fetching::{External, Fetched};
pub use place::host_of;

/// Why a file is not fetched. No text of it holds the URL, or an address.
#[derive(Debug, thiserror::Error)]
pub enum ExternalError {
    /// It cannot be asked for at all.
    #[error("the URL {0}")]
    BadUrl(&'static str),
    /// Nothing is fetched from there.
    #[error("{0}")]
    NotAllowed(&'static str),
    /// It was tried.
    #[error("a file was not fetched from {host}: {failure}")]
    Failed {
        /// Who was asked.
        host: String,
        /// What became of it.
        failure: Failure,
    },
}

/// How fetching a file failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Nobody was there.
    #[error("nobody was reached: {0}")]
    Unreachable(String),
    /// Nothing came for too long.
    #[error("nothing came any more")]
    Silent,
    /// All of it took too long.
    #[error("it took too long")]
    TooSlow,
    /// Something else came.
    #[error("the answer had status {0}")]
    Status(u16),
    /// It leads on and on, or to no URL.
    #[error("the answer leads nowhere")]
    Redirected,
    /// It was no answer, or not all of it.
    #[error("it broke off: {0}")]
    Broken(String),
}

impl Failure {
    /// A word for it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Silent => "silent",
            Self::TooSlow => "too-slow",
            Self::Status(_) => "status",
            Self::Redirected => "redirected",
            Self::Broken(_) => "broken",
        }
    }
}

#[cfg(test)]
mod tests;
