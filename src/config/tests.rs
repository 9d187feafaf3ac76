//! What configurations become, and what is said of faulty ones.

#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod vault;

use std::os::unix::fs::PermissionsExt as _;

use somaagent_actors::{
    audit::AuditSettings,
    extraction::ExtractionSettings,
    identity::{AuthSettings, sign_in::OidcSettings},
    policy::{FgaSettings, PolicySettings},
    uploads::{scanner::AntivirusSettings, settings::UploadSettings},
};

use super::*;

const KEPT_SECRET: &str = "canary-0123456789-abcdefghijklmnop";

fn faults<const N: usize>(variables: [(&str, &str); N]) -> String {
    Config::load(&Environment::of(variables)).unwrap_err().to_string()
}

#[test]
fn nothing_configured_is_a_whole_configuration_with_the_embedded_database() {
    let config = Config::load(&Environment::default()).unwrap();
    assert_eq!(config.deployment, Deployment::Dev);
    assert_eq!((config.server.host.as_str(), config.server.port), ("127.0.0.1", 8010));
    assert_eq!(config.server.metrics_address().unwrap().1, 9400);
    assert!(config.database.dsn.is_none());
    assert_eq!((config.turns.max_attempts, config.sessions.queue_max), (3, 16));
}

#[test]
fn variables_override_by_any_of_their_names() {
    let config = Config::load(&Environment::of([
        ("PORT", "9001"),
        ("SA01_TURNS__MAX_ATTEMPTS", "5"),
        ("GATEWAY_DISABLE_SSE", "on"),
        ("LOG_LEVEL", "DEBUG"),
        ("GATEWAY_METRICS_PORT", "-1"),
    ]))
    .unwrap();
    assert_eq!(config.server.port, 9001);
    assert_eq!(config.turns.max_attempts, 5);
    assert!(config.http.disable_sse);
    assert_eq!(config.server.metrics_address(), None);
}

#[test]
fn all_faults_are_reported_at_once_and_named() {
    let text = faults([
        ("SA01_ENV", "LIVE"),
        ("GATEWAY_PORT", "eighty"),
        ("PG_POOL_MAX_SIZE", "0"),
        ("SA01_TURNS__MAX_ATEMPTS", "3"),
        ("SA01_NOWHERE__KEY", "3"),
        ("SA01_LOG__FORMAT", "xml"),
        ("LOG_LEVEL", "loud=very"),
        ("SA01_DB_DSN", "localhost"),
        ("SA01_DATA_DIR", ""),
    ]);
    for named in [
        "9 faults",
        "SA01_ENV: LIVE is not",
        "server.port (GATEWAY_PORT): GATEWAY_PORT is not a whole number",
        "database.pool_size (PG_POOL_MAX_SIZE): 0 is not between",
        "turns.max_atempts (SA01_TURNS__MAX_ATEMPTS): unknown field",
        "nowhere: is unknown",
        "log.format (SA01_LOG__FORMAT): unknown variant `xml`",
        "log.level (LOG_LEVEL)",
        "database.dsn (SA01_DB_DSN): is not a URL",
        "data.dir (SA01_DATA_DIR): SA01_DATA_DIR is set but empty",
    ] {
        assert!(text.contains(named), "{named} is missing in {text}");
    }
}

#[test]
fn settings_without_a_default_have_the_type_of_their_room() {
    let config = Config::load(&Environment::of([
        ("SA01_LLM_BASE_URL", "http://m"),
        ("SA01_LLM_MODEL", "m"),
        ("SA01_LLM_API_KEY", "123"),
        ("SA01_MODEL__TEMPERATURE", "0.5"),
        ("SA01_MODEL__EXTRA", "{ max_tokens = 9 }"),
    ]))
    .unwrap();
    assert_eq!(config.model.temperature, Some(0.5));
    assert_eq!(config.model.extra["max_tokens"], 9);
    assert!(config.model.api_key.is_some());
    let text = faults([("SA01_MODEL__TEMPERATURE", "warm"), ("SA01_LLM_API_KEY", "canary")]);
    assert!(text.contains("model.temperature (SA01_MODEL__TEMPERATURE): invalid type"), "{text}");
    assert!(text.contains("model.api_key (SA01_LLM_API_KEY): is set, but") && !text.contains("canary"), "{text}");
}

#[test]
fn numbers_out_of_the_types_range_are_faults_of_their_key() {
    let text = faults([("GATEWAY_PORT", "70000"), ("SA01_SESSIONS__QUEUE_MAX", "-1")]);
    assert!(text.contains("server.port") && text.contains("sessions.queue_max"), "{text}");
}

