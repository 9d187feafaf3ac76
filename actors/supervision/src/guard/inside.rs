//! What a guard puts into the actor's context: futures, because only those get to see the actor.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll},
};

use actix::{Context, fut::ActorFuture};

use crate::{cell::ChildCell, spec::Child};

/// Copies the actor's state name to the cell whenever it changed. Never ready, so that
/// it is polled whenever the actor is.
pub(super) struct Sampler {
    cell: Arc<ChildCell>,
    last: &'static str,
}

impl Sampler {
    pub(super) fn new(cell: &Arc<ChildCell>) -> Self {
        Self { cell: Arc::clone(cell), last: "" }
    }
}

impl<A: Child> ActorFuture<A> for Sampler {
    type Output = ();

    fn poll(self: Pin<&mut Self>, actor: &mut A, _: &mut Context<A>, _: &mut Task<'_>) -> Poll<()> {
        let this = self.get_mut();
        let state = actor.state_name();
        if state != this.last {
            this.last = state;
            this.cell.set_state(state);
        }
        Poll::Pending
    }
}

/// Holds the mailbox back during the first poll of a run, which so runs `started` alone and tells a
/// panic in it from one in a handler.
#[derive(Default)]
pub(super) struct Threshold {
    crossed: bool,
}

impl<A: Child> ActorFuture<A> for Threshold {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut A, _: &mut Context<A>, task: &mut Task<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.crossed {
            return Poll::Ready(());
        }
        this.crossed = true;
        task.waker().wake_by_ref();
        Poll::Pending
    }
}
