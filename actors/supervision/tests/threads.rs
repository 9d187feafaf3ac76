//! Children on arbiters of their own. Real threads, so no virtual time; nothing sleeps.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests spawn the neighbours they play themselves")]

mod support;

use std::{
    collections::HashSet,
    thread::{self, ThreadId},
};

use actix::{Actor, Context, Handler, Message, Supervised};
use somaagent_supervision::{Admitted, AskError, Child, Restart, StartError, Strategy};
use support::{SECOND, Stage, lenient, stage};

struct Where {
    crash: bool,
}

impl Message for Where {
    type Result = Option<ThreadId>;
}

struct Local;

impl Actor for Local {
    type Context = Context<Self>;
}

impl Supervised for Local {}

impl Child for Local {
    const NAME: &'static str = "local";
}

impl Handler<Admitted<Where>> for Local {
    type Result = Option<ThreadId>;

    fn handle(&mut self, message: Admitted<Where>, _: &mut Context<Self>) -> Self::Result {
        let (Where { crash }, _in_flight) = message.open();
        assert!(!crash, "told to");
        Some(thread::current().id())
    }
}

#[test]
fn children_are_spread_over_the_arbiters_in_turn_and_restart_where_they_were() {
    actix_rt::System::new().block_on(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let spec = lenient("spread", Strategy::OneForOne).arbiters(2);
        let spread = stage.root.supervisor(spec).await.unwrap();
        let mut threads = Vec::new();
        for _ in 0..6 {
            let seat = spread.seat::<Local>(Restart::Permanent);
            let port = seat.port::<Where>("where", 4);
            seat.start(|| Local).await.unwrap();
            let before = port.ask(Where { crash: false }, 10 * SECOND).await;
            let crash = port.ask(Where { crash: true }, 10 * SECOND).await;
            assert_eq!(crash, Err(AskError::Down));
            let after = port.ask(Where { crash: false }, 10 * SECOND).await;
            assert_eq!(before, after);
            threads.push(before.unwrap().unwrap());
        }
        assert_eq!(&threads[..2], &threads[2..4], "in turn");
        let different: HashSet<_> = threads.into_iter().collect();
        assert_eq!(different.len(), 2);
        assert!(!different.contains(&thread::current().id()));
        stage.root.stop(10 * SECOND).await;
    });
}

#[test]
fn seats_are_started_from_threads_without_a_runtime() {
    actix_rt::System::new().block_on(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let spec = lenient("spread", Strategy::OneForOne).arbiters(1);
        let spread = stage.root.supervisor(spec).await.unwrap();
        let launcher = spread.clone();
        let port = thread::spawn(move || {
            let seat = launcher.seat::<Local>(Restart::Temporary);
            let port = seat.port::<Where>("where", 4);
            seat.launch(|| Local);
            port
        });
        let port = port.join().unwrap();
        assert!(port.ask(Where { crash: false }, 10 * SECOND).await.unwrap().is_some());
    });
}

#[test]
fn arbiters_without_an_actix_system_are_a_start_error() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let spec = lenient("spread", Strategy::OneForOne).arbiters(1);
        let spread = stage.root.supervisor(spec).await.unwrap();
        let seat = spread.seat::<Local>(Restart::Permanent);
        let outcome = seat.start(|| Local).await;
        assert!(matches!(outcome, Err(StartError::NoArbiter(_))));
    });
}

/// Blocks its thread until the sender is dropped.
struct BlockThread(std::sync::mpsc::Receiver<()>, tokio::sync::oneshot::Sender<()>);

impl Message for BlockThread {
    type Result = ();
}

impl Handler<Admitted<BlockThread>> for Local {
    type Result = ();

    fn handle(&mut self, message: Admitted<BlockThread>, _: &mut Context<Self>) {
        let (BlockThread(release, blocked), _in_flight) = message.open();
        blocked.send(()).unwrap();
        assert!(release.recv().is_err(), "released by its end");
    }
}

#[test]
fn a_child_whose_thread_is_blocked_does_not_hold_up_the_stop_of_the_others() {
    actix_rt::System::new().block_on(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        stage.imp(&stage.root, "a", Restart::Permanent).await;
        let spec = lenient("blocked", Strategy::OneForOne).arbiters(1).stop_within(3 * SECOND);
        let sub = stage.root.supervisor(spec).await.unwrap();
        let seat = sub.seat::<Local>(Restart::Permanent);
        let port = seat.port::<BlockThread>("block", 1);
        seat.start(|| Local).await.unwrap();
        let (release, released) = std::sync::mpsc::channel();
        let (tell, blocked) = tokio::sync::oneshot::channel();
        port.tell(BlockThread(released, tell)).unwrap();
        blocked.await.unwrap();

        // From here on this thread waits for nothing but the clock, which may jump.
        tokio::time::pause();
        let begun = tokio::time::Instant::now();
        stage.root.stop(60 * SECOND).await;
        let took = begun.elapsed();
        assert!(took > 3 * SECOND && took < 4 * SECOND, "{took:?}");
        assert_eq!(stage.log.take(), ["a started", "a stopped", "a dropped"]);
        tokio::time::resume();

        drop(release);
        assert!(port.drain(10 * SECOND).await, "it ends once it can");
    });
}
