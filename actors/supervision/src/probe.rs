//! A test double for a neighbour: a port whose messages the test takes by hand.

use std::{sync::Arc, time::Duration};

use actix::{
    Actor, Context, Handler, Message,
    dev::{
        EnvelopeProxy, MessageResponse, OneshotSender,
        channel::{AddressReceiver, channel},
    },
};
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::time::timeout;

use crate::{
    message::{Admitted, InFlight},
    metrics::type_label,
    port::{ActorEntry, Port},
    slots::Slots,
};

/// Receives what is sent to its port, one message at a time. Needs no actix system.
///
/// ```
/// use std::time::Duration;
/// use somaagent_supervision::Probe;
///
/// struct Double(u32);
/// impl actix::Message for Double {
///     type Result = u32;
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let (mut probe, port) = Probe::<Double>::new(4);
/// let asker = tokio::spawn(async move { port.ask(Double(4), Duration::from_secs(1)).await });
/// let (Double(n), reply) = probe.next().await;
/// reply.send(2 * n);
/// assert_eq!(asker.await.unwrap(), Ok(8));
/// # });
/// ```
pub struct Probe<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    mailbox: AddressReceiver<Catcher<M>>,
    caught: Caught<M>,
}

/// Where the last message is put: the message from the handler, the way back from its response.
type Caught<M> = Arc<Mutex<Option<(M, ProbeReply<M>)>>>;

impl<M> Probe<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    /// A probe and the port that leads to it.
    #[must_use]
    pub fn new(capacity: usize) -> (Self, Port<M>) {
        let (sender, mailbox) = channel(0);
        let slots = Slots::new("probe", type_label::<M>(), capacity, None, None);
        let port = Port::new(Arc::new(ActorEntry::new(Arc::new(sender), slots)));
        let probe = Self { mailbox, caught: Arc::default() };
        (probe, port)
    }

    /// The next message and the way to answer it. Messages whose asker has gone away are skipped, as
    /// an actor would. Waits for ever when none comes.
    pub async fn next(&mut self) -> (M, ProbeReply<M>) {
        loop {
            let Some(mut envelope) = self.mailbox.next().await else {
                return std::future::pending().await;
            };
            let mut catcher = Catcher(Arc::clone(&self.caught));
            envelope.handle(&mut catcher, &mut Context::new());
            if let Some(caught) = self.caught.lock().take() {
                return caught;
            }
        }
    }

    /// As [`next`](Self::next), but `None` when no message comes `within` the time.
    pub async fn next_within(&mut self, within: Duration) -> Option<(M, ProbeReply<M>)> {
        timeout(within, self.next()).await.ok()
    }
}

/// The answer to a message a [`Probe`] took. Dropped unsent, the asker gets
/// [`AskError::Down`](crate::AskError::Down). The message's slot is held until it is dropped.
pub struct ProbeReply<M: Message> {
    asker: Option<OneshotSender<M::Result>>,
    in_flight: InFlight,
}

impl<M: Message> ProbeReply<M> {
    /// Answers the asker; for a message that was told, does nothing.
    pub fn send(self, answer: M::Result) {
        // The slot first: an asker that has its answer finds the room again.
        let Self { asker, in_flight } = self;
        drop(in_flight);
        if let Some(asker) = asker {
            drop(asker.send(answer));
        }
    }

    /// Whether somebody waits for the answer.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.asker.as_ref().is_some_and(|asker| !asker.is_closed())
    }
}

/// The actor that never runs: it is handed one envelope at a time.
struct Catcher<M>(Caught<M>)
where
    M: Message + Send + 'static,
    M::Result: Send;

impl<M> Actor for Catcher<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    type Context = Context<Self>;
}

impl<M> Handler<Admitted<M>> for Catcher<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    type Result = Catch<M>;

    fn handle(&mut self, message: Admitted<M>, _: &mut Context<Self>) -> Catch<M> {
        let (message, in_flight) = message.open();
        Catch { message, in_flight, caught: Arc::clone(&self.0) }
    }
}

/// The response that answers nothing and keeps the way back.
struct Catch<M: Message> {
    message: M,
    in_flight: InFlight,
    caught: Caught<M>,
}

impl<M> MessageResponse<Catcher<M>, Admitted<M>> for Catch<M>
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    fn handle(self, _: &mut Context<Catcher<M>>, asker: Option<OneshotSender<M::Result>>) {
        let reply = ProbeReply { asker, in_flight: self.in_flight };
        *self.caught.lock() = Some((self.message, reply));
    }
}
