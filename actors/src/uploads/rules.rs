//! What uploads are held to.

use std::sync::Arc;

use tokio::sync::watch;

/// What uploads are held to: what an operator saved, else the environment, else the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Whether files are taken at all.
    pub enabled: bool,
    /// Most bytes of a file.
    pub max_bytes: u64,
    /// Most files of one request.
    pub max_files: u32,
    /// Types that are taken, in lower case; empty: all.
    pub allowed_mime: Vec<String>,
    /// Types that are refused, in lower case. What is in both lists is refused.
    pub denied_mime: Vec<String>,
    /// After so many days an attachment is deleted.
    pub ttl_days: u32,
    /// How often old attachments are looked for.
    pub janitor_interval_seconds: u64,
    /// Most bytes of a file that is kept here and not by reference.
    pub inline_max_bytes: u64,
    /// Whether files may be referred to that are elsewhere …
    pub allow_external: bool,
    /// … on one of these hosts.
    pub external_allowlist: Vec<String>,
    /// Whether bytes that a tenant has already are kept once.
    pub dedup: bool,
    /// What becomes of files in which something was found.
    pub quarantine: Quarantine,
    /// How much may be kept in all.
    pub quotas: Quotas,
    /// How long a link to a file is good; 0: there are none.
    pub download_token_ttl_seconds: u64,
    /// Who looks through them.
    pub antivirus: Antivirus,
}

/// How many bytes of files may be kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quotas {
    /// By each tenant.
    pub tenant_bytes: Option<u64>,
    /// In each session.
    pub session_bytes: Option<u64>,
}

/// What becomes of files in which something was found, or which could not be looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quarantine {
    /// They are kept, and nobody gets them.
    StoreAndBlock,
    /// Their bytes are dropped; what they were is kept.
    DropBytesKeepMeta,
}

/// Who looks through files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Antivirus {
    /// Whether anybody does.
    pub enabled: bool,
    /// Whether a file is refused that could not be looked through; else it is quarantined.
    pub strict: bool,
    /// Where clamd is.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// What is in force now, in this process.
pub type InForce = watch::Receiver<Arc<Rules>>;
