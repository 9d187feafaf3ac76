//! The process: reads the configuration, starts every room in order, waits for the end, and stops them in reverse.
//!
//! | module | holds |
//! | --- | --- |
//! | [`config`] | the configuration: layers, checks, names |
//! | [`telemetry`] | logs, the metrics' listener |
//! | [`boot`], [`shutdown`], [`signals`] | the start and the end |
//! | [`database`], [`data_dir`] | the database, configured or inside the process |
//! | [`listen`], [`open_files`] | sockets, and how many of them the system allows |
//! | [`roles`] | what a process does of the whole |
//! | [`rooms`] | how each room is built on the base |
//! | `cli`, `audit`, `doctor` | the command line, and what it does besides running |
//! | [`extraction`] | the program once more, to read a file of a stranger |
//! | `notices` | what is said of the environment at the start |
//! | [`embedded`] | the stand-ins for outside systems that are not configured |
//!
//! Never here: what a session, a turn or a memory is.

mod audit;
pub mod boot;
mod cli;
pub mod config;
pub mod data_dir;
pub mod database;
mod doctor;
pub mod embedded;
pub mod extraction;
pub mod listen;
mod notices;
pub mod open_files;
pub mod roles;
pub mod rooms;
pub mod shutdown;
pub mod signals;
pub mod telemetry;

use std::fmt::Display;
use std::io::{Write, stderr, stdout};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;

use boot::{Base, Rooms};
use cli::{AuditCommand, Cli, Command};
use config::{Config, Environment};
use roles::Roles;
use rooms::Built;
use shutdown::Shutdown;
use signals::{End, Signals};

/// Exit code for a configuration that cannot be used (`EX_CONFIG` of `sysexits.h`).
const CONFIG_REFUSED: u8 = 78;

/// Exit code for a tree that cannot be kept alive (`EX_SOFTWARE` of `sysexits.h`).
const EXHAUSTED: u8 = 70;

/// Runs the program with the arguments and the environment of the process until it is told to end.
///
/// The exit code is 0 after a drain and for a start that a signal ended, 1 if the start failed or Vault does not answer,
/// 70 if the actors could not be kept alive, 78 if the configuration is refused. Commands have their own, which `--help`
/// tells; a signal ends them with 128 and its number.
#[must_use]
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    // Before anything is read, opened or started that a file of a stranger could get at.
    if let Some(Command::Extract(asked)) = &cli.command {
        return extraction::child(asked);
    }
    let mut environment = Environment::of_process();
    if let Some(role) = &cli.role {
        environment = environment.with("SA01_ROLE", role);
    }
    // Before anything is waited for: the first process of a container has no other way to end.
    let signals = match Signals::watch() {
        Ok(signals) => signals,
        Err(error) => return refuse(&format!("signals cannot be handled: {error}"), 1),
    };
    let environment = match (with_vault(environment.clone(), &signals), &cli.command) {
        (Ok(environment), _) => environment,
        // As later in the start: nothing is there yet that would have to be undone.
        (Err(NoVault::Ended(_)), None) if !cli.check_config => return ExitCode::SUCCESS,
        (Err(NoVault::Ended(end)), _) => return end.exit_code(),
        (Err(NoVault::Unanswered(why)), Some(Command::Doctor(asked))) => {
            return doctor::without_vault(&why, &environment, asked);
        }
        (Err(NoVault::Unanswered(why)), _) => return refuse(&why, 1),
    };
    let loaded = Config::load(&environment);
    if let Some(Command::Doctor(asked)) = &cli.command {
        return to_its_end(doctor::run(loaded.as_ref(), &environment, asked), &signals);
    }
    let config = match loaded {
        Ok(config) => config,
        Err(faults) => return refuse(&faults, CONFIG_REFUSED),
    };
    if cli.check_config {
        say(&config.shown());
        return ExitCode::SUCCESS;
    }
    if let Some(Command::Audit(AuditCommand::Verify(asked))) = &cli.command {
        return to_its_end(audit::run(&config, asked), &signals);
    }
    if let Err(level) = telemetry::start_log(&config.log) {
        return refuse(&format!("log.level: `{level}` is no level"), CONFIG_REFUSED);
    }
    notices::tell(&environment);
    actix_rt::System::new().block_on(live(Arc::new(config), Built::default(), signals))
}

