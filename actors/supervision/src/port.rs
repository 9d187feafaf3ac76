//! The bounded way into a mailbox.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::{Poll, Wake},
    time::Duration,
};

use actix::{
    Context, Handler, Message,
    dev::{SendError, ToEnvelope, channel::AddressSender},
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    deadline::deadline,
    error::{AskError, Refused},
    message::{Admitted, Reply},
    slots::{Door, Slots},
};

/// A bounded way into an actor's mailbox for messages of one type.
///
/// At most `capacity` messages are queued or in hand at any time, counted over all clones on all
/// threads. A port stays valid while its actor is restarted, also with its whole subtree; messages
/// sent meanwhile wait in the queue. Once the actor has ended for good every ask gives
/// [`AskError::Down`].
///
/// Messages from one sender are handled in the order they were sent, whatever ports of the actor they
/// go through. In one turn on its thread an actor handles at most 256 messages and those its ports
/// had room for by then; later ones wait for its next turn, so no inflow starves its neighbours.
pub struct Port<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    entry: Arc<dyn Entry<M>>,
}

impl<M> Clone for Port<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn clone(&self) -> Self {
        Self { entry: Arc::clone(&self.entry) }
    }
}

impl<M> fmt::Debug for Port<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slots = self.entry.slots();
        f.debug_struct("Port")
            .field("name", &slots.name())
            .field("message", &slots.message())
            .field("depth", &slots.depth())
            .field("capacity", &slots.capacity())
            .finish()
    }
}

impl<M> Port<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    pub(crate) fn new(entry: Arc<dyn Entry<M>>) -> Self {
        Self { entry }
    }

    /// Sends `message` and waits for its answer, at most `within`.
    ///
    /// Dropping the future takes the message back if no handler has it yet.
    ///
    /// # Errors
    /// `Busy` and `Draining` at once, without sending; `Down` when the actor has ended or lost the
    /// message in a crash; `Timeout` when the answer did not come in time (a message still queued
    /// then is skipped, one in hand is finished).
    pub async fn ask(&self, message: M, within: Duration) -> Result<M::Result, AskError> {
        let slot = self.entry.slots().enter()?;
        let until = deadline(slot.since(), within);
        let sent = self.entry.send(Admitted::new(message, slot)).map_err(|unsent| self.unsent(unsent).1)?;
        await_answer(until, sent.reply()).await
    }

    /// Sends `message` without waiting for anything.
    ///
    /// # Errors
    /// Gives the message back when it was not taken.
    pub fn tell(&self, message: M) -> Result<(), Refused<M>> {
        let slot = match self.entry.slots().enter() {
            Ok(slot) => slot,
            Err(reason) => return Err(Refused::new(message, reason)),
        };
        match self.entry.post(Admitted::new(message, slot)) {
            Ok(()) => Ok(()),
            Err(unsent) => match self.unsent(unsent) {
                (Some(message), reason) => Err(Refused::new(message, reason)),
                (None, _) => Ok(()),
            },
        }
    }

    /// Messages queued or in hand.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.entry.slots().depth()
    }

    /// The most there can be of them.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.entry.slots().capacity()
    }

    /// Whether the port takes no more messages: it was closed, or its actor has ended for good.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.entry.slots().door() != Door::Open || !self.entry.connected()
    }

    /// Whether both lead to the same mailbox as the same port. A child started anew has new ports.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.entry.slots(), other.entry.slots())
    }

    /// Closes the port and waits, at most `within`, until every message it took is done with. False
    /// when some were not; the port stays closed.
    pub async fn drain(&self, within: Duration) -> bool {
        let slots = self.entry.slots();
        slots.close(Door::Draining);
        timeout(within, slots.emptied()).await.is_ok()
    }

    /// Counts a message the mailbox did not take and gives it back.
    fn unsent(&self, unsent: Admitted<M>) -> (Option<M>, AskError) {
        self.entry.slots().refused(AskError::Down);
        (unsent.recall(), AskError::Down)
    }
}

impl<M: Message<Result = ()> + Send + 'static> Port<M> {
    /// Sends a message that carries its own [`Reply`] and waits for it, at most `within`. Unlike an
    /// [`ask`](Self::ask) that timed out, the message is handled even when nobody waits any more.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn call<T: Send>(&self, make: impl FnOnce(Reply<T>) -> M, within: Duration) -> Result<T, AskError> {
        let slot = self.entry.slots().enter()?;
        let until = deadline(slot.since(), within);
        let (reply, answer) = Reply::pair();
        self.entry.post(Admitted::new(make(reply), slot)).map_err(|unsent| self.unsent(unsent).1)?;
        await_answer(until, async { answer.await.ok() }).await
    }
}

