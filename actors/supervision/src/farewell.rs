//! The one call at a child's end.

use std::sync::Arc;

use crate::{error::ExitReason, frame};

pub(crate) type OnExit = Box<dyn FnOnce(&ExitReason) + Send>;

/// Calls back once, when a child will not run again; also when it never ran, because its supervisor
/// could not start it or ended first.
pub(crate) struct Farewell {
    actor: &'static str,
    on_exit: Option<OnExit>,
}

impl Farewell {
    pub(crate) fn new(actor: &'static str, on_exit: Option<OnExit>) -> Self {
        Self { actor, on_exit }
    }

    /// Calls, contained; does nothing when it was said before.
    pub(crate) fn say(&mut self, reason: &ExitReason) -> Result<(), Arc<str>> {
        match self.on_exit.take() {
            Some(on_exit) => frame::contain(self.actor, || on_exit(reason)),
            None => Ok(()),
        }
    }

    /// Will not call any more.
    pub(crate) fn silence(&mut self) {
        std::mem::forget(self.on_exit.take());
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.silence();
        } else if let Err(text) = self.say(&ExitReason::Shutdown) {
            tracing::error!(actor = self.actor, panic = &*text, "on_exit panicked");
        }
    }
}
