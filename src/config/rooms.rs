//! The limits of the sections that rooms own. Their types and defaults are the rooms'; `config/default.toml` repeats the
//! defaults for people, and a test compares the two.

use std::net::IpAddr;

use somaagent_actors::{
    audit::{AuditSettings, CheckpointKey},
    bus::{kafka::KafkaSettings, table::EventLogSettings},
    conversation::{SessionSettings, TurnSettings},
    dead_letters::DeadLetterSettings,
    domain::{dead_letter, ids::Tenant, media_type::is_media_type, settings::sections},
    extraction::ExtractionSettings,
    identity::{AuthSettings, sign_in::OidcSettings},
    llm::{self, ModelSettings},
    memory::{jobs::ExportJobSettings, settings::MemorySettings},
    outbox::QueueSettings,
    policy::{FgaSettings, Membership, Policy, PolicySettings},
    replicator::ReplicatorSettings,
    settings::OperatorSettings,
    somabrain::BrainSettings,
    uploads::{
        external::Networks,
        scanner::AntivirusSettings,
        settings::{UploadSettings, words},
    },
    vault::VaultSettings,
};
use somaagent_http::{
    DoorSettings,
    settings::{
        CorsSettings, HeaderSettings, LimitSettings, NO_HEADER_TEXT, WriteThroughSettings, is_cookie_name,
        is_header_text, is_host_name,
    },
};

use super::{Deployment, faults::Faults, sections::DAY_MS};
use crate::embedded::responder::ResponderSettings;

/// Shortest time of what the HTTP library measures by its own clock, which is up to half a second behind.
const COARSE_MS: u64 = 1000;
/// Shortest internal token.
const MIN_TOKEN_BYTES: usize = 16;

/// `only_here` says whether the process serves people, and nobody has to prove who they are.
pub(super) fn check_http(http: &DoorSettings, only_here: bool, faults: &mut Faults) {
    if Tenant::new(http.default_tenant.trim()).is_none() {
        faults.add("http.default_tenant", "is no name of a tenant");
    }
    if !is_cookie_name(&http.jwt_cookie_name) {
        faults.add("http.jwt_cookie_name", "is no name of a cookie");
    }
    for fault in http.csrf_faults() {
        faults.add("http.csrf_cookie_name", fault);
    }
    let for_others = [("http.trusted_proxies", &http.trusted_proxies), ("http.allowed_hosts", &http.allowed_hosts)];
    for (name, _) in for_others.into_iter().filter(|(_, list)| only_here && !list.trim().is_empty()) {
        faults.add(
            name,
            "is set, and nobody would have to prove who they are: other machines are served only with GATEWAY_REQUIRE_AUTH=true and a key",
        );
    }
    if !is_header_text(&http.api_version) {
        faults.add("http.api_version", NO_HEADER_TEXT);
    }
    if let Some(token) = &http.internal_token
        && let Err(what) = check_internal_token(token.present().expose())
    {
        faults.add("http.internal_token", what);
    }
    if let Err(what) = http.proxies() {
        faults.add("http.trusted_proxies", what);
    }
    for host in http.hosts().iter().filter(|host| !is_host_name(host)) {
        faults.add("http.allowed_hosts", format!("{host:?} is no name of a host without its port"));
    }
    faults.range("http.stalled_ms", http.stalled_ms, 1000..=DAY_MS);
    faults.range("http.sse_heartbeat_seconds", http.sse_heartbeat_seconds, 1..=3600);
    faults.range("http.body_limit_bytes", http.body_limit_bytes, 1024..=1 << 30);
    faults.range("http.message_limit_bytes", http.message_limit_bytes, 1..=http.body_limit_bytes);
    faults.range("http.header_timeout_ms", http.header_timeout_ms, COARSE_MS..=DAY_MS);
    faults.range("http.body_timeout_ms", http.body_timeout_ms, 100..=DAY_MS);
    faults.range("http.keep_alive_ms", http.keep_alive_ms, COARSE_MS..=DAY_MS);
    faults.range("http.disconnect_timeout_ms", http.disconnect_timeout_ms, COARSE_MS..=DAY_MS);
    faults.range("http.send_timeout_ms", http.send_timeout_ms, 100..=DAY_MS);
    faults.range("http.health_timeout_ms", http.health_timeout_ms, 10..=DAY_MS);
    faults.range("http.workers", http.workers, 0..=1024);
    faults.range("http.max_connections", http.max_connections, 1..=1_000_000);
}

