//! Why there is no decision.

use super::remote::RemoteError;

/// What keeps a policy from deciding. Its words hold nothing of the input.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// There is nothing that it could be asked.
    #[error("was asked something that cannot be written")]
    Input,
    /// It broke off.
    #[error("fails: {0}")]
    Failed(String),
    /// Its answer is something else.
    #[error("does not answer with a decision")]
    Odd,
    /// It is outside, and there is no answer.
    #[error("was not heard: {0}")]
    Unheard(#[from] RemoteError),
}
