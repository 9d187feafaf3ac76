//! Logs, and the registry of metrics with its own listener.
//!
//! Logs go to the standard error stream, so that the standard output has the ready line alone: JSON lines with a
//! `timestamp`, a `level`, a `target` and a `message`, or text for people when that stream is a terminal. In both an error
//! that is logged as one (`error = &error as &dyn Error`) comes with everything that led to it.

pub mod chain;
mod lines;
pub mod metrics;

use std::io::{IsTerminal, stderr};

use tracing::Dispatch;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFormat, LogSettings};
use lines::{HumanFields, JsonLines};

/// Modules of the WebAssembly runtime and of libraries that tell more than anybody wants to know, such as of every peer that
/// speaks no HTTP. The configured level
/// comes after these and may name them again.
const QUIET: &str = "actix_server=warn,actix_http::h1=off,wasmer=warn,wasmer_wasix=warn,wasmer_compiler=warn,virtual_fs=warn,virtual_net=warn,cranelift=warn,sqlx::postgres::notice=warn,sqlx_postgres::options=off,vaultrs=off,rustify=off";

/// The filter for a configured level.
///
/// # Errors
/// The part of `level` that is neither a level nor `module=level`.
pub fn filter(level: &str) -> Result<EnvFilter, String> {
    // Each part is read alone first: in a list a lone unknown word would be taken for the name of a module.
    for part in level.split(',').map(str::trim) {
        let least = part.rsplit_once('=').map_or(part, |(_, least)| least);
        if least.is_empty() || least.parse::<LevelFilter>().is_err() {
            return Err(part.to_owned());
        }
    }
    EnvFilter::builder().parse(format!("{QUIET},{level}")).map_err(|_| level.to_owned())
}

/// Sends the log of the whole process where the settings say. Only the first call of a process has an effect.
///
/// # Errors
/// The part of the level that cannot be read; a checked configuration has none.
pub fn start_log(settings: &LogSettings) -> Result<(), String> {
    let terminal = stderr().is_terminal();
    let human = match settings.format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    // It fails when a subscriber is there already, which only happens in tests.
    if let Err(error) = log_to(stderr, filter(&settings.level)?, human, terminal).try_init() {
        tracing::debug!(error = &error as &dyn std::error::Error, "the log was started before");
    }
    Ok(())
}

/// A log that is written to `writer`: text, coloured or not, else JSON.
fn log_to<W>(writer: W, filter: EnvFilter, human: bool, colours: bool) -> Dispatch
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    if human {
        builder.with_ansi(colours).fmt_fields(HumanFields).into()
    } else {
        builder.fmt_fields(JsonFields::new()).event_format(JsonLines).into()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use somaagent_actors::conversation::queries::StoreError;
    use somaagent_test_services::postgres::Postgres;
    use sqlx::postgres::PgConnectOptions;
    use sqlx::{ConnectOptions as _, Connection as _};

    use super::*;

    /// Keeps what is written to it.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What `work` logs, as JSON or as text.
    fn logged(human: bool, work: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let log = log_to(move || writer.clone(), filter("info").unwrap(), human, false);
        tracing::dispatcher::with_default(&log, work);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn log(error: &StoreError) {
        tracing::info_span!("outer", session = 7).in_scope(|| {
            tracing::warn!(error = error as &dyn std::error::Error, steps = 2, "it \"failed\"");
        });
    }

    #[tokio::test]
    async fn a_refusal_is_logged_with_the_servers_words_and_code() {
        let database = Postgres::shared().unwrap().fresh_database().await.unwrap();
        let mut connection = sqlx::PgConnection::connect(&database.dsn()).await.unwrap();
        let refused = sqlx::query("SELECT 1 / 0").execute(&mut connection).await.unwrap_err();
        let refused = StoreError::from(refused);
        let told = |text: &str| {
            let words = "the database refused a statement: error returned from database: division by zero";
            text.contains(words) && text.contains("(SQLSTATE 22012)")
        };

        let text = logged(true, || log(&refused));
        assert!(told(&text) && text.contains(" error=the ") && text.contains(" steps=2"), "{text}");
        let line = logged(false, || log(&refused));
        let line: Value = serde_json::from_str(&line).unwrap();
        assert!(line["error"].as_str().is_some_and(told) && line["steps"] == 2, "{line}");
        assert_eq!((&line["level"], &line["message"]), (&"WARN".into(), &"it \"failed\"".into()), "{line}");
        assert_eq!((&line["spans"][0]["name"], &line["spans"][0]["session"]), (&"outer".into(), &7.into()), "{line}");
        let is_utc = |at: &str| at.len() == 27 && at.ends_with('Z');
        assert!(line["timestamp"].as_str().is_some_and(is_utc) && line["target"].is_string(), "{line}");
    }

    #[tokio::test]
    async fn a_connection_that_fails_is_logged_with_its_cause_but_not_with_the_password() {
        let options: PgConnectOptions = "postgres://me:canary@127.0.0.1:1/d".parse().unwrap();
        let lost = StoreError::Unavailable(options.connect().await.unwrap_err());
        for human in [true, false] {
            let text = logged(human, || log(&lost));
            assert!(text.contains("the database is not reachable: ") && text.contains("refused"), "{text}");
            assert!(!text.contains("canary"), "{text}");
        }
    }

    #[test]
    fn what_others_say_stays_on_its_line() {
        let said = "a\nERROR forged\r\n{\"level\":\"ERROR\"}\u{1b}[2J\u{9b}31m";
        let work = || {
            let error = io::Error::other(said);
            let error = &error as &dyn std::error::Error;
            tracing::info_span!("outer", said, shown = %said)
                .in_scope(|| tracing::warn!(said, shown = %said, debugged = ?said, error, "told"));
        };
        let text = logged(true, work);
        assert!(!text.trim_end().contains(char::is_control) && text.matches("forged").count() == 6, "{text:?}");
        let line = logged(false, work);
        assert!(!line.trim_end().contains(|c: char| c.is_ascii_control()), "{line:?}");
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&line["said"], &line["shown"], &line["spans"][0]["shown"]),
            (&said.into(), &said.into(), &said.into())
        );
    }

    #[test]
    fn levels_are_words_or_lists_by_module() {
        for level in ["INFO", "debug", "warn,sqlx=debug", "off"] {
            assert!(filter(level).is_ok(), "{level}");
        }
        for level in ["loud", "info,sqlx=loud", "info,"] {
            assert!(filter(level).is_err(), "{level}");
        }
    }
}
