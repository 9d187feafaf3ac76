//! What supervision costs: a guarded ask against a raw one in the same run, and the memory of an
//! idle guarded actor. `cargo bench -p somaagent-supervision`.
#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench that cannot run should say so and stop"
)]
#![allow(clippy::disallowed_methods, reason = "the bench measures what the house forbids beside what it prescribes")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use actix::{Actor, Addr, Context, Handler, Message, Supervised};
use criterion::Criterion;
use prometheus::Registry;
use somaagent_supervision::{Admitted, Child, Port, Restart, Strategy, SupervisorSpec, Tree};
use tokio::{runtime::Runtime, task::LocalSet};

/// Both budgets of the kernel.
const MOST_RATIO: f64 = 2.0;
const MOST_BYTES: usize = 2_048;
const ACTORS: usize = 100_000;

struct Ask(u64);

impl Message for Ask {
    type Result = u64;
}

#[derive(Default)]
struct Echo;

impl Actor for Echo {
    type Context = Context<Self>;
}

impl Supervised for Echo {}

impl Child for Echo {
    const NAME: &'static str = "echo";
}

impl Handler<Ask> for Echo {
    type Result = u64;

    fn handle(&mut self, Ask(n): Ask, _: &mut Context<Self>) -> u64 {
        n
    }
}

impl Handler<Admitted<Ask>> for Echo {
    type Result = u64;

    fn handle(&mut self, message: Admitted<Ask>, _: &mut Context<Self>) -> u64 {
        let (Ask(n), _in_flight) = message.open();
        n
    }
}

struct Bench {
    runtime: Runtime,
    local: LocalSet,
}

impl Bench {
    fn new() -> Self {
        Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"),
            local: LocalSet::new(),
        }
    }

    fn run<F: Future>(&self, work: F) -> F::Output {
        self.local.block_on(&self.runtime, work)
    }
}

async fn raw_asks(addr: &Addr<Echo>, count: u64) -> Duration {
    let start = Instant::now();
    for n in 0..count {
        black_box(addr.send(Ask(n)).await.expect("an answer"));
    }
    start.elapsed()
}

async fn guarded_asks(port: &Port<Ask>, count: u64) -> Duration {
    let start = Instant::now();
    for n in 0..count {
        let answer = port.ask(Ask(n), Duration::from_secs(5)).await;
        black_box(answer.expect("an answer"));
    }
    start.elapsed()
}

fn asks(bench: &Bench) -> f64 {
    let (addr, port, _tree) = bench.run(async {
        let tree = Tree::new(&Registry::new()).expect("a tree");
        let root = tree.root(SupervisorSpec::new("root", Strategy::OneForOne));
        let seat = root.seat::<Echo>(Restart::Permanent);
        let port = seat.port::<Ask>("ask", 64);
        seat.start(Echo::default).await.expect("a child");
        (Echo.start(), port, tree)
    });
    let mut criterion = Criterion::default().configure_from_args();
    criterion.bench_function("raw Addr::send", |b| {
        b.iter_custom(|count| bench.run(raw_asks(&addr, count)));
    });
    criterion.bench_function("guarded Port::ask", |b| {
        b.iter_custom(|count| bench.run(guarded_asks(&port, count)));
    });
    // Criterion does not hand its figures out: the ratio is taken from alternating rounds, so that
    // both sides see the same machine.
    let mut ratios: Vec<f64> = (0..31)
        .map(|_| {
            let raw = bench.run(raw_asks(&addr, 20_000));
            let guarded = bench.run(guarded_asks(&port, 20_000));
            guarded.as_secs_f64() / raw.as_secs_f64()
        })
        .collect();
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied().expect("rounds were run")
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages");
    pages * 4_096
}

fn memory(bench: &Bench) -> usize {
    bench.run(async {
        let tree = Tree::new(&Registry::new()).expect("a tree");
        let root = tree.root(SupervisorSpec::new("root", Strategy::OneForOne));
        let mut ports = Vec::with_capacity(ACTORS);
        // The first ones pay for what all share.
        for _ in 0..1_000 {
            ports.push(idle(&root).await);
        }
        let before = resident();
        for _ in 1_000..ACTORS {
            ports.push(idle(&root).await);
        }
        let bytes = (resident() - before) / (ACTORS - 1_000);
        assert_eq!(tree.snapshot().groups[0].instances, ACTORS);
        bytes
    })
}

async fn idle(root: &somaagent_supervision::SupervisorRef) -> Port<Ask> {
    let seat = root.seat::<Echo>(Restart::Temporary);
    let port = seat.port::<Ask>("ask", 64);
    seat.start(Echo::default).await.expect("a child");
    // Once used, as every live actor was.
    port.ask(Ask(1), Duration::from_secs(5)).await.expect("an answer");
    port
}

fn main() {
    let bytes = memory(&Bench::new());
    let ratio = asks(&Bench::new());
    println!("guarded ask / raw send: {ratio:.2} (budget {MOST_RATIO})");
    println!("memory per idle guarded actor: {bytes} B (budget {MOST_BYTES})");
    // `cargo test` runs benches unoptimised, where figures mean nothing.
    if !cfg!(debug_assertions) {
        assert!(ratio <= MOST_RATIO, "the ask is over its budget");
        assert!(bytes <= MOST_BYTES, "the memory is over its budget");
    }
}
