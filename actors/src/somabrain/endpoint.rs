//! The calls of the server: methods and paths.

use std::fmt;

/// A call of the server: method and path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /memory/recall`.
    Recall,
    /// `POST /recall`, the only recall of the oldest servers.
    OldRecall,
    /// `POST /memory/remember`.
    Remember,
    /// `POST /remember`, the only write of the oldest servers.
    OldRemember,
    /// `POST /memory/remember/batch`.
    RememberBatch,
    /// `GET /health`.
    Health,
}

impl Endpoint {
    /// All of them.
    pub(super) const ALL: [Self; 6] = [
        Self::Recall,
        Self::OldRecall,
        Self::Remember,
        Self::OldRemember,
        Self::RememberBatch,
        Self::Health,
    ];

    /// The method in upper case.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::Recall | Self::OldRecall | Self::Remember | Self::OldRemember | Self::RememberBatch => "POST",
            Self::Health => "GET",
        }
    }

    /// The path as a template: no id is ever in it, so that it can be a label of a metric.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Recall => "/memory/recall",
            Self::OldRecall => "/recall",
            Self::Remember => "/memory/remember",
            Self::OldRemember => "/remember",
            Self::RememberBatch => "/memory/remember/batch",
            Self::Health => "/health",
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method(), self.path())
    }
}
