//! Keys of a secret that may be exchanged.

use std::sync::Arc;

use parking_lot::Mutex;

use super::KeySet;
use crate::secret::{Secret, Version};

/// The keys that a secret makes, each made once: a proof that was given by one of them is known by it.
#[derive(Debug)]
pub(super) struct SecretKeys {
    secret: Secret,
    made: Mutex<Vec<(Arc<Version>, Arc<KeySet>)>>,
}

impl SecretKeys {
    pub(super) fn new(secret: Secret) -> Self {
        Self { secret, made: Mutex::default() }
    }

    /// The keys of the secret, then those of the one before while that counts; none if nobody has confirmed the secret for too
    /// long.
    pub(super) fn usable(&self) -> Vec<Arc<KeySet>> {
        let versions: Vec<Arc<Version>> = self.secret.proving().collect();
        let mut made = self.made.lock();
        let is_made =
            |version: &Arc<Version>, made: &[(Arc<Version>, _)]| made.iter().any(|(of, _)| Arc::ptr_eq(of, version));
        if !versions.iter().all(|version| is_made(version, &made)) {
            made.retain(|(of, _)| versions.iter().any(|version| Arc::ptr_eq(of, version)));
            for version in &versions {
                if let (false, Ok(keys)) = (is_made(version, &made), KeySet::of_secret(version.expose())) {
                    made.push((Arc::clone(version), Arc::new(keys)));
                }
            }
        }
        let keys_of = |version| made.iter().find(|(of, _)| Arc::ptr_eq(of, version)).map(|(_, keys)| Arc::clone(keys));
        versions.iter().filter_map(keys_of).collect()
    }
}