/// Waits for an answer `until` then; `None` is an answer that will not come.
///
/// An actor on the same thread answers in its next turn. So the asker gives way once before it arms
/// a timer, which costs as much as the whole ask does without.
async fn await_answer<T>(until: Instant, answer: impl Future<Output = Option<T>>) -> Result<T, AskError> {
    let mut answer = pin!(answer);
    let mut gave_way = false;
    let early = poll_fn(|task| match answer.as_mut().poll(task) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending if gave_way => Poll::Ready(None),
        Poll::Pending => {
            gave_way = true;
            task.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
    let answer = match early {
        Some(answer) => answer,
        None => timeout_at(until, answer).await.map_err(|_| AskError::Timeout)?,
    };
    answer.ok_or(AskError::Down)
}

/// What can be closed together with others; implemented by [`Port`].
pub trait Gate: sealed::Sealed {}

impl<M> Gate for Port<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
}

/// Closes all of `gates` if no message of any is queued or in hand, and says whether it did; closes
/// none otherwise. A gate closed before counts as closed.
///
/// An actor that passivates itself calls it to be sure that no message is on its way.
pub fn close_if_idle(gates: &[&dyn Gate]) -> bool {
    Slots::close_all_if_idle(gates.iter().map(|gate| gate.slots()).collect())
}

mod sealed {
    use super::{Arc, Message, Port, Slots};

    pub trait Sealed {
        #[doc(hidden)]
        #[allow(private_interfaces, reason = "sealed: called in this crate only")]
        fn slots(&self) -> &Arc<Slots>;
    }

    impl<M> Sealed for Port<M>
    where
        M: Message + Send + 'static,
        M::Result: Send,
    {
        #[allow(private_interfaces, reason = "sealed: called in this crate only")]
        fn slots(&self) -> &Arc<Slots> {
            self.entry.slots()
        }
    }
}

/// A mailbox that takes messages of one type; hides which actor it belongs to.
pub(crate) trait Entry<M: Message>: Send + Sync {
    fn slots(&self) -> &Arc<Slots>;
    fn connected(&self) -> bool;
    fn send(&self, message: Admitted<M>) -> Result<Sent<M::Result>, Admitted<M>>;
    fn post(&self, message: Admitted<M>) -> Result<(), Admitted<M>>;
}

/// A sent ask. `Later`: held back until the actor's next poll, which says where the answer comes.
pub(crate) enum Sent<T> {
    Now(oneshot::Receiver<T>),
    Later(oneshot::Receiver<oneshot::Receiver<T>>),
}

impl<T> Sent<T> {
    async fn reply(self) -> Option<T> {
        let answer = match self {
            Self::Now(answer) => answer,
            Self::Later(sent) => sent.await.ok()?,
        };
        answer.await.ok()
    }
}

/// The way into the mailbox of an actor of type `A`.
pub(crate) struct ActorEntry<A: actix::Actor> {
    sender: Arc<AddressSender<A>>,
    slots: Arc<Slots>,
}

impl<A: actix::Actor> ActorEntry<A> {
    pub(crate) fn new(sender: Arc<AddressSender<A>>, slots: Arc<Slots>) -> Self {
        Self { sender, slots }
    }
}

impl<A, M> Entry<M> for ActorEntry<A>
where
    A: actix::Actor<Context = Context<A>> + Handler<Admitted<M>>,
    Context<A>: ToEnvelope<A, Admitted<M>>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    fn connected(&self) -> bool {
        self.sender.connected()
    }

    fn send(&self, message: Admitted<M>) -> Result<Sent<M::Result>, Admitted<M>> {
        if let Some(owner) = self.slots.owner()
            && let Some(mut held) = owner.intake().holding()
        {
            let (tell_where, answer) = oneshot::channel();
            let sender = Arc::clone(&self.sender);
            held.push_back(Box::new(move || {
                if let Ok(answer) = sender.send(message) {
                    drop(tell_where.send(answer));
                }
            }));
            drop(held);
            owner.wake_by_ref();
            return Ok(Sent::Later(answer));
        }
        self.sender.send(message).map(Sent::Now).map_err(unwrap_send)
    }

    fn post(&self, message: Admitted<M>) -> Result<(), Admitted<M>> {
        if let Some(owner) = self.slots.owner()
            && let Some(mut held) = owner.intake().holding()
        {
            let sender = Arc::clone(&self.sender);
            held.push_back(Box::new(move || drop(sender.do_send(message))));
            drop(held);
            owner.wake_by_ref();
            return Ok(());
        }
        self.sender.do_send(message).map_err(unwrap_send)
    }
}

fn unwrap_send<M>(error: SendError<M>) -> M {
    error.into_inner()
}