/// Whether workers can show this, and nobody guesses it.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_internal_token(token: &str) -> Result<(), &'static str> {
    match token {
        token if !token.bytes().all(|byte| byte.is_ascii_graphic()) => Err("has characters that a header cannot carry"),
        token if token.len() < MIN_TOKEN_BYTES => Err("is shorter than 16 bytes"),
        _ => Ok(()),
    }
}

/// Tokens that nobody could prove would shut everybody out, and it would look like their fault.
pub(super) fn check_auth(auth: &AuthSettings, oidc: &OidcSettings, required: bool, faults: &mut Faults) {
    if required && !auth.has_keys() && !oidc.enabled {
        faults.add(
            "http.require_auth",
            "is set, and there is no key that could prove a token: set GATEWAY_JWT_SECRET, GATEWAY_JWT_PUBLIC_KEY or GATEWAY_JWKS_URL, or let people sign in (OIDC_ENABLED)",
        );
    }
    for fault in auth.faults() {
        faults.add(&format!("auth.{}", fault.setting), fault.what);
    }
    faults.range("auth.jwt_leeway_seconds", auth.jwt_leeway_seconds, 0..=300);
    faults.range("auth.jwks_cache_seconds", auth.jwks_cache_seconds, 1..=86_400);
    faults.range("auth.jwks_timeout_seconds", auth.jwks_timeout_seconds, 0.1..=60.0);
    faults.range("auth.jwks_stale_seconds", auth.jwks_stale_seconds, 0..=604_800);
}

/// A policy that cannot decide would shut everybody out. Whether an OPA is there shows only when it is asked.
pub(super) fn check_policy(policy: &PolicySettings, faults: &mut Faults) {
    if policy.dir.is_some() && policy.opa_url.is_some() {
        faults.add("policy.dir", "is set, but an OPA decides (OPA_URL): keep one");
    }
    faults.range("policy.opa_timeout_seconds", policy.opa_timeout_seconds, 0.1..=60.0);
    faults.range("policy.cache_ttl_seconds", policy.cache_ttl_seconds, 0.0..=60.0);
    faults.range("policy.breaker_failures", policy.breaker_failures, 1..=1_000);
    faults.range("policy.breaker_cooldown_ms", policy.breaker_cooldown_ms, 10..=DAY_MS);
    for error in Policy::faults(policy) {
        let what = match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        faults.add(error.key(), what);
    }
}

pub(super) fn check_oidc(oidc: &OidcSettings, faults: &mut Faults) {
    for fault in oidc.faults() {
        faults.add(&format!("oidc.{}", fault.setting), fault.what);
    }
    faults.range("oidc.login_seconds", oidc.login_seconds, 1..=30 * 86_400);
    faults.range("oidc.cache_seconds", oidc.cache_seconds, 1..=86_400);
    faults.range("oidc.timeout_seconds", oidc.timeout_seconds, 0.1..=60.0);
}

pub(super) fn check_audit(audit: &AuditSettings, faults: &mut Faults) {
    if let Err(error) = audit.signer() {
        faults.add("audit.checkpoint_key", error.to_string());
    }
    if let Some(Err(error)) = audit.checkpoint_public_key.as_deref().map(CheckpointKey::new) {
        faults.add("audit.checkpoint_public_key", error.to_string());
    }
    faults.range("audit.seal_every_ms", audit.seal_every_ms, 10..=DAY_MS);
    faults.range("audit.checkpoint_every_seconds", audit.checkpoint_every_seconds, 1..=86_400);
}

