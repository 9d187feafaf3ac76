//! What is set, apart from whether it works: what contradicts itself, and what production should not have.

use super::{Look, finding::Notes};
use crate::config::{Config, Deployment};
use crate::roles::Role;

/// Settings that do nothing by themselves: each with the one that it needs, and whether that is there.
type Idle = (&'static [&'static str], fn(&Config) -> bool, &'static str);

const IDLE: &[Idle] = &[
    (
        &["oidc.issuer", "oidc.client_id", "oidc.client_secret", "oidc.redirect_uri", "oidc.provider"],
        |config| config.oidc.enabled,
        "nobody may sign in: OIDC_ENABLED=true lets them",
    ),
    (
        &["brain.api_key", "brain.tls_ca", "brain.tls_cert", "brain.universe"],
        |config| !config.brain.base_url.is_empty(),
        "the memory service inside the process is used: SOMA_BASE_URL names another",
    ),
    (
        &["kafka.security_protocol", "kafka.timeout_seconds", "kafka.replication_factor"],
        |config| !config.kafka.bootstrap_servers.is_empty(),
        "the log is inside the database: KAFKA_BOOTSTRAP_SERVERS names brokers",
    ),
    (
        &["policy.opa_decision_path", "policy.opa_timeout_seconds", "policy.cache_ttl_seconds"],
        |config| config.policy.opa_url.is_some(),
        "the policy is decided inside the process: OPA_URL names an OPA",
    ),
    (
        &["openfga.model_id", "openfga.timeout_seconds"],
        |config| config.openfga.api_url.is_some(),
        "nobody is asked for members of tenants: OPENFGA_API_URL and OPENFGA_STORE_ID name an OpenFGA",
    ),
    (
        &["write_through.background", "write_through.timeout_ms"],
        |config| config.write_through.enabled,
        "replies do not wait for memories: GATEWAY_WRITE_THROUGH=true has them wait",
    ),
    (
        &["limits.rps", "limits.burst"],
        |config| config.limits.enabled,
        "nobody's requests are counted: GATEWAY_RATE_LIMIT_ENABLED=true has them counted",
    ),
    (
        &["audit.checkpoint_every_seconds"],
        |config| config.audit.checkpoint_key.is_some(),
        "nothing is signed: AUDIT_CHECKPOINT_KEY is the key for that",
    ),
    (
        &["http.csrf_enabled", "auth.jwt_algorithms", "auth.jwt_audience", "auth.jwt_issuer"],
        Config::require_auth,
        "nobody has to prove who they are: GATEWAY_REQUIRE_AUTH=true and a key have them do so",
    ),
    (
        &["http.proxy_headers"],
        |config| !config.http.trusted_proxies.trim().is_empty(),
        "no proxy is believed: GATEWAY_TRUSTED_PROXIES names those that are",
    ),
    (
        &["cors.methods", "cors.headers", "cors.expose_headers", "cors.credentials"],
        |config| !config.cors.origins.trim().is_empty(),
        "pages of other sites may not use the API: GATEWAY_CORS_ORIGINS names those that may",
    ),
    (
        &["headers.hsts_max_age_seconds", "headers.hsts_include_subdomains", "headers.hsts_preload"],
        |config| config.headers.hsts,
        "the header is not sent: GATEWAY_HSTS=true has it sent",
    ),
    (
        &["database.pool_size"],
        |config| config.database.dsn.is_some(),
        "the PostgreSQL inside the process has one connection: SA01_DB_DSN names a server",
    ),
];

pub(super) fn check(look: Look<'_>, notes: &Notes) {
    let config = look.config;
    notes.ok("settings", format!("sound; roles of this process: {}", config.server.role));
    let inside: Vec<&str> = config.embedded().map(|(_, part)| part).collect();
    if inside.is_empty() {
        notes.ok("inside", "nothing stands in for an outside system");
    } else {
        notes.note(
            "inside",
            format!("inside the process: {}", inside.join(", ")),
            Some("fine for one machine; production refuses it"),
        );
    }
    idle(look, notes);
    addresses(config, notes);
    production(look, notes);
}

/// What is set and has no effect.
fn idle(look: Look<'_>, notes: &Notes) {
    for (keys, is_met, why) in IDLE {
        let set: Vec<&str> = keys.iter().copied().filter(|key| look.environment.sets(key)).collect();
        if !set.is_empty() && !is_met(look.config) {
            let advice = format!("{why}; or unset it");
            notes.warning("without effect", format!("{} is set and has no effect", set.join(", ")), advice);
        }
    }
}

/// Addresses that cannot all be right.
fn addresses(config: &Config, notes: &Notes) {
    let is_gateway = config.server.role.has(Role::Gateway);
    if let (true, true, Ok(base)) = (is_gateway, config.oidc.enabled, url::Url::parse(&config.oidc.base_url)) {
        let is_here = base.host_str().is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "[::1]"));
        let is_alone = config.http.trusted_proxies.trim().is_empty();
        let port = base.port_or_known_default();
        if is_here && is_alone && config.server.port != 0 && port != Some(config.server.port) {
            let seen = format!(
                "GATEWAY_BASE_URL sends people who sign in to port {}, and the door is at {}",
                port.unwrap_or_default(),
                config.server.port
            );
            notes.warning(
                "addresses",
                seen,
                "set GATEWAY_BASE_URL to where people see the page, and register that at the provider",
            );
        }
        if config.headers.hsts && base.scheme() == "http" {
            let advice = "set GATEWAY_BASE_URL to the https:// address, or unset GATEWAY_HSTS";
            notes.warning(
                "addresses",
                "GATEWAY_HSTS tells browsers to come by https:// alone, and GATEWAY_BASE_URL is http://",
                advice,
            );
        }
    }
    if config.server.metrics_public && config.server.metrics_address().is_some_and(|(host, ..)| host.is_loopback()) {
        let advice = "set GATEWAY_METRICS_HOST, or unset GATEWAY_METRICS_PUBLIC";
        notes.warning(
            "addresses",
            "GATEWAY_METRICS_PUBLIC lets others reach the metrics, which listen on loopback",
            advice,
        );
    }
}

