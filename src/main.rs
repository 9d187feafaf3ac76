//! The program `somaagent`: everything it does is in the library of the same name.

use std::process::ExitCode;

use mimalloc::MiMalloc;

// What a live conversation keeps is allocated between what lives for one request: the platform's allocator leaves gaps of
// more than twice its size, as the bench `idle` shows.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    somaagent::run()
}