/// Members are asked for only of callers who proved who they are.
pub(super) fn check_openfga(openfga: &FgaSettings, auth_required: bool, faults: &mut Faults) {
    if openfga.required && !auth_required {
        faults.add("openfga.required", "is set, and nobody has to prove who they are (GATEWAY_REQUIRE_AUTH)");
    }
    faults.range("openfga.timeout_seconds", openfga.timeout_seconds, 0.1..=60.0);
    faults.range("openfga.cache_ttl_seconds", openfga.cache_ttl_seconds, 0.0..=60.0);
    faults.range("openfga.breaker_failures", openfga.breaker_failures, 1..=1_000);
    faults.range("openfga.breaker_cooldown_ms", openfga.breaker_cooldown_ms, 10..=DAY_MS);
    for fault in Membership::faults(openfga) {
        faults.add(fault.key, fault.what);
    }
}

pub(super) fn check_headers(headers: &HeaderSettings, faults: &mut Faults) {
    for (name, what) in headers.faults() {
        faults.add(&format!("headers.{name}"), what);
    }
}

pub(super) fn check_cors(cors: &CorsSettings, require_auth: bool, faults: &mut Faults) {
    for (name, what) in cors.faults(require_auth) {
        faults.add(&format!("cors.{name}"), what);
    }
}

pub(super) fn check_limits(limits: &LimitSettings, faults: &mut Faults) {
    let paces = [("rps", limits.rps), ("admin_rps", limits.admin_rps), ("failure_rps", limits.failure_rps)];
    for (name, pace) in paces.into_iter().filter(|(_, pace)| *pace != 0.0) {
        faults.range(&format!("limits.{name}"), pace, 0.001..=1_000_000.0);
    }
    faults.range("limits.burst", limits.burst, 1..=1_000_000);
    faults.range("limits.admin_burst", limits.admin_burst, 0..=1_000_000);
    faults.range("limits.failure_burst", limits.failure_burst, 1..=1_000_000);
    faults.range("limits.max_in_flight", limits.max_in_flight, 1..=1_000_000);
    faults.range("limits.max_bodies", limits.max_bodies, 0..=1_000_000);
    faults.range("limits.max_bodies_each", limits.max_bodies_each, 0..=1_000_000);
    faults.range("limits.max_streams", limits.max_streams, 0..=10_000_000);
    faults.range("limits.max_streams_each", limits.max_streams_each, 0..=10_000_000);
}

pub(super) fn check_write_through(write_through: &WriteThroughSettings, faults: &mut Faults) {
    faults.range("write_through.timeout_ms", write_through.timeout_ms, 10..=30_000);
}

pub(super) fn check_sessions(sessions: &SessionSettings, faults: &mut Faults) {
    faults.range("sessions.idle_ms", sessions.idle_ms, 10..=DAY_MS);
    faults.range("sessions.lease_ms", sessions.lease_ms, 1000..=DAY_MS);
    faults.range("sessions.posts_capacity", sessions.posts_capacity, 1..=65_536);
    faults.range("sessions.queue_max", sessions.queue_max, 0..=1024);
    faults.range("sessions.ask_timeout_ms", sessions.ask_timeout_ms, 100..=DAY_MS);
    faults.range("sessions.reader_buffer", sessions.reader_buffer, 1..=65_536);
}

pub(super) fn check_turns(turns: &TurnSettings, faults: &mut Faults) {
    faults.range("turns.max_attempts", turns.max_attempts, 1..=100);
    faults.range("turns.resume_within_ms", turns.resume_within_ms, 1000..=30 * DAY_MS);
    faults.range("turns.max_running", turns.max_running, 1..=1_000_000);
    faults.range("turns.sweep_ms", turns.sweep_ms, 50..=DAY_MS);
    faults.range("turns.sweep_batch", turns.sweep_batch, 1..=10_000);
    faults.range("turns.recall_deadline_ms", turns.recall_deadline_ms, 0..=DAY_MS);
    faults.range("turns.recall_top_k", turns.recall_top_k, 1..=50);
    faults.range("turns.history_messages", turns.history_messages, 1..=10_000);
    faults.range("turns.files_deadline_ms", turns.files_deadline_ms, 0..=DAY_MS);
}

