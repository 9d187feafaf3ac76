//! The command line. Everything that is configured is configured elsewhere: see `config/default.toml`.

use clap::Parser;

/// The gateway between people and an agent that remembers.
///
/// Settings come from the environment, from a TOML file named by SA01_CONFIG, and from built-in defaults, which
/// --check-config shows. Without any, everything it needs runs inside this one process.
#[derive(Debug, Parser)]
#[expect(clippy::doc_markdown, reason = "--help shows this text as it is")]
#[command(name = "somaagent", version)]
pub struct Cli {
    /// Check the configuration, show it with its secrets masked, and exit: 0 if it is sound, else 78
    #[arg(long)]
    pub check_config: bool,

    /// What this process does: `all`, or some of gateway, memory-sync, outbox and replicator, with commas between them
    #[arg(long, value_name = "ROLES")]
    pub role: Option<String>,
}
