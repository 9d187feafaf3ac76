//! Fairness: what a busy actor's ports hold back until its next poll.
//!
//! actix handles messages for as long as its queue has any and never yields. A slot is free again
//! as soon as its message is done with, so ports alone do not end such a poll. After a burst the
//! intake holds new messages back; the poll then ends after at most the messages already queued,
//! which the ports bound by their capacity, and the next one begins with those held back.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering},
};

use parking_lot::{Mutex, MutexGuard};

/// Puts one held message into the mailbox.
type Held = Box<dyn FnOnce() + Send>;

/// The messages of all ports of one actor that wait for its next poll.
#[derive(Default)]
pub(crate) struct Intake {
    holding: AtomicBool,
    held: Mutex<VecDeque<Held>>,
}

impl Intake {
    /// From now until [`release`](Self::release) messages are held back.
    pub(crate) fn hold_back(&self) {
        self.holding.store(true, Ordering::Release);
    }

    /// The queue to put a message on, when messages are held back.
    pub(crate) fn holding(&self) -> Option<MutexGuard<'_, VecDeque<Held>>> {
        if !self.holding.load(Ordering::Acquire) {
            return None;
        }
        let held = self.held.lock();
        // The actor's poll may have ended while this waited for the lock.
        self.holding.load(Ordering::Acquire).then_some(held)
    }

    /// Lets everything held back into the mailbox, in order. Under the lock, and the flag last, so
    /// that no later message of a sender overtakes its earlier ones.
    pub(crate) fn release(&self) {
        if !self.holding.load(Ordering::Acquire) {
            return;
        }
        let mut held = self.held.lock();
        for put in held.drain(..) {
            put();
        }
        self.holding.store(false, Ordering::Release);
    }

    /// Drops everything held back: the mailbox is gone. Not under the lock, because a dropped message
    /// may send one itself.
    pub(crate) fn discard(&self) {
        let discarded = {
            let mut held = self.held.lock();
            self.holding.store(false, Ordering::Release);
            std::mem::take(&mut *held)
        };
        drop(discarded);
    }
}