/// A model that is not configured is replaced by the offline responder, and then nothing of the section counts. A key or
/// a name without an address is a mistake: whoever gave it expects a model to answer.
pub(super) fn check_model(model: &ModelSettings, faults: &mut Faults) {
    if model.base_url.is_empty() {
        for (key, given) in [("model.api_key", model.api_key.is_some()), ("model.model", !model.model.is_empty())] {
            if given {
                faults.add(key, "is set, but the model's address is not (SA01_LLM_BASE_URL)");
            }
        }
        return;
    }
    faults.range("model.max_images", model.max_images, 0..=32);
    if let Err(error) = llm::normalize_base_url(&model.base_url) {
        faults.add("model.base_url", error.to_string());
    } else if let Err(error) = model.validate() {
        faults.add("model", error.to_string());
    }
}

pub(super) fn check_brain(brain: &BrainSettings, faults: &mut Faults) {
    if let (false, Err(error)) = (brain.base_url.is_empty(), brain.validate()) {
        faults.add("brain.base_url", error.to_string());
    }
    faults.range("brain.max_in_flight", brain.max_in_flight, 1..=10_000);
    faults.range("brain.max_writes_in_flight", brain.max_writes_in_flight, 1..=10_000);
    faults.range("brain.health_interval_ms", brain.health_interval_ms, 100..=DAY_MS);
}

pub(super) fn check_queue(section: &str, queue: &QueueSettings, faults: &mut Faults) {
    let key = |name: &str| format!("{section}.{name}");
    faults.range(&key("batch_size"), queue.batch_size, 1..=10_000);
    faults.range(&key("interval_seconds"), queue.interval_seconds, 0.01..=3_600.0);
    faults.range(&key("max_retries"), queue.max_retries, 0..=1_000);
    faults.range(&key("backoff_base_seconds"), queue.backoff_base_seconds, 0.01..=3_600.0);
    faults.range(&key("backoff_max_seconds"), queue.backoff_max_seconds, 0.01..=86_400.0);
    faults.range(&key("lease_ms"), queue.lease_ms, 1000..=DAY_MS);
    faults.range(&key("retention_ms"), queue.retention_ms, 0..=30 * DAY_MS);
}

pub(super) fn check_event_log(event_log: &EventLogSettings, faults: &mut Faults) {
    faults.range("event_log.retention_ms", event_log.retention_ms, 0..=3_650 * DAY_MS);
}

pub(super) fn check_replicator(replicator: &ReplicatorSettings, faults: &mut Faults) {
    if replicator.group.trim().is_empty() {
        faults.add("replicator.group", "is no name of a group");
    }
    faults.range("replicator.batch_size", replicator.batch_size, 1..=10_000);
}

pub(super) fn check_kafka(kafka: &KafkaSettings, faults: &mut Faults) {
    for fault in kafka.validate().err().unwrap_or_default() {
        faults.add(fault.key, fault.what);
    }
    faults.range("kafka.timeout_seconds", kafka.timeout_seconds, 1.0..=600.0);
    faults.range("kafka.session_timeout_ms", kafka.session_timeout_ms, 1000..=1_800_000);
    if kafka.replication_factor != -1 {
        faults.range("kafka.replication_factor", kafka.replication_factor, 1..=100);
    }
}

pub(super) fn check_dead_letters(letters: &DeadLetterSettings, faults: &mut Faults) {
    for topic in letters.shown_topics().iter().filter(|topic| !dead_letter::is_topic(topic)) {
        faults.add(
            "dead_letters.topics",
            format!("{topic:?} is no name of a topic of dead letters, such as memory.wal.dlq"),
        );
    }
    faults.range("dead_letters.poll_seconds", letters.poll_seconds, 1..=86_400);
    faults.range("dead_letters.page_letters", letters.page_letters, 1..=1_000);
    faults.range("dead_letters.job_retention_ms", letters.job_retention_ms, 0..=3_650 * DAY_MS);
}

