//! The signals that end the process: the first one asks for a drain, the second one ends it at once.
//!
//! They are taken by a thread of their own, so that a second signal is obeyed even when every other thread hangs.

use std::process::ExitCode;
use std::{io, thread};

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// What shells add to a signal's number for the exit code of what it ended.
const ENDED_BY_SIGNAL: i32 = 128;

/// A signal that asks for the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// SIGTERM, from a supervisor of processes.
    Terminate,
    /// SIGINT, from a terminal.
    Interrupt,
}

impl End {
    fn code(self) -> i32 {
        let kind = match self {
            Self::Terminate => SignalKind::terminate(),
            Self::Interrupt => SignalKind::interrupt(),
        };
        ENDED_BY_SIGNAL + kind.as_raw_value()
    }

    /// What a command ends with that was not let come to its own end.
    #[must_use]
    pub fn exit_code(self) -> ExitCode {
        u8::try_from(self.code()).map_or(ExitCode::FAILURE, ExitCode::from)
    }
}

/// The signals of this process.
#[derive(Debug, Clone)]
pub struct Signals {
    first: watch::Receiver<Option<End>>,
}

impl Signals {
    /// Takes over SIGTERM and SIGINT for the rest of the process's life.
    ///
    /// # Errors
    /// If the system gives no thread or no handler.
    pub fn watch() -> io::Result<Self> {
        let (sender, first) = watch::channel(None);
        let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
        let guard = runtime.enter();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        drop(guard);
        thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(async {
                let mut next = async || {
                    tokio::select! {
                        _ = terminate.recv() => End::Terminate,
                        _ = interrupt.recv() => End::Interrupt,
                    }
                };
                sender.send_replace(Some(next().await));
                end_now(next().await);
            });
        })?;
        Ok(Self { first })
    }

    /// Signals that a test sends.
    #[cfg(test)]
    pub(crate) const fn of(first: watch::Receiver<Option<End>>) -> Self {
        Self { first }
    }

    /// Waits for the first signal; at once if it came.
    pub async fn received(&self) -> End {
        let mut first = self.first.clone();
        match first.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(end)) => *end,
            // The thread is gone, which nothing in it can bring about.
            _ => std::future::pending().await,
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "somebody asked twice: the drain is what they do not want")]
fn end_now(end: End) {
    std::process::exit(end.code());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_signal_ends_with_the_code_that_shells_know() {
        assert_eq!((End::Terminate.code(), End::Interrupt.code()), (143, 130));
    }
}
