//! The values of fields as the rules of uploads, and back. Every field that can be saved is in both functions.

use serde_json::{Value, json};

use crate::{
    domain::settings::Values,
    uploads::rules::{Quarantine, Rules},
};

/// Bytes of a MiB, in which fields state sizes.
const MIB: u64 = 1 << 20;

const STORE_AND_BLOCK: &str = "store_and_block";
const DROP_BYTES: &str = "drop_bytes_keep_meta";

/// What the fields show of `rules`.
pub(super) fn shown(rules: &Rules) -> Values {
    let quarantine = match rules.quarantine {
        Quarantine::StoreAndBlock => STORE_AND_BLOCK,
        Quarantine::DropBytesKeepMeta => DROP_BYTES,
    };
    Values::from([
        ("uploads_enabled", json!(rules.enabled)),
        ("uploads_max_mb", json!(rules.max_bytes / MIB)),
        ("uploads_max_files", json!(rules.max_files)),
        ("uploads_allowed_mime", json!(rules.allowed_mime.join("\n"))),
        ("uploads_denied_mime", json!(rules.denied_mime.join("\n"))),
        ("uploads_ttl_days", json!(rules.ttl_days)),
        ("uploads_janitor_interval_seconds", json!(rules.janitor_interval_seconds)),
        ("uploads_inline_max_mb", json!(rules.inline_max_bytes / MIB)),
        ("uploads_allow_external_ref", json!(rules.allow_external)),
        ("uploads_external_ref_allowlist", json!(rules.external_allowlist.join("\n"))),
        ("uploads_dedup_sha256", json!(rules.dedup)),
        ("uploads_quarantine_policy", json!(quarantine)),
        ("uploads_quota_tenant_mb", json!(rules.quotas.tenant_bytes.unwrap_or_default() / MIB)),
        ("uploads_quota_session_mb", json!(rules.quotas.session_bytes.unwrap_or_default() / MIB)),
        ("uploads_download_token_ttl_seconds", json!(rules.download_token_ttl_seconds)),
        ("av_enabled", json!(rules.antivirus.enabled)),
        ("av_strict", json!(rules.antivirus.strict)),
        ("av_host", json!(rules.antivirus.host)),
        ("av_port", json!(rules.antivirus.port)),
    ])
}

/// What is `configured`, with what was `saved` over it.
pub(super) fn over(configured: &Rules, saved: &Values) -> Rules {
    let mut rules = configured.clone();
    for (id, value) in saved {
        put(&mut rules, id, value);
    }
    rules
}

/// A document that was read has only values that fit.
fn put(rules: &mut Rules, id: &str, value: &Value) {
    let antivirus = &mut rules.antivirus;
    match id {
        "uploads_enabled" => switch(&mut rules.enabled, value),
        "uploads_max_mb" => megabytes(&mut rules.max_bytes, value),
        "uploads_max_files" => number(&mut rules.max_files, value),
        "uploads_allowed_mime" => lines(&mut rules.allowed_mime, value),
        "uploads_denied_mime" => lines(&mut rules.denied_mime, value),
        "uploads_ttl_days" => number(&mut rules.ttl_days, value),
        "uploads_janitor_interval_seconds" => number(&mut rules.janitor_interval_seconds, value),
        "uploads_inline_max_mb" => megabytes(&mut rules.inline_max_bytes, value),
        "uploads_allow_external_ref" => switch(&mut rules.allow_external, value),
        "uploads_external_ref_allowlist" => lines(&mut rules.external_allowlist, value),
        "uploads_dedup_sha256" => switch(&mut rules.dedup, value),
        "uploads_quarantine_policy" => {
            rules.quarantine =
                if value == DROP_BYTES { Quarantine::DropBytesKeepMeta } else { Quarantine::StoreAndBlock }
        }
        "uploads_quota_tenant_mb" => quota(&mut rules.quotas.tenant_bytes, value),
        "uploads_quota_session_mb" => quota(&mut rules.quotas.session_bytes, value),
        "uploads_download_token_ttl_seconds" => number(&mut rules.download_token_ttl_seconds, value),
        "av_enabled" => switch(&mut antivirus.enabled, value),
        "av_strict" => switch(&mut antivirus.strict, value),
        "av_host" => value.as_str().unwrap_or_default().clone_into(&mut antivirus.host),
        "av_port" => number(&mut antivirus.port, value),
        _ => {}
    }
}

fn switch(to: &mut bool, value: &Value) {
    *to = value.as_bool().unwrap_or(*to);
}

fn number<N: TryFrom<u64> + Copy>(to: &mut N, value: &Value) {
    *to = value.as_u64().and_then(|number| N::try_from(number).ok()).unwrap_or(*to);
}

fn megabytes(to: &mut u64, value: &Value) {
    *to = value.as_u64().and_then(|number| number.checked_mul(MIB)).unwrap_or(*to);
}

/// 0 is no limit.
fn quota(to: &mut Option<u64>, value: &Value) {
    let mut bytes = to.unwrap_or_default();
    megabytes(&mut bytes, value);
    *to = (bytes > 0).then_some(bytes);
}

fn lines(to: &mut Vec<String>, value: &Value) {
    *to = value.as_str().unwrap_or_default().lines().map(str::to_owned).collect();
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::{
        domain::settings::{Entry, Field, Kind, SECTIONS},
        settings::tests::configured,
    };

    /// A value that is not the default.
    fn another(field: &Field, default: &Value) -> Value {
        match field.kind {
            Kind::Switch => json!(default == &json!(false)),
            Kind::Number { min, max } => json!(if default == &json!(max) { min } else { max }),
            Kind::Select(options) => json!(options.iter().find(|option| default != *option)),
            Kind::Text(_) => json!("other.example"),
            Kind::List(Entry::Host) => json!("a.example\nb.example"),
            Kind::List(Entry::MediaType) => json!("image/png\ntext/plain"),
            Kind::Shown(_) | Kind::Button => Value::Null,
        }
    }

    #[test]
    fn every_field_that_can_be_saved_counts() {
        let configured = configured();
        let defaults = shown(&configured);
        let fields: Vec<&Field> =
            SECTIONS.iter().flat_map(|section| section.fields).filter(|field| field.is_saved()).collect();
        let ids: BTreeSet<&str> = fields.iter().map(|field| field.id).collect();
        assert_eq!(defaults.keys().copied().collect::<BTreeSet<_>>(), ids);
        for field in fields {
            let value = another(field, &defaults[field.id]);
            assert_ne!(value, defaults[field.id], "{}", field.id);
            let saved = Values::from([(field.id, value.clone())]);
            let mut expected = defaults.clone();
            expected.insert(field.id, value);
            assert_eq!(shown(&over(&configured, &saved)), expected, "{}", field.id);
        }
        assert_eq!(over(&configured, &Values::new()), configured);
    }
}