pub(super) fn check_memory(memory: &MemorySettings, faults: &mut Faults) {
    faults.range("memory.batch_max_items", memory.batch_max_items, 1..=10_000);
    faults.range("memory.export_max_rows", memory.export_max_rows, 1..=1_000_000_000);
    faults.range("memory.export_page_size", memory.export_page_size, 1..=10_000);
    faults.range("memory.export_concurrency", memory.export_concurrency, 1..=1_000);
    faults.range("memory.offset_wait_ms", memory.offset_wait_ms, 0..=30_000);
}

pub(super) fn check_export_jobs(jobs: &ExportJobSettings, faults: &mut Faults) {
    faults.range("export_jobs.max_rows", jobs.max_rows, 0..=1_000_000_000);
    faults.range("export_jobs.page_size", jobs.page_size, 0..=10_000);
    faults.range("export_jobs.poll_seconds", jobs.poll_seconds, 0.01..=3_600.0);
    faults.range("export_jobs.concurrency", jobs.concurrency, 1..=64);
    faults.range("export_jobs.max_bytes", jobs.max_bytes, 1024..=1 << 40);
    faults.range("export_jobs.max_kept", jobs.max_kept, 1..=100_000);
    faults.range("export_jobs.lease_ms", jobs.lease_ms, 1000..=DAY_MS);
    faults.range("export_jobs.expire_ms", jobs.expire_ms, 1..=3_650 * DAY_MS);
    faults.range("export_jobs.retention_ms", jobs.retention_ms, 0..=3_650 * DAY_MS);
}

pub(super) fn check_uploads(uploads: &UploadSettings, faults: &mut Faults) {
    faults.range("uploads.max_mb", uploads.max_mb, sections::FILE_MB);
    faults.range("uploads.max_files", uploads.max_files.into(), sections::FILES);
    faults.range("uploads.ttl_days", uploads.ttl_days.into(), sections::TTL_DAYS);
    faults.range("uploads.janitor_interval_seconds", uploads.janitor_interval_seconds, sections::JANITOR_SECONDS);
    faults.range("uploads.inline_max_mb", uploads.inline_max_mb, sections::FILE_MB);
    faults.range("uploads.quota_tenant_mb", uploads.quota_tenant_mb, sections::QUOTA_MB);
    faults.range("uploads.quota_session_mb", uploads.quota_session_mb, sections::QUOTA_MB);
    faults.range("uploads.download_token_ttl_seconds", uploads.download_token_ttl_seconds, sections::LINK_SECONDS);
    for (key, list) in [("uploads.allowed_mime", &uploads.allowed_mime), ("uploads.denied_mime", &uploads.denied_mime)]
    {
        if let Some(word) = words(list).iter().find(|word| !is_media_type(word)) {
            faults.add(key, format!("{word:?} is no media type such as image/png"));
        }
    }
    check_external(uploads, faults);
}

fn check_external(uploads: &UploadSettings, faults: &mut Faults) {
    if let Some(word) = words(&uploads.external_ref_allowlist).iter().find(|word| !is_host_name(word)) {
        faults.add(
            "uploads.external_ref_allowlist",
            format!("{word:?} is no host such as example.com, or .example.com for all below it"),
        );
    }
    if let Err(why) = Networks::parse(&uploads.external_ref_networks) {
        faults.add("uploads.external_ref_networks", why);
    }
}

