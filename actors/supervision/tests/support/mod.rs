//! One actor that does on command whatever can go wrong, and a stage to run it on.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, reason = "test support, shared by several test binaries")]

use std::{
    cell::RefCell,
    future::Future,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use actix::{
    Actor, ActorContext, AsyncContext, Context, Handler, Message, Running, Supervised,
    fut::{ActorFutureExt, WrapFuture},
};
use somaagent_supervision::{Admitted, Child, Port, Restart, Seat, Strategy, SupervisorRef, SupervisorSpec, Tree};

pub const SECOND: Duration = Duration::from_secs(1);

/// Runs a test in virtual time on a thread where actors can be spawned.
pub fn stage<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(tokio::task::LocalSet::new().run_until(test))
}

/// Lets everything run that can, without moving the clock.
pub async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// What happened, in order.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    /// The lines since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

/// Where an [`Imp`] panics, each once for every time it is named.
#[derive(Clone, Default)]
pub struct Plan(Arc<Mutex<Vec<&'static str>>>);

impl Plan {
    pub fn panic_in(&self, place: &'static str) {
        self.0.lock().unwrap().push(place);
    }

    fn meet(&self, place: &'static str) {
        let found = {
            let mut places = self.0.lock().unwrap();
            places.iter().position(|there| *there == place).map(|at| places.remove(at))
        };
        assert!(found.is_none(), "planned in {place}");
    }
}

/// What an [`Imp`] is told to do.
#[derive(Debug, Clone)]
pub enum Do {
    /// Count this message and answer the count.
    Count,
    Panic,
    /// Panic in a future of the actor, after a moment.
    PanicLater,
    Stop,
    /// Answer after a time, in a reply future.
    Take(Duration),
    /// Block the mailbox for a time.
    Block(Duration),
    /// After a time, call oneself tired.
    TireAfter(Duration),
    /// Note a line.
    Note(u32),
}

impl Message for Do {
    type Result = u32;
}

/// A message without an answer.
pub struct Hint(pub u32);

impl Message for Hint {
    type Result = ();
}

pub struct Imp {
    pub name: &'static str,
    pub log: Log,
    pub plan: Plan,
    /// Does not stop by itself before this time has passed.
    pub lingers: Option<Duration>,
    count: u32,
    tired: bool,
    lingering: bool,
}

impl Imp {
    pub fn new(name: &'static str, log: &Log, plan: &Plan) -> Self {
        Self { name, log: log.clone(), plan: plan.clone(), lingers: None, count: 0, tired: false, lingering: false }
    }

    /// Takes `time` to stop.
    pub fn lingering(mut self, time: Duration) -> Self {
        self.lingers = Some(time);
        self
    }
}

impl Actor for Imp {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Context<Self>) {
        self.plan.meet("started");
        self.log.note(format!("{} started", self.name));
    }

    fn stopping(&mut self, ctx: &mut Context<Self>) -> Running {
        self.plan.meet("stopping");
        if let Some(time) = self.lingers
            && !self.lingering
        {
            self.lingering = true;
            ctx.run_later(time, |_, ctx| ctx.stop());
            return Running::Continue;
        }
        Running::Stop
    }

    fn stopped(&mut self, _: &mut Context<Self>) {
        self.plan.meet("stopped");
        self.log.note(format!("{} stopped", self.name));
    }
}

impl Supervised for Imp {
    fn restarting(&mut self, _: &mut Context<Self>) {
        self.plan.meet("restarting");
        self.count = 0;
        self.tired = false;
        self.lingering = false;
    }
}

impl Drop for Imp {
    fn drop(&mut self) {
        self.log.note(format!("{} dropped", self.name));
        self.plan.meet("drop");
    }
}

impl Child for Imp {
    const NAME: &'static str = "imp";

    fn state_name(&self) -> &'static str {
        match (self.tired, self.count) {
            (true, _) => "tired",
            (false, 0) => "fresh",
            _ => "counting",
        }
    }
}

impl Handler<Admitted<Do>> for Imp {
    type Result = actix::ResponseActFuture<Self, u32>;

