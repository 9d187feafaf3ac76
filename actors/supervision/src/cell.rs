//! What a child's guard, its supervisor, its ports and the tree's readers share.
//!
//! The supervisor writes a goal, the guard works towards it and reports. A goal replaces the one
//! before it, so there is no queue of commands to bound. The cell is also the waker the actor runs
//! under: it tells a wake by the outside from the guard's own second look at the actor's state.

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    task::{Wake, Waker},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    error::ExitReason,
    intake::Intake,
    slots::{Door, Slots},
    spec::UNTOLD,
    supervisor::{Event, Link},
    tree::TreeShared,
};

/// The actor was woken.
pub(crate) const WOKEN: u8 = 1;
/// The goal was written.
pub(crate) const COMMANDED: u8 = 2;

/// What a supervisor wants of a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Run, begun anew for each generation, `after` a wait. `why` is the restart's reason.
    Run { generation: u32, after: Duration, why: &'static str },
    /// Stop, keep mailbox and queue, and wait for the next goal. Dropped work after the deadline.
    Park { deadline: Option<Instant> },
    /// Stop and be gone. Final: no goal replaces it but an earlier deadline.
    Gone { deadline: Option<Instant> },
}

impl Goal {
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Run { .. } => None,
            Self::Park { deadline } | Self::Gone { deadline } => *deadline,
        }
    }
}

/// What a guard tells its supervisor.
#[derive(Debug)]
pub(crate) enum Report {
    /// `started` ran.
    Started { generation: u32 },
    /// The actor ended without being told to. `restartable`: there is a value to restart.
    Exited { generation: u32, reason: ExitReason, restartable: bool },
    /// The actor stopped as told and keeps its mailbox.
    Parked,
    /// The actor is dropped; nothing of it runs any more.
    Gone,
}

/// Who hears a guard's reports.
pub(crate) enum Parent {
    Supervisor(Arc<Link>),
    Tree(Arc<TreeShared>),
}

/// Where a child is in its life, as the tree shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting,
    Running,
    Stopping,
    Parked,
    Crashed,
    Ended,
    BackingOff,
    Gone,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Parked => "parked",
            Self::Crashed => "crashed",
            Self::Ended => "ended",
            Self::BackingOff => "backing-off",
            Self::Gone => "gone",
        }
    }
}

pub(crate) struct ChildCell {
    name: &'static str,
    label: OnceLock<Box<str>>,
    parent: Parent,
    order: AtomicU64,
    flags: AtomicU8,
    /// Whether the actor has state names of its own, so that a second look is worth its while.
    tells_state: AtomicBool,
    task: OnceLock<Waker>,
    intake: Intake,
    ports: Mutex<Vec<Weak<Slots>>>,
    core: Mutex<Core>,
}

struct Core {
    goal: Goal,
    phase: Phase,
    state: &'static str,
    generation: u32,
    restarts: u32,
    last_error: Option<Arc<str>>,
    farewell: Option<ExitReason>,
    mourners: Vec<oneshot::Sender<()>>,
}

/// What the tree shows of a child.
pub(crate) struct Look {
    pub(crate) state: &'static str,
    pub(crate) restarts: u32,
    pub(crate) last_error: Option<Arc<str>>,
}

