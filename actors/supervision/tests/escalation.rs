//! Over the limit: the subtree is restarted by the parent, and at the root the tree is exhausted.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests spawn the neighbours they play themselves")]

mod support;

use std::time::Duration;

use somaagent_supervision::{AskError, ExitReason, Restart, StartError, Strategy};
use support::{Do, Log, SECOND, Stage, lenient, seat, settle, stage};

#[test]
fn ports_survive_the_restart_of_their_whole_subtree() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let spec = lenient("sub", Strategy::OneForOne).intensity(0, SECOND);
        let sub = stage.root.supervisor(spec).await.unwrap();
        let a = stage.imp(&sub, "a", Restart::Permanent).await;
        let b = stage.imp(&sub, "b", Restart::Permanent).await;
        assert_eq!(b.ask(Do::Count, SECOND).await, Ok(1));
        stage.log.take();

        let (lost, queued, other) = tokio::join!(
            a.ask(Do::Panic, SECOND),
            a.ask(Do::Note(1), SECOND),
            b.ask(Do::Block(Duration::ZERO), SECOND)
        );
        assert_eq!(lost, Err(AskError::Down));
        assert_eq!(queued, Ok(0), "its queue was kept");
        assert_eq!(other, Ok(1));
        settle().await;
        assert_eq!(stage.log.take(), ["b stopped", "a started", "a notes 1", "b started"]);
        assert_eq!(b.ask(Do::Count, SECOND).await, Ok(1), "with a fresh state");
        let restarts: Vec<_> = stage.tree.snapshot().actors;
        let restarts: Vec<_> = restarts.iter().map(|actor| (&*actor.path, actor.restarts)).collect();
        assert_eq!(restarts, [("root", 0), ("root/sub", 1), ("root/sub/imp/1", 1), ("root/sub/imp/2", 1)]);
    });
}

#[test]
fn escalation_climbs_two_levels_to_the_root_which_is_exhausted() {
    stage(async {
        let stage = Stage::new(lenient("root", Strategy::OneForOne).intensity(1, 60 * SECOND));
        let upper = lenient("upper", Strategy::OneForOne).intensity(1, 60 * SECOND);
        let upper = stage.root.supervisor(upper).await.unwrap();
        let lower = lenient("lower", Strategy::OneForOne).intensity(1, 60 * SECOND);
        let lower = upper.supervisor(lower).await.unwrap();
        let port = stage.imp(&lower, "a", Restart::Permanent).await;
        let bystander = stage.imp(&stage.root, "z", Restart::Permanent).await;

        let exhausted = stage.tree.exhausted();
        tokio::pin!(exhausted);
        // Two failures exhaust `lower`, two of those `upper`, two of those the root.
        for failure in 1..=8 {
            assert!(futures_util::poll!(exhausted.as_mut()).is_pending(), "before failure {failure}");
            port.ask(Do::Panic, SECOND).await.unwrap_err();
            settle().await;
        }
        let reason = exhausted.await;
        assert_eq!(
            reason.to_string(),
            "escalated: root/upper escalated: root/upper/lower escalated: \
             root/upper/lower/imp panicked: told to"
        );
        assert!(reason.is_abnormal());
        assert_eq!(port.ask(Do::Count, SECOND).await, Err(AskError::Down));
        assert_eq!(bystander.ask(Do::Count, SECOND).await, Err(AskError::Down));
        let mut log = stage.log.take();
        let mut last = log.split_off(log.len() - 3);
        last.sort();
        assert_eq!(last, ["a dropped", "z dropped", "z stopped"]);
        assert!(matches!(stage.tree.exhausted().await, ExitReason::Escalated(_)));
    });
}

