//! The section `uploads` of the configuration.

use serde::Deserialize;

use super::{
    rules::{Quarantine, Quotas, Rules},
    scanner::AntivirusSettings,
};

/// The section `uploads` of the configuration. Most names of the environment are the original's (`GATEWAY_UPLOAD_…`).
#[derive(Clone, Debug, Deserialize)]
pub struct UploadSettings {
    /// Whether files are taken at all.
    pub enabled: bool,
    /// Most MiB of a file.
    pub max_mb: u64,
    /// Most files of one request.
    pub max_files: u32,
    /// Types that are taken, separated by commas or line breaks; empty: all.
    pub allowed_mime: String,
    /// Types that are refused, separated like that.
    pub denied_mime: String,
    /// After so many days an attachment is deleted.
    pub ttl_days: u32,
    /// Seconds between two looks for old attachments.
    pub janitor_interval_seconds: u64,
    /// Most MiB of a file that is kept here and not by reference.
    pub inline_max_mb: u64,
    /// Whether files may be referred to that are elsewhere …
    pub allow_external_ref: bool,
    /// … on one of these hosts, separated like types.
    pub external_ref_allowlist: String,
    /// Networks whose addresses are asked although not everybody can reach them, separated like types.
    pub external_ref_networks: String,
    /// Whether bytes that a tenant has already are kept once.
    pub dedup_sha256: bool,
    /// What becomes of files in which something was found: `store_and_block` or `drop_bytes_keep_meta`.
    pub quarantine_policy: QuarantinePolicy,
    /// Most MiB of all files of a tenant; 0: no limit.
    pub quota_tenant_mb: u64,
    /// Most MiB of all files of a session; 0: no limit.
    pub quota_session_mb: u64,
    /// How long a link to a file is good; 0: there are none.
    pub download_token_ttl_seconds: u64,
}

/// [`Quarantine`] as it is written in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuarantinePolicy {
    /// Kept, and nobody gets them.
    StoreAndBlock,
    /// Their bytes are dropped.
    DropBytesKeepMeta,
}

impl Default for UploadSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            max_mb: 25,
            max_files: 10,
            allowed_mime: String::new(),
            denied_mime: String::new(),
            ttl_days: 7,
            janitor_interval_seconds: 3600,
            inline_max_mb: 16,
            allow_external_ref: false,
            external_ref_allowlist: String::new(),
            external_ref_networks: String::new(),
            dedup_sha256: false,
            quarantine_policy: QuarantinePolicy::StoreAndBlock,
            quota_tenant_mb: 0,
            quota_session_mb: 0,
            download_token_ttl_seconds: 0,
        }
    }
}

impl UploadSettings {
    /// What uploads are held to where no operator has saved anything else.
    #[must_use]
    pub fn rules(&self, antivirus: &AntivirusSettings) -> Rules {
        let bytes = |mb: u64| mb.saturating_mul(1 << 20);
        Rules {
            enabled: self.enabled,
            max_bytes: bytes(self.max_mb),
            max_files: self.max_files,
            allowed_mime: words(&self.allowed_mime),
            denied_mime: words(&self.denied_mime),
            ttl_days: self.ttl_days,
            janitor_interval_seconds: self.janitor_interval_seconds,
            inline_max_bytes: bytes(self.inline_max_mb.min(self.max_mb)),
            allow_external: self.allow_external_ref,
            external_allowlist: words(&self.external_ref_allowlist),
            dedup: self.dedup_sha256,
            quarantine: match self.quarantine_policy {
                QuarantinePolicy::StoreAndBlock => Quarantine::StoreAndBlock,
                QuarantinePolicy::DropBytesKeepMeta => Quarantine::DropBytesKeepMeta,
            },
            quotas: Quotas {
                tenant_bytes: (self.quota_tenant_mb > 0).then(|| bytes(self.quota_tenant_mb)),
                session_bytes: (self.quota_session_mb > 0).then(|| bytes(self.quota_session_mb)),
            },
            download_token_ttl_seconds: self.download_token_ttl_seconds,
            antivirus: antivirus.target(),
        }
    }
}

/// The words of a list with commas or line breaks, in lower case.
#[must_use]
pub fn words(list: &str) -> Vec<String> {
    list.split([',', '\n', '\r']).map(|word| word.trim().to_lowercase()).filter(|word| !word.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_commas_or_lines_and_no_case() {
        assert_eq!(
            words(" Text/Plain,image/png\r\n\n application/PDF ,,"),
            ["text/plain", "image/png", "application/pdf"]
        );
        assert!(words(" ,\n").is_empty());
    }

    #[test]
    fn no_file_is_kept_here_that_is_larger_than_any_may_be() {
        let antivirus = AntivirusSettings::default();
        for (max_mb, inline_max_mb, expected) in [(25, 16, 16), (8, 16, 8), (30, 30, 30)] {
            let rules = UploadSettings { max_mb, inline_max_mb, ..UploadSettings::default() }.rules(&antivirus);
            assert_eq!((rules.max_bytes, rules.inline_max_bytes), (max_mb << 20, expected << 20));
        }
    }
}