/// Why the secrets that are kept in Vault are not there.
enum NoVault {
    /// It does not answer; in words.
    Unanswered(String),
    /// A signal came first.
    Ended(End),
}

/// The environment with the secrets that are kept in Vault.
fn with_vault(environment: Environment, signals: &Signals) -> Result<Environment, NoVault> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| NoVault::Unanswered(format!("no runtime can be made: {error}")))?;
    let read = async {
        tokio::select! {
            read = Box::pin(environment.with_vault()) => read.map_err(|error| NoVault::Unanswered(error.to_string())),
            end = signals.received() => Err(NoVault::Ended(end)),
        }
    };
    let read = runtime.block_on(read);
    // A look at a file or a name that hangs is left alone.
    runtime.shutdown_background();
    read
}

/// A command with its exit code, or that of the signal that ends it.
fn to_its_end(command: impl Future<Output = ExitCode>, signals: &Signals) -> ExitCode {
    actix_rt::System::new().block_on(async {
        tokio::select! {
            code = Box::pin(command) => code,
            end = signals.received() => end.exit_code(),
        }
    })
}

/// From the start to the end of the shutdown.
async fn live(config: Arc<Config>, mut rooms: impl Rooms, signals: Signals) -> ExitCode {
    let drain = config.shutdown.drain();
    let mut shutdown = Shutdown::default();
    let booted = tokio::select! {
        booted = Box::pin(boot::start(config, &mut rooms, &mut shutdown)) => Some(booted),
        _ = signals.received() => None,
    };
    // Kept until everything is stopped: the database and the tree are in it.
    let mut held = None;
    let code = match booted {
        None => ExitCode::SUCCESS,
        Some(Err(error)) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the process cannot start");
            ExitCode::FAILURE
        }
        Some(Ok((base, address))) => {
            say(&ready_line(&base.config.server.role, address));
            serve(held.insert(base), &signals).await
        }
    };
    shutdown.run(drain).await;
    code
}

/// Waits for what ends the process, and gives its exit code.
async fn serve(base: &Base, signals: &Signals) -> ExitCode {
    tokio::select! {
        end = signals.received() => {
            tracing::info!(signal = ?end, "draining");
            ExitCode::SUCCESS
        }
        reason = base.tree.exhausted() => {
            tracing::error!(%reason, "the actors cannot be kept alive: draining");
            ExitCode::from(EXHAUSTED)
        }
    }
}

/// Where the process is reached: its door, else its metrics.
fn ready_line(role: &Roles, address: Option<SocketAddr>) -> String {
    let name = if role.is_all() { "somaagent".to_owned() } else { format!("somaagent ({role})") };
    address.map_or_else(|| format!("{name} is ready"), |address| format!("{name} is ready at http://{address}"))
}

/// Writes a line for whoever started the process. That nobody reads it is no reason to stop.
fn say(line: &str) {
    let mut out = stdout().lock();
    drop(writeln!(out, "{}", line.trim_end()).and_then(|()| out.flush()));
}

