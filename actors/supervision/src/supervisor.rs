//! The supervisor: starts children in order, hears how they end, and decides.
//!
//! State: the phase it is in, its restart window, and what must wait until it runs again. The
//! children themselves are in the shared roster ([`Link`]), so they outlive its own restart.
//! Tells: [`Event`], from guards and references. Supervision: a child of its parent, `Permanent`;
//! crashes when its children failed more often than its spec allows.

mod group;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use actix::{Actor, Context, Handler, Message, Running, SpawnHandle, Supervised};
use tokio::{sync::oneshot, time::Instant};

pub(crate) use crate::link::{Link, Member};
use crate::{
    cell::{ChildCell, Goal, Report},
    deadline::deadline,
    error::{ExitReason, StartError},
    farewell::Farewell,
    spec::{Child, Restart, Strategy},
    verdict,
    wave::Wave,
    window::{Backoff, Window},
};

/// How much longer than a guard its supervisor waits: the guard's own deadline comes first, and
/// this one only when the guard's thread is blocked.
pub(crate) const GRACE: Duration = Duration::from_millis(500);

/// What a supervisor is told.
pub(crate) enum Event {
    Start(StartChild),
    Report { order: u64, report: Report },
}

impl Message for Event {
    type Result = ();
}

/// Tells who asked for a start how it went.
pub(crate) type Starter = oneshot::Sender<Result<(), StartError>>;

/// A child to start.
pub(crate) struct StartChild {
    pub(crate) cell: Arc<ChildCell>,
    pub(crate) policy: Restart,
    pub(crate) subtree: Option<Arc<Link>>,
    pub(crate) farewell: Farewell,
    /// Puts the guard on the thread it is called on.
    pub(crate) spawn: Box<dyn FnOnce(Farewell) + Send>,
    pub(crate) starter: Option<Starter>,
}

pub(crate) struct Supervisor {
    link: Arc<Link>,
    state: State,
}

struct State {
    phase: Phase,
    window: Window,
    /// Starts and failures that came while the supervisor was busy with a group.
    deferred: VecDeque<Event>,
    /// Whether to tell the parent that the subtree is up.
    announce: bool,
    timer: Option<SpawnHandle>,
}

impl State {
    fn new(link: &Link) -> Self {
        Self {
            phase: Phase::Running,
            window: Window::new(link.spec.max_restarts, link.spec.within),
            deferred: VecDeque::new(),
            announce: false,
            timer: None,
        }
    }
}

enum Phase {
    Running,
    /// Children are being stopped; `then` says what for.
    Stopping {
        wave: Wave,
        then: Then,
    },
    /// The group is stopped and waits to be started again.
    BackingOff {
        group: Vec<u64>,
    },
    /// The group is being started; `current` has not said yet that it is up.
    Starting {
        rest: VecDeque<u64>,
        current: u64,
    },
    /// All children are stopped and so is the supervisor.
    Stopped,
}

enum Then {
    Start { group: Vec<u64>, after: Duration },
    Stop,
}

impl Supervisor {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        let state = State::new(&link);
        Self { link, state }
    }
}

impl Actor for Supervisor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.state.announce = true;
        let group = self.all();
        if group.is_empty() {
            self.run(ctx);
            return;
        }
        // Begun anew: children that did not stop with the run before are stopped first.
        let then = Then::Start { group: group.clone(), after: Duration::ZERO };
        self.begin_wave(&group, then, ctx);
    }

    fn stopping(&mut self, ctx: &mut Context<Self>) -> Running {
        match self.state.phase {
            Phase::Stopped => return Running::Stop,
            Phase::Stopping { then: Then::Stop, .. } => return Running::Continue,
            _ => {}
        }
        let all = self.all();
        self.begin_wave(&all, Then::Stop, ctx);
        match self.state.phase {
            Phase::Stopped => Running::Stop,
            _ => Running::Continue,
        }
    }
}

impl Supervised for Supervisor {
    fn restarting(&mut self, _: &mut Context<Self>) {
        // Starts that came while the subtree was down are still owed.
        let deferred = std::mem::take(&mut self.state.deferred);
        self.state = State::new(&self.link);
        self.state.deferred = deferred.into_iter().filter(|event| matches!(event, Event::Start(_))).collect();
    }
}

impl Child for Supervisor {
    const NAME: &'static str = "supervisor";

    fn state_name(&self) -> &'static str {
        match self.state.phase {
            Phase::Running => "running",
            Phase::Stopping { then: Then::Stop, .. } | Phase::Stopped => "stopping",
            _ => "restarting",
        }
    }
}

impl Handler<Event> for Supervisor {
    type Result = ();

    fn handle(&mut self, event: Event, ctx: &mut Context<Self>) {
        match event {
            Event::Start(start) => match self.state.phase {
                Phase::Running => self.start_child(start),
                _ => self.state.deferred.push_back(Event::Start(start)),
            },
            Event::Report { order, report } => match report {
                Report::Started { generation } => self.on_started(order, generation, ctx),
                Report::Exited { generation, reason, restartable } => {
                    self.on_exited(order, generation, reason, restartable, ctx);
                }
                Report::Parked => self.on_stopped(order, ctx),
                Report::Gone => self.on_gone(order, ctx),
            },
        }
    }
}

