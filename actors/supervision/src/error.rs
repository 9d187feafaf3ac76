//! What can go wrong between actors, as values a caller can act on.

use std::{fmt, sync::Arc};

/// Why an ask has no answer. The port never retries; the caller decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AskError {
    /// Every slot of the port is taken. Nothing was sent; try again later.
    #[error("mailbox is full")]
    Busy,
    /// No answer in time. The outcome is unknown: the message may still be handled.
    #[error("no answer in time")]
    Timeout,
    /// The actor is gone, or it crashed with this message in hand.
    #[error("actor is down")]
    Down,
    /// The port was closed on purpose. Nothing was sent.
    #[error("mailbox is draining")]
    Draining,
}

/// A message that a port did not take, given back to its sender.
pub struct Refused<M> {
    message: M,
    reason: AskError,
}

impl<M> Refused<M> {
    pub(crate) fn new(message: M, reason: AskError) -> Self {
        Self { message, reason }
    }

    /// Why it was refused: `Busy`, `Draining` or `Down`, never `Timeout`.
    pub fn reason(&self) -> AskError {
        self.reason
    }

    /// The message, unchanged.
    pub fn into_inner(self) -> M {
        self.message
    }
}

impl<M> fmt::Debug for Refused<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<M> fmt::Display for Refused<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message refused: {}", self.reason)
    }
}

impl<M> std::error::Error for Refused<M> {}

/// Why a child did not start. The child is not kept and will not be restarted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The supervisor has ended or is stopping for good.
    #[error("supervisor is not running")]
    SupervisorDown,
    /// Building the actor, or its `started`, panicked. Holds the panic's text.
    #[error("actor panicked while starting: {0}")]
    Panicked(Arc<str>),
    /// The actor stopped itself before it was up.
    #[error("actor stopped itself while starting")]
    Stopped,
    /// The supervisor could not get a thread to run its children on.
    #[error("no arbiter for the child: {0}")]
    NoArbiter(Arc<str>),
}

/// How one run of a child came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// The actor stopped itself (`ctx.stop()`, `ctx.terminate()`).
    Normal,
    /// A handler, a hook, a timer or a future of the actor panicked. Holds the panic's text.
    Panicked(Arc<str>),
    /// A supervisor exceeded its restart intensity. Holds the path of the child that failed last
    /// and why.
    Escalated(Arc<str>),
    /// Its supervisor ended it.
    Shutdown,
}

impl ExitReason {
    /// Whether a `Transient` child is restarted after it.
    #[must_use]
    pub fn is_abnormal(&self) -> bool {
        matches!(self, Self::Panicked(_) | Self::Escalated(_))
    }

    /// One word for logs and the `reason` label of `actor_restarts_total`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Panicked(_) => "panic",
            Self::Escalated(_) => "escalated",
            Self::Shutdown => "shutdown",
        }
    }
}

impl fmt::Display for ExitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Normal => f.write_str("stopped itself"),
            Self::Panicked(text) => write!(f, "panicked: {text}"),
            Self::Escalated(text) => write!(f, "escalated: {text}"),
            Self::Shutdown => f.write_str("ended by its supervisor"),
        }
    }
}
