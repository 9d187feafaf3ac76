//! Places for calls of one kind: so many run at a time, the others wait in the order they came.
//!
//! Each kind has places and a retry budget of its own, so that writes, which come in floods after an outage, take
//! nothing from the recalls somebody waits for.

use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use actix::Message;
use futures_util::future::LocalBoxFuture;
use somaagent_supervision::{InFlight, Reply};
use tokio::time::Instant;

use super::{budget::RetryBudget, caller::Caller, messages::BrainError};

/// The kinds of calls that have places of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Recalls: somebody waits for the answer.
    Recall,
    /// Writes of memories.
    Write,
    /// Everything else.
    Question,
}

/// An ask that ends in one answer through its own reply.
pub(super) trait Ask: Message<Result = ()> + Sized + 'static {
    /// What the server's answer is made into.
    type Answer: 'static;
    /// Whose places it takes.
    const KIND: Kind;

    /// Calls the server, as often as the rules allow. `since` is when the ask was let into the mailbox.
    async fn answer(&self, caller: &Caller, since: Instant) -> Result<Self::Answer, BrainError>;

    /// Where the answer goes.
    fn reply(&self) -> &Reply<Result<Self::Answer, BrainError>>;

    /// The same, to be used up.
    fn into_reply(self) -> Reply<Result<Self::Answer, BrainError>>;
}

/// An ask that waits for its place.
pub(super) trait Job {
    /// Whether nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool;

    /// Does it and answers.
    fn run(self: Box<Self>, caller: Caller) -> LocalBoxFuture<'static, ()>;
}

/// An ask with its place in the mailbox, which bounds how many wait.
pub(super) struct Waiting<M> {
    pub ask: M,
    pub in_flight: InFlight,
}

impl<M: Ask> Job for Waiting<M> {
    fn is_abandoned(&self) -> bool {
        self.ask.reply().is_abandoned()
    }

    fn run(self: Box<Self>, caller: Caller) -> LocalBoxFuture<'static, ()> {
        Box::pin(async move {
            let Self { ask, in_flight } = *self;
            let answer = ask.answer(&caller, in_flight.admitted_at()).await;
            // The place first: an asker that has its answer finds the room again.
            drop(in_flight);
            ask.into_reply().send(answer);
        })
    }
}

/// The places of one kind and who waits for them.
pub(super) struct Lane {
    bound: usize,
    running: usize,
    waiting: VecDeque<Box<dyn Job>>,
    /// Shared with the calls under way, on one thread. Never borrowed over an await.
    pub budget: Rc<RefCell<RetryBudget>>,
}

impl Lane {
    /// `bound` places, all free.
    pub fn new(bound: usize) -> Self {
        let budget = Rc::new(RefCell::new(RetryBudget::new(Instant::now())));
        Self { bound: bound.max(1), running: 0, waiting: VecDeque::new(), budget }
    }

    /// Queues a job.
    pub fn push(&mut self, job: Box<dyn Job>) {
        self.waiting.push_back(job);
    }

    /// The next job that somebody still waits for, if there is a place; it holds the place until [`Lane::free`].
    pub fn next(&mut self) -> Option<Box<dyn Job>> {
        while self.running < self.bound {
            let job = self.waiting.pop_front()?;
            if !job.is_abandoned() {
                self.running += 1;
                return Some(job);
            }
        }
        None
    }

    /// Gives a place back.
    pub const fn free(&mut self) {
        self.running -= 1;
    }
}
