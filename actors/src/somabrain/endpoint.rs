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
    /// `POST /recall/delete`, which servers of today do not have.
    DeleteByKey,
    /// `POST /delete`, which servers of today do not have.
    DeleteAt,
    /// `GET /memory/metrics`.
    MemoryMetrics,
    /// `POST /context/evaluate`.
    Evaluate,
    /// `POST /context/feedback`.
    Feedback,
    /// `GET /context/adaptation/state`.
    Adaptation,
    /// `PUT /persona/{id}`.
    PutPersona,
    /// `GET /persona/{id}`.
    GetPersona,
    /// `DELETE /persona/{id}`.
    DeletePersona,
    /// `GET /constitution/version`.
    ConstitutionVersion,
    /// `POST /constitution/validate`.
    ValidateConstitution,
    /// `POST /constitution/load`.
    LoadConstitution,
    /// `GET /health`.
    Health,
}

impl Endpoint {
    /// All of them.
    pub(super) const ALL: [Self; 6] =
        [Self::Recall, Self::OldRecall, Self::Remember, Self::OldRemember, Self::RememberBatch, Self::Health];

    /// The method in upper case.
    #[must_use]
    pub const fn method(self) -> &'static str {
        self.line().0
    }

    /// The path as a template: no id is ever in it, so that it can be a label of a metric.
    #[must_use]
    pub const fn path(self) -> &'static str {
        self.line().1
    }

    const fn line(self) -> (&'static str, &'static str) {
        match self {
            Self::Recall => ("POST", "/memory/recall"),
            Self::OldRecall => ("POST", "/recall"),
            Self::Remember => ("POST", "/memory/remember"),
            Self::OldRemember => ("POST", "/remember"),
            Self::RememberBatch => ("POST", "/memory/remember/batch"),
            Self::DeleteByKey => ("POST", "/recall/delete"),
            Self::DeleteAt => ("POST", "/delete"),
            Self::MemoryMetrics => ("GET", "/memory/metrics"),
            Self::Evaluate => ("POST", "/context/evaluate"),
            Self::Feedback => ("POST", "/context/feedback"),
            Self::Adaptation => ("GET", "/context/adaptation/state"),
            Self::PutPersona => ("PUT", "/persona/{id}"),
            Self::GetPersona => ("GET", "/persona/{id}"),
            Self::DeletePersona => ("DELETE", "/persona/{id}"),
            Self::ConstitutionVersion => ("GET", "/constitution/version"),
            Self::ValidateConstitution => ("POST", "/constitution/validate"),
            Self::LoadConstitution => ("POST", "/constitution/load"),
            Self::Health => ("GET", "/health"),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method(), self.path())
    }
}
