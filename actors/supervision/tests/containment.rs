//! Panics in every place where an actor's code runs.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests spawn the neighbours they play themselves")]

mod support;

use somaagent_supervision::{AskError, Restart, StartError, Strategy, SupervisorSpec};
use support::{Do, Log, SECOND, Stage, lenient, seat, settle, stage};

#[test]
fn a_panic_in_started_is_an_error_for_who_starts() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        stage.plan("a").panic_in("started");
        let (seat, port) = seat(&stage.root, Restart::Permanent);
        let outcome = seat.start(stage.make("a")).await;
        assert_eq!(outcome, Err(StartError::Panicked("planned in started".into())));
        settle().await;
        assert_eq!(stage.log.take(), ["a dropped"]);
        assert_eq!(port.ask(Do::Count, SECOND).await, Err(AskError::Down));
        assert_eq!(stage.tree.snapshot().actors.len(), 1, "only the root is left");
    });
}

#[test]
fn a_panic_in_the_first_started_of_a_launched_child_is_a_failure_like_any_other() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        stage.plan("a").panic_in("started");
        let (seat, port) = seat(&stage.root, Restart::Permanent);
        seat.launch(stage.make("a"));
        assert_eq!(port.ask(Do::Count, SECOND).await, Ok(1));
        assert_eq!(stage.tree.snapshot().actors[1].restarts, 1);
    });
}

#[test]
fn a_panic_while_the_actor_is_made_ends_the_child() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let heard = Log::default();
        let exits = heard.clone();
        let (launched, port) = seat(&stage.root, Restart::Permanent);
        launched.on_exit(move |reason| exits.note(reason.kind())).launch(unreachable_imp);
        settle().await;
        assert_eq!(heard.take(), ["panic"]);
        assert_eq!(port.ask(Do::Count, SECOND).await, Err(AskError::Down));

        let (started, _) = seat(&stage.root, Restart::Permanent);
        let outcome = started.start(unreachable_imp).await;
        assert_eq!(outcome, Err(StartError::Panicked("cannot be made".into())));
    });
}

#[allow(clippy::panic, reason = "what is tested")]
fn unreachable_imp() -> support::Imp {
    panic!("cannot be made")
}

#[test]
fn a_panic_in_started_or_restarting_after_a_crash_is_one_more_failure() {
    stage(async {
        for (place, failures) in [("started", 2), ("restarting", 2)] {
            let spec = lenient("root", Strategy::OneForOne).intensity(failures, SECOND);
            let stage = Stage::new(spec);
            let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
            stage.plan("a").panic_in(place);
            port.ask(Do::Panic, SECOND).await.unwrap_err();
            assert_eq!(port.ask(Do::Count, SECOND).await, Ok(1), "{place}");

            let spec = lenient("root", Strategy::OneForOne).intensity(failures - 1, SECOND);
            let stage = Stage::new(spec);
            let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
            stage.plan("a").panic_in(place);
            port.ask(Do::Panic, SECOND).await.unwrap_err();
            assert_eq!(port.ask(Do::Count, SECOND).await, Err(AskError::Down), "{place}: both failures counted");
        }
    });
}

#[test]
fn a_panic_in_stopping_or_stopped_of_a_stop_by_itself_is_a_crash() {
    stage(async {
        for place in ["stopping", "stopped"] {
            let stage = Stage::lenient(Strategy::OneForOne);
            let port = stage.imp(&stage.root, "a", Restart::Transient).await;
            stage.plan("a").panic_in(place);
            port.ask(Do::Stop, SECOND).await.unwrap_err();
            assert_eq!(port.ask(Do::Count, SECOND).await, Ok(1), "{place}");
            let shown = &stage.tree.snapshot().actors[1];
            assert_eq!(shown.restarts, 1);
            let error = shown.last_error.as_deref().unwrap();
            assert_eq!(error, format!("panicked: planned in {place}"));
        }
    });
}