#[test]
fn the_file_of_defaults_says_what_the_rooms_do() {
    let config = Config::load(&Environment::default()).unwrap();
    assert_eq!(format!("{:?}", config.http), format!("{:?}", DoorSettings::default()));
    assert_eq!(format!("{:?}", config.headers), format!("{:?}", HeaderSettings::default()));
    assert_eq!(format!("{:?}", config.cors), format!("{:?}", CorsSettings::default()));
    assert_eq!(format!("{:?}", config.limits), format!("{:?}", LimitSettings::default()));
    assert_eq!(format!("{:?}", config.write_through), format!("{:?}", WriteThroughSettings::default()));
    assert_eq!(format!("{:?}", config.sessions), format!("{:?}", SessionSettings::default()));
    assert_eq!(format!("{:?}", config.turns), format!("{:?}", TurnSettings::default()));
    assert_eq!(format!("{:?}", config.model), format!("{:?}", ModelSettings::default()));
    assert_eq!(format!("{:?}", config.brain), format!("{:?}", BrainSettings::default()));
    assert_eq!(format!("{:?}", config.auth), format!("{:?}", AuthSettings::default()));
    assert_eq!(format!("{:?}", config.policy), format!("{:?}", PolicySettings::default()));
    assert_eq!(format!("{:?}", config.oidc), format!("{:?}", OidcSettings::default()));
    assert_eq!(format!("{:?}", config.audit), format!("{:?}", AuditSettings::default()));
    assert_eq!(format!("{:?}", config.openfga), format!("{:?}", FgaSettings::default()));
    assert_eq!(format!("{:?}", config.kafka), format!("{:?}", KafkaSettings::default()));
    assert_eq!(format!("{:?}", config.outbox), format!("{:?}", QueueSettings::OUTBOX));
    assert_eq!(format!("{:?}", config.memory_sync), format!("{:?}", QueueSettings::MEMORY_SYNC));
    assert_eq!(format!("{:?}", config.event_log), format!("{:?}", EventLogSettings::default()));
    assert_eq!(format!("{:?}", config.replicator), format!("{:?}", ReplicatorSettings::default()));
    assert_eq!(format!("{:?}", config.dead_letters), format!("{:?}", DeadLetterSettings::default()));
    assert_eq!(format!("{:?}", config.memory), format!("{:?}", MemorySettings::default()));
    assert_eq!(format!("{:?}", config.export_jobs), format!("{:?}", ExportJobSettings::default()));
    assert_eq!(format!("{:?}", config.uploads), format!("{:?}", UploadSettings::default()));
    assert_eq!(format!("{:?}", config.vault), format!("{:?}", VaultSettings::default()));
    assert_eq!(format!("{:?}", config.antivirus), format!("{:?}", AntivirusSettings::default()));
    assert_eq!(format!("{:?}", config.extraction), format!("{:?}", ExtractionSettings::default()));
    assert_eq!(format!("{:?}", config.settings), format!("{:?}", OperatorSettings::default()));
    assert_eq!(format!("{:?}", config.responder), format!("{:?}", ResponderSettings::default()));
}

#[test]
fn uploads_are_off_in_production_unless_it_is_said_and_saving_no_files_leaves_them_on() {
    let enabled = |variables: &[(&str, &str)]| {
        let mut environment = Environment::default();
        for (name, value) in variables {
            environment = environment.with(name, value);
        }
        let mut faults = Faults::default();
        let table = layers::before_vault(&environment, &mut faults);
        table["uploads"]["enabled"].as_bool().unwrap()
    };
    assert!(enabled(&[]));
    assert!(enabled(&[("GATEWAY_DISABLE_FILE_SAVING", "true"), ("DISABLE_FILE_SAVING", "true")]));
    assert!(!enabled(&[("SA01_ENV", "PROD")]));
    assert!(enabled(&[("SA01_ENV", "PROD"), ("SA01_UPLOADS__ENABLED", "true")]));
}

