//! How to reach the brokers.

use std::{path::PathBuf, time::Duration};

use reqwest::Url;
use secrecy::SecretString;
use serde::Deserialize;

/// Whether this build can speak TLS to a broker, which SCRAM needs too.
pub const TLS: bool = cfg!(feature = "kafka-tls");

/// Settings of the log on Kafka: the section `kafka` of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct KafkaSettings {
    /// Where clients begin, `host:port` with commas between (`KAFKA_BOOTSTRAP_SERVERS`). Empty means that none is
    /// configured, and that the log is a table of the database.
    pub bootstrap_servers: String,
    /// `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL` (`KAFKA_SECURITY_PROTOCOL`).
    pub security_protocol: String,
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512` (`KAFKA_SASL_MECHANISM`).
    pub sasl_mechanism: Option<String>,
    /// Who we are (`KAFKA_SASL_USERNAME`).
    pub sasl_username: Option<String>,
    /// What proves it (`KAFKA_SASL_PASSWORD`).
    pub sasl_password: Option<SecretString>,
    /// File with the authorities that may vouch for a broker, in PEM; they replace the system's (`KAFKA_TLS_CA`).
    pub tls_ca: Option<PathBuf>,
    /// File with this client's certificate in PEM, for brokers that ask for one (`KAFKA_TLS_CERT`).
    pub tls_cert: Option<PathBuf>,
    /// File with the key of that certificate in PEM (`KAFKA_TLS_KEY`).
    pub tls_key: Option<PathBuf>,
    /// How long an append, or any other single question, may take (`PUBLISH_KAFKA_TIMEOUT_SECONDS`). What was not
    /// acknowledged by then is appended again.
    pub timeout_seconds: f64,
    /// How long a reader may be silent before its partitions go to the others of its group.
    pub session_timeout_ms: u32,
    /// Copies of the topics that are made here; -1 leaves it to the broker.
    pub replication_factor: i32,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            bootstrap_servers: String::new(),
            security_protocol: "PLAINTEXT".into(),
            sasl_mechanism: None,
            sasl_username: None,
            sasl_password: None,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            timeout_seconds: 10.0,
            session_timeout_ms: 10_000,
            replication_factor: -1,
        }
    }
}

/// What is wrong with a setting: its key and why. The text never holds a value that could be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} {what}")]
pub struct KafkaSettingsError {
    /// `kafka.<name>`.
    pub key: &'static str,
    /// What is wrong with it.
    pub what: &'static str,
}

impl KafkaSettings {
    /// Upper bound of one question to the brokers; an unusable number is the default's.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        let given = Duration::try_from_secs_f64(self.timeout_seconds).ok().filter(|timeout| !timeout.is_zero());
        given.unwrap_or(Duration::from_secs(10))
    }

    /// Checks what can be checked without a connection.
    ///
    /// # Errors
    /// Every fault.
    pub fn validate(&self) -> Result<(), Vec<KafkaSettingsError>> {
        let mut faults = Vec::new();
        let mut fault = |key, what| faults.push(KafkaSettingsError { key, what });
        if self.bootstrap_servers.is_empty() {
            if self.sasl_password.is_some() || self.sasl_username.is_some() {
                fault("kafka.bootstrap_servers", "is not set, but credentials for brokers are");
            }
        } else if !self.bootstrap_servers.split(',').all(|server| is_address(server.trim())) {
            fault("kafka.bootstrap_servers", "is not a list of host:port");
        }
        let (sasl, tls) = match self.security_protocol.as_str() {
            "PLAINTEXT" => (false, false),
            "SSL" => (false, true),
            "SASL_PLAINTEXT" => (true, false),
            "SASL_SSL" => (true, true),
            _ => {
                fault("kafka.security_protocol", "is not PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL");
                return Err(faults);
            }
        };
        if tls && !TLS {
            fault(
                "kafka.security_protocol",
                "asks for TLS, which this build cannot: build it with --features kafka-tls",
            );
        }
        if !tls && [&self.tls_ca, &self.tls_cert, &self.tls_key].iter().any(|file| file.is_some()) {
            fault("kafka.security_protocol", "does not use TLS, but a file for TLS is named");
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            fault("kafka.tls_cert", "and kafka.tls_key go together");
        }
        if sasl {
            match self.sasl_mechanism.as_deref() {
                None => fault("kafka.sasl_mechanism", "is not set, but the security protocol needs it"),
                Some("PLAIN") => {}
                Some("SCRAM-SHA-256" | "SCRAM-SHA-512") if TLS => {}
                Some("SCRAM-SHA-256" | "SCRAM-SHA-512") => {
                    fault(
                        "kafka.sasl_mechanism",
                        "is SCRAM, which this build cannot: build it with --features kafka-tls",
                    );
                }
                Some(_) => fault("kafka.sasl_mechanism", "is not PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"),
            }
            if self.sasl_username.is_none() {
                fault("kafka.sasl_username", "is not set, but the security protocol needs it");
            }
            if self.sasl_password.is_none() {
                fault("kafka.sasl_password", "is not set, but the security protocol needs it");
            }
        } else if self.sasl_mechanism.is_some() || self.sasl_username.is_some() || self.sasl_password.is_some() {
            fault("kafka.security_protocol", "does not use SASL, but credentials are given");
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// Whether this is `host:port` and nothing else, as a URL would have it.
fn is_address(server: &str) -> bool {
    // Reading a URL leaves out blanks and mends what is not written as it should be.
    let is_plain = server.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@\\%".contains(&byte));
    let url = Url::parse(&format!("kafka://{server}")).ok().filter(|_| is_plain);
    url.is_some_and(|url| {
        url.host_str().is_some_and(|host| !host.is_empty()) && url.port().is_some_and(|port| port > 0)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    fn faults(settings: &str) -> String {
        let settings: KafkaSettings = serde_json::from_str(settings).unwrap();
        let faults = settings.validate().err().unwrap_or_default();
        faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn usable_settings_have_no_fault() {
        for settings in [
            "{}",
            r#"{"bootstrap_servers": "kafka:9092"}"#,
            r#"{"bootstrap_servers": "a:1, [::1]:2"}"#,
            r#"{"bootstrap_servers": "broker_1.kafka-headless.svc:9092,10.0.0.7:65535"}"#,
            r#"{"bootstrap_servers": "a:1", "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN",
                "sasl_username": "me", "sasl_password": "canary"}"#,
        ] {
            assert_eq!(faults(settings), "", "{settings}");
        }
    }

    #[test]
    fn every_fault_names_its_key_and_no_secret() {
        for (settings, named) in [
            (r#"{"bootstrap_servers": "kafka"}"#, "kafka.bootstrap_servers is not a list"),
            (r#"{"bootstrap_servers": "http://kafka:9092"}"#, "kafka.bootstrap_servers is not a list"),
            (r#"{"bootstrap_servers": "a:1,,b:2"}"#, "kafka.bootstrap_servers is not a list"),
            (r#"{"bootstrap_servers": "a:1:2"}"#, "kafka.bootstrap_servers is not a list"),
            (r#"{"bootstrap_servers": "::1:9092"}"#, "kafka.bootstrap_servers is not a list"),
            (r#"{"bootstrap_servers": "a:0"}"#, "kafka.bootstrap_servers is not a list"),
            (r#"{"bootstrap_servers": "a:+1"}"#, "kafka.bootstrap_servers is not a list"),
            (r#"{"bootstrap_servers": "a<b:1"}"#, "kafka.bootstrap_servers is not a list"),
            (r#"{"bootstrap_servers": "me:canary@a:1"}"#, "kafka.bootstrap_servers is not a list"),
            (r#"{"security_protocol": "TLS"}"#, "kafka.security_protocol is not PLAINTEXT"),
            (r#"{"sasl_password": "canary"}"#, "kafka.bootstrap_servers is not set, but credentials"),
            (r#"{"bootstrap_servers": "a:1", "sasl_username": "canary"}"#, "kafka.security_protocol does not use SASL"),
            (r#"{"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "GSSAPI"}"#, "kafka.sasl_mechanism is not"),
            (r#"{"security_protocol": "SASL_PLAINTEXT"}"#, "kafka.sasl_password is not set"),
            (r#"{"tls_cert": "/a"}"#, "kafka.tls_cert and kafka.tls_key go together"),
            (r#"{"tls_ca": "/a"}"#, "kafka.security_protocol does not use TLS"),
        ] {
            let found = faults(settings);
            assert!(found.contains(named) && !found.contains("canary"), "{settings}: {found}");
        }
        assert_eq!(faults(r#"{"security_protocol": "SSL"}"#).is_empty(), TLS);
    }

    #[test]
    fn a_secret_does_not_show_in_debug_output() {
        let settings: KafkaSettings = serde_json::from_str(r#"{"sasl_password": "canary"}"#).unwrap();
        assert!(!format!("{settings:?}").contains("canary"));
    }
}
