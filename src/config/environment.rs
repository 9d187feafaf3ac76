//! The process environment: the one place that reads it, and the names it knows.
//!
//! A setting `section.key` is reached by `SA01_SECTION__KEY` and by the names in [`NAMES`], which are those of the
//! original gateway. Each old name is also known with `SA01_` in front. Of several that are set the most particular
//! wins: the generic one, then those that begin with `SA01_`, then the old ones.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;

use toml::Value;

use super::faults::Faults;
use super::vault::Read;

/// Prefix of the variables that are this program's own.
pub(super) const PREFIX: &str = "SA01_";

/// Settings with names of their own, the preferred name first.
pub(super) const NAMES: &[(&str, &[&str])] = &[
    ("antivirus.enabled", &["CLAMAV_ENABLED"]),
    ("antivirus.host", &["CLAMAV_HOST"]),
    ("antivirus.port", &["CLAMAV_PORT"]),
    ("audit.checkpoint_every_seconds", &["AUDIT_CHECKPOINT_EVERY_SECONDS"]),
    ("audit.checkpoint_key", &["AUDIT_CHECKPOINT_KEY"]),
    ("audit.checkpoint_public_key", &["AUDIT_CHECKPOINT_PUBLIC_KEY"]),
    ("auth.jwks_cache_seconds", &["GATEWAY_JWKS_CACHE_SECONDS"]),
    ("auth.jwks_timeout_seconds", &["GATEWAY_JWKS_TIMEOUT_SECONDS"]),
    ("auth.jwks_url", &["GATEWAY_JWKS_URL"]),
    ("auth.jwt_algorithms", &["GATEWAY_JWT_ALGORITHMS"]),
    ("auth.jwt_audience", &["GATEWAY_JWT_AUDIENCE"]),
    ("auth.jwt_issuer", &["GATEWAY_JWT_ISSUER"]),
    ("auth.jwt_leeway_seconds", &["GATEWAY_JWT_LEEWAY"]),
    ("auth.jwt_public_key", &["GATEWAY_JWT_PUBLIC_KEY"]),
    ("auth.jwt_secret", &["GATEWAY_JWT_SECRET"]),
    ("auth.jwt_tenant_claims", &["GATEWAY_JWT_TENANT_CLAIMS"]),
    ("brain.api_key", &["SOMA_API_KEY"]),
    ("brain.auth_header", &["SOMA_AUTH_HEADER"]),
    ("brain.base_url", &["SOMA_BASE_URL"]),
    ("brain.max_retries", &["SOMA_MAX_RETRIES"]),
    ("brain.memory_namespace", &["SOMA_MEMORY_NAMESPACE"]),
    ("brain.retry_base_ms", &["SOMA_RETRY_BASE_MS"]),
    ("brain.tenant_header", &["SOMA_TENANT_HEADER"]),
    ("brain.timeout_seconds", &["SOMA_TIMEOUT_SECONDS"]),
    ("brain.tls_ca", &["SOMA_TLS_CA"]),
    ("brain.tls_cert", &["SOMA_TLS_CERT"]),
    ("brain.tls_key", &["SOMA_TLS_KEY"]),
    ("brain.universe", &["SOMA_NAMESPACE"]),
    ("brain.verify_ssl", &["SOMA_VERIFY_SSL"]),
    ("cors.credentials", &["GATEWAY_CORS_CREDENTIALS"]),
    ("cors.expose_headers", &["GATEWAY_CORS_EXPOSE_HEADERS"]),
    ("cors.headers", &["GATEWAY_CORS_HEADERS"]),
    ("cors.methods", &["GATEWAY_CORS_METHODS"]),
    ("cors.origins", &["GATEWAY_CORS_ORIGINS"]),
    ("data.dir", &["SA01_DATA_DIR"]),
    ("database.dsn", &["SA01_DB_DSN", "POSTGRES_DSN"]),
    ("database.pool_size", &["PG_POOL_MAX_SIZE"]),
    ("database.sslmode", &["PGSSLMODE"]),
    ("database.tls_ca", &["PGSSLROOTCERT"]),
    ("database.tls_cert", &["PGSSLCERT"]),
    ("database.tls_key", &["PGSSLKEY"]),
    ("dead_letters.poll_seconds", &["GATEWAY_DLQ_POLL_SECONDS"]),
    ("dead_letters.topics", &["DLQ_TOPICS"]),
    ("export_jobs.concurrency", &["EXPORT_JOBS_CONCURRENCY"]),
    ("export_jobs.max_rows", &["EXPORT_JOBS_MAX_ROWS"]),
    ("export_jobs.page_size", &["EXPORT_JOBS_PAGE_SIZE"]),
    ("export_jobs.poll_seconds", &["EXPORT_JOBS_POLL_SECONDS"]),
    ("headers.csp", &["GATEWAY_CSP"]),
    ("headers.frame_options", &["GATEWAY_FRAME_OPTIONS"]),
    ("headers.hsts", &["GATEWAY_HSTS"]),
    ("headers.hsts_include_subdomains", &["GATEWAY_HSTS_INCLUDE_SUBDOMAINS"]),
    ("headers.hsts_max_age_seconds", &["GATEWAY_HSTS_MAX_AGE"]),
    ("headers.hsts_preload", &["GATEWAY_HSTS_PRELOAD"]),
    ("headers.permissions_policy", &["GATEWAY_PERMISSIONS_POLICY"]),
    ("headers.referrer_policy", &["GATEWAY_REFERRER_POLICY"]),
    ("http.allowed_hosts", &["GATEWAY_ALLOWED_HOSTS"]),
    ("http.api_version", &["GATEWAY_API_VERSION"]),
    ("http.csrf_cookie_name", &["GATEWAY_CSRF_COOKIE_NAME"]),
    ("http.csrf_enabled", &["GATEWAY_CSRF_ENABLED"]),
    ("http.default_tenant", &["SOMA_TENANT_ID"]),
    ("http.disable_sse", &["GATEWAY_DISABLE_SSE"]),
    ("http.internal_token", &["GATEWAY_INTERNAL_TOKEN", "SA01_AUTH_INTERNAL_TOKEN"]),
    ("http.jwt_cookie_name", &["GATEWAY_JWT_COOKIE_NAME"]),
    ("http.openapi_version", &["GATEWAY_OPENAPI_VERSION"]),
    ("http.proxy_headers", &["GATEWAY_PROXY_HEADERS"]),
    ("http.require_auth", &["GATEWAY_REQUIRE_AUTH"]),
    ("http.sse_heartbeat_seconds", &["SSE_HEARTBEAT_SECONDS"]),
    ("http.trusted_proxies", &["GATEWAY_TRUSTED_PROXIES"]),
    ("kafka.bootstrap_servers", &["KAFKA_BOOTSTRAP_SERVERS"]),
    ("kafka.sasl_mechanism", &["KAFKA_SASL_MECHANISM"]),
    ("kafka.sasl_password", &["KAFKA_SASL_PASSWORD"]),
    ("kafka.sasl_username", &["KAFKA_SASL_USERNAME"]),
    ("kafka.security_protocol", &["KAFKA_SECURITY_PROTOCOL"]),
    ("kafka.timeout_seconds", &["PUBLISH_KAFKA_TIMEOUT_SECONDS"]),
    ("kafka.tls_ca", &["KAFKA_TLS_CA"]),
    ("kafka.tls_cert", &["KAFKA_TLS_CERT"]),
    ("kafka.tls_key", &["KAFKA_TLS_KEY"]),
    ("limits.admin_burst", &["GATEWAY_ADMIN_BURST"]),
    ("limits.admin_rps", &["GATEWAY_ADMIN_RPS"]),
    ("limits.burst", &["GATEWAY_RATE_LIMIT_BURST"]),
    ("limits.enabled", &["GATEWAY_RATE_LIMIT_ENABLED"]),
    ("limits.failure_burst", &["GATEWAY_AUTH_FAILURE_BURST"]),
    ("limits.failure_rps", &["GATEWAY_AUTH_FAILURE_RPS"]),
    ("limits.max_bodies", &["GATEWAY_MAX_BODIES"]),
    ("limits.max_bodies_each", &["GATEWAY_MAX_BODIES_EACH"]),
    ("limits.max_in_flight", &["GATEWAY_MAX_IN_FLIGHT"]),
    ("limits.max_streams", &["GATEWAY_MAX_STREAMS"]),
    ("limits.max_streams_each", &["GATEWAY_MAX_STREAMS_EACH"]),
    ("limits.rps", &["GATEWAY_RATE_LIMIT_RPS"]),
    ("log.level", &["LOG_LEVEL"]),
    ("memory.batch_max_items", &["MEMORY_BATCH_MAX_ITEMS"]),
    ("memory.export_concurrency", &["GATEWAY_EXPORT_CONCURRENCY"]),
    ("memory.export_max_rows", &["MEMORY_EXPORT_MAX_ROWS"]),
    ("memory.export_page_size", &["MEMORY_EXPORT_PAGE_SIZE"]),
    ("memory.export_require_tenant", &["GATEWAY_EXPORT_REQUIRE_TENANT"]),
    ("memory_sync.backoff_base_seconds", &["MEMORY_SYNC_BACKOFF_BASE_SECONDS"]),
    ("memory_sync.backoff_max_seconds", &["MEMORY_SYNC_BACKOFF_MAX_SECONDS"]),
    ("memory_sync.batch_size", &["MEMORY_SYNC_BATCH_SIZE"]),
    ("memory_sync.interval_seconds", &["MEMORY_SYNC_INTERVAL_SECONDS"]),
    ("memory_sync.max_retries", &["MEMORY_SYNC_MAX_RETRIES"]),
    ("model.api_key", &["SA01_LLM_API_KEY"]),
    ("model.base_url", &["SA01_LLM_BASE_URL"]),
    ("model.model", &["SA01_LLM_MODEL"]),
    ("oidc.base_url", &["GATEWAY_BASE_URL"]),
    ("oidc.client_id", &["OIDC_CLIENT_ID", "GOOGLE_CLIENT_ID"]),
    ("oidc.client_secret", &["OIDC_CLIENT_SECRET", "GOOGLE_CLIENT_SECRET"]),
    ("oidc.enabled", &["OIDC_ENABLED"]),
    ("oidc.issuer", &["OIDC_ISSUER", "GOOGLE_ISSUER"]),
    ("oidc.login_seconds", &["GATEWAY_JWT_TTL_SECONDS"]),
    ("oidc.provider", &["OIDC_PROVIDER"]),
    ("oidc.redirect_uri", &["OIDC_REDIRECT_URI"]),
    ("oidc.scopes", &["OIDC_SCOPES"]),
    ("oidc.tenant_from_email_domain", &["OIDC_TENANT_FROM_EMAIL_DOMAIN"]),
    ("openfga.api_url", &["OPENFGA_API_URL"]),
    ("openfga.model_id", &["OPENFGA_MODEL_ID"]),
    ("openfga.required", &["OPENFGA_REQUIRED"]),
    ("openfga.store_id", &["OPENFGA_STORE_ID"]),
    ("outbox.backoff_base_seconds", &["OUTBOX_SYNC_BACKOFF_BASE_SECONDS"]),
    ("outbox.backoff_max_seconds", &["OUTBOX_SYNC_BACKOFF_MAX_SECONDS"]),
    ("outbox.batch_size", &["OUTBOX_SYNC_BATCH_SIZE"]),
    ("outbox.interval_seconds", &["OUTBOX_SYNC_INTERVAL_SECONDS"]),
    ("outbox.max_retries", &["OUTBOX_SYNC_MAX_RETRIES"]),
    ("policy.cache_ttl_seconds", &["POLICY_CACHE_TTL"]),
    ("policy.dir", &["SA01_POLICY_DIR"]),
    ("policy.opa_decision_path", &["OPA_DECISION_PATH", "POLICY_DATA_PATH"]),
    ("policy.opa_timeout_seconds", &["OPA_TIMEOUT_SECONDS"]),
    ("policy.opa_url", &["OPA_URL", "POLICY_BASE_URL"]),
    ("policy.shadow_dir", &["SA01_POLICY_SHADOW_DIR"]),
    ("policy.tenant_sessions", &["GATEWAY_TENANT_SESSIONS"]),
    ("replicator.group", &["MEMORY_REPLICATOR_GROUP"]),
    ("server.host", &["GATEWAY_HOST"]),
    ("server.memory_sync_metrics_port", &["MEMORY_SYNC_METRICS_PORT"]),
    ("server.metrics_host", &["GATEWAY_METRICS_HOST"]),
    ("server.metrics_port", &["GATEWAY_METRICS_PORT"]),
    ("server.metrics_public", &["GATEWAY_METRICS_PUBLIC"]),
    ("server.outbox_metrics_port", &["OUTBOX_SYNC_METRICS_PORT"]),
    ("server.port", &["GATEWAY_PORT", "PORT"]),
    ("server.replicator_metrics_port", &["REPLICATOR_METRICS_PORT"]),
    ("server.role", &["SA01_ROLE"]),
    ("server.version", &["SA01_VERSION"]),
    ("settings.operator_tenants", &["GATEWAY_OPERATOR_TENANTS"]),
    ("uploads.allowed_mime", &["GATEWAY_UPLOAD_ALLOWED_MIME"]),
    ("uploads.denied_mime", &["GATEWAY_UPLOAD_DENIED_MIME"]),
    ("uploads.janitor_interval_seconds", &["GATEWAY_UPLOAD_JANITOR_INTERVAL_SECONDS"]),
    ("uploads.max_files", &["GATEWAY_UPLOAD_MAX_FILES"]),
    ("uploads.max_mb", &["GATEWAY_UPLOAD_MAX_MB"]),
    ("uploads.ttl_days", &["GATEWAY_UPLOAD_TTL_DAYS"]),
    ("vault.addr", &["VAULT_ADDR"]),
    ("vault.ca_cert", &["VAULT_CA_CERT", "VAULT_CACERT"]),
    ("vault.jwt_mount", &["GATEWAY_JWT_VAULT_MOUNT"]),
    ("vault.jwt_path", &["GATEWAY_JWT_VAULT_PATH"]),
    ("vault.jwt_secret_key", &["GATEWAY_JWT_VAULT_SECRET_KEY"]),
    ("vault.namespace", &["VAULT_NAMESPACE"]),
    ("vault.skip_verify", &["VAULT_SKIP_VERIFY"]),
    ("vault.token", &["VAULT_TOKEN"]),
    ("write_through.background", &["GATEWAY_WRITE_THROUGH_ASYNC"]),
    ("write_through.enabled", &["GATEWAY_WRITE_THROUGH"]),
];