#[test]
fn limits_of_uploads_have_the_originals_names() {
    let config = Config::load(&Environment::of([
        ("GATEWAY_UPLOAD_MAX_MB", "3"),
        ("GATEWAY_UPLOAD_DENIED_MIME", "Text/HTML,image/svg+xml"),
        ("CLAMAV_ENABLED", "true"),
        ("CLAMAV_HOST", "scan.example"),
    ]));
    let config = config.unwrap();
    let rules = config.uploads.rules(&config.antivirus);
    assert_eq!((rules.max_bytes, rules.inline_max_bytes), (3 << 20, 3 << 20));
    assert_eq!(rules.denied_mime, ["text/html", "image/svg+xml"]);
    assert_eq!((rules.antivirus.enabled, rules.antivirus.host.as_str()), (true, "scan.example"));
    for (name, value, key) in [
        ("GATEWAY_UPLOAD_MAX_MB", "0", "uploads.max_mb"),
        ("GATEWAY_UPLOAD_MAX_FILES", "0", "uploads.max_files"),
        ("SA01_UPLOADS__QUARANTINE_POLICY", "burn", "uploads.quarantine_policy"),
        ("GATEWAY_UPLOAD_ALLOWED_MIME", "text/plain, image/*", "uploads.allowed_mime"),
        ("GATEWAY_UPLOAD_DENIED_MIME", "exe", "uploads.denied_mime"),
        ("SA01_UPLOADS__EXTERNAL_REF_ALLOWLIST", "example.com, https://example.org", "uploads.external_ref_allowlist"),
        ("SA01_UPLOADS__EXTERNAL_REF_NETWORKS", "10.0.0.0/8, 0.0.0.0/0", "uploads.external_ref_networks"),
        ("SA01_UPLOADS__EXTERNAL_REF_NETWORKS", "files.lan", "uploads.external_ref_networks"),
        ("CLAMAV_PORT", "0", "antivirus.port"),
    ] {
        assert!(faults([(name, value)]).contains(key), "{name}");
    }
}

#[test]
fn the_place_of_clamd_is_a_host_and_a_port() {
    for host in ["http://clamav", "clamav:3310", "[::1]", "/run/clamd.sock", "a b"] {
        let text = faults([("CLAMAV_HOST", host)]);
        assert!(text.contains("antivirus.host (CLAMAV_HOST): "), "{host}: {text}");
    }
    assert!(faults([("CLAMAV_PORT", "0")]).contains("antivirus.port (CLAMAV_PORT): "));
    for host in ["clamav", "av.example.org", "10.0.0.7", "::1"] {
        let set = Environment::of([("CLAMAV_ENABLED", "true"), ("CLAMAV_HOST", host), ("CLAMAV_PORT", "3311")]);
        let antivirus = Config::load(&set).unwrap().antivirus;
        assert_eq!((antivirus.enabled, antivirus.host.as_str(), antivirus.port), (true, host, 3311));
    }
}

#[test]
fn a_part_of_the_work_needs_a_database_that_others_reach() {
    let text = faults([("SA01_ROLE", "outbox,replicator")]);
    assert!(text.contains("database.dsn (SA01_DB_DSN): is not set, and a process that is only outbox,rep"), "{text}");
    assert!(faults([("SA01_ROLE", "worker")]).contains("server.role (SA01_ROLE): `worker` is no role"));
    let dsn = ("SA01_DB_DSN", "postgres://localhost/x");
    let port = |role| {
        let config = Config::load(&Environment::of([dsn, ("SA01_ROLE", role)])).unwrap();
        config.server.metrics_address().unwrap().1
    };
    assert_eq!(["outbox", "memory-sync", "replicator", "replicator,gateway"].map(port), [9469, 9471, 9403, 9400]);
}

#[test]
fn production_refuses_each_embedded_part_by_name() {
    let text = faults([("SA01_ENV", "PROD")]);
    assert!(text.contains("database.dsn (SA01_DB_DSN)") && text.contains("embedded database"), "{text}");
    assert!(text.contains("offline responder"), "{text}");
    let text = faults([("SA01_ENV", "PROD"), ("SA01_ROLE", "outbox")]);
    assert!(text.contains("memory service") && !text.contains("offline responder"), "no gateway, no model: {text}");
}

#[test]
fn listening_beyond_this_machine_needs_authentication() {
    for host in ["0.0.0.0", "::", "10.0.0.7"] {
        let text = faults([("GATEWAY_HOST", host)]);
        assert!(text.contains(&format!("server.host (GATEWAY_HOST): {host} is not loopback")), "{text}");
        let secret = ("GATEWAY_JWT_SECRET", "mZ4Qv9tXw2LrB7sJ1kYpH8cN5dFgTa0E");
        assert!(Config::load(&Environment::of([("GATEWAY_HOST", host), secret])).is_ok());
        let asked = faults([("GATEWAY_HOST", host), ("GATEWAY_REQUIRE_AUTH", "true")]);
        assert!(asked.contains("there is no key that could prove a token"), "{asked}");
    }
}

