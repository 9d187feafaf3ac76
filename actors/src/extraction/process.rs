//! One process for one file: started, fed, heard, ended.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::timeout;

use super::wire::{self, Done, Job};
use super::{ExtractError, ExtractionSettings};

/// Most that is heard of what a process says of its own end.
const SAID_MAX: usize = 4 * 1024;

/// What the standard library says when there is no more memory, before it ends the process.
const NO_MEMORY: &[u8] = b"memory allocation of";

/// All of the environment a process has: nothing but that its allocator sets no memory aside. Else that would lie beneath the
/// bound before the bound is set.
const ENVIRONMENT: [(&str, &str); 1] = [("MIMALLOC_ARENA_RESERVE", "0")];

/// What is started.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    arguments: Vec<String>,
}

impl Program {
    pub(super) fn confined(path: PathBuf, settings: &ExtractionSettings) -> Self {
        let bounds = [("--memory-mib", settings.memory_mib), ("--cpu-seconds", settings.cpu_seconds)];
        let bounds = bounds.into_iter().flat_map(|(name, bound)| [name.to_owned(), bound.to_string()]);
        Self { path, arguments: std::iter::once("extract".to_owned()).chain(bounds).collect() }
    }

    /// Has `job` done with `content`. The process is gone when this returns, and goes when it is dropped.
    pub(super) async fn run(
        &self,
        job: &Job,
        content: impl Stream<Item = io::Result<Bytes>>,
        settings: &ExtractionSettings,
    ) -> Result<Done, ExtractError> {
        let mut child = self.start().map_err(ExtractError::Start)?;
        let talk = talk(&mut child, job, content, settings.max_bytes);
        let heard = timeout(settings.timeout(), talk).await.unwrap_or(Err(ExtractError::TimedOut));
        match heard {
            Ok((status, answer, _)) if status.success() => wire::answer(job, answer),
            Ok((status, _, said)) => Err(ended(status, &said)),
            Err(error) => {
                // Waits for its end, so that it leaves nothing behind. What cannot be killed is gone already.
                drop(child.kill().await);
                Err(error)
            }
        }
    }

    fn start(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.path);
        command.arg0("somaagent").args(&self.arguments).env_clear().envs(ENVIRONMENT).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Away from the terminal's signals: the server drains first.
        command.kill_on_drop(true).process_group(0).spawn()
    }
}

/// Feeds a process and hears it to its end: its exit, its answer, and what it says of its own end.
async fn talk(
    child: &mut Child,
    job: &Job,
    content: impl Stream<Item = io::Result<Bytes>>,
    max_bytes: u64,
) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), ExtractError> {
    let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(ExtractError::Start(io::Error::other("it has no streams")));
    };
    let said = async { Ok(heard(errors, SAID_MAX).await.unwrap_or_default()) };
    let answer = async { heard(output, job.answer_max()).await.ok_or(ExtractError::Garbled("too long an answer")) };
    let ((), answer, said) = tokio::try_join!(feed(input, job, content, max_bytes), answer, said)?;
    let status = child.wait().await.map_err(ExtractError::Start)?;
    Ok((status, answer, said))
}

async fn feed(
    mut input: ChildStdin,
    job: &Job,
    content: impl Stream<Item = io::Result<Bytes>>,
    max_bytes: u64,
) -> Result<(), ExtractError> {
    let head = wire::head(job).map_err(ExtractError::Start)?;
    // Who does not listen any more has answered, or ended: the answer or the end tells.
    if input.write_all(&head).await.is_err() {
        return Ok(());
    }
    let mut content = pin!(content);
    let mut left = max_bytes;
    while let Some(piece) = content.next().await {
        let piece = piece.map_err(ExtractError::Content)?;
        left = left
            .checked_sub(piece.len() as u64)
            .ok_or_else(|| ExtractError::TooLarge(format!("more than {max_bytes} bytes")))?;
        if input.write_all(&piece).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// All that comes, if it is not more than `max` bytes.
async fn heard(stream: impl AsyncRead + Unpin, max: usize) -> Option<Vec<u8>> {
    let mut heard = Vec::new();
    stream.take(max as u64 + 1).read_to_end(&mut heard).await.ok()?;
    (heard.len() <= max).then_some(heard)
}

/// Why a process ended that gave no answer.
fn ended(status: ExitStatus, said: &[u8]) -> ExtractError {
    let signal = status.signal().and_then(Signal::from_named_raw);
    match signal {
        Some(Signal::XCPU) => ExtractError::OutOfTime,
        // Somebody else ended it: that says nothing of the file.
        Some(Signal::TERM | Signal::KILL | Signal::INT | Signal::HUP) => {
            ExtractError::Start(io::Error::other(format!("it was ended: {status}")))
        }
        Some(Signal::ABORT) if said.windows(NO_MEMORY.len()).any(|part| part == NO_MEMORY) => ExtractError::OutOfMemory,
        _ => ExtractError::Crashed(status.to_string()),
    }
}

#[cfg(test)]
mod tests;
