//! The table of all settings that can be saved.

use std::ops::RangeInclusive;

use super::{Entry, Field, Kind, Section};

const DAY_SECONDS: u64 = 86_400;

/// What a limit of a file may be, in MiB: so much goes into the database.
pub const FILE_MB: RangeInclusive<u64> = 1..=16 << 10;
/// What a limit of all files together may be, in MiB.
pub const QUOTA_MB: RangeInclusive<u64> = 0..=16 << 20;
/// What a limit of the files of one request may be.
pub const FILES: RangeInclusive<u64> = 1..=100;
/// For how many days files may be kept.
pub const TTL_DAYS: RangeInclusive<u64> = 1..=36_500;
/// How often old files may be looked for, in seconds.
pub const JANITOR_SECONDS: RangeInclusive<u64> = 10..=DAY_SECONDS;
/// How long a link to a file may be good, in seconds.
pub const LINK_SECONDS: RangeInclusive<u64> = 0..=365 * DAY_SECONDS;

const fn number(within: &RangeInclusive<u64>) -> Kind {
    Kind::Number { min: *within.start(), max: *within.end() }
}

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
    field("uploads_max_mb", "Largest file", "In MiB", number(&FILE_MB)),
    field("uploads_max_files", "Files at a time", "Most files of one request", number(&FILES)),
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
    field("uploads_ttl_days", "Kept for", "In days", number(&TTL_DAYS)),
    field(
        "uploads_janitor_interval_seconds",
        "Clean-up every",
        "In seconds: how often files are removed whose time is over",
        number(&JANITOR_SECONDS),
    ),
    field(
        "uploads_inline_max_mb",
        "Largest file in the database",
        "In MiB: a larger one is refused even if it may be that large; one that is fetched is referred to",
        number(&FILE_MB),
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
        number(&QUOTA_MB),
    ),
    field(
        "uploads_quota_session_mb",
        "Room of a session",
        "In MiB, for all of its files together; 0: as much as it wants",
        number(&QUOTA_MB),
    ),
    field(
        "uploads_download_token_ttl_seconds",
        "Download links",
        "In seconds: how long a link counts that needs no other proof; 0: there are none",
        number(&LINK_SECONDS),
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
