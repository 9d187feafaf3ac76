//! What a supervisor shares with its references, its children's guards and the tree's readers.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use actix::dev::channel::AddressSender;
use actix_rt::{Arbiter, ArbiterHandle, System};
use parking_lot::Mutex;

use crate::{
    cell::ChildCell,
    error::StartError,
    spec::{Restart, SupervisorSpec},
    supervisor::{Event, StartChild, Starter, Supervisor},
    tree::TreeShared,
    window::Backoff,
};

pub(crate) struct Link {
    pub(crate) spec: SupervisorSpec,
    pub(crate) path: Arc<str>,
    pub(crate) tree: Arc<TreeShared>,
    pub(crate) roster: Mutex<BTreeMap<u64, Member>>,
    cell: OnceLock<Arc<ChildCell>>,
    sender: Arc<AddressSender<Supervisor>>,
    last_order: AtomicU64,
    arbiters: OnceLock<Result<Vec<ArbiterHandle>, Arc<str>>>,
    next_arbiter: AtomicUsize,
}

/// One child, as its supervisor keeps it.
pub(crate) struct Member {
    pub(crate) cell: Arc<ChildCell>,
    pub(crate) policy: Restart,
    /// The child's own children, when it is a supervisor.
    pub(crate) subtree: Option<Arc<Link>>,
    pub(crate) generation: u32,
    /// The kind of the failure that the next restart answers; none for a restart with others.
    pub(crate) failed: Option<&'static str>,
    pub(crate) backoff: Option<Box<Backoff>>,
    /// Who waits for the first start.
    pub(crate) starter: Option<Starter>,
}

impl Link {
    pub(crate) fn new(
        spec: SupervisorSpec,
        path: Arc<str>,
        tree: Arc<TreeShared>,
        sender: Arc<AddressSender<Supervisor>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            spec,
            path,
            tree,
            roster: Mutex::new(BTreeMap::new()),
            cell: OnceLock::new(),
            sender,
            last_order: AtomicU64::new(0),
            arbiters: OnceLock::new(),
            next_arbiter: AtomicUsize::new(0),
        })
    }

    /// The supervisor's own cell, under its parent.
    pub(crate) fn cell(&self) -> Option<&Arc<ChildCell>> {
        self.cell.get()
    }

    pub(crate) fn set_cell(&self, cell: Arc<ChildCell>) {
        self.cell.get_or_init(|| cell);
    }

    /// Sends to the supervisor. Its mailbox is unbounded: only guards and references write to it.
    /// An ended supervisor drops the event, and with it whoever waits in it.
    pub(crate) fn tell(&self, event: Event) {
        drop(self.sender.do_send(event));
    }

    /// Asks the supervisor to start a child. When it has ended nobody is called back: the caller may
    /// hold locks that `on_exit` takes, and sees from its port that the child is down.
    pub(crate) fn start(&self, start: StartChild) {
        if let Err(unsent) = self.sender.do_send(Event::Start(start))
            && let Event::Start(mut start) = unsent.into_inner()
        {
            start.farewell.silence();
        }
    }

    pub(crate) fn next_order(&self) -> u64 {
        self.last_order.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The thread for the next child: `None` for the supervisor's own.
    pub(crate) fn place(&self) -> Result<Option<ArbiterHandle>, StartError> {
        if self.spec.arbiters == 0 {
            return Ok(None);
        }
        let arbiters = self
            .arbiters
            .get_or_init(|| start_arbiters(self.spec.arbiters))
            .as_ref()
            .map_err(|text| StartError::NoArbiter(Arc::clone(text)))?;
        let turn = self.next_arbiter.fetch_add(1, Ordering::Relaxed) % arbiters.len();
        Ok(arbiters.get(turn).cloned())
    }
}

/// Dropping an [`Arbiter`] detaches its thread; it runs on until the process ends.
fn start_arbiters(count: usize) -> Result<Vec<ArbiterHandle>, Arc<str>> {
    if System::try_current().is_none() {
        return Err("no actix system runs on this thread".into());
    }
    (0..count)
        .map(|_| Arbiter::try_new().map(|arbiter| arbiter.handle()))
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string().into())
}