/// Settings that are secrets: also read from the file that `<NAME>_FILE` names or from the place in Vault that `<NAME>_VAULT`
/// names, refused in configuration files, and masked wherever the configuration is shown.
pub(super) const SECRETS: &[&str] = &[
    "audit.checkpoint_key",
    "auth.jwt_secret",
    "brain.api_key",
    "database.dsn",
    "http.internal_token",
    "kafka.sasl_password",
    "model.api_key",
    "oidc.client_secret",
    "vault.token",
];

/// Settings that are no secrets and are also read from the file that `<NAME>_FILE` names: they have many lines.
pub(super) const LONG: &[&str] = &["audit.checkpoint_public_key", "auth.jwt_public_key"];

/// Secrets whose file is read again while the program runs: the room gets its name too, as `<key>_file`.
const ROTATED: &[&str] = &["brain.api_key", "vault.token"];

/// Settings whose value may refer to other variables as `${NAME}`.
const EXPANDED: &[&str] = &["database.dsn"];

/// A copy of the environment, taken once.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    /// Those of them whose value is not UTF-8 and was changed here.
    spoiled: BTreeSet<String>,
    /// What was read of Vault.
    pub(super) vault: Read,
}

/// A text from the environment, with the variable that gave it.
pub(super) struct Found {
    pub(super) variable: String,
    pub(super) text: String,
}