#[test]
fn other_sites_are_let_in_by_name_or_not_at_all() {
    let text =
        faults([("GATEWAY_CORS_ORIGINS", "*"), ("GATEWAY_CORS_CREDENTIALS", "true"), ("GATEWAY_CORS_METHODS", "?,")]);
    for named in [
        "3 faults",
        "cors.origins (GATEWAY_CORS_ORIGINS): is *, and nobody has to prove who they are",
        "cors.credentials (GATEWAY_CORS_CREDENTIALS): is set, and every site",
        "cors.methods (GATEWAY_CORS_METHODS): \"?\" is no method",
    ] {
        assert!(text.contains(named), "{named} is missing in {text}");
    }
    let origins = ("GATEWAY_CORS_ORIGINS", "https://soma.example, http://localhost:3000");
    assert!(Config::load(&Environment::of([origins, ("GATEWAY_CORS_CREDENTIALS", "true")])).is_ok());
}

#[test]
fn limits_have_their_old_names_and_0_switches_a_pace_off() {
    let config = Config::load(&Environment::of([
        ("GATEWAY_RATE_LIMIT_ENABLED", "true"),
        ("GATEWAY_ADMIN_RPS", "5"),
        ("GATEWAY_ADMIN_BURST", "0"),
        ("GATEWAY_AUTH_FAILURE_RPS", "0"),
    ]));
    let limits = config.unwrap().limits;
    assert!(limits.enabled && (limits.admin_rps, limits.admin_burst, limits.failure_rps) == (5.0, 0, 0.0));
    let text = faults([
        ("GATEWAY_RATE_LIMIT_RPS", "-1"),
        ("GATEWAY_ADMIN_RPS", "nan"),
        ("GATEWAY_RATE_LIMIT_BURST", "0"),
        ("GATEWAY_MAX_IN_FLIGHT", "0"),
    ]);
    for named in
        ["4 faults", "limits.rps (GATEWAY_RATE_LIMIT_RPS)", "limits.admin_rps", "limits.burst", "limits.max_in_flight"]
    {
        assert!(text.contains(named), "{named} is missing in {text}");
    }
}

#[test]
fn proxies_and_hosts_that_cannot_be_meant_are_faults() {
    let key = ("GATEWAY_JWKS_URL", "https://id.example/keys");
    let text = faults([
        key,
        ("GATEWAY_TRUSTED_PROXIES", "10.0.0.0/8,0.0.0.0/0"),
        ("GATEWAY_PROXY_HEADERS", "both"),
        ("GATEWAY_ALLOWED_HOSTS", "soma.example,soma.example:443,https://soma.example"),
    ]);
    for named in [
        "4 faults",
        "http.trusted_proxies (GATEWAY_TRUSTED_PROXIES): 0.0.0.0/0 would trust everybody",
        "http.proxy_headers (GATEWAY_PROXY_HEADERS): unknown variant `both`",
        "http.allowed_hosts (GATEWAY_ALLOWED_HOSTS): \"soma.example:443\" is no name of a host",
    ] {
        assert!(text.contains(named), "{named} is missing in {text}");
    }
    let hosts = ("GATEWAY_ALLOWED_HOSTS", "soma.example, [::1],127.0.0.1");
    let proxies = ("GATEWAY_TRUSTED_PROXIES", "127.0.0.1, fd00::/8");
    let config = Config::load(&Environment::of([proxies, hosts, key])).unwrap();
    assert_eq!(config.http.hosts(), ["soma.example", "[::1]", "127.0.0.1"]);
    // Without a key nobody has to prove who they are, and nobody else is served.
    let text = faults([proxies, hosts]);
    for named in ["2 faults", "http.trusted_proxies (GATEWAY_TRUSTED_PROXIES): is set, and", "http.allowed_hosts"] {
        assert!(text.contains(named), "{named} is missing in {text}");
    }
    let elsewhere = ("SA01_DB_DSN", "postgres://localhost/soma");
    assert!(
        Config::load(&Environment::of([proxies, elsewhere, ("SA01_ROLE", "replicator")])).is_ok(),
        "it serves nobody"
    );
}

#[test]
fn the_cookie_of_csrf_tokens_has_a_name_of_its_own() {
    let config = Config::load(&Environment::of([("GATEWAY_CSRF_ENABLED", "1"), ("GATEWAY_CSRF_COOKIE_NAME", "xsrf")]));
    let http = config.unwrap().http;
    assert_eq!((http.csrf_enabled, &*http.csrf_cookie_name), (true, "xsrf"));
    for (name, fault) in [
        ("a b", "is no name of a cookie"),
        ("jwt", "is the name of another cookie"),
        ("login", "is the name of another cookie"),
        ("__Host-csrf", "must be without a prefix"),
    ] {
        let text = faults([("GATEWAY_CSRF_COOKIE_NAME", name)]);
        let named = format!("http.csrf_cookie_name (GATEWAY_CSRF_COOKIE_NAME): {fault}");
        assert!(text.contains(&named), "{named} is missing in {text}");
    }
}

