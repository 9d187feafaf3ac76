//! The guard: the future that runs one child in place of actix's own.
//!
//! It polls the actor inside `catch_unwind`, so a panic is caught before the context is dropped and
//! no hook runs while unwinding. It never decides: it works towards the goal its supervisor wrote
//! and reports what happened. Between runs it keeps the context, and with it mailbox and queue.

mod inside;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as Task, Poll, Waker},
    time::Duration,
};

use actix::{
    Context,
    dev::{
        ActorContext, AsyncContext, ContextFut,
        channel::{AddressReceiver, AddressSender},
    },
};
use tokio::time::{Instant, Sleep, sleep_until};

use self::inside::{Sampler, Threshold};
use crate::{
    cell::{COMMANDED, ChildCell, Goal, Phase, Report, WOKEN},
    deadline::deadline,
    error::ExitReason,
    farewell::Farewell,
    frame,
    slots::Door,
    spec::Child,
};

/// What the first run is made of.
pub(crate) struct Seed<A: Child> {
    pub(crate) mailbox: AddressReceiver<A>,
    pub(crate) make: Box<dyn FnOnce() -> A + Send>,
}

/// Everything a guard starts with; made on any thread, run on the child's.
pub(crate) struct GuardParts<A: Child> {
    pub(crate) cell: Arc<ChildCell>,
    pub(crate) sender: Arc<AddressSender<A>>,
    pub(crate) seed: Seed<A>,
    /// How long the actor may take to stop before it is begun anew.
    pub(crate) stop_within: Duration,
    /// Whether the end of `started` means that the child is up. A supervisor says so itself, once
    /// its own children are.
    pub(crate) up_when_started: bool,
}

pub(crate) struct Guard<A: Child> {
    cell: Arc<ChildCell>,
    waker: Waker,
    /// Keeps the mailbox connected: without any sender actix refuses to restart a context.
    _sender: Arc<AddressSender<A>>,
    seed: Option<Box<Seed<A>>>,
    actor: Option<ContextFut<A, Context<A>>>,
    goal: Goal,
    mode: Mode,
    generation: u32,
    timer: Option<Pin<Box<Sleep>>>,
    exit: Option<ExitReason>,
    farewell: Farewell,
    stop_within: Duration,
    up_when_started: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// Not running. `told`: the supervisor knows.
    Idle {
        told: bool,
    },
    /// Waiting to begin a generation.
    Waiting {
        generation: u32,
    },
    /// `started` has not returned yet.
    Starting,
    Running,
    /// Told to stop, stopping.
    Stopping,
}

enum Step {
    Again,
    Wait,
    Done,
}

impl<A: Child> Guard<A> {
    pub(crate) fn new(parts: GuardParts<A>, farewell: Farewell) -> Self {
        Self {
            waker: Waker::from(Arc::clone(&parts.cell)),
            goal: parts.cell.goal(),
            cell: parts.cell,
            _sender: parts.sender,
            seed: Some(Box::new(parts.seed)),
            actor: None,
            mode: Mode::Idle { told: true },
            generation: 0,
            timer: None,
            exit: None,
            farewell,
            stop_within: parts.stop_within,
            up_when_started: parts.up_when_started,
        }
    }

    fn step(&mut self, task: &mut Task<'_>) -> Step {
        match self.mode {
            Mode::Idle { told } => self.idle(told),
            Mode::Waiting { generation } => self.wait(generation, task),
            Mode::Starting | Mode::Running => self.run(task),
            Mode::Stopping => self.stop(task),
        }
    }