impl Supervisor {
    fn start_child(&mut self, start: StartChild) {
        let StartChild { cell, policy, subtree, farewell, spawn, starter } = start;
        let place = match self.link.place() {
            Ok(place) => place,
            Err(error) => {
                tracing::error!(actor = cell.name(), error = &error as &dyn std::error::Error, "child not started");
                refuse(starter, error);
                return;
            }
        };
        if policy != Restart::Temporary {
            self.link.tree.metrics().may_restart(cell.name());
        }
        let order = self.link.next_order();
        cell.set_order(order);
        let member = Member { cell, policy, subtree, generation: 1, failed: None, backoff: None, starter };
        self.link.roster.lock().insert(order, member);
        match place {
            None => spawn(farewell),
            Some(arbiter) => {
                if !arbiter.spawn_fn(move || spawn(farewell))
                    && let Some(member) = self.link.roster.lock().remove(&order)
                {
                    let error = StartError::NoArbiter("its thread has ended".into());
                    refuse(member.starter, error);
                }
            }
        }
    }

    fn on_started(&mut self, order: u64, generation: u32, ctx: &mut Context<Self>) {
        {
            let mut roster = self.link.roster.lock();
            let Some(member) = roster.get_mut(&order) else {
                return;
            };
            if let Some(starter) = member.starter.take() {
                drop(starter.send(Ok(())));
            }
            if member.generation != generation {
                return;
            }
        }
        if matches!(self.state.phase, Phase::Starting { current, .. } if current == order) {
            self.start_next(ctx);
        }
    }

    fn on_exited(
        &mut self,
        order: u64,
        generation: u32,
        reason: ExitReason,
        restartable: bool,
        ctx: &mut Context<Self>,
    ) {
        let mut roster = self.link.roster.lock();
        let Some(member) = roster.get_mut(&order) else {
            return;
        };
        if member.generation != generation {
            // Begun anew since, together with others.
            return;
        }
        let name = member.cell.name();
        if let Some(starter) = member.starter.take() {
            // Nobody relies on it yet: who wanted it decides.
            let error = match reason {
                ExitReason::Panicked(text) => StartError::Panicked(text),
                _ => StartError::Stopped,
            };
            drop(starter.send(Err(error)));
            let cell = Arc::clone(&member.cell);
            drop(roster);
            cell.command(self.gone());
            return;
        }
        if !restartable || !verdict::restarts(member.policy, &reason) {
            let cell = Arc::clone(&member.cell);
            drop(roster);
            if reason.is_abnormal() {
                tracing::warn!(actor = name, order, %reason, "child ended and is not restarted");
            }
            cell.command(self.gone());
            return;
        }
        member.failed = Some(reason.kind());
        drop(roster);
        let now = match &self.state.phase {
            Phase::Running => true,
            Phase::Starting { current, .. } => *current == order,
            // A sibling that fails while it is stopped on command is not a fresh failure: when its
            // turn comes it has been begun anew, and the report is of an earlier generation.
            Phase::Stopping { .. } | Phase::BackingOff { .. } | Phase::Stopped => false,
        };
        if now {
            self.fail(order, &reason, ctx);
        } else {
            self.state
                .deferred
                .push_back(Event::Report { order, report: Report::Exited { generation, reason, restartable } });
        }
    }

    fn on_gone(&mut self, order: u64, ctx: &mut Context<Self>) {
        self.link.roster.lock().remove(&order);
        match self.state.phase {
            Phase::Starting { current, .. } if current == order => self.start_next(ctx),
            _ => self.on_stopped(order, ctx),
        }
    }

    fn fail(&mut self, order: u64, reason: &ExitReason, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let mut roster = self.link.roster.lock();
        let children: Vec<u64> = match self.link.spec.strategy {
            Strategy::OneForOne => Vec::new(),
            _ => roster.keys().copied().collect(),
        };
        let Some(member) = roster.get_mut(&order) else {
            return;
        };
        let name = member.cell.name();
        let supervisor = &*self.link.path;
        if !self.state.window.admit(now) {
            drop(roster);
            tracing::error!(
                actor = name, supervisor, %reason,
                "restart intensity exceeded: the supervisor stops"
            );
            self.escalate(&format!("{supervisor}/{name} {reason}"), ctx);
            return;
        }
        let mut backoff = member.backoff.take().map(|backoff| *backoff);
        let after = Backoff::next(&mut backoff, &self.link.spec.backoff, now);
        member.backoff = backoff.map(Box::new);
        tracing::warn!(
            actor = name, supervisor, %reason, after_ms = after.as_millis(),
            "child failed: restarting"
        );
        match verdict::group(self.link.spec.strategy, order, children.into_iter()) {
            None => {
                restart(member, after);
            }
            Some(group) => {
                drop(roster);
                let then = Then::Start { group: group.clone(), after };
                self.begin_wave(&group, then, ctx);
            }
        }
    }

    fn escalate(&mut self, cause: &str, ctx: &mut Context<Self>) {
        if let Some(cell) = self.link.cell() {
            cell.set_farewell(ExitReason::Escalated(cause.into()));
        }
        let all = self.all();
        self.begin_wave(&all, Then::Stop, ctx);
    }

    /// All children in start order.
    fn all(&self) -> Vec<u64> {
        self.link.roster.lock().keys().copied().collect()
    }

    fn gone(&self) -> Goal {
        Goal::Gone { deadline: Some(deadline(Instant::now(), self.link.spec.stop_within)) }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // Stopped children only wait to be dropped; those that did not stop in time are cut off.
        let now = Some(Instant::now());
        for member in self.link.roster.lock().values() {
            member.cell.command(Goal::Gone { deadline: now });
        }
    }
}

fn refuse(starter: Option<Starter>, error: StartError) {
    if let Some(starter) = starter {
        drop(starter.send(Err(error)));
    }
}

fn restart(member: &mut Member, after: Duration) {
    member.generation += 1;
    member.cell.command(Goal::Run {
        generation: member.generation,
        after,
        why: member.failed.take().unwrap_or("group"),
    });
}