#[test]
fn a_subtree_restarted_by_its_parent_has_an_empty_window() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let spec = lenient("sub", Strategy::OneForOne).intensity(1, 60 * SECOND);
        let sub = stage.root.supervisor(spec).await.unwrap();
        let port = stage.imp(&sub, "a", Restart::Permanent).await;
        let restarts = || stage.tree.snapshot().actors[1].restarts;
        for (failure, expected) in [(1, 0), (2, 1), (3, 1), (4, 2)] {
            port.ask(Do::Panic, SECOND).await.unwrap_err();
            settle().await;
            assert_eq!(restarts(), expected, "after failure {failure}");
        }
    });
}

#[test]
fn the_window_slides_so_rare_failures_never_escalate() {
    stage(async {
        let stage = Stage::new(lenient("root", Strategy::OneForOne).intensity(1, 10 * SECOND));
        let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
        for _ in 0..5 {
            port.ask(Do::Panic, SECOND).await.unwrap_err();
            assert_eq!(port.ask(Do::Count, SECOND).await, Ok(1));
            tokio::time::sleep(11 * SECOND).await;
        }
        port.ask(Do::Panic, SECOND).await.unwrap_err();
        port.ask(Do::Panic, SECOND).await.unwrap_err();
        assert_eq!(port.ask(Do::Count, SECOND).await, Err(AskError::Down));
    });
}

#[test]
fn the_failures_of_all_children_count_in_one_window() {
    stage(async {
        let stage = Stage::new(lenient("root", Strategy::OneForOne).intensity(1, 10 * SECOND));
        let a = stage.imp(&stage.root, "a", Restart::Permanent).await;
        let b = stage.imp(&stage.root, "b", Restart::Permanent).await;
        a.ask(Do::Panic, SECOND).await.unwrap_err();
        b.ask(Do::Panic, SECOND).await.unwrap_err();
        settle().await;
        assert!(stage.tree.exhausted().await.is_abnormal());
    });
}

#[test]
fn temporary_children_of_an_escalated_subtree_are_forgotten() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let spec = lenient("sub", Strategy::OneForOne).intensity(0, SECOND);
        let sub = stage.root.supervisor(spec).await.unwrap();
        let port = stage.imp(&sub, "a", Restart::Permanent).await;
        let (seat, temporary) = seat(&sub, Restart::Temporary);
        let heard = Log::default();
        let exits = heard.clone();
        let seat = seat.on_exit(move |reason| exits.note(reason.kind()));
        seat.start(stage.make("t")).await.unwrap();
        port.ask(Do::Panic, SECOND).await.unwrap_err();
        assert_eq!(port.ask(Do::Count, SECOND).await, Ok(1));
        assert_eq!(heard.take(), ["shutdown"]);
        assert!(temporary.is_closed());
    });
}

#[test]
fn a_child_started_while_its_subtree_is_down_runs_once_the_subtree_is_up() {
    stage(async {
        let spec = lenient("root", Strategy::OneForOne).backoff(SECOND, SECOND, SECOND);
        let stage = Stage::new(spec);
        let spec = lenient("sub", Strategy::OneForOne).intensity(0, SECOND);
        let sub = stage.root.supervisor(spec).await.unwrap();
        let port = stage.imp(&sub, "a", Restart::Permanent).await;
        port.ask(Do::Panic, SECOND).await.unwrap_err();
        settle().await;
        stage.log.take();
        let late = stage.imp(&sub, "late", Restart::Permanent).await;
        assert_eq!(stage.log.take(), ["a started", "late started"]);
        assert_eq!(late.ask(Do::Count, SECOND).await, Ok(1));
    });
}

#[test]
fn a_supervisor_that_has_ended_starts_nothing() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let spec = lenient("sub", Strategy::OneForOne);
        let sub = stage.root.supervisor(spec.clone()).await.unwrap();
        sub.stop(SECOND).await;
        let (seat, port) = seat(&sub, Restart::Permanent);
        let outcome = seat.start(stage.make("a")).await;
        assert_eq!(outcome, Err(StartError::SupervisorDown));
        assert!(port.is_closed());
        let outcome = sub.supervisor(spec).await.map(drop);
        assert_eq!(outcome, Err(StartError::SupervisorDown));
    });
}