#[test]
fn an_opa_is_named_in_full_and_alone() {
    let opa = ("OPA_URL", "http://opa:8181");
    let config =
        Config::load(&Environment::of([opa, ("POLICY_CACHE_TTL", "0"), ("OPA_TIMEOUT_SECONDS", "1")])).unwrap();
    assert_eq!((config.policy.cache_ttl_seconds, config.policy.opa_timeout_seconds), (0.0, 1.0));
    let text = faults([("SA01_POLICY_SHADOW_DIR", "/no/candidate")]);
    assert!(text.contains("policy.shadow_dir (SA01_POLICY_SHADOW_DIR): /no/candidate cannot be read"), "{text}");
    let text = faults([
        ("OPA_URL", "http://ada:canary@opa"),
        ("SA01_POLICY_DIR", "/nowhere"),
        ("OPA_TIMEOUT_SECONDS", "-1"),
        ("POLICY_CACHE_TTL", "3600"),
    ]);
    for named in [
        "policy.dir (SA01_POLICY_DIR): is set, but an OPA decides",
        "policy.opa_url (OPA_URL): must not hold a user name",
        "policy.opa_timeout_seconds (OPA_TIMEOUT_SECONDS): -1 is not between",
        "policy.cache_ttl_seconds (POLICY_CACHE_TTL): 3600 is not between",
    ] {
        assert!(text.contains(named) && !text.contains("canary"), "{named} is missing in {text}");
    }
    assert!(faults([opa, ("POLICY_DATA_PATH", "allow")]).contains("policy.opa_decision_path (OPA_DECISION_PATH)"));
    let text =
        faults([("OPA_URL", "opa"), ("OPA_DECISION_PATH", "allow"), ("SA01_POLICY_SHADOW_DIR", "/no/candidate")]);
    for named in ["3 faults", "policy.opa_url (OPA_URL)", "policy.opa_decision_path", "policy.shadow_dir"] {
        assert!(text.contains(named), "{named} is missing in {text}");
    }
}

#[test]
fn half_an_openfga_is_refused() {
    let store = ("OPENFGA_STORE_ID", "01STORE");
    let config = Config::load(&Environment::of([store, ("OPENFGA_API_URL", "http://fga:8080")])).unwrap();
    assert_eq!(config.openfga.store_id.as_deref(), Some("01STORE"));
    assert!(faults([store]).contains("openfga.api_url (OPENFGA_API_URL): is not set, but a store"));
    assert!(faults([("OPENFGA_API_URL", "http://fga")]).contains("openfga.store_id (OPENFGA_STORE_ID): is not set"));
    let text = faults([("OPENFGA_REQUIRED", "yes")]);
    assert!(text.contains("openfga.store_id (OPENFGA_STORE_ID): is not set"), "{text}");
    assert!(text.contains("openfga.api_url (OPENFGA_API_URL): is not set"), "{text}");
    assert!(text.contains("openfga.required (OPENFGA_REQUIRED): is set, and nobody has to prove"), "{text}");
    let text = faults([("OPENFGA_API_URL", "fga:8080"), ("OPENFGA_STORE_ID", "a/b")]);
    assert!(text.contains("2 faults") && text.contains("openfga.store_id (OPENFGA_STORE_ID): is no id"), "{text}");
}