/// What is all right on a desk and not where people depend on it.
fn production(look: Look<'_>, notes: &Notes) {
    let config = look.config;
    if config.deployment != Deployment::Prod && look.is_reached_by_others() {
        let seen = format!("SA01_ENV={}, and other machines reach the door", config.deployment.name());
        notes.note("production", seen, Some("SA01_ENV=PROD refuses what production must not have"));
    }
    if !look.is_serious() {
        return;
    }
    if !config.require_auth() {
        let advice = "set a key or let people sign in: docs/access.md";
        notes.warning("production", "nobody has to prove who they are", advice);
    }
    if config.limits.enabled {
        notes.ok("production", "requests are counted and limited");
    } else {
        notes.warning(
            "production",
            "nothing limits how much one caller may ask for",
            "set GATEWAY_RATE_LIMIT_ENABLED=true",
        );
    }
    if !config.brain.verify_ssl {
        let advice = "unset SOMA_VERIFY_SSL, and name the authority in SOMA_TLS_CA";
        notes.warning("production", "anybody could say to be the memory service (SOMA_VERIFY_SSL=false)", advice);
    }
    if config.log.level.to_lowercase().contains("trace") {
        notes.note(
            "production",
            "the log has the level trace",
            Some("set LOG_LEVEL=INFO: it costs time, and tells more than most should read"),
        );
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use std::time::Duration;

    use super::*;
    use crate::config::Environment;
    use crate::doctor::finding::{Finding, Severity};

    const KEY: (&str, &str) = ("GATEWAY_JWT_SECRET", "mZ4Qv9tXw2LrB7sJ1kYpH8cN5dFgTa0E");

    fn found<const N: usize>(variables: [(&str, &str); N]) -> Vec<Finding> {
        let environment = Environment::of(variables);
        let config = Config::load(&environment).unwrap();
        let notes = Notes::of("configuration");
        check(Look { config: &config, environment: &environment, within: Duration::from_secs(1) }, &notes);
        notes.into_findings()
    }

    fn warns<const N: usize>(variables: [(&str, &str); N], of: &str) -> bool {
        let found = found(variables);
        found.iter().any(|found| found.severity == Severity::Warning && found.seen.contains(of))
    }

    #[test]
    fn nothing_configured_is_worth_a_note_and_no_more() {
        let found = found([]);
        assert!(found.iter().all(|found| found.severity <= Severity::Note), "{found:?}");
        assert!(found.iter().any(|found| found.seen.contains("memory service")), "{found:?}");
    }

    #[test]
    fn what_is_set_and_has_no_effect_is_named() {
        assert!(warns([("GATEWAY_WRITE_THROUGH_ASYNC", "true")], "write_through.background"));
        assert!(!warns([("GATEWAY_WRITE_THROUGH_ASYNC", "true"), ("GATEWAY_WRITE_THROUGH", "1")], "no effect"));
        assert!(warns([("OIDC_CLIENT_ID", "soma")], "oidc.client_id"));
        assert!(warns([("SA01_BRAIN__API_KEY", "k")], "brain.api_key"));
        assert!(warns([("GATEWAY_CSRF_ENABLED", "true")], "http.csrf_enabled"));
        assert!(!warns([("GATEWAY_CSRF_ENABLED", "true"), KEY], "no effect"));
    }

    #[test]
    fn addresses_that_lead_elsewhere_are_named() {
        let signing = [("OIDC_ENABLED", "true"), ("OIDC_CLIENT_ID", "soma")];
        assert!(warns(signing, "port 8080, and the door is at 8010"));
        let right = ("GATEWAY_BASE_URL", "http://localhost:8010");
        assert!(!warns([signing[0], signing[1], right], "the door is at"));
        assert!(warns([signing[0], signing[1], right, ("GATEWAY_HSTS", "true")], "GATEWAY_HSTS"));
        assert!(warns([("GATEWAY_METRICS_PUBLIC", "true")], "GATEWAY_METRICS_PUBLIC"));
    }

    #[test]
    fn where_others_come_limits_are_missed() {
        let open = ("GATEWAY_HOST", "0.0.0.0");
        assert!(warns([open, KEY], "nothing limits"));
        assert!(!warns([open, KEY, ("GATEWAY_RATE_LIMIT_ENABLED", "1")], "nothing limits"));
        assert!(!warns([KEY], "nothing limits"));
        assert!(warns([KEY, ("GATEWAY_ALLOWED_HOSTS", "soma.example")], "nothing limits"));
        assert!(warns([open, KEY, ("SOMA_VERIFY_SSL", "false"), ("SOMA_BASE_URL", "https://b")], "memory service"));
    }
}
