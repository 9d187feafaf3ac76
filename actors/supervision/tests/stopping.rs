//! Starting in order, stopping in reverse, and what happens to those that do not want to stop.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests spawn the neighbours they play themselves")]

mod support;

use std::time::Duration;

use somaagent_supervision::{AskError, Restart, Strategy, SupervisorSpec};
use support::{Do, SECOND, Stage, lenient, seat, settle, stage};
use tokio::time::Instant;

#[test]
fn children_start_in_order_and_stop_in_reverse_each_awaited() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let sub = lenient("sub", Strategy::OneForOne);
        stage.imp(&stage.root, "a", Restart::Permanent).await;
        let sub = stage.root.supervisor(sub).await.unwrap();
        // Lingers, and is awaited all the same before those started earlier are stopped.
        let (slow, _port) = seat(&sub, Restart::Permanent);
        let make = stage.make("slow");
        slow.start(move || make().lingering(2 * SECOND)).await.unwrap();
        stage.imp(&sub, "b", Restart::Transient).await;
        stage.imp(&stage.root, "c", Restart::Permanent).await;
        assert_eq!(stage.log.take(), ["a started", "slow started", "b started", "c started"]);
        let begun = Instant::now();
        stage.root.stop(10 * SECOND).await;
        assert_eq!(begun.elapsed().as_secs(), 2);
        assert_eq!(
            stage.log.take(),
            [
                "c stopped",
                "c dropped",
                "b stopped",
                "b dropped",
                "slow stopped",
                "slow dropped",
                "a stopped",
                "a dropped"
            ]
        );
    });
}

async fn lingering(stage: &Stage, name: &'static str, restart: Restart, lingers: Duration) {
    let (seat, _port) = seat(&stage.root, restart);
    let make = stage.make(name);
    seat.start(move || make().lingering(lingers)).await.unwrap();
}

#[test]
fn a_child_that_does_not_stop_in_time_is_dropped_and_the_next_one_stopped() {
    stage(async {
        let spec = SupervisorSpec::new("root", Strategy::OneForOne).stop_within(3 * SECOND);
        let stage = Stage::new(spec);
        stage.imp(&stage.root, "a", Restart::Permanent).await;
        lingering(&stage, "never", Restart::Permanent, 3_600 * SECOND).await;
        stage.log.take();
        let begun = Instant::now();
        stage.root.stop(60 * SECOND).await;
        assert_eq!(begun.elapsed().as_secs(), 3);
        assert_eq!(stage.log.take(), ["never dropped", "a stopped", "a dropped"]);
    });
}

#[test]
fn the_time_given_to_stop_bounds_the_whole_subtree() {
    stage(async {
        let spec = SupervisorSpec::new("root", Strategy::OneForOne).stop_within(30 * SECOND);
        let stage = Stage::new(spec);
        for name in ["a", "b", "c"] {
            lingering(&stage, name, Restart::Permanent, 3_600 * SECOND).await;
        }
        stage.log.take();
        let begun = Instant::now();
        stage.root.stop(2 * SECOND).await;
        assert_eq!(begun.elapsed().as_secs(), 2);
        settle().await;
        let mut log = stage.log.take();
        log.sort();
        assert_eq!(log, ["a dropped", "b dropped", "c dropped"]);
    });
}

#[test]
fn many_temporary_children_stop_together() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        for _ in 0..50 {
            lingering(&stage, "t", Restart::Temporary, 2 * SECOND).await;
        }
        let begun = Instant::now();
        stage.root.stop(60 * SECOND).await;
        assert_eq!(begun.elapsed().as_secs(), 2);
    });
}

#[test]
fn a_sibling_that_does_not_stop_in_time_is_begun_anew_with_its_group() {
    stage(async {
        let spec = lenient("root", Strategy::OneForAll).stop_within(3 * SECOND);
        let stage = Stage::new(spec);
        let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
        lingering(&stage, "never", Restart::Permanent, 3_600 * SECOND).await;
        stage.log.take();
        port.ask(Do::Panic, SECOND).await.unwrap_err();
        tokio::time::sleep(4 * SECOND).await;
        assert_eq!(stage.log.take(), ["a started", "never started"]);
    });
}

#[test]
fn a_stop_cuts_a_backoff_short() {
    stage(async {
        let spec = lenient("root", Strategy::OneForOne).backoff(60 * SECOND, 60 * SECOND, SECOND);
        let stage = Stage::new(spec);
        let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
        port.ask(Do::Panic, SECOND).await.unwrap_err();
        settle().await;
        assert_eq!(stage.tree.snapshot().actors[1].state, "backing-off");
        let begun = Instant::now();
        let queued = port.clone();
        let queued = tokio::task::spawn_local(async move { queued.ask(Do::Count, SECOND).await });
        settle().await;
        stage.root.stop(SECOND).await;
        assert!(begun.elapsed() < SECOND);
        assert_eq!(queued.await.unwrap(), Err(AskError::Down));
        assert_eq!(stage.log.take(), ["a started", "a dropped"]);
    });
}

#[test]
fn a_stop_cuts_the_backoff_of_a_group_short() {
    stage(async {
        let spec = lenient("root", Strategy::OneForAll).backoff(60 * SECOND, 60 * SECOND, SECOND);
        let stage = Stage::new(spec);
        let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
        stage.imp(&stage.root, "b", Restart::Permanent).await;
        port.ask(Do::Panic, SECOND).await.unwrap_err();
        settle().await;
        let begun = Instant::now();
        stage.root.stop(SECOND).await;
        assert!(begun.elapsed() < SECOND);
    });
}

#[test]
fn stopping_one_supervisor_is_no_failure_for_its_parent() {
    stage(async {
        let stage = Stage::new(lenient("root", Strategy::OneForAll).intensity(0, SECOND));
        let a = stage.imp(&stage.root, "a", Restart::Permanent).await;
        let spec = lenient("sub", Strategy::OneForOne);
        let sub = stage.root.supervisor(spec).await.unwrap();
        let b = stage.imp(&sub, "b", Restart::Permanent).await;
        sub.stop(SECOND).await;
        settle().await;
        assert_eq!(b.ask(Do::Count, SECOND).await, Err(AskError::Down));
        assert_eq!(a.ask(Do::Count, SECOND).await, Ok(1));
        assert_eq!(stage.tree.snapshot().actors.len(), 2, "it is forgotten");
        sub.stop(SECOND).await;
    });
}

#[test]
fn a_supervisor_told_to_stop_is_not_begun_anew_by_a_restart_of_its_group() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForAll);
        let a = stage.imp(&stage.root, "a", Restart::Permanent).await;
        let sub = stage.root.supervisor(lenient("sub", Strategy::OneForOne));
        let sub = sub.await.unwrap();
        let (seat, port) = seat(&sub, Restart::Permanent);
        let make = stage.make("slow");
        seat.start(move || make().lingering(2 * SECOND)).await.unwrap();
        let begun = Instant::now();
        tokio::join!(sub.stop(60 * SECOND), async {
            tokio::time::sleep(SECOND).await;
            a.ask(Do::Panic, SECOND).await.unwrap_err();
        });
        assert_eq!(begun.elapsed(), 2 * SECOND);
        assert_eq!(a.ask(Do::Count, SECOND).await, Ok(1));
        assert!(port.is_closed());
        let paths: Vec<_> = stage.tree.snapshot().actors;
        let paths: Vec<_> = paths.iter().map(|actor| &*actor.path).collect();
        assert_eq!(paths, ["root", "root/imp"]);
    });
}
