//! Logs, and the registry of metrics with its own listener.
//!
//! Logs go to the standard error stream, so that the standard output has the ready line alone: JSON lines with a
//! `timestamp`, a `level`, a `target` and a `message`, or text for people when that stream is a terminal.

pub mod metrics;

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::{LogFormat, LogSettings};

/// Modules of the WebAssembly runtime and of libraries that tell more than anybody wants to know. The configured level
/// comes after these and may name them again.
const QUIET: &str = "wasmer=warn,wasmer_wasix=warn,wasmer_compiler=warn,virtual_fs=warn,virtual_net=warn,cranelift=warn,sqlx::postgres::notice=warn";

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
    let builder = tracing_subscriber::fmt().with_env_filter(filter(&settings.level)?).with_writer(stderr);
    let human = match settings.format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    // `try_init` fails when a subscriber is there already, which only happens in tests.
    let started = if human {
        builder.with_ansi(terminal).try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(false).try_init()
    };
    if let Err(error) = started {
        tracing::debug!(%error, "the log was started before");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