#[test]
fn authentication_needs_a_key_and_a_key_means_authentication() {
    assert!(
        faults([("GATEWAY_REQUIRE_AUTH", "true")]).contains("http.require_auth (GATEWAY_REQUIRE_AUTH): is set, and")
    );
    let text = faults([
        ("GATEWAY_JWT_SECRET", "canary"),
        ("GATEWAY_JWT_PUBLIC_KEY", "canary"),
        ("GATEWAY_JWKS_URL", "http://canary.example"),
        ("GATEWAY_JWT_ALGORITHMS", "none"),
        ("GATEWAY_JWT_COOKIE_NAME", "a;b"),
        ("GATEWAY_JWKS_TIMEOUT_SECONDS", "0"),
    ]);
    assert!(!text.contains("canary"), "{text}");
    for named in [
        "6 faults",
        "auth.jwt_secret (GATEWAY_JWT_SECRET): is shorter than 32 bytes",
        "auth.jwt_public_key (GATEWAY_JWT_PUBLIC_KEY): is no public key",
        "auth.jwks_url (GATEWAY_JWKS_URL): must start with https://",
        "auth.jwt_algorithms (GATEWAY_JWT_ALGORITHMS): has \"none\"",
        "http.jwt_cookie_name (GATEWAY_JWT_COOKIE_NAME): is no name of a cookie",
        "auth.jwks_timeout_seconds (GATEWAY_JWKS_TIMEOUT_SECONDS)",
    ] {
        assert!(text.contains(named), "{named} is missing in {text}");
    }
    let secret = ("GATEWAY_JWT_SECRET", "a://secret-that-looks-like-an-address-and-is-long/enough");
    let config = Config::load(&Environment::of([secret])).unwrap();
    assert!(config.require_auth() && !Config::load(&Environment::of([])).unwrap().require_auth());
    assert!(!config.shown().contains("looks-like") && config.shown().contains("jwt_secret = \"********\""));
    assert!(config.shown().contains("require_auth = true"), "{}", config.shown());
    let published = ("GATEWAY_JWKS_URL", "https://id.example/keys?p=canary");
    assert!(!Config::load(&Environment::of([published])).unwrap().shown().contains("canary"));
}

#[test]
fn a_secret_that_everybody_knows_is_refused_where_others_may_try_it() {
    let given = [
        ("GATEWAY_JWT_SECRET", "dev-secret-change-me-in-production-please"),
        ("SOMA_BASE_URL", "http://127.0.0.1:1"),
        ("SOMA_API_KEY", "changeme"),
        ("SA01_DB_DSN", "postgres://soma:soma@127.0.0.1/soma"),
        ("SA01_LLM_BASE_URL", "http://127.0.0.1:1"),
        ("SA01_LLM_MODEL", "m"),
        ("SA01_LLM_API_KEY", "sk-test"),
    ];
    assert!(Config::load(&Environment::of(given)).is_ok(), "on this machine, for development");
    for elsewhere in [("SA01_ENV", "PROD"), ("GATEWAY_HOST", "0.0.0.0")] {
        let [one, two, three, four, five, six, seven] = given;
        let text = faults([one, two, three, four, five, six, seven, elsewhere]);
        for name in ["GATEWAY_JWT_SECRET", "SOMA_API_KEY", "SA01_DB_DSN", "SA01_LLM_API_KEY"] {
            assert!(text.contains(&format!("({name}): is a known development secret")), "{name} is missing in {text}");
        }
        for secret in ["change-me", "changeme", "soma:soma", "sk-test"] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
    }
    let own = [("SA01_ENV", "PROD"), ("GATEWAY_JWT_SECRET", "7b0d4cb2-5d3c-4f2e-9a55-8f3f3b1f6a01")];
    assert!(!faults(own).contains("known development secret"));
}

#[test]
fn a_policy_that_cannot_decide_is_a_fault() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let dir = ("SA01_POLICY_DIR", path);
    assert!(faults([dir]).contains("policy.dir (SA01_POLICY_DIR): "));
    std::fs::write(folder.path().join("own.rego"), "package soma.policy\nallow = ").unwrap();
    assert!(faults([dir]).contains("policy.dir (SA01_POLICY_DIR): the policy cannot be compiled"));
    let closed = "package soma.policy\nimport rego.v1\ndecision := {\"allow\": false, \"rule\": \"r\", \"reason\": \"no\", \"reach\": \"own\"}";
    std::fs::write(folder.path().join("own.rego"), closed).unwrap();
    assert!(faults([dir]).contains("denies what is everybody's"), "{}", faults([dir]));
    assert!(faults([("SA01_POLICY_DIR", "/nowhere")]).contains("/nowhere"));
}

#[test]
fn metrics_beyond_this_machine_are_refused_unless_that_is_said() {
    let everywhere = ("GATEWAY_METRICS_HOST", "0.0.0.0");
    let text = faults([everywhere]);
    assert!(text.contains("server.metrics_host (GATEWAY_METRICS_HOST): 0.0.0.0 is not loopback"), "{text}");
    assert!(Config::load(&Environment::of([everywhere, ("GATEWAY_METRICS_PUBLIC", "true")])).is_ok());
    assert!(Config::load(&Environment::of([everywhere, ("GATEWAY_METRICS_PORT", "0")])).is_ok());
}

