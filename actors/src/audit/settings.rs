//! How the audit trail is kept.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::checkpoint::{CheckpointKey, CheckpointSigner, KeyError};

/// The section `audit` of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditSettings {
    /// Milliseconds between two looks for rows to be sealed.
    pub seal_every_ms: u64,
    /// Seconds between two checkpoints of a chain that grows.
    pub checkpoint_every_seconds: u64,
    /// Private key that signs checkpoints, Ed25519 in PEM (`AUDIT_CHECKPOINT_KEY`); without one there are none.
    pub checkpoint_key: Option<SecretString>,
    /// The public half, for whoever verifies without the private one, and those of earlier keys behind it
    /// (`AUDIT_CHECKPOINT_PUBLIC_KEY`).
    pub checkpoint_public_key: Option<String>,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self { seal_every_ms: 1_000, checkpoint_every_seconds: 300, checkpoint_key: None, checkpoint_public_key: None }
    }
}

impl AuditSettings {
    /// Time between two looks for rows to be sealed.
    #[must_use]
    pub const fn seal_every(&self) -> Duration {
        Duration::from_millis(self.seal_every_ms)
    }

    /// Time between two checkpoints.
    #[must_use]
    pub const fn checkpoint_every(&self) -> Duration {
        Duration::from_secs(self.checkpoint_every_seconds)
    }

    /// Who signs, if there is a key.
    ///
    /// # Errors
    /// The key is none.
    pub fn signer(&self) -> Result<Option<CheckpointSigner>, KeyError> {
        self.checkpoint_key.as_ref().map(|pem| CheckpointSigner::new(pem.expose_secret())).transpose()
    }

    /// By what signatures are known, if that is known: the public keys, and that of the private one.
    ///
    /// # Errors
    /// A key is none.
    pub fn key(&self) -> Result<Option<CheckpointKey>, KeyError> {
        let own = self.signer()?.map(|signer| signer.public());
        let given = self.checkpoint_public_key.as_deref().map(CheckpointKey::new).transpose()?;
        Ok(match (given, own) {
            (Some(given), Some(own)) => Some(given.and(own)),
            (given, own) => given.or(own),
        })
    }
}
