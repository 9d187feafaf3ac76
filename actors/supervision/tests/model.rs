//! Random failure schedules against a model of OTP's rules.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests spawn the neighbours they play themselves")]

mod support;

use std::time::Duration;

use proptest::prelude::*;
use somaagent_supervision::{Port, Restart, Strategy as Which};
use support::{Do, Stage, lenient, settle, stage};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const WITHIN: Duration = Duration::from_secs(10);

/// What happens to which child, how long after the event before.
#[derive(Debug, Clone, Copy)]
struct Event {
    child: usize,
    crash: bool,
    after_ms: u64,
}

/// OTP's rules (supervisor(3)). One deviation, which the crate documents: a transient child that
/// stopped itself has ended for good.
struct Model {
    strategy: Which,
    max: usize,
    alive: Vec<Option<Restart>>,
    restarts: Vec<u64>,
    down: bool,
}

impl Model {
    /// The children started by the event, in order.
    fn on(&mut self, now: u64, child: usize, crash: bool) -> Vec<usize> {
        let Some(policy) = self.alive[child].filter(|_| !self.down) else {
            return vec![];
        };
        if policy == Restart::Temporary || (policy == Restart::Transient && !crash) {
            self.alive[child] = None;
            return vec![];
        }
        self.restarts.retain(|at| now - at <= 10_000);
        self.restarts.push(now);
        self.down = self.restarts.len() > self.max;
        let group = match self.strategy {
            _ if self.down => 0..0,
            Which::OneForOne => child..child + 1,
            Which::OneForAll => 0..self.alive.len(),
            Which::RestForOne => child..self.alive.len(),
        };
        for slot in &mut self.alive[group.clone()] {
            *slot = slot.filter(|policy| *policy != Restart::Temporary);
        }
        group.filter(|at| self.alive[*at].is_some()).collect()
    }
}

/// Runs one event on the real thing; the children it started, in order.
async fn play(stage: &Stage, ports: &[Port<Do>], event: Event) -> Vec<usize> {
    tokio::time::sleep(Duration::from_millis(event.after_ms)).await;
    stage.log.take();
    let what = if event.crash { Do::Panic } else { Do::Stop };
    // Refused by a child that has ended, as it should be.
    drop(ports[event.child].tell(what));
    settle().await;
    let lines = stage.log.take();
    let started = lines.iter().filter_map(|line| line.strip_suffix(" started"));
    started.map(|name| NAMES.iter().position(|there| *there == name).unwrap()).collect()
}

async fn compare(strategy: Which, max: u32, policies: Vec<Restart>, events: Vec<Event>) {
    let stage = Stage::new(lenient("root", strategy).intensity(max, WITHIN));
    let mut ports = Vec::new();
    for (name, policy) in NAMES.into_iter().zip(&policies) {
        ports.push(stage.imp(&stage.root, name, *policy).await);
    }
    let mut model = Model {
        strategy,
        max: max as usize,
        alive: policies.into_iter().map(Some).collect(),
        restarts: vec![],
        down: false,
    };
    let mut now = 0;
    for event in events {
        now += event.after_ms;
        let expected = model.on(now, event.child, event.crash);
        assert_eq!(play(&stage, &ports, event).await, expected, "{event:?}");
        let exhausted = futures_util::poll!(std::pin::pin!(stage.tree.exhausted())).is_ready();
        assert_eq!(exhausted, model.down, "exhausted after {event:?}");
        for (port, alive) in ports.iter().zip(&model.alive) {
            let alive = alive.is_some() && !model.down;
            assert_eq!(!port.is_closed(), alive, "{port:?} after {event:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_verdict_is_the_one_of_the_model(
        strategy in prop::sample::select(vec![
            Which::OneForOne,
            Which::OneForAll,
            Which::RestForOne,
        ]),
        max in 0_u32..5,
        policies in prop::collection::vec(
            prop::sample::select(vec![
                Restart::Permanent,
                Restart::Transient,
                Restart::Temporary,
            ]),
            1..=NAMES.len(),
        ),
        events in prop::collection::vec((0..NAMES.len(), any::<bool>(), 0_u64..6_000), 1..25),
    ) {
        let count = policies.len();
        let events = events
            .into_iter()
            .map(|(child, crash, after_ms)| Event { child: child % count, crash, after_ms })
            .collect();
        stage(compare(strategy, max, policies, events));
    }
}
