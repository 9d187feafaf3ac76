//! Why something could not be done in the database.

/// Why a piece of work on the database has no result.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection could be had: nothing was sent.
    #[error("the database is not reachable")]
    Unavailable(#[source] sqlx::Error),
    /// The connection broke: what was sent may have been done.
    #[error("the connection to the database broke")]
    Interrupted(#[source] sqlx::Error),
    /// The database did not answer in time. What was sent may have been done.
    #[error("the database did not answer in time")]
    TimedOut,
    /// The database answered with an error and did nothing.
    #[error("the database refused a statement")]
    Rejected(#[source] sqlx::Error),
}

impl StoreError {
    /// The SQLSTATE of a refusal, five characters (PostgreSQL documentation, appendix A).
    #[must_use]
    pub fn sqlstate(&self) -> Option<String> {
        let Self::Rejected(sqlx::Error::Database(error)) = self else { return None };
        error.code().map(std::borrow::Cow::into_owned)
    }

    /// Whether the content was at fault: classes 22 (data exception), 23 (integrity constraint violation) and 54 (program
    /// limit exceeded, such as too long a text for an index).
    #[must_use]
    pub fn is_bad_data(&self) -> bool {
        self.sqlstate().is_some_and(|code| ["22", "23", "54"].iter().any(|class| code.starts_with(class)))
    }

    /// Whether the database undid the work because of others at the same time (`serialization_failure`, `deadlock_detected`):
    /// the same may succeed now.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self.sqlstate().as_deref(), Some("40001" | "40P01"))
    }

    /// What the database said, for whoever may see the content too: it may be quoted.
    #[must_use]
    pub fn refusal(&self) -> String {
        match self {
            Self::Rejected(sqlx::Error::Database(error)) => format!("the database refused it: {}", error.message()),
            other => other.to_string(),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            // Class 57 says that the server is going away, class 08 that the connection is: neither tells what was done.
            sqlx::Error::Database(inner)
                if !inner.code().is_some_and(|code| code.starts_with("08") || code.starts_with("57P")) =>
            {
                Self::Rejected(error)
            }
            sqlx::Error::RowNotFound => Self::Rejected(error),
            // A reply that cannot be read tells nothing of what was done.
            _ => Self::Interrupted(error),
        }
    }
}