impl Environment {
    /// Copies the environment of the process. A setting whose value is not UTF-8 is a fault.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the place that reads the environment")]
    pub fn of_process() -> Self {
        Self::copied(std::env::vars_os())
    }

    fn copied(variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let mut copy = Self::default();
        // The name of a setting is UTF-8.
        for (name, value) in variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value))) {
            let text = value.into_string().unwrap_or_else(|value| {
                copy.spoiled.insert(name.clone());
                value.to_string_lossy().into_owned()
            });
            copy.variables.insert(name, text);
        }
        copy
    }

    /// The same with another value for `name`: what the command line says.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self.spoiled.remove(name);
        self
    }

    /// The same with what was read of Vault.
    pub(super) fn holding(self, vault: Read) -> Self {
        Self { vault, ..self }
    }

    /// An environment of exactly these variables.
    #[cfg(test)]
    pub(crate) fn of<const N: usize>(variables: [(&str, &str); N]) -> Self {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { variables, ..Self::default() }
    }

    /// The names of all variables, in the order of the alphabet.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }

    /// Whether a variable is set, and not empty.
    #[must_use]
    pub fn is_set(&self, name: &str) -> bool {
        self.variables.get(name).is_some_and(|text| !text.is_empty())
    }

    /// The first of these variables that is set.
    pub(super) fn first(&self, names: &[&str]) -> Option<Found> {
        names.iter().find_map(|name| {
            let text = self.variables.get(*name)?;
            Some(Found { variable: (*name).to_owned(), text: text.clone() })
        })
    }

    /// Lays every setting of the environment over `table`.
    pub(super) fn overlay(&self, table: &mut toml::Table, faults: &mut Faults) {
        for (key, value) in self.settings(faults) {
            let Some((section, name)) = key.split_once('.') else { continue };
            let Some(section) = table.entry(section).or_insert_with(|| Value::Table(toml::Table::new())).as_table_mut()
            else {
                continue;
            };
            let typed = typed_like(section.get(name), &value.text);
            match typed {
                Some(typed) => drop(section.insert(name.to_owned(), typed)),
                None => faults.add(&key, format!("{} is not {}", value.variable, kind_of(section.get(name)))),
            }
        }
    }

    /// All settings that are set, by key, each with the value that wins.
    fn settings(&self, faults: &mut Faults) -> BTreeMap<String, Found> {
        let mut settings = BTreeMap::new();
        let known: BTreeSet<&str> = NAMES.iter().map(|(key, _)| *key).chain(SECRETS.iter().copied()).collect();
        for key in known {
            if let Some(found) = self.named(key, faults) {
                settings.insert(key.to_owned(), found);
            }
        }
        for key in ROTATED {
            let names = names_of(key);
            if let Some(file) = self.file_of(&names.iter().map(String::as_str).collect::<Vec<_>>()) {
                settings.insert(format!("{key}_file"), file);
            }
        }
        for (variable, text) in &self.variables {
            let Some(key) = key_of(variable) else { continue };
            settings.entry(key).or_insert_with(|| Found { variable: variable.clone(), text: text.clone() });
        }
        settings.retain(|key, found| {
            let empty = found.text.trim().is_empty();
            if empty {
                faults.add(key, format!("{} is set but empty; unset it or give it a value", found.variable));
            }
            let spoiled = self.spoiled.contains(&found.variable);
            if spoiled {
                faults.add(key, format!("{} is not UTF-8", found.variable));
            }
            !empty && !spoiled
        });
        for (key, found) in &mut settings {
            if EXPANDED.contains(&key.as_str()) {
                self.expand(key, found, faults);
            }
        }
        settings
    }

    /// The value given to `key` by one of its names, or by the file that one of them names.
    fn named(&self, key: &str, faults: &mut Faults) -> Option<Found> {
        let names = names_of(key);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let plain = self.first(&names);
        if !is_in_files(key) {
            return plain;
        }
        let file = self.file_of(&names);
        match (plain, file) {
            (Some(plain), Some(file)) => {
                faults.add(key, format!("{} and {} are both set; keep one", plain.variable, file.variable));
                None
            }
            (plain, None) => plain,
            (None, Some(file)) => match std::fs::read_to_string(Path::new(&file.text)) {
                Ok(text) => Some(Found { text: text.trim_end_matches(['\r', '\n']).to_owned(), ..file }),
                Err(error) => {
                    faults.add(key, format!("{} names {}, which cannot be read: {error}", file.variable, file.text));
                    None
                }
            },
        }
    }

    /// The file that one of a setting's names gives with `_FILE` behind it.
    fn file_of(&self, names: &[&str]) -> Option<Found> {
        let files: Vec<String> = names.iter().map(|name| format!("{name}_FILE")).collect();
        self.first(&files.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The place in Vault that one of a setting's names gives with `_VAULT` behind it.
    pub(super) fn vault_of(&self, key: &str) -> Option<Found> {
        let names: Vec<String> = names_of(key).into_iter().map(|name| format!("{name}_VAULT")).collect();
        self.first(&names.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Replaces every `${NAME}` by that variable's value.
    fn expand(&self, key: &str, found: &mut Found, faults: &mut Faults) {
        let mut expanded = String::with_capacity(found.text.len());
        let mut rest = found.text.as_str();
        while let Some((before, after)) = rest.split_once("${") {
            expanded.push_str(before);
            let Some((name, behind)) = after.split_once('}') else {
                faults.add(key, format!("{} has a ${{ without a closing brace", found.variable));
                return;
            };
            match self.variables.get(name) {
                Some(value) => expanded.push_str(value),
                None => faults.add(key, format!("{} refers to {name}, which is not set", found.variable)),
            }
            rest = behind;
        }
        expanded.push_str(rest);
        found.text = expanded;
    }
}

/// Every name of a setting, in the order in which they win.
pub(super) fn names_of(key: &str) -> Vec<String> {
    let own = NAMES.iter().find(|(known, _)| *known == key).map_or(&[][..], |(_, names)| names);
    let (new, old): (Vec<&str>, Vec<&str>) = own.iter().partition(|name| name.starts_with(PREFIX));
    let mut names = vec![generic_name(key)];
    names.extend(new.iter().map(ToString::to_string));
    names.extend(old.iter().map(|name| format!("{PREFIX}{name}")));
    names.extend(old.iter().map(ToString::to_string));
    names
}

/// The name of a setting to tell people: its best known one, else the generic one.
pub(super) fn best_name(key: &str) -> String {
    let own = NAMES.iter().find(|(known, _)| *known == key).and_then(|(_, names)| names.first());
    own.map_or_else(|| generic_name(key), ToString::to_string)
}

/// `turns.max_attempts` → `SA01_TURNS__MAX_ATTEMPTS`.
fn generic_name(key: &str) -> String {
    format!("{PREFIX}{}", key.replacen('.', "__", 1).to_uppercase())
}

/// `SA01_TURNS__MAX_ATTEMPTS` → `turns.max_attempts`. Variables without `__` and those that name a secret's file or its place in
/// Vault are no settings.
pub(super) fn key_of(variable: &str) -> Option<String> {
    let (section, name) = variable.strip_prefix(PREFIX)?.split_once("__")?;
    let key = format!("{}.{}", section.to_lowercase(), name.to_lowercase());
    let names_file = key.strip_suffix("_file").is_some_and(is_in_files);
    let names_place = key.strip_suffix("_vault").is_some_and(|key| SECRETS.contains(&key));
    (!section.is_empty() && !name.is_empty() && !names_file && !names_place).then_some(key)
}

/// Whether a file may give the setting.
pub(super) fn is_in_files(key: &str) -> bool {
    SECRETS.contains(&key) || LONG.contains(&key)
}

/// The text as a value of the type that the setting has so far; text where it has none.
fn typed_like(sample: Option<&Value>, text: &str) -> Option<Value> {
    let text = text.trim();
    match sample {
        Some(Value::Boolean(_)) => truth(text).map(Value::Boolean),
        Some(Value::Integer(_)) => text.parse().ok().map(Value::Integer),
        Some(Value::Float(_)) => text.parse().ok().map(Value::Float),
        Some(Value::Array(_) | Value::Table(_) | Value::Datetime(_)) => {
            format!("value = {text}").parse::<toml::Table>().ok()?.remove("value")
        }
        Some(Value::String(_)) | None => Some(Value::String(text.to_owned())),
    }
}

/// The truthy texts of the original, and their opposites.
fn truth(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some(true),
        "0" | "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn kind_of(sample: Option<&Value>) -> &'static str {
    match sample {
        Some(Value::Boolean(_)) => "a truth value (true or false)",
        Some(Value::Integer(_)) => "a whole number",
        Some(Value::Float(_)) => "a number",
        _ => "a TOML value",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    #[test]
    fn the_new_name_wins_over_the_old_and_the_generic_over_both() {
        let old = [("POSTGRES_DSN", "old"), ("SA01_POSTGRES_DSN", "mid"), ("SA01_DB_DSN", "new")];
        let mut faults = Faults::default();
        let settings = Environment::of(old).settings(&mut faults);
        assert_eq!(settings["database.dsn"].text, "new");
        let settings = Environment::of([("PORT", "1"), ("GATEWAY_PORT", "2")]).settings(&mut faults);
        assert_eq!(settings["server.port"].text, "2");
        let settings = Environment::of([("SA01_SERVER__PORT", "3"), ("GATEWAY_PORT", "2")]).settings(&mut faults);
        assert_eq!(settings["server.port"].text, "3");
        assert!(faults.is_empty());
    }

    #[test]
    fn the_file_of_a_rotated_secret_is_handed_on_with_its_content() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "sk-one\n").unwrap();
        let path = file.path().to_str().unwrap();
        let mut faults = Faults::default();
        let settings = Environment::of([("SOMA_API_KEY_FILE", path)]).settings(&mut faults);
        assert_eq!((&*settings["brain.api_key"].text, &*settings["brain.api_key_file"].text), ("sk-one", path));
        let settings = Environment::of([("SA01_DB_DSN_FILE", path)]).settings(&mut faults);
        assert!(faults.is_empty() && !settings.contains_key("database.dsn_file"));
    }

    #[test]
    fn references_to_other_variables_are_expanded_once() {
        let environment = Environment::of([("POSTGRES_DSN", "postgres://${U}:${P}@h/d"), ("U", "me"), ("P", "${U}")]);
        let mut faults = Faults::default();
        assert_eq!(environment.settings(&mut faults)["database.dsn"].text, "postgres://me:${U}@h/d");
        assert!(faults.is_empty());
        Environment::of([("POSTGRES_DSN", "postgres://${NOBODY}@h/${d")]).settings(&mut faults);
        assert_eq!(faults.count(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn a_setting_that_is_no_text_is_a_fault() {
        use std::os::unix::ffi::OsStringExt as _;
        let spoiled = |name: &str| (name.into(), OsString::from_vec(b"/data/\xff".to_vec()));
        let mut faults = Faults::default();
        let environment = Environment::copied([spoiled("SA01_DATA_DIR"), spoiled("LS_COLORS")].into_iter());
        assert!(environment.settings(&mut faults).is_empty() && faults.count() == 1);
        assert!(faults.to_string().contains("SA01_DATA_DIR is not UTF-8"), "{faults}");
    }

    #[test]
    fn the_best_name_of_a_setting_is_the_one_people_know() {
        assert_eq!(best_name("server.port"), "GATEWAY_PORT");
        assert_eq!(best_name("turns.max_attempts"), "SA01_TURNS__MAX_ATTEMPTS");
    }

    #[test]
    fn truth_has_eight_spellings() {
        for text in ["1", "TRUE", "yes", "On"] {
            assert_eq!(truth(text), Some(true), "{text}");
        }
        for text in ["0", "False", "no", "OFF"] {
            assert_eq!(truth(text), Some(false), "{text}");
        }
        assert_eq!(truth("maybe"), None);
    }
}
