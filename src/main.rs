//! The program `somaagent`: everything it does is in the library of the same name.

use std::process::ExitCode;

use somaagent::rooms::Built;

fn main() -> ExitCode {
    somaagent::run(Built::default())
}
