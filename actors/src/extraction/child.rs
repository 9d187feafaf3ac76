//! What the hidden command `extract` does: one job, then the end.

use std::io::{self, Read, Write};
use std::panic::{self, AssertUnwindSafe};

use super::confine::confine;
use super::error::Refusal;
use super::wire::{Done, read_job, write_answer};
use super::work::work;

/// What the process holds itself to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most memory beyond what it has at the start, in MiB.
    pub memory_mib: u64,
    /// Most time of a processor, in seconds.
    pub cpu_seconds: u64,
}

/// Gives up every right, reads a job from `input`, and writes the answer to `output`. Of no use in a process that is to do
/// anything else: it can open nothing afterwards, and a panic is told to nobody.
///
/// # Errors
/// The other side is gone, or wrote no job.
pub fn serve(bounds: Bounds, mut input: impl Read, mut output: impl Write) -> io::Result<()> {
    // What a reader says of the bytes it cannot read is theirs, and belongs in no log.
    panic::set_hook(Box::new(|_| {}));
    let answer = match confine(bounds) {
        Ok(()) => answer(&mut input)?,
        Err(why) => Err(Refusal::Unconfined(why.to_string())),
    };
    write_answer(&mut output, answer)
}

fn answer(input: &mut impl Read) -> io::Result<Result<Done, Refusal>> {
    let job = read_job(input)?;
    let mut content = Vec::new();
    match input.read_to_end(&mut content) {
        Err(error) if error.kind() == io::ErrorKind::OutOfMemory => return Ok(Err(Refusal::OutOfMemory)),
        read => read?,
    };
    let done = panic::catch_unwind(AssertUnwindSafe(|| work(&job, content)));
    Ok(done.unwrap_or(Err(Refusal::Panicked)))
}
