//! The one writer of session history in a process: commits what came while the last commit was under way together.
//!
//! State: the steps waiting and whether a statement is under way. After a restart the waiting ones are gone and their
//! askers get no answer, which means [`Unknown`](crate::domain::append::Outcome::Unknown) to them.
//! Asks: [`messages::Commit`] → [`Outcome`].
//! Supervision: child of `sessions`, Permanent. Crashes on broken invariants only; what the database can do to it is an
//! outcome. The fence (a compare-and-set on the envelope's epoch and last number) makes every repetition harmless.

mod batch;
mod commit;
pub mod messages;
mod metrics;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Supervised, WrapFuture};
use somaagent_supervision::{Admitted, Child, InFlight, Reply};
use tokio::time::Instant;

use self::messages::Commit;
pub use self::metrics::JournalMetrics;
use crate::{
    domain::append::{Append, Outcome},
    store::Store,
};

/// See the module.
pub struct Journal {
    deps: Deps,
    state: State,
}

/// What the Journal needs; survives a restart.
#[derive(Clone)]
pub struct Deps {
    /// Where history is.
    pub store: Store,
    /// What it counts.
    pub metrics: JournalMetrics,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    committing: bool,
}

struct Waiting {
    append: Append,
    reply: Reply<Outcome>,
    in_flight: InFlight,
}

impl Journal {
    /// A journal with nothing to do.
    #[must_use]
    pub fn new(deps: Deps) -> Self {
        Self { deps, state: State::default() }
    }

    /// Sends what waits, unless a statement is under way: then it goes with the next.
    fn commit(&mut self, ctx: &mut Context<Self>) {
        if self.state.committing || self.state.waiting.is_empty() {
            return;
        }
        let batch = batch::take(&mut self.state.waiting, |waiting| &waiting.append);
        self.state.committing = true;
        self.deps.metrics.batch_size.observe(f64::from(u32::try_from(batch.len()).unwrap_or(u32::MAX)));
        let store = self.deps.store.clone();
        let metrics = self.deps.metrics.clone();
        let (steps, answers): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.append, (waiting.reply, waiting.in_flight))).unzip();
        let work = async move {
            let begun = Instant::now();
            let outcomes = commit::commit(&store, steps).await;
            metrics.commit_seconds.observe(begun.elapsed().as_secs_f64());
            for ((reply, in_flight), outcome) in answers.into_iter().zip(outcomes) {
                reply.send(outcome);
                drop(in_flight);
            }
        };
        ctx.spawn(work.into_actor(self).map(|(), this, ctx| {
            this.state.committing = false;
            this.commit(ctx);
        }));
    }
}

impl Actor for Journal {
    type Context = Context<Self>;
}

impl Supervised for Journal {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.state = State::default();
    }
}

impl Child for Journal {
    const NAME: &'static str = "journal";

    fn state_name(&self) -> &'static str {
        if self.state.committing { "committing" } else { "idle" }
    }
}

impl Handler<Admitted<Commit>> for Journal {
    type Result = ();

    fn handle(&mut self, message: Admitted<Commit>, ctx: &mut Context<Self>) {
        let (Commit { append, reply }, in_flight) = message.open();
        self.state.waiting.push_back(Waiting { append, reply, in_flight });
        self.commit(ctx);
    }
}
