//! Where clamd is, which may change while the process runs. What is in force counts for the next scan; those under way end where
//! they began.

use crate::uploads::rules::{Antivirus, InForce};

/// An address of clamd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub host: String,
    pub port: u16,
}

impl Address {
    pub fn of(antivirus: &Antivirus) -> Self {
        Self { host: antivirus.host.clone(), port: antivirus.port }
    }

    /// Where scans go now; nowhere while they are off.
    pub fn in_force(told: &InForce) -> Option<Self> {
        let rules = told.borrow();
        rules.antivirus.enabled.then(|| Self::of(&rules.antivirus))
    }
}