#[test]
fn a_sibling_that_panics_while_it_is_stopped_on_command_is_not_a_fresh_failure() {
    stage(async {
        for place in ["stopping", "stopped"] {
            let spec = lenient("root", Strategy::OneForAll).intensity(1, 60 * SECOND);
            let stage = Stage::new(spec);
            let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
            let sibling = stage.imp(&stage.root, "b", Restart::Permanent).await;
            stage.plan("b").panic_in(place);
            port.ask(Do::Panic, SECOND).await.unwrap_err();
            assert_eq!(sibling.ask(Do::Count, SECOND).await, Ok(1), "{place}");
            assert_eq!(port.ask(Do::Count, SECOND).await, Ok(1), "{place}");
        }
    });
}

#[test]
fn a_sibling_that_does_not_come_up_with_its_group_fails_the_attempt_and_it_is_made_again() {
    stage(async {
        for place in ["restarting", "started"] {
            let stage = Stage::lenient(Strategy::OneForAll);
            let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
            let sibling = stage.imp(&stage.root, "b", Restart::Permanent).await;
            stage.plan("b").panic_in(place);
            stage.log.take();
            port.ask(Do::Panic, SECOND).await.unwrap_err();
            assert_eq!(sibling.ask(Do::Count, SECOND).await, Ok(1), "{place}");
            settle().await;
            assert_eq!(stage.log.take(), ["b stopped", "a started", "a stopped", "a started", "b started"], "{place}");
        }
    });
}

#[test]
fn a_panic_in_a_spawned_future_is_a_crash() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
        assert_eq!(port.ask(Do::Count, SECOND).await, Ok(1));
        assert_eq!(port.ask(Do::PanicLater, SECOND).await, Ok(1));
        tokio::time::sleep(SECOND).await;
        assert_eq!(port.ask(Do::Count, SECOND).await, Ok(1), "begun anew");
    });
}

#[test]
fn a_panic_in_drop_still_drops_the_queue_and_calls_on_exit() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let (seat, port) = seat(&stage.root, Restart::Temporary);
        let heard = Log::default();
        let exits = heard.clone();
        let seat = seat.on_exit(move |reason| exits.note(reason.kind()));
        seat.start(stage.make("a")).await.unwrap();
        stage.plan("a").panic_in("drop");
        let (lost, queued) = tokio::join!(port.ask(Do::Panic, SECOND), port.ask(Do::Count, SECOND));
        assert_eq!((lost, queued), (Err(AskError::Down), Err(AskError::Down)));
        settle().await;
        assert_eq!(heard.take(), ["panic"]);
        assert_eq!(port.depth(), 0);
        assert!(stage.tree.snapshot().groups.is_empty());
    });
}

#[test]
fn a_panic_in_on_exit_is_contained() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let (seat, port) = seat(&stage.root, Restart::Temporary);
        #[allow(clippy::panic, reason = "what is tested")]
        let seat = seat.on_exit(|_| panic!("in on_exit"));
        seat.start(stage.make("a")).await.unwrap();
        assert_eq!(port.ask(Do::Panic, SECOND).await, Err(AskError::Down));
        settle().await;
        assert!(stage.tree.snapshot().groups.is_empty());
        assert_eq!(stage.log.take(), ["a started", "a dropped"]);
    });
}

#[test]
fn every_hook_panicking_at_once_ends_in_a_stop_all_the_same() {
    stage(async {
        let spec = SupervisorSpec::new("root", Strategy::OneForOne);
        let stage = Stage::new(spec);
        stage.imp(&stage.root, "a", Restart::Permanent).await;
        let plan = stage.plan("a");
        for place in ["stopping", "stopped", "drop"] {
            plan.panic_in(place);
        }
        stage.root.stop(SECOND).await;
        assert_eq!(stage.log.take(), ["a started", "a dropped"]);
    });
}

#[test]
fn a_runtime_that_ends_under_running_children_drops_them_quietly() {
    let log = stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        stage.imp(&stage.root, "a", Restart::Permanent).await;
        stage.plan("a").panic_in("drop");
        stage.log.clone()
    });
    assert_eq!(log.take(), ["a started", "a dropped"], "no hook of a broken world runs");
}

#[test]
fn no_profile_aborts_on_panic() {
    let manifest = include_str!("../../../Cargo.toml");
    let aborts = manifest
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().replace(' ', ""))
        .any(|line| line.starts_with("panic=") && line.contains("abort"));
    assert!(!aborts, "a panic that aborts cannot be contained");
}
