//! Where clamd is, which may change while the process runs: the one place that knows where that is written.

use std::sync::Arc;

use tokio::sync::watch;

/// What operators say of the antivirus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Antivirus {
    /// Whether uploads are scanned.
    pub enabled: bool,
    /// Name or address of clamd's machine.
    pub host: String,
    /// clamd's port.
    pub port: u16,
}

/// What is in force now, in this process. It counts for the next scan; those under way end where they began.
pub type InForce = watch::Receiver<Arc<Antivirus>>;

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
        let antivirus = told.borrow();
        antivirus.enabled.then(|| Self::of(&antivirus))
    }
}
