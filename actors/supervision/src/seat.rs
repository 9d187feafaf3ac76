//! A reserved place under a supervisor.

use std::sync::Arc;

use actix::{
    Handler, Message,
    dev::channel::{AddressReceiver, AddressSender, channel},
};
use tokio::sync::oneshot;

use crate::{
    cell::{ChildCell, Parent},
    error::{ExitReason, StartError},
    farewell::{Farewell, OnExit},
    guard::{Guard, GuardParts, Seed},
    message::Admitted,
    metrics::type_label,
    port::{ActorEntry, Port},
    slots::Slots,
    spec::{Child, Restart},
    supervisor::{Link, StartChild, Starter},
};

/// A child's place: its address exists and its ports can be handed out before it runs. Messages sent
/// to them meanwhile wait in the queue. A seat dropped without a start leaves its ports down.
#[must_use = "a seat does nothing until it is started or launched"]
pub struct Seat<A: Child> {
    link: Arc<Link>,
    cell: Arc<ChildCell>,
    policy: Restart,
    sender: Arc<AddressSender<A>>,
    mailbox: AddressReceiver<A>,
    on_exit: Option<OnExit>,
}

impl<A: Child> Seat<A> {
    pub(crate) fn new(link: Arc<Link>, policy: Restart) -> Self {
        let cell = ChildCell::new(A::NAME, Parent::Supervisor(Arc::clone(&link)));
        // Zero turns actix's own limit off, which bounds nothing; the ports do.
        let (sender, mailbox) = channel(0);
        Self { link, cell, policy, sender: Arc::new(sender), mailbox, on_exit: None }
    }

    /// Names this instance in the tree, for children of which there are many. Never a metric label.
    pub fn labelled(self, label: impl Into<Box<str>>) -> Self {
        self.cell.set_label(label.into());
        self
    }

    /// Opens a port for messages of type `M`, with room for `capacity` of them. `name` is a fixed
    /// word for metrics and the tree. Several ports of one actor have separate room in one queue.
    #[must_use]
    pub fn port<M>(&self, name: &'static str, capacity: usize) -> Port<M>
    where
        A: Handler<Admitted<M>>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let message = type_label::<M>();
        let metrics = self.link.tree.metrics().port(A::NAME, name, message);
        let owner = Some(Arc::clone(&self.cell));
        let slots = Slots::new(name, message, capacity, Some(metrics), owner);
        self.cell.add_port(&slots);
        Port::new(Arc::new(ActorEntry::new(Arc::clone(&self.sender), slots)))
    }

    /// Calls `f` once, when the child will not run again: after its last end or its supervisor's
    /// stop, before its queue is dropped; also when it could not be started at all. Not called
    /// between restarts, nor for a seat started under a supervisor that has already ended.
    pub fn on_exit(mut self, f: impl FnOnce(&ExitReason) + Send + 'static) -> Self {
        self.on_exit = Some(Box::new(f));
        self
    }

    /// Starts the child and waits until its `started` has returned. `make` runs on its thread.
    ///
    /// # Errors
    /// The child is not kept: it panicked or stopped in `make` or `started`, there was no thread
    /// for it, or the supervisor has ended. No restart is tried.
    pub async fn start(self, make: impl FnOnce() -> A + Send + 'static) -> Result<(), StartError> {
        let (starter, outcome) = oneshot::channel();
        self.begin(make, Some(starter));
        outcome.await.unwrap_or(Err(StartError::SupervisorDown))
    }

    /// Starts the child without waiting. Messages queue until it runs; if it crashes in its first
    /// `started`, its restart policy decides, and if it never comes up its `on_exit` is called.
    pub fn launch(self, make: impl FnOnce() -> A + Send + 'static) {
        self.begin(make, None);
    }

    fn begin(self, make: impl FnOnce() -> A + Send + 'static, starter: Option<Starter>) {
        let parts = GuardParts {
            cell: self.cell,
            sender: self.sender,
            seed: Seed { mailbox: self.mailbox, make: Box::new(make) },
            stop_within: self.link.spec.stop_within,
            up_when_started: true,
        };
        self.link.start(StartChild {
            cell: Arc::clone(&parts.cell),
            policy: self.policy,
            subtree: None,
            farewell: Farewell::new(A::NAME, self.on_exit),
            spawn: Box::new(move |farewell| spawn_guard(parts, farewell)),
            starter,
        });
    }
}

/// Runs a guard on the current thread, which must be inside a `LocalSet`.
#[allow(clippy::disallowed_methods, reason = "the one place where actors become tasks")]
pub(crate) fn spawn_guard<A: Child>(parts: GuardParts<A>, farewell: Farewell) {
    drop(tokio::task::spawn_local(Guard::new(parts, farewell)));
}
