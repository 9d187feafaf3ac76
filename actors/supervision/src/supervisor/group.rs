//! Stopping and starting children together: for a group's restart, for the supervisor's own stop,
//! and on its way up.

use std::{sync::Arc, time::Duration};

use actix::{ActorContext, AsyncContext, Context, Handler};
use tokio::time::Instant;

use super::{GRACE, Phase, Supervisor, Then, restart};
use crate::{cell::Goal, deadline::deadline, spec::Restart, wave::Wave};

impl Supervisor {
    pub(super) fn begin_wave(&mut self, group: &[u64], then: Then, ctx: &mut Context<Self>) {
        let roster = self.link.roster.lock();
        let children = group
            .iter()
            .filter_map(|order| {
                let member = roster.get(order)?;
                Some((*order, member.policy == Restart::Temporary))
            })
            .collect();
        drop(roster);
        let wave = Wave::new(children);
        self.state.phase = Phase::Stopping { wave, then };
        self.stop_next(ctx);
    }

    fn stop_next(&mut self, ctx: &mut Context<Self>) {
        self.cancel_timer(ctx);
        let Phase::Stopping { wave, .. } = &mut self.state.phase else {
            return;
        };
        let batch = wave.next();
        if batch.is_empty() {
            self.wave_done(ctx);
            return;
        }
        let own = self.link.cell().map(|cell| cell.goal());
        let ending = matches!(own, Some(Goal::Gone { .. }));
        let own_deadline = own.and_then(|goal| goal.deadline());
        let leaf_deadline = deadline(Instant::now(), self.link.spec.stop_within);
        let leaf_deadline = own_deadline.map_or(leaf_deadline, |own| own.min(leaf_deadline));
        let mut patience = Some(leaf_deadline);
        let mut missing = Vec::new();
        for order in batch {
            let roster = self.link.roster.lock();
            let Some(member) = roster.get(&order) else {
                missing.push(order);
                continue;
            };
            let deadline = if member.subtree.is_some() {
                patience = own_deadline;
                own_deadline
            } else {
                Some(leaf_deadline)
            };
            let cell = Arc::clone(&member.cell);
            let gone = ending || member.policy == Restart::Temporary;
            drop(roster);
            cell.command(if gone { Goal::Gone { deadline } } else { Goal::Park { deadline } });
        }
        if let Some(deadline) = patience {
            let wait = deadline.saturating_duration_since(Instant::now()) + GRACE;
            self.state.timer = Some(ctx.run_later(wait, |this, ctx| {
                this.state.timer = None;
                this.give_up(ctx);
            }));
        }
        for order in missing {
            self.on_stopped(order, ctx);
        }
    }

    /// The guards awaited did not answer: their thread is blocked. They will find their goal when
    /// it no longer is.
    fn give_up(&mut self, ctx: &mut Context<Self>) {
        let Phase::Stopping { wave, .. } = &self.state.phase else {
            return;
        };
        for order in wave.waiting().clone() {
            tracing::error!(supervisor = &*self.link.path, order, "child does not answer: its thread is blocked");
            self.on_stopped(order, ctx);
        }
    }

    pub(super) fn on_stopped(&mut self, order: u64, ctx: &mut Context<Self>) {
        if let Phase::Stopping { wave, .. } = &mut self.state.phase
            && wave.stopped(order)
        {
            self.stop_next(ctx);
        }
    }

    fn wave_done(&mut self, ctx: &mut Context<Self>) {
        match std::mem::replace(&mut self.state.phase, Phase::Stopped) {
            Phase::Stopping { then: Then::Start { group, after }, .. } => {
                if after.is_zero() {
                    self.start_group(group, ctx);
                    return;
                }
                self.state.phase = Phase::BackingOff { group };
                self.state.timer = Some(ctx.run_later(after, |this, ctx| {
                    this.state.timer = None;
                    if let Phase::BackingOff { group } = &mut this.state.phase {
                        let group = std::mem::take(group);
                        this.start_group(group, ctx);
                    }
                }));
            }
            _ => ctx.stop(),
        }
    }

    fn start_group(&mut self, group: Vec<u64>, ctx: &mut Context<Self>) {
        self.state.phase = Phase::Starting { rest: group.into(), current: 0 };
        self.start_next(ctx);
    }

    pub(super) fn start_next(&mut self, ctx: &mut Context<Self>) {
        while let Phase::Starting { rest, current } = &mut self.state.phase {
            let Some(order) = rest.pop_front() else {
                self.run(ctx);
                return;
            };
            *current = order;
            if let Some(member) = self.link.roster.lock().get_mut(&order) {
                restart(member, Duration::ZERO);
                return;
            }
        }
    }

    /// The group is up: back to single events, those that waited first.
    pub(super) fn run(&mut self, ctx: &mut Context<Self>) {
        self.state.phase = Phase::Running;
        if std::mem::take(&mut self.state.announce)
            && let Some(cell) = self.link.cell()
        {
            cell.report_started();
        }
        for event in std::mem::take(&mut self.state.deferred) {
            self.handle(event, ctx);
        }
    }

    fn cancel_timer(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.state.timer.take() {
            ctx.cancel_future(timer);
        }
    }
}
