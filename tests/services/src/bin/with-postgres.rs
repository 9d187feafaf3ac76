//! Runs a command with a real PostgreSQL server: `with-postgres COMMAND [ARGUMENT…]`.
//!
//! The command finds the server's DSN in `DATABASE_URL`, which `#[sqlx::test]` reads, and in `SA01_TEST_DB_DSN`, which the
//! other suites read. Its exit code becomes ours; 77 means that there is no PostgreSQL to be had.
#![allow(clippy::disallowed_methods, reason = "a tool of the tests reads its environment")]

use std::env::args_os;
use std::process::{Command, ExitCode};

use somaagent_test_services::postgres::{Postgres, VARIABLE};

/// A suite cannot run here, because something it needs is missing.
const MISSING: u8 = 77;

fn main() -> ExitCode {
    let mut words = args_os().skip(1);
    let Some(program) = words.next() else {
        eprintln!("usage: with-postgres COMMAND [ARGUMENT…]");
        return ExitCode::from(2);
    };
    let server = match std::env::var(VARIABLE) {
        Ok(dsn) => Postgres::outside(&dsn),
        Err(_) => Postgres::start(),
    };
    let server = match server {
        Ok(server) => server,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::from(MISSING);
        }
    };
    let dsn = server.admin_dsn();
    let status = Command::new(&program).args(words).env("DATABASE_URL", dsn).env(VARIABLE, dsn).status();
    match status {
        Ok(status) => status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from),
        Err(error) => {
            eprintln!("{} does not start: {error}", program.display());
            ExitCode::FAILURE
        }
    }
}