    fn idle(&mut self, told: bool) -> Step {
        match self.goal {
            Goal::Gone { .. } => {
                self.finish();
                Step::Done
            }
            Goal::Park { .. } => {
                if !told {
                    self.mode = Mode::Idle { told: true };
                    self.cell.set_phase(Phase::Parked);
                    self.cell.report(Report::Parked);
                }
                Step::Wait
            }
            Goal::Run { generation, .. } if generation == self.generation => Step::Wait,
            Goal::Run { generation, after, .. } => {
                self.mode = Mode::Waiting { generation };
                self.timer = None;
                if !after.is_zero() {
                    self.cell.set_phase(Phase::BackingOff);
                    self.timer = Some(Box::pin(sleep_until(deadline(Instant::now(), after))));
                    // What the lost run had in hand and in progress goes now, not after the wait.
                    if !self.renew() {
                        return Step::Again;
                    }
                }
                Step::Again
            }
        }
    }

    fn wait(&mut self, generation: u32, task: &mut Task<'_>) -> Step {
        match self.goal {
            Goal::Run { generation: wanted, .. } if wanted == generation => {}
            _ => {
                self.timer = None;
                self.mode = Mode::Idle { told: false };
                return Step::Again;
            }
        }
        let renewed = self.timer.is_some();
        if let Some(timer) = &mut self.timer {
            if timer.as_mut().poll(task).is_pending() {
                return Step::Wait;
            }
            self.timer = None;
        }
        if !renewed && !self.renew() {
            return Step::Again;
        }
        self.begin(generation);
        Step::Again
    }

    /// Makes the actor, or resets the one there is. False when that panicked.
    fn renew(&mut self) -> bool {
        let name = self.cell.name();
        let Goal::Run { generation, .. } = self.goal else {
            return false;
        };
        let renewed = match (self.seed.take(), &mut self.actor) {
            (Some(seed), _) => frame::contain(name, move || {
                let Seed { mailbox, make } = *seed;
                Some(Context::with_receiver(mailbox).into_future(make()))
            }),
            (None, Some(actor)) => frame::contain_teardown(name, || {
                actor.restart();
                None
            }),
            (None, None) => Err("there is no actor to restart".into()),
        };
        match renewed {
            Ok(made) => {
                if made.is_some() {
                    self.actor = made;
                }
                true
            }
            Err(text) => {
                self.generation = generation;
                self.exited(ExitReason::Panicked(text));
                false
            }
        }
    }

    fn begin(&mut self, generation: u32) {
        self.generation = generation;
        self.exit = None;
        self.mode = Mode::Starting;
        self.cell.begin(generation);
        if let (Goal::Run { why, .. }, true) = (self.goal, generation > 1) {
            self.cell.restarted(why);
        }
        if let Some(actor) = &mut self.actor {
            actor.ctx().spawn(Sampler::new(&self.cell));
            actor.ctx().wait(Threshold::default());
        }
    }

    fn run(&mut self, task: &mut Task<'_>) -> Step {
        match self.goal {
            Goal::Run { generation, .. } if generation == self.generation => {}
            goal => {
                let until = match goal {
                    Goal::Run { .. } => Some(deadline(Instant::now(), self.stop_within)),
                    told => told.deadline(),
                };
                self.timer = until.map(|until| Box::pin(sleep_until(until)));
                self.mode = Mode::Stopping;
                self.cell.set_phase(Phase::Stopping);
                if let Some(actor) = &mut self.actor {
                    actor.ctx().stop();
                }
                return Step::Again;
            }
        }
        match self.poll_actor(task) {
            Ok(Poll::Pending) => {
                if self.mode == Mode::Starting {
                    // The threshold holds the mailbox back in this poll: `started` returned.
                    self.mode = Mode::Running;
                    self.cell.set_phase(Phase::Running);
                    if self.up_when_started {
                        self.cell.report_started();
                    }
                }
                Step::Wait
            }
            Ok(Poll::Ready(())) => {
                let reason = self.cell.take_farewell().unwrap_or(ExitReason::Normal);
                self.exited(reason);
                Step::Again
            }
            Err(text) => {
                self.exited(ExitReason::Panicked(text));
                Step::Again
            }
        }
    }

