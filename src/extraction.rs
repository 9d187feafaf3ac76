//! The program once more, to read a file of a stranger: both ends of `somaagent_actors::extraction`.

use std::io::{self, stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use somaagent_actors::extraction::child::{Bounds, serve};

use crate::cli;

/// What an extractor has to start: this program.
///
/// # Errors
/// The system does not tell where it is.
pub fn program() -> io::Result<PathBuf> {
    // On Linux the very file that runs, also where another has taken its place since.
    if cfg!(target_os = "linux") { Ok("/proc/self/exe".into()) } else { std::env::current_exe() }
}

/// Reads one file; see there. Nobody reads an error but by the exit code.
pub(crate) fn child(asked: &cli::Extract) -> ExitCode {
    let bounds = Bounds { memory_mib: asked.memory_mib, cpu_seconds: asked.cpu_seconds };
    serve(bounds, stdin().lock(), stdout().lock()).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    #[test]
    fn the_program_is_there() {
        assert!(super::program().unwrap().is_file());
    }
}
