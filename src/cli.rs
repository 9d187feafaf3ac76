//! The command line. Everything that is configured is configured elsewhere: see `config/default.toml`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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

    /// Something else than to run
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program does besides running.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look after the audit trail
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Look at everything that a process with this configuration would use, and say what to do about each fault
    ///
    /// Changes and starts nothing: no table, no topic, no file is made. Exits with 0 if everything is as it should be or only
    /// worth knowing, 1 if there are warnings, 2 if there are faults, 78 if the configuration is refused.
    Doctor(Doctor),
    /// Read one file of a stranger, with no rights at all: what the program starts itself for
    #[command(hide = true)]
    Extract(Extract),
}

/// How much one file may cost.
#[derive(Debug, Args)]
pub struct Extract {
    /// Most memory beyond that of the program itself
    #[arg(long, value_name = "MIB")]
    pub memory_mib: u64,

    /// Most time of a processor
    #[arg(long, value_name = "SECONDS")]
    pub cpu_seconds: u64,
}

/// How to look.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Tell it as one JSON object
    #[arg(long)]
    pub json: bool,

    /// Longest time for each subject; all are looked at together
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub timeout: u64,
}

/// What can be done with the audit trail.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Find what somebody changed, removed, put in or moved, and checkpoints that do not fit
    ///
    /// Changes nothing and makes nothing. Exits with 0 if everything fits, 1 if something does not, 2 if it could not be found out:
    /// so where there is no such tenant, no such database, or no checkpoint in the file.
    Verify(Verify),
}

/// What is to be verified.
#[derive(Debug, Args)]
pub struct Verify {
    /// Only the chain of this tenant
    #[arg(long)]
    pub tenant: Option<String>,

    /// Tell it as one JSON object
    #[arg(long)]
    pub json: bool,

    /// Checkpoints one a line, as kept elsewhere, in place of those in the log
    #[arg(long, value_name = "FILE")]
    pub checkpoints: Option<PathBuf>,
}