    fn stop(&mut self, task: &mut Task<'_>) -> Step {
        match self.poll_actor(task) {
            Ok(Poll::Ready(())) => {}
            // Told to stop, it stopped: a panic on the way is noted and nothing more.
            Err(text) => self.cell.set_error(text),
            Ok(Poll::Pending) => {
                let late = self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(task).is_ready());
                if !late {
                    return Step::Wait;
                }
                self.cell.set_error("did not stop in time".into());
            }
        }
        self.timer = None;
        self.mode = Mode::Idle { told: false };
        Step::Again
    }

    fn poll_actor(&mut self, task: &mut Task<'_>) -> Result<Poll<()>, Arc<str>> {
        let Some(actor) = &mut self.actor else {
            return Ok(Poll::Ready(()));
        };
        let cell = &self.cell;
        frame::contain(cell.name(), || {
            let polled = Pin::new(actor).poll(task);
            cell.intake().release();
            polled
        })
        .inspect_err(|_| cell.intake().release())
    }

    fn exited(&mut self, reason: ExitReason) {
        let phase = if reason.is_abnormal() {
            self.cell.set_error(reason.to_string().into());
            Phase::Crashed
        } else {
            Phase::Ended
        };
        self.exit = Some(reason.clone());
        self.timer = None;
        self.mode = Mode::Idle { told: false };
        self.cell.set_phase(phase);
        self.cell.report(Report::Exited { generation: self.generation, reason, restartable: self.actor.is_some() });
    }

    /// Ends the child for good. The ports close first and `on_exit` runs before the queue is
    /// dropped, so an asker that hears `Down` already finds the child forgotten.
    fn finish(&mut self) {
        self.cell.close_ports(Door::Down);
        let reason = self.exit.take().unwrap_or(ExitReason::Shutdown);
        if let Err(text) = self.farewell.say(&reason) {
            self.cell.set_error(text);
        }
        self.drop_actor();
        self.cell.gone();
    }

    fn drop_actor(&mut self) {
        let name = self.cell.name();
        let seed = self.seed.take();
        let actor = self.actor.take();
        let dropped = frame::contain_teardown(name, move || {
            drop(seed);
            if let Some(mut actor) = actor {
                // A context that is not terminated polls the actor once more when dropped.
                actor.ctx().terminate();
                drop(actor);
            }
        });
        let discarded = frame::contain_teardown(name, || self.cell.intake().discard());
        if let Err(text) = dropped.and(discarded) {
            self.cell.set_error(text);
        }
    }
}

impl<A: Child> Future for Guard<A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.cell.attach(task.waker());
        let flags = this.cell.take_flags();
        if flags & COMMANDED != 0 {
            this.obey();
        }
        let waker = this.waker.clone();
        let mut inner = Task::from_waker(&waker);
        loop {
            match this.step(&mut inner) {
                Step::Again => {}
                Step::Done => return Poll::Ready(()),
                Step::Wait => break,
            }
        }
        if flags & WOKEN != 0 && this.mode == Mode::Running && this.cell.tells_state() {
            // The sampler may have run before a future that changed the state: look once more, in
            // a poll that nobody else asked for, or together with the next one that somebody does.
            task.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<A: Child> Guard<A> {
    /// Takes up a newly written goal.
    fn obey(&mut self) {
        self.goal = self.cell.goal();
        match self.mode {
            // Every new goal to park is answered, also by a child that is parked or crashed.
            Mode::Idle { .. } => self.mode = Mode::Idle { told: false },
            Mode::Stopping if !matches!(self.goal, Goal::Run { .. }) => {
                self.timer = self.goal.deadline().map(|until| Box::pin(sleep_until(until)));
            }
            _ => {}
        }
    }
}

impl<A: Child> Drop for Guard<A> {
    fn drop(&mut self) {
        if self.actor.is_none() && self.seed.is_none() {
            return;
        }
        // The runtime goes away under a running child.
        if std::thread::panicking() {
            // A panic in a hook or `Drop` would now abort the process.
            self.farewell.silence();
            std::mem::forget((self.actor.take(), self.seed.take()));
            return;
        }
        self.finish();
    }
}