/// Tells why the process ends, and gives its exit code.
fn refuse(why: &impl Display, code: u8) -> ExitCode {
    drop(writeln!(stderr().lock(), "somaagent: {why}"));
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use std::cell::RefCell;
    use std::rc::Rc;

    use actix_rt::System;
    use anyhow::bail;
    use shutdown::Stage;
    use somaagent_http::door::Component;
    use sqlx::migrate::Migrator;
    use tokio::sync::watch;

    use super::*;

    /// Rooms that note what is done with them.
    struct Fake {
        migrator: Migrator,
        seen: Rc<RefCell<Vec<&'static str>>>,
        /// Told to end once the door is open; without it the door is stuck.
        end: Option<watch::Sender<Option<End>>>,
    }

    impl Rooms for Fake {
        fn migrator(&self) -> &Migrator {
            &self.migrator
        }

        fn listen(&mut self, _: &Config) -> anyhow::Result<()> {
            Ok(())
        }

        async fn stand_ins(&mut self, base: &Base, shutdown: &mut Shutdown) -> anyhow::Result<()> {
            let one: i32 = sqlx::query_scalar("SELECT 1").fetch_one(&base.database.pool()).await?;
            assert_eq!(one, 1);
            let seen = Rc::clone(&self.seen);
            shutdown.at(Stage::Drain, "sessions", |_| async move { seen.borrow_mut().push("drained") });
            self.seen.borrow_mut().push("stand-ins");
            Ok(())
        }

        async fn actors(&mut self, _: &Base, _: &mut Shutdown) -> anyhow::Result<()> {
            self.seen.borrow_mut().push("actors");
            Ok(())
        }

        fn components(&self) -> Arc<[Component]> {
            Arc::new([])
        }

        async fn door(&mut self, _: &Base, _: &mut Shutdown) -> anyhow::Result<Option<SocketAddr>> {
            let Some(end) = &self.end else { bail!("the door is stuck") };
            end.send_replace(Some(End::Terminate));
            self.seen.borrow_mut().push("door");
            Ok(Some(([127, 0, 0, 1], 8010).into()))
        }
    }

    /// Lives with fake rooms, whose door has `end`, and tells the exit code and what was seen.
    fn lived(end: Option<watch::Sender<Option<End>>>, signals: Signals) -> (ExitCode, Vec<&'static str>) {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().to_str().unwrap();
        let environment = Environment::of([("SA01_DATA_DIR", data), ("GATEWAY_METRICS_PORT", "0")]);
        let config = Arc::new(Config::load(&environment).unwrap());
        let seen = Rc::new(RefCell::new(Vec::new()));
        let rooms = Fake { migrator: Migrator::with_migrations(Vec::new()), seen: Rc::clone(&seen), end };
        let code = System::new().block_on(Box::pin(live(Arc::clone(&config), rooms, signals)));
        // The lock on the data folder is gone with everything else.
        data_dir::DataDir::open(&config.data).unwrap();
        (code, seen.take())
    }

    #[test]
    fn a_signal_drains_everything_and_ends_with_success() {
        let (end, first) = watch::channel(None);
        let (code, seen) = lived(Some(end), Signals::of(first));
        assert_eq!(code, ExitCode::SUCCESS);
        assert_eq!(seen, ["stand-ins", "actors", "door", "drained"]);
    }

    #[test]
    fn a_start_that_fails_is_undone_and_ends_with_failure() {
        let (_end, first) = watch::channel(None);
        let (code, seen) = lived(None, Signals::of(first));
        assert_eq!(code, ExitCode::FAILURE);
        assert_eq!(seen, ["stand-ins", "actors", "drained"]);
    }

    #[test]
    fn a_signal_during_the_start_undoes_what_was_started() {
        let (end, first) = watch::channel(Some(End::Interrupt));
        let (code, seen) = lived(Some(end), Signals::of(first));
        assert_eq!(code, ExitCode::SUCCESS);
        assert_eq!(seen, [""; 0]);
    }

    #[test]
    fn the_ready_line_is_a_url() {
        let address = Some(([127, 0, 0, 1], 8010).into());
        assert_eq!(ready_line(&Roles::default(), address), "somaagent is ready at http://127.0.0.1:8010");
        assert_eq!(ready_line(&"outbox".parse().unwrap(), None), "somaagent (outbox) is ready");
    }
}