    fn handle(&mut self, message: Admitted<Do>, ctx: &mut Context<Self>) -> Self::Result {
        let (what, in_flight) = message.open();
        let mut wait = Duration::ZERO;
        match what {
            Do::Count => self.count += 1,
            Do::Panic => panic!("told to"),
            Do::PanicLater => {
                let moment = tokio::time::sleep(Duration::from_millis(1));
                ctx.spawn(moment.into_actor(self).map(|(), _, _| panic!("told to, later")));
            }
            Do::Stop => ctx.stop(),
            Do::Take(time) => wait = time,
            Do::Block(time) => ctx.wait(tokio::time::sleep(time).into_actor(self)),
            Do::TireAfter(time) => {
                ctx.spawn(tokio::time::sleep(time).into_actor(self).map(|(), this, _| this.tired = true));
            }
            Do::Note(n) => self.log.note(format!("{} notes {n}", self.name)),
        }
        let count = self.count;
        if wait.is_zero() {
            return Box::pin(actix::fut::ready(count).map(move |count, _, _| {
                drop(in_flight);
                count
            }));
        }
        let work = tokio::time::sleep(wait).into_actor(self);
        Box::pin(work.map(move |(), _, _| {
            drop(in_flight);
            count
        }))
    }
}

impl Handler<Admitted<Hint>> for Imp {
    type Result = ();

    fn handle(&mut self, message: Admitted<Hint>, _: &mut Context<Self>) {
        let (Hint(n), _in_flight) = message.open();
        self.log.note(format!("{} hears {n}", self.name));
    }
}

/// A tree with one supervisor under its root, and the means to put imps under it.
pub struct Stage {
    pub registry: prometheus::Registry,
    pub tree: Tree,
    pub root: SupervisorRef,
    pub log: Log,
    pub plans: Rc<RefCell<Vec<(&'static str, Plan)>>>,
}

impl Stage {
    pub fn new(root: SupervisorSpec) -> Self {
        let registry = prometheus::Registry::new();
        let tree = Tree::new(&registry).unwrap();
        let root = tree.root(root);
        Self { registry, tree, root, log: Log::default(), plans: Rc::default() }
    }

    /// A root that never gives up and restarts at once.
    pub fn lenient(strategy: Strategy) -> Self {
        Self::new(lenient("root", strategy))
    }

    /// Starts an imp under `supervisor` and gives its port.
    pub async fn imp(&self, supervisor: &SupervisorRef, name: &'static str, restart: Restart) -> Port<Do> {
        let (seat, port) = seat(supervisor, restart);
        let imp = self.make(name);
        seat.start(imp).await.unwrap();
        port
    }

    pub fn make(&self, name: &'static str) -> impl FnOnce() -> Imp + Send + 'static {
        let plan = self.plan(name);
        let log = self.log.clone();
        move || Imp::new(name, &log, &plan)
    }

    /// The plan of the imp called `name`.
    pub fn plan(&self, name: &'static str) -> Plan {
        let mut plans = self.plans.borrow_mut();
        if let Some((_, plan)) = plans.iter().find(|(there, _)| *there == name) {
            return plan.clone();
        }
        let plan = Plan::default();
        plans.push((name, plan.clone()));
        plan
    }

    /// The value of a counter or gauge, summed over the series that carry all of `labels`.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.registry
            .gather()
            .iter()
            .filter(|family| family.name() == name)
            .flat_map(|family| family.get_metric().to_vec())
            .filter(|metric| {
                labels.iter().all(|(key, value)| {
                    metric.get_label().iter().any(|pair| pair.name() == *key && pair.value() == *value)
                })
            })
            .map(|metric| {
                metric.get_counter().get_value()
                    + metric.get_gauge().get_value()
                    + f64::from(u32::try_from(metric.get_histogram().get_sample_count()).unwrap())
            })
            .sum()
    }
}

/// A spec without limit and without wait.
pub fn lenient(name: &'static str, strategy: Strategy) -> SupervisorSpec {
    SupervisorSpec::new(name, strategy).intensity(1_000, SECOND).backoff(Duration::ZERO, Duration::ZERO, SECOND)
}

pub fn seat(supervisor: &SupervisorRef, restart: Restart) -> (Seat<Imp>, Port<Do>) {
    let seat = supervisor.seat::<Imp>(restart);
    let port = seat.port::<Do>("do", 8);
    (seat, port)
}
