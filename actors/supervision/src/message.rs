//! What travels through a port: the admitted message, its slot while in hand, and the reply.

use actix::Message;
use tokio::{sync::oneshot, time::Instant};

use crate::{frame, slots::Slot};

/// How many messages one poll of an actor opens before its port holds new ones back until the next,
/// so that a constant inflow cannot keep the thread from its other tasks.
const BURST: u32 = 256;

/// A message that a port admitted, holding its slot. Actors implement
/// `actix::Handler<Admitted<M>>`; only ports make them.
///
/// Dropped unopened, because its actor ended or its asker went away first, it is a dead letter and
/// counted as one.
#[must_use = "a message dropped unopened is a dead letter"]
pub struct Admitted<M> {
    inner: Option<(M, Slot)>,
}

impl<M: Message> Message for Admitted<M> {
    type Result = M::Result;
}

impl<M> Admitted<M> {
    pub(crate) fn new(message: M, slot: Slot) -> Self {
        Self { inner: Some((message, slot)) }
    }

    /// Takes the message in hand. The time it waited is recorded here; its slot is held until the
    /// [`InFlight`] drops.
    #[allow(
        clippy::missing_panics_doc,
        clippy::unreachable,
        reason = "the value is taken once: by `open` or `recall`, which consume it, or by `Drop`"
    )]
    pub fn open(mut self) -> (M, InFlight) {
        let Some((message, slot)) = self.inner.take() else {
            unreachable!("an admitted message is opened once");
        };
        let now = Instant::now();
        let slots = slot.slots();
        if frame::open(slots.message()) == BURST
            && let Some(owner) = slots.owner()
        {
            owner.intake().hold_back();
        }
        if let Some(metrics) = slots.metrics() {
            metrics.waited(now.saturating_duration_since(slot.since()));
        }
        let in_flight = InFlight { slot, opened: now };
        (message, in_flight)
    }

    /// Undoes the admission of a message no mailbox took. Not a dead letter.
    pub(crate) fn recall(mut self) -> Option<M> {
        self.inner.take().map(|(message, _slot)| message)
    }
}

impl<M> Drop for Admitted<M> {
    fn drop(&mut self) {
        if let Some((_, slot)) = &self.inner
            && let Some(metrics) = slot.slots().metrics()
        {
            metrics.dead_letter();
        }
    }
}

/// The slot of a message in hand. Keep it for as long as the work goes on: in the handler, or moved
/// into the reply future. Dropping it gives the slot back and records the handling time.
#[must_use = "the slot is given back when this drops"]
pub struct InFlight {
    slot: Slot,
    opened: Instant,
}

impl InFlight {
    /// When the port admitted the message.
    #[must_use]
    pub fn admitted_at(&self) -> Instant {
        self.slot.since()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let slots = self.slot.slots();
        frame::close(slots.message());
        if let Some(metrics) = slots.metrics() {
            metrics.done(self.opened.elapsed(), frame::losing());
        }
    }
}

/// The way back of a message that carries its own: for actors with many asks in flight.
///
/// Dropped unsent, the asker gets [`AskError::Down`](crate::AskError::Down).
#[derive(Debug)]
pub struct Reply<T> {
    sender: oneshot::Sender<T>,
}

impl<T> Reply<T> {
    /// A reply and the receiver of its value, for senders that do not use
    /// [`Port::call`](crate::Port::call).
    #[must_use]
    pub fn pair() -> (Self, oneshot::Receiver<T>) {
        let (sender, receiver) = oneshot::channel();
        (Self { sender }, receiver)
    }

    /// Answers. A value nobody waits for any more is dropped.
    pub fn send(self, value: T) {
        drop(self.sender.send(value));
    }

    /// Whether the asker has gone away. Work whose result nobody wants may be skipped.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.sender.is_closed()
    }
}
