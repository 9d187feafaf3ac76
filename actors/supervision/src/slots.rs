//! The bound of a port: its slots, who holds them since when, and whether it is open.
//!
//! One lock guards all three, because closing several ports only if all are idle, and telling the
//! age of the oldest message, need them to change together. Nothing is done under it but counting.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use slab::Slab;
use tokio::{sync::Notify, time::Instant};
use tracing::Span;

use crate::{cell::ChildCell, error::AskError, metrics::PortMetrics};

/// One port's slots, shared by its clones and by every message that holds one.
pub(crate) struct Slots {
    name: &'static str,
    message: &'static str,
    capacity: usize,
    state: Mutex<State>,
    emptied: Notify,
    metrics: Option<Arc<PortMetrics>>,
    owner: Option<Arc<ChildCell>>,
}

struct State {
    door: Door,
    held: Slab<Instant>,
}

/// Whether a port takes messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    Draining,
    Down,
}

impl Slots {
    pub(crate) fn new(
        name: &'static str,
        message: &'static str,
        capacity: usize,
        metrics: Option<Arc<PortMetrics>>,
        owner: Option<Arc<ChildCell>>,
    ) -> Arc<Self> {
        if let Some(metrics) = &metrics {
            metrics.opened_port(capacity);
        }
        Arc::new(Self {
            name,
            message,
            capacity,
            state: Mutex::new(State { door: Door::Open, held: Slab::new() }),
            emptied: Notify::new(),
            metrics,
            owner,
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn message(&self) -> &'static str {
        self.message
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn owner(&self) -> Option<&Arc<ChildCell>> {
        self.owner.as_ref()
    }

    pub(crate) fn metrics(&self) -> Option<&PortMetrics> {
        self.metrics.as_deref()
    }

    pub(crate) fn depth(&self) -> usize {
        self.state.lock().held.len()
    }

    pub(crate) fn door(&self) -> Door {
        self.state.lock().door
    }

    /// The age of the message held longest, queued or in hand.
    pub(crate) fn oldest(&self, now: Instant) -> Option<Duration> {
        let state = self.state.lock();
        let oldest = state.held.iter().map(|(_, since)| *since).min()?;
        Some(now.saturating_duration_since(oldest))
    }

    /// Takes a slot, or says at once why there is none.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Slot, AskError> {
        let since = Instant::now();
        let mut state = self.state.lock();
        let refusal = match state.door {
            Door::Draining => AskError::Draining,
            Door::Down => AskError::Down,
            Door::Open if state.held.len() >= self.capacity => AskError::Busy,
            Door::Open => {
                let key = state.held.insert(since);
                drop(state);
                if let Some(metrics) = &self.metrics {
                    metrics.entered();
                }
                return Ok(Slot { slots: Arc::clone(self), key, since, _span: self.span() });
            }
        };
        drop(state);
        self.refused(refusal);
        Err(refusal)
    }

    /// The message's span, a child of what its sender is in: from the admission until the slot is given back.
    fn span(&self) -> Span {
        let actor = self.owner.as_ref().map_or("actor", |owner| owner.name());
        tracing::debug_span!("actor", otel.name = %format_args!("actor.{actor}.{}", self.message))
    }

    /// Counts a message that was not taken.
    pub(crate) fn refused(&self, reason: AskError) {
        if let Some(metrics) = &self.metrics {
            metrics.refused(reason);
        }
    }

    /// Closes the door. `Down` is final; `Draining` does not undo it.
    pub(crate) fn close(&self, door: Door) {
        let mut state = self.state.lock();
        if state.door != Door::Down {
            state.door = door;
        }
        drop(state);
        self.emptied.notify_waiters();
    }

    /// Waits until no slot is held.
    pub(crate) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            // Registered before looking, so a slot given back in between is not missed.
            emptied.as_mut().enable();
            if self.depth() == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn leave(&self, key: usize) {
        let mut state = self.state.lock();
        state.held.remove(key);
        let emptied = state.held.is_empty() && state.door != Door::Open;
        drop(state);
        if emptied {
            self.emptied.notify_waiters();
        }
        if let Some(metrics) = &self.metrics {
            metrics.left();
        }
    }

    /// Closes all of `ports`, or none when a slot of any is held.
    pub(crate) fn close_all_if_idle(mut ports: Vec<&Arc<Self>>) -> bool {
        // Locked in one order everywhere, each once, so that two callers cannot wait for each other.
        ports.sort_by_key(|slots| Arc::as_ptr(slots));
        ports.dedup_by_key(|slots| Arc::as_ptr(slots));
        let mut states: Vec<_> = ports.iter().map(|slots| slots.state.lock()).collect();
        if states.iter().any(|state| !state.held.is_empty()) {
            return false;
        }
        for state in &mut states {
            if state.door == Door::Open {
                state.door = Door::Draining;
            }
        }
        drop(states);
        for slots in ports {
            slots.emptied.notify_waiters();
        }
        true
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        if let Some(metrics) = &self.metrics {
            metrics.closed_port(self.capacity);
        }
    }
}

/// One taken slot; given back by `Drop`.
pub(crate) struct Slot {
    slots: Arc<Slots>,
    key: usize,
    since: Instant,
    _span: Span,
}

impl Slot {
    pub(crate) fn slots(&self) -> &Arc<Slots> {
        &self.slots
    }

    pub(crate) fn since(&self) -> Instant {
        self.since
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.leave(self.key);
    }
}
