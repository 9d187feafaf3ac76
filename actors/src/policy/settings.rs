//! The section `policy` of the configuration.

use std::path::PathBuf;

use serde::Deserialize;

use super::{files::PolicyFiles, rego::PolicyError};

/// Where the policy is, and what it is told about this installation.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicySettings {
    /// Folder with the policy's files; the shipped policy if there is none. Check them with `opa check --strict`. Definitions of one
    /// rule that contradict each other leave it undefined here, where OPA fails: name no such rule after a `not`.
    pub dir: Option<PathBuf>,
    /// Whether everybody of a tenant may see and change all of its sessions.
    pub tenant_sessions: bool,
}

impl PolicySettings {
    /// The text of the policy.
    ///
    /// # Errors
    /// The folder, or a file in it, cannot be read, or it has no policy.
    pub fn files(&self) -> Result<PolicyFiles, PolicyError> {
        self.dir.as_deref().map_or_else(|| Ok(PolicyFiles::shipped()), PolicyFiles::read)
    }
}