pub(super) fn check_antivirus(antivirus: &AntivirusSettings, faults: &mut Faults) {
    // A place on the network, and neither a URL nor a path: those would be resolved as names and never found.
    let host = antivirus.host.as_str();
    if host.parse::<IpAddr>().is_err() && (host.starts_with('[') || !is_host_name(host)) {
        faults.add("antivirus.host", format!("{host:?} is no name or address of a host without its port"));
    }
    faults.range("antivirus.port", antivirus.port, 1..=u16::MAX);
    faults.range("antivirus.scanners", antivirus.scanners, 1..=1_000);
    faults.range("antivirus.open_timeout_ms", antivirus.open_timeout_ms, 10..=DAY_MS);
    faults.range("antivirus.connect_timeout_ms", antivirus.connect_timeout_ms, 10..=DAY_MS);
    faults.range("antivirus.write_timeout_ms", antivirus.write_timeout_ms, 10..=DAY_MS);
    faults.range("antivirus.feed_timeout_ms", antivirus.feed_timeout_ms, 10..=DAY_MS);
    faults.range("antivirus.answer_timeout_ms", antivirus.answer_timeout_ms, 10..=DAY_MS);
    faults.range("antivirus.idle_ms", antivirus.idle_ms, 0..=DAY_MS);
    faults.range("antivirus.breaker_failures", antivirus.breaker_failures, 1..=1_000);
    faults.range("antivirus.breaker_cooldown_ms", antivirus.breaker_cooldown_ms, 10..=DAY_MS);
    faults.range("antivirus.rescan_days", antivirus.rescan_days, 0..=36_500);
    faults.range("antivirus.rescan_interval_seconds", antivirus.rescan_interval_seconds, 1..=86_400);
    faults.range("antivirus.rescan_after_seconds", antivirus.rescan_after_seconds, 1..=31_536_000);
}

pub(super) fn check_extraction(extraction: &ExtractionSettings, faults: &mut Faults) {
    faults.range("extraction.places", extraction.places, 1..=1_000);
    faults.range("extraction.wait_ms", extraction.wait_ms, 1..=DAY_MS);
    faults.range("extraction.thumbnail_places", extraction.thumbnail_places, 1..=1_000);
    faults.range("extraction.thumbnail_wait_ms", extraction.thumbnail_wait_ms, 1..=DAY_MS);
    faults.range("extraction.timeout_ms", extraction.timeout_ms, 100..=DAY_MS);
    faults.range("extraction.cpu_seconds", extraction.cpu_seconds, 1..=86_400);
    faults.range("extraction.memory_mib", extraction.memory_mib, 16..=1 << 20);
    // It is in that memory, whole.
    faults.range("extraction.max_bytes", extraction.max_bytes, 1024..=(extraction.memory_mib << 20) / 2);
    faults.range("extraction.max_pages", extraction.max_pages, 1..=100_000);
    faults.range("extraction.max_pixels", extraction.max_pixels, 1..=1 << 32);
}

pub(super) fn check_settings(settings: &OperatorSettings, faults: &mut Faults) {
    if let Err(what) = settings.tenants() {
        faults.add("settings.operator_tenants", what);
    }
}

pub(super) fn check_responder(responder: ResponderSettings, faults: &mut Faults) {
    faults.range("responder.token_delay_ms", responder.token_delay_ms, 0..=60_000);
}

/// Of a Vault that nothing is kept in nothing counts: its variables are in many an environment for other programs.
pub(super) fn check_vault(vault: &VaultSettings, deployment: Deployment, faults: &mut Faults) {
    for (name, what) in vault.faults() {
        faults.add(&format!("vault.{name}"), what);
    }
    if vault.skip_verify && deployment == Deployment::Prod {
        faults
            .add("vault.skip_verify", "is set, and SA01_ENV=PROD gives its token only to who proves to be the server");
    }
    faults.range("vault.timeout_seconds", vault.timeout_seconds, 0.1..=60.0);
    faults.range("vault.start_seconds", vault.start_seconds, 1..=3_600);
    faults.range("vault.refresh_seconds", vault.refresh_seconds, 1..=3_600);
    faults.range("vault.stale_seconds", vault.stale_seconds, vault.refresh_seconds..=30 * 86_400);
    faults.range("vault.grace_seconds", vault.grace_seconds, 0..=86_400);
}