#[test]
fn a_header_that_cannot_be_sent_is_a_fault_of_its_setting() {
    let text = faults([
        ("GATEWAY_FRAME_OPTIONS", "BANANA"),
        ("GATEWAY_CSP", "default-src 'none';\nimg-src *"),
        ("GATEWAY_REFERRER_POLICY", "no\u{7}referrer"),
        ("GATEWAY_PERMISSIONS_POLICY", "camera=(\u{e4})"),
        ("GATEWAY_API_VERSION", "v\u{1}"),
    ]);
    for named in [
        "5 faults",
        "headers.frame_options (GATEWAY_FRAME_OPTIONS): \"BANANA\" is not DENY, SAMEORIGIN or NONE",
        "headers.csp (GATEWAY_CSP): has a character",
        "headers.referrer_policy (GATEWAY_REFERRER_POLICY): has a character",
        "headers.permissions_policy (GATEWAY_PERMISSIONS_POLICY): has a character",
        "http.api_version (GATEWAY_API_VERSION): has a character",
    ] {
        assert!(text.contains(named), "{named} is missing in {text}");
    }
    assert!(Config::load(&Environment::of([("GATEWAY_FRAME_OPTIONS", "sameorigin")])).is_ok());
}

#[test]
fn each_fault_is_told_once_and_by_a_name_that_exists() {
    let text = faults([("SA01_DB_DSN_FILE", "/nowhere"), ("SOMA_API_KEY_FILE", "/nowhere")]);
    assert_eq!((text.matches("SA01_DB_DSN_FILE").count(), text.matches("SOMA_API_KEY_FILE").count()), (1, 1), "{text}");
    let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    std::fs::write(&file, "[server\nport = canary").unwrap();
    let path = file.path().to_str().unwrap();
    let text = faults([("SA01_CONFIG", path)]);
    assert!(text.contains(&format!("\n  SA01_CONFIG: {path} is not TOML: ")), "{text}");
    assert!(!text.contains("canary") && !text.contains("__"), "{text}");
}

#[test]
fn a_secret_comes_from_a_file_and_is_never_shown() {
    let folder = std::env::temp_dir().join(format!("sa01-{}", uuid::Uuid::new_v4()));
    std::fs::write(&folder, "postgres://me:canary@127.0.0.1/d\n").unwrap();
    let environment = Environment::of([("SA01_DB_DSN_FILE", folder.to_str().unwrap())]);
    let config = Config::load(&environment).unwrap();
    std::fs::remove_file(&folder).unwrap();
    assert!(!format!("{config:?}").contains("canary") && !config.shown().contains("the database"));
    assert!(config.shown().contains("postgres://me:********@127.0.0.1/d"), "{}", config.shown());
    assert!(faults([("SA01_DB_DSN_FILE", "/nowhere")]).contains("/nowhere, which cannot be read"));
    assert!(faults([("SA01_DB_DSN_FILE", "/x"), ("SA01_DB_DSN", "y")]).contains("both set"));
}

#[test]
fn a_secret_that_everybody_may_change_is_refused_where_others_come() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, KEPT_SECRET).unwrap();
    let path = file.path().to_str().unwrap();
    let (given, elsewhere) = (("GATEWAY_JWT_SECRET_FILE", path), ("GATEWAY_HOST", "0.0.0.0"));
    let public = ("GATEWAY_JWT_PUBLIC_KEY_FILE", path);
    for (mode, is_open) in [(0o600, false), (0o664, false), (0o602, true), (0o666, true)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(Config::load(&Environment::of([given])).is_ok(), "nobody else reaches it: {mode:o}");
        let named = format!("  GATEWAY_JWT_PUBLIC_KEY_FILE: names {path}, which");
        let told = Config::load(&Environment::of([public, elsewhere])).map(drop).unwrap_err().to_string();
        assert_eq!(told.contains(&named), is_open, "whose keys are these: {told}");
        match Config::load(&Environment::of([given, elsewhere])) {
            Ok(_) => assert!(!is_open, "{mode:o}"),
            Err(faults) => {
                let (told, named) = (faults.to_string(), format!("  GATEWAY_JWT_SECRET_FILE: names {path}, which"));
                assert!(is_open && told.contains(&named) && !told.contains("canary"), "{mode:o}: {told}");
            }
        }
    }
}