impl ChildCell {
    pub(crate) fn new(name: &'static str, parent: Parent) -> Arc<Self> {
        Arc::new(Self {
            name,
            label: OnceLock::new(),
            parent,
            order: AtomicU64::new(0),
            flags: AtomicU8::new(WOKEN | COMMANDED),
            tells_state: AtomicBool::new(false),
            task: OnceLock::new(),
            intake: Intake::default(),
            ports: Mutex::new(Vec::new()),
            core: Mutex::new(Core {
                goal: Goal::Run { generation: 1, after: Duration::ZERO, why: "start" },
                phase: Phase::Starting,
                state: UNTOLD,
                generation: 0,
                restarts: 0,
                last_error: None,
                farewell: None,
                mourners: Vec::new(),
            }),
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn label(&self) -> Option<&str> {
        self.label.get().map(AsRef::as_ref)
    }

    pub(crate) fn set_label(&self, label: Box<str>) {
        self.label.get_or_init(|| label);
    }

    fn tree(&self) -> &TreeShared {
        match &self.parent {
            Parent::Supervisor(link) => &link.tree,
            Parent::Tree(tree) => tree,
        }
    }

    pub(crate) fn intake(&self) -> &Intake {
        &self.intake
    }

    /// The child's place in its supervisor's start order.
    pub(crate) fn order(&self) -> u64 {
        self.order.load(Ordering::Acquire)
    }

    pub(crate) fn set_order(&self, order: u64) {
        self.order.store(order, Ordering::Release);
    }

    // ---- supervisor's side -------------------------------------------------------------------

    /// Writes the goal and wakes the guard.
    pub(crate) fn command(self: &Arc<Self>, goal: Goal) {
        let mut core = self.core.lock();
        core.goal = match (core.goal, goal) {
            (Goal::Gone { deadline: old }, Goal::Gone { deadline: new }) => Goal::Gone {
                deadline: match (old, new) {
                    (Some(old), Some(new)) => Some(old.min(new)),
                    (old, new) => old.or(new),
                },
            },
            (gone @ Goal::Gone { .. }, _) => gone,
            (_, goal) => goal,
        };
        drop(core);
        self.flags.fetch_or(COMMANDED, Ordering::AcqRel);
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }

    /// Resolves when the child is gone; at once if it is.
    pub(crate) fn mourn(&self) -> oneshot::Receiver<()> {
        let (mourner, gone) = oneshot::channel();
        let mut core = self.core.lock();
        if core.phase != Phase::Gone {
            core.mourners.push(mourner);
        }
        gone
    }

    // ---- guard's side ------------------------------------------------------------------------

    /// Remembers the task to wake. A guard is polled by one task all its life.
    pub(crate) fn attach(&self, task: &Waker) {
        self.task.get_or_init(|| task.clone());
    }

    pub(crate) fn take_flags(&self) -> u8 {
        self.flags.swap(0, Ordering::AcqRel)
    }

    pub(crate) fn goal(&self) -> Goal {
        self.core.lock().goal
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.core.lock().phase = phase;
    }

    pub(crate) fn begin(&self, generation: u32) {
        let mut core = self.core.lock();
        core.generation = generation;
        core.phase = Phase::Starting;
        core.farewell = None;
        if generation > 1 {
            core.restarts += 1;
        }
    }

    pub(crate) fn restarted(&self, why: &str) {
        self.tree().metrics().restarted(self.name, why);
    }

    pub(crate) fn set_state(&self, state: &'static str) {
        if !std::ptr::eq(state, UNTOLD) {
            self.tells_state.store(true, Ordering::Relaxed);
        }
        self.core.lock().state = state;
    }

    pub(crate) fn tells_state(&self) -> bool {
        self.tells_state.load(Ordering::Relaxed)
    }

    pub(crate) fn set_error(&self, error: Arc<str>) {
        self.core.lock().last_error = Some(error);
    }

    /// What the actor said about its end before it stopped itself.
    pub(crate) fn take_farewell(&self) -> Option<ExitReason> {
        self.core.lock().farewell.take()
    }

    pub(crate) fn set_farewell(&self, reason: ExitReason) {
        self.core.lock().farewell = Some(reason);
    }

    pub(crate) fn report(self: &Arc<Self>, report: Report) {
        match &self.parent {
            Parent::Supervisor(link) => link.tell(Event::Report { order: self.order(), report }),
            Parent::Tree(tree) => tree.hear(self, &report),
        }
    }

    pub(crate) fn report_started(self: &Arc<Self>) {
        let generation = self.core.lock().generation;
        self.report(Report::Started { generation });
    }

    /// Marks the child gone and tells everybody who waits for it.
    pub(crate) fn gone(self: &Arc<Self>) {
        let mut core = self.core.lock();
        core.phase = Phase::Gone;
        let mourners = std::mem::take(&mut core.mourners);
        drop(core);
        self.report(Report::Gone);
        for mourner in mourners {
            // Who stopped waiting does not need to know.
            let _ = mourner.send(());
        }
    }

    // ---- ports and readers -------------------------------------------------------------------

    pub(crate) fn add_port(&self, slots: &Arc<Slots>) {
        self.ports.lock().push(Arc::downgrade(slots));
    }

    pub(crate) fn close_ports(&self, door: Door) {
        for slots in self.ports() {
            slots.close(door);
        }
    }

    pub(crate) fn ports(&self) -> Vec<Arc<Slots>> {
        self.ports.lock().iter().filter_map(Weak::upgrade).collect()
    }

    pub(crate) fn look(&self) -> Look {
        let core = self.core.lock();
        Look {
            state: match core.phase {
                Phase::Running => core.state,
                phase => phase.name(),
            },
            restarts: core.restarts,
            last_error: core.last_error.clone(),
        }
    }
}

impl Wake for ChildCell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.flags.fetch_or(WOKEN, Ordering::AcqRel);
        if let Some(task) = self.task.get() {
            task.wake_by_ref();
        }
    }
}
