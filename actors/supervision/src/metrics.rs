//! The `actor_*` metrics. Label values are names written in code, never ids.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::error::AskError;

/// 10 µs to about 10 s, each four times the one before.
const SECONDS: [f64; 11] = [0.000_01, 0.000_04, 0.000_16, 0.000_64, 0.002_5, 0.01, 0.04, 0.16, 0.64, 2.5, 10.0];

/// Why an actor is restarted: [`ExitReason::kind`] of those that can be, and a restart together with others.
///
/// [`ExitReason::kind`]: crate::ExitReason::kind
const RESTART_REASONS: [&str; 4] = ["normal", "panic", "escalated", "group"];

/// All metrics of one tree.
pub(crate) struct Metrics {
    depth: IntGaugeVec,
    capacity: IntGaugeVec,
    messages: IntCounterVec,
    wait: HistogramVec,
    handling: HistogramVec,
    restarts: IntCounterVec,
    dead_letters: IntCounterVec,
    ports: Mutex<HashMap<PortKey, Arc<PortMetrics>>>,
}

/// Actor, port and message type.
type PortKey = (&'static str, &'static str, &'static str);

impl Metrics {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let gauge = |name: &str, help: &str| {
            let vec = IntGaugeVec::new(Opts::new(name, help), &["actor", "port"])?;
            registry.register(Box::new(vec.clone()))?;
            Ok::<_, prometheus::Error>(vec)
        };
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let vec = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(vec.clone()))?;
            Ok::<_, prometheus::Error>(vec)
        };
        let histogram = |name: &str, help: &str| {
            let opts = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
            let vec = HistogramVec::new(opts, &["actor", "message"])?;
            registry.register(Box::new(vec.clone()))?;
            Ok::<_, prometheus::Error>(vec)
        };
        Ok(Self {
            depth: gauge("actor_mailbox_depth", "Messages queued or in hand, over all instances of the actor")?,
            capacity: gauge(
                "actor_mailbox_capacity",
                "Most messages that can be queued or in hand, over all instances of the actor",
            )?,
            messages: counter(
                "actor_messages_total",
                "Messages by outcome: handled, lost (in hand at a crash or stop), dead (never \
                 opened), or refused as busy, draining or down",
                &["actor", "message", "outcome"],
            )?,
            wait: histogram("actor_message_wait_seconds", "Time from the port to the handler")?,
            handling: histogram(
                "actor_message_handling_seconds",
                "Time from the handler's start until the message is done with",
            )?,
            restarts: counter(
                "actor_restarts_total",
                "Restarts by reason: normal, panic, escalated, or group (restarted with others)",
                &["actor", "reason"],
            )?,
            dead_letters: counter(
                "actor_dead_letters_total",
                "Messages accepted by a mailbox and never opened",
                &["actor", "message"],
            )?,
            ports: Mutex::new(HashMap::new()),
        })
    }

    /// The metrics of one port, shared by all instances of its actor.
    pub(crate) fn port(&self, actor: &'static str, port: &'static str, message: &'static str) -> Arc<PortMetrics> {
        let mut ports = self.ports.lock();
        let metrics = ports.entry((actor, port, message)).or_insert_with(|| {
            let outcome = |name| self.messages.with_label_values(&[actor, message, name]);
            Arc::new(PortMetrics {
                depth: self.depth.with_label_values(&[actor, port]),
                capacity: self.capacity.with_label_values(&[actor, port]),
                wait: self.wait.with_label_values(&[actor, message]),
                handling: self.handling.with_label_values(&[actor, message]),
                handled: outcome("handled"),
                lost: outcome("lost"),
                dead: outcome("dead"),
                busy: outcome("busy"),
                draining: outcome("draining"),
                down: outcome("down"),
                dead_letters: self.dead_letters.with_label_values(&[actor, message]),
            })
        });
        Arc::clone(metrics)
    }

    /// Shows an actor that may be restarted and was not yet: of a count that begins above 0 no increase is seen.
    pub(crate) fn may_restart(&self, actor: &str) {
        for reason in RESTART_REASONS {
            self.restarts.with_label_values(&[actor, reason]);
        }
    }

    pub(crate) fn restarted(&self, actor: &str, reason: &str) {
        self.restarts.with_label_values(&[actor, reason]).inc();
    }
}

/// The metrics one port writes, looked up once: a message costs a few atomic additions.
pub(crate) struct PortMetrics {
    depth: IntGauge,
    capacity: IntGauge,
    wait: Histogram,
    handling: Histogram,
    handled: IntCounter,
    lost: IntCounter,
    dead: IntCounter,
    busy: IntCounter,
    draining: IntCounter,
    down: IntCounter,
    dead_letters: IntCounter,
}

impl PortMetrics {
    pub(crate) fn opened_port(&self, capacity: usize) {
        self.capacity.add(i64::try_from(capacity).unwrap_or(i64::MAX));
    }

    pub(crate) fn closed_port(&self, capacity: usize) {
        self.capacity.sub(i64::try_from(capacity).unwrap_or(i64::MAX));
    }

    pub(crate) fn entered(&self) {
        self.depth.inc();
    }

    pub(crate) fn left(&self) {
        self.depth.dec();
    }

    pub(crate) fn waited(&self, time: Duration) {
        self.wait.observe(time.as_secs_f64());
    }

    pub(crate) fn done(&self, time: Duration, lost: bool) {
        self.handling.observe(time.as_secs_f64());
        if lost {
            self.lost.inc();
        } else {
            self.handled.inc();
        }
    }

    pub(crate) fn dead_letter(&self) {
        self.dead.inc();
        self.dead_letters.inc();
    }

    pub(crate) fn refused(&self, reason: AskError) {
        match reason {
            AskError::Busy => self.busy.inc(),
            AskError::Draining => self.draining.inc(),
            AskError::Down | AskError::Timeout => self.down.inc(),
        }
    }
}

/// The short name of a message type: without path and type arguments.
pub(crate) fn type_label<M>() -> &'static str {
    let full = std::any::type_name::<M>();
    let plain = full.split('<').next().unwrap_or(full);
    plain.rsplit("::").next().unwrap_or(plain)
}
