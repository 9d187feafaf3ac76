//! The tree: roots, references to supervisors, and what all of them share.

use std::{fmt, sync::Arc, time::Duration};

use actix::dev::channel::channel;
use parking_lot::Mutex;
use prometheus::Registry;
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, timeout_at},
};

use crate::{
    cell::{ChildCell, Goal, Parent, Report},
    deadline::deadline,
    error::{ExitReason, StartError},
    farewell::Farewell,
    frame,
    guard::{GuardParts, Seed},
    metrics::Metrics,
    seat::{Seat, spawn_guard},
    spec::{Child, Restart, SupervisorSpec},
    supervisor::{GRACE, Link, StartChild, Supervisor},
};

/// All supervised actors of a process, their metrics, and the way to look at them.
#[derive(Clone)]
pub struct Tree {
    shared: Arc<TreeShared>,
}

pub(crate) struct TreeShared {
    metrics: Metrics,
    roots: Mutex<Vec<Arc<Link>>>,
    exhausted: watch::Sender<Option<ExitReason>>,
}

impl TreeShared {
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    pub(crate) fn roots(&self) -> Vec<Arc<Link>> {
        self.roots.lock().clone()
    }

    /// Hears the guard of a root: nobody is above it to restart it.
    pub(crate) fn hear(&self, root: &Arc<ChildCell>, report: &Report) {
        if let Report::Exited { reason, .. } = report {
            tracing::error!(root = root.name(), %reason, "the root has given up");
            root.command(Goal::Gone { deadline: None });
            self.exhausted.send_replace(Some(reason.clone()));
        }
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").finish_non_exhaustive()
    }
}

impl Tree {
    /// A tree without roots. Registers the `actor_*` metrics and, once per process, the panic hook
    /// that logs a panicking actor's name and message type.
    ///
    /// # Errors
    /// The registry already has metrics of these names.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        frame::install_panic_hook();
        Ok(Self {
            shared: Arc::new(TreeShared {
                metrics: Metrics::register(registry)?,
                roots: Mutex::new(Vec::new()),
                exhausted: watch::Sender::new(None),
            }),
        })
    }

    /// Starts a supervisor without a parent on the current thread.
    ///
    /// # Panics
    /// Outside a `tokio::task::LocalSet` (an actix system has one).
    #[must_use]
    pub fn root(&self, spec: SupervisorSpec) -> SupervisorRef {
        let path = spec.name.into();
        let parent = Parent::Tree(Arc::clone(&self.shared));
        let (parts, link) = supervisor_parts(spec, path, &self.shared, parent);
        self.shared.roots.lock().push(Arc::clone(&link));
        spawn_guard(parts, Farewell::new(Supervisor::NAME, None));
        SupervisorRef { link }
    }

    /// Resolves when a root has failed more often than its spec allows, with the reason; at once if
    /// one has. The process cannot go on: drain and exit.
    pub async fn exhausted(&self) -> ExitReason {
        let mut exhausted = self.shared.exhausted.subscribe();
        match exhausted.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(ExitReason::Shutdown),
            // The sender lives in `self`.
            Err(_) => std::future::pending().await,
        }
    }

    pub(crate) fn shared(&self) -> &TreeShared {
        &self.shared
    }
}

/// A running supervisor: starts and stops children. Cheap to clone, usable from any thread; dropping
/// it stops nothing.
#[derive(Clone)]
pub struct SupervisorRef {
    link: Arc<Link>,
}

impl fmt::Debug for SupervisorRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SupervisorRef").field(&self.link.path).finish()
    }
}

impl SupervisorRef {
    /// Starts a supervisor as a `Permanent` child of this one and waits until it is up. When it
    /// exceeds its own restart intensity that is one failure of one child here, and it is restarted
    /// with all its children.
    ///
    /// # Errors
    /// `SupervisorDown` when this supervisor has ended.
    pub async fn supervisor(&self, spec: SupervisorSpec) -> Result<Self, StartError> {
        let path = format!("{}/{}", self.link.path, spec.name).into();
        let parent = Parent::Supervisor(Arc::clone(&self.link));
        let (parts, link) = supervisor_parts(spec, path, &self.link.tree, parent);
        let (starter, outcome) = oneshot::channel();
        self.link.start(StartChild {
            cell: Arc::clone(&parts.cell),
            policy: Restart::Permanent,
            subtree: Some(Arc::clone(&link)),
            farewell: Farewell::new(Supervisor::NAME, None),
            spawn: Box::new(move |farewell| spawn_guard(parts, farewell)),
            starter: Some(starter),
        });
        outcome.await.unwrap_or(Err(StartError::SupervisorDown)).map(|()| Self { link })
    }

    /// Reserves a place for a child. Nothing runs until the seat is started.
    pub fn seat<A: Child>(&self, restart: Restart) -> Seat<A> {
        Seat::new(Arc::clone(&self.link), restart)
    }

    /// Stops the supervisor for good: its children in reverse start order, each awaited until it is
    /// dropped, then itself. What has not stopped `within` the time is dropped where it is.
    pub async fn stop(&self, within: Duration) {
        let Some(cell) = self.link.cell() else {
            return;
        };
        let gone = cell.mourn();
        let until = deadline(Instant::now(), within);
        cell.command(Goal::Gone { deadline: Some(until) });
        if timeout_at(until + GRACE, gone).await.is_err() {
            tracing::error!(supervisor = &*self.link.path, "did not stop in time");
        }
    }

    /// Where it is in the tree: the names from the root down, joined by slashes.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.link.path
    }
}

/// What a supervisor's guard starts with, and the link everybody reaches it by.
fn supervisor_parts(
    spec: SupervisorSpec,
    path: Arc<str>,
    tree: &Arc<TreeShared>,
    parent: Parent,
) -> (GuardParts<Supervisor>, Arc<Link>) {
    let cell = ChildCell::new(spec.name, parent);
    let (sender, mailbox) = channel(0);
    let sender = Arc::new(sender);
    let stop_within = spec.stop_within;
    let link = Link::new(spec, path, Arc::clone(tree), Arc::clone(&sender));
    link.set_cell(Arc::clone(&cell));
    let own = Arc::clone(&link);
    let parts = GuardParts {
        cell,
        sender,
        seed: Seed { mailbox, make: Box::new(move || Supervisor::new(own)) },
        stop_within,
        up_when_started: false,
    };
    (parts, link)
}