#[test]
fn brokers_are_configured_by_their_old_names_and_their_password_is_never_shown() {
    let variables = [
        ("KAFKA_BOOTSTRAP_SERVERS", "old:9092"),
        ("SA01_KAFKA_BOOTSTRAP_SERVERS", "kafka:9092,kafka2:9092"),
        ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("KAFKA_SASL_MECHANISM", "PLAIN"),
        ("KAFKA_SASL_USERNAME", "me"),
        ("KAFKA_SASL_PASSWORD", "canary"),
        ("PUBLISH_KAFKA_TIMEOUT_SECONDS", "2.0"),
    ];
    let config = Config::load(&Environment::of(variables)).unwrap();
    assert_eq!(config.kafka.bootstrap_servers, "kafka:9092,kafka2:9092");
    assert_eq!(config.kafka.timeout().as_secs(), 2);
    assert!(!format!("{config:?}").contains("canary") && config.shown().contains("sasl_password = \"********\""));
    let text = faults([
        ("KAFKA_BOOTSTRAP_SERVERS", "http://kafka"),
        ("KAFKA_SASL_PASSWORD", "canary"),
        ("PUBLISH_KAFKA_TIMEOUT_SECONDS", "0"),
    ]);
    for named in ["kafka.bootstrap_servers (KAFKA_BOOTSTRAP_SERVERS)", "kafka.security_protocol", "3 faults"] {
        assert!(text.contains(named) && !text.contains("canary"), "{named} is missing in {text}");
    }
}

#[test]
fn a_file_overrides_the_overlay_and_may_hold_no_secret() {
    let file = std::env::temp_dir().join(format!("sa01-{}.toml", uuid::Uuid::new_v4()));
    std::fs::write(&file, "[turns]\nmax_attempts = 7\n[server]\nport = 1\n").unwrap();
    let named = file.to_str().unwrap();
    let config = Config::load(&Environment::of([("SA01_CONFIG", named), ("PORT", "2")])).unwrap();
    assert_eq!((config.turns.max_attempts, config.server.port), (7, 2));
    std::fs::write(&file, "[database]\ndsn = \"postgres://me:canary@h/d\"\n").unwrap();
    let text = faults([("SA01_CONFIG", named)]);
    assert!(text.contains("database.dsn") && !text.contains("canary"), "{text}");
    std::fs::write(&file, "[turns\nmax_attempts = 7").unwrap();
    assert!(faults([("SA01_CONFIG", named)]).contains(named));
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn what_is_shown_reads_back_as_the_same_configuration() {
    let config = Config::load(&Environment::default()).unwrap();
    let file = std::env::temp_dir().join(format!("sa01-{}.toml", uuid::Uuid::new_v4()));
    std::fs::write(&file, config.shown()).unwrap();
    let again = Config::load(&Environment::of([("SA01_CONFIG", file.to_str().unwrap())])).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(config.shown(), again.shown());
}

#[test]
fn a_key_of_checkpoints_that_is_none_is_a_fault_and_never_shown() {
    let text = faults([("AUDIT_CHECKPOINT_KEY", "canary"), ("AUDIT_CHECKPOINT_PUBLIC_KEY", "canary")]);
    assert!(text.contains("audit.checkpoint_key (AUDIT_CHECKPOINT_KEY): is no Ed25519 key in PEM"), "{text}");
    assert!(text.contains("audit.checkpoint_public_key (AUDIT_CHECKPOINT_PUBLIC_KEY): is no Ed25519 key"), "{text}");
    assert!(!text.contains("canary"), "{text}");
    let pem = &somaagent_test_services::tokens::ed_signer().private_pem;
    let config = Config::load(&Environment::of([("AUDIT_CHECKPOINT_KEY", pem)])).unwrap();
    assert!(config.audit.key().unwrap().is_some() && config.shown().contains("checkpoint_key = \"********\""));
    assert!(pem.lines().all(|line| !format!("{config:?}").contains(line)));
}

#[test]
fn an_internal_token_is_long_enough_and_known_to_nobody() {
    let config = Config::load(&Environment::of([("SA01_AUTH_INTERNAL_TOKEN", "canary-0123456789")])).unwrap();
    assert!(config.http.internal_token.is_some() && !config.require_auth());
    assert!(!config.shown().contains("canary") && !format!("{config:?}").contains("canary"));
    assert!(
        faults([("GATEWAY_INTERNAL_TOKEN", "canary")])
            .contains("http.internal_token (GATEWAY_INTERNAL_TOKEN): is shorter")
    );
    let known = ("GATEWAY_INTERNAL_TOKEN", "dev-internal-token");
    assert!(Config::load(&Environment::of([known])).is_ok(), "on this machine, for development");
    let text = faults([known, ("SA01_ENV", "PROD")]);
    assert!(text.contains("(GATEWAY_INTERNAL_TOKEN): is a known development secret"), "{text}");
}
