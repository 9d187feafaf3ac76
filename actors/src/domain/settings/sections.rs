//! The table of all settings that can be saved.

use super::{Entry, Field, Kind, Section};

/// Largest limit of a file, in MiB.
const MAX_MB: u64 = 10_240;
/// Largest limit of all files together, in MiB.
const MAX_QUOTA_MB: u64 = 16 << 20;
const DAY_SECONDS: u64 = 86_400;

const fn field(id: &'static str, title: &'static str, description: &'static str, kind: Kind) -> Field {
    Field { id, title, description, kind }
}

/// Every section, in the order in which they are shown.
pub const SECTIONS: &[Section] = &[
    Section {
        id: "uploads",
        title: "Uploads",
        description: "Which files people may attach, and how long they are kept",
        tab: "agent",
        fields: UPLOADS,
    },
    Section {
        id: "antivirus",
        title: "Antivirus",
        description: "Whether files are scanned before anybody gets them, and by which clamd",
        tab: "agent",
        fields: ANTIVIRUS,
    },
];

const UPLOADS: &[Field] = &[
    field("uploads_enabled", "Uploads", "Whether files are taken at all", Kind::Switch),
    field("uploads_max_mb", "Largest file", "In MiB", Kind::Number { min: 1, max: MAX_MB }),
    field("uploads_max_files", "Files at a time", "Most files of one request", Kind::Number { min: 1, max: 100 }),
    field(
        "uploads_allowed_mime",
        "Allowed types",
        "Media types, one a line or with commas; none: all that are not denied",
        Kind::List(Entry::MediaType),
    ),
    field(
        "uploads_denied_mime",
        "Denied types",
        "Media types, one a line or with commas; they are denied even where they are allowed above",
        Kind::List(Entry::MediaType),
    ),
    field("uploads_dir", "Stored in", "Where files are kept", Kind::Shown("postgres")),
    field("uploads_storage_backend", "Storage", "Where files are kept", Kind::Shown("postgres")),
    field("uploads_ttl_days", "Kept for", "In days", Kind::Number { min: 1, max: 36_500 }),
    field(
        "uploads_janitor_interval_seconds",
        "Clean-up every",
        "In seconds: how often files are removed whose time is over",
        Kind::Number { min: 10, max: DAY_SECONDS },
    ),
    field(
        "uploads_inline_max_mb",
        "Largest file in the database",
        "In MiB: a larger one is refused even if it may be that large",
        Kind::Number { min: 1, max: MAX_MB },
    ),
    field(
        "uploads_allow_external_ref",
        "External references",
        "Whether files are fetched from other servers; one that is too large to be kept is referred to there",
        Kind::Switch,
    ),
    field(
        "uploads_external_ref_allowlist",
        "Hosts of external references",
        "Names of hosts, one a line or with commas; .example.com: all names below it; none: no references",
        Kind::List(Entry::Host),
    ),
    field(
        "uploads_dedup_sha256",
        "Keep the same content once",
        "Whether files of one tenant with the same content are kept once",
        Kind::Switch,
    ),
    field(
        "uploads_quarantine_policy",
        "Quarantine",
        "What becomes of the content of a file in which something was found",
        Kind::Select(&["store_and_block", "drop_bytes_keep_meta"]),
    ),
    field(
        "uploads_quota_tenant_mb",
        "Room of a tenant",
        "In MiB, for all of its files together; 0: as much as it wants",
        Kind::Number { min: 0, max: MAX_QUOTA_MB },
    ),
    field(
        "uploads_quota_session_mb",
        "Room of a session",
        "In MiB, for all of its files together; 0: as much as it wants",
        Kind::Number { min: 0, max: MAX_QUOTA_MB },
    ),
    field(
        "uploads_download_token_ttl_seconds",
        "Download links",
        "In seconds: how long a link counts that needs no other proof; 0: there are none",
        Kind::Number { min: 0, max: 365 * DAY_SECONDS },
    ),
];

const ANTIVIRUS: &[Field] = &[
    field("av_enabled", "Antivirus", "Whether files are scanned", Kind::Switch),
    field(
        "av_strict",
        "Strict",
        "Whether a file that cannot be scanned is refused; else it is kept in quarantine",
        Kind::Switch,
    ),
    field("av_host", "Host", "Where clamd listens: a name or an address, without the port", Kind::Text(Entry::Host)),
    field("av_port", "Port", "The port of clamd", Kind::Number { min: 1, max: 65_535 }),
    field("av_test", "Test", "Has a test signature and a clean text scanned", Kind::Button),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let sections: BTreeSet<&str> = SECTIONS.iter().map(|section| section.id).collect();
        assert_eq!(sections.len(), SECTIONS.len());
        let fields: Vec<&str> = SECTIONS.iter().flat_map(|section| section.fields).map(|field| field.id).collect();
        assert_eq!(fields.iter().collect::<BTreeSet<_>>().len(), fields.len());
    }
}
