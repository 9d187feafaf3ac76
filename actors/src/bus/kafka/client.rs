//! What every connection to the brokers has in common: how it is made, and where its log goes.

use std::{thread, time::Duration};

use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
};
use secrecy::ExposeSecret;
use tokio::sync::oneshot;

use super::settings::KafkaSettings;

/// Name of this program in the brokers' logs.
const CLIENT_ID: &str = "somaagent";

/// A question for records may wait this long for an answer, and others get as much.
const SHORTEST_QUESTION: Duration = Duration::from_secs(2);

/// Asks something of the brokers that the library waits for, on a thread of its own, which the logs know by `name`. What went wrong with
/// the thread is an error in words.
pub(super) async fn asked<T: Send + 'static>(
    name: &'static str,
    question: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let (answer, answered) = oneshot::channel();
    let asking = thread::Builder::new().name(name.into()).spawn(move || drop(answer.send(question())));
    asking.map_err(|error| format!("no thread to ask on: {error}"))?;
    answered.await.map_err(|_| "nobody answered".to_owned())
}

/// The configuration of any client.
pub(super) fn config(settings: &KafkaSettings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &settings.bootstrap_servers)
        .set("client.id", CLIENT_ID)
        .set("security.protocol", &settings.security_protocol)
        .set("socket.nagle.disable", "true")
        .set("socket.timeout.ms", settings.timeout().max(SHORTEST_QUESTION).as_millis().to_string())
        // After an outage somebody waits for the broker: a second more is felt.
        .set("reconnect.backoff.max.ms", "1000")
        .set_log_level(RDKafkaLogLevel::Info);
    if let Some(mechanism) = &settings.sasl_mechanism {
        config.set("sasl.mechanism", mechanism);
    }
    if let Some(username) = &settings.sasl_username {
        config.set("sasl.username", username);
    }
    if let Some(password) = &settings.sasl_password {
        config.set("sasl.password", password.expose_secret());
    }
    let files = [
        ("ssl.ca.location", &settings.tls_ca),
        ("ssl.certificate.location", &settings.tls_cert),
        ("ssl.key.location", &settings.tls_key),
    ];
    for (name, file) in files {
        if let Some(file) = file {
            config.set(name, file.to_string_lossy());
        }
    }
    config
}

/// What an error says. A setting that the library does not take is named without its value, which may be a secret.
pub(super) fn said(error: &KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, what, key, _) => format!("{key}: {what}"),
        error => error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string()),
    }
}

/// Hands lines of the library's log on to ours.
#[derive(Debug)]
pub(super) struct Logged;

impl ClientContext for Logged {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

/// A line of the library's log. It never holds secrets: those are only in what its `debug` setting adds.
pub(super) fn log_line(level: RDKafkaLogLevel, facility: &str, line: &str) {
    use RDKafkaLogLevel::{Alert, Critical, Debug, Emerg, Error, Info, Notice, Warning};
    match level {
        // What the library thinks of our choices: they are explained where they are made.
        _ if facility == "CONFWARN" => tracing::debug!(facility, "kafka: {line}"),
        Emerg | Alert | Critical => tracing::error!(facility, "kafka: {line}"),
        // A lost connection is an error to the library; it comes back by itself.
        Error | Warning => tracing::warn!(facility, "kafka: {line}"),
        Notice | Info | Debug => tracing::debug!(facility, "kafka: {line}"),
    }
}

/// An error that no call answers to. The library has logged what led to it.
pub(super) fn log_error(error: &KafkaError, reason: &str) {
    tracing::debug!(error = said(error), reason, "kafka");
}

/// Whether no broker can be reached.
pub(super) fn is_outage(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use rdkafka::{config::FromClientConfig, producer::BaseProducer};

    use super::*;

    #[test]
    fn a_setting_that_is_not_taken_is_told_without_its_value() {
        let mut config = config(&KafkaSettings::default());
        config.set("acks", "canary");
        let error = said(&BaseProducer::from_config(&config).err().unwrap());
        assert!(error.contains("acks") && !error.contains("canary"), "{error}");
    }
}
