//! What a restart keeps and what it loses, and who is restarted.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests spawn the neighbours they play themselves")]

mod support;

use std::time::Duration;

use somaagent_supervision::{AskError, ExitReason, Restart, Strategy};
use support::{Do, Log, SECOND, Stage, lenient, seat, settle, stage};
use tokio::time::Instant;

#[test]
fn the_queue_survives_a_restart_in_order_and_the_state_does_not() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
        assert_eq!(port.ask(Do::Count, SECOND).await, Ok(1));
        assert_eq!(port.ask(Do::Count, SECOND).await, Ok(2));
        stage.log.take();

        let (lost, one, two, count) = tokio::join!(
            port.ask(Do::Panic, SECOND),
            port.ask(Do::Note(1), SECOND),
            port.ask(Do::Note(2), SECOND),
            port.ask(Do::Count, SECOND),
        );
        assert_eq!(lost, Err(AskError::Down), "the message in hand is gone");
        assert_eq!((one, two), (Ok(0), Ok(0)));
        assert_eq!(count, Ok(1), "the count began anew");
        assert_eq!(stage.log.take(), ["a started", "a notes 1", "a notes 2"]);
        assert_eq!(port.depth(), 0);
    });
}

#[test]
fn other_messages_in_hand_hear_down_at_the_crash_and_not_after_the_backoff() {
    stage(async {
        let spec = lenient("root", Strategy::OneForOne).backoff(60 * SECOND, 60 * SECOND, SECOND);
        let stage = Stage::new(spec);
        let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
        let begun = Instant::now();
        let (in_hand, lost) =
            tokio::join!(port.ask(Do::Take(30 * SECOND), 90 * SECOND), port.ask(Do::Panic, 90 * SECOND),);
        assert_eq!((in_hand, lost), (Err(AskError::Down), Err(AskError::Down)));
        assert!(begun.elapsed() < SECOND);
        assert_eq!(port.depth(), 0, "their slots are free again");
    });
}

/// The imps of a supervisor: `a`, `b` and `c` with the policy under test, `b` being the one that ends.
async fn names_started_after(strategy: Strategy, policy: Restart, end: &Do) -> Vec<String> {
    let stage = Stage::lenient(strategy);
    stage.imp(&stage.root, "a", Restart::Permanent).await;
    let port = stage.imp(&stage.root, "b", policy).await;
    stage.imp(&stage.root, "c", Restart::Permanent).await;
    stage.log.take();
    let _ = port.ask(end.clone(), SECOND).await;
    settle().await;
    tokio::time::sleep(SECOND).await;
    let started = stage.log.take().into_iter();
    started.filter_map(|line| Some(line.strip_suffix(" started")?.to_owned())).collect()
}

#[test]
fn each_strategy_meets_each_policy_and_each_exit_reason() {
    const NONE: &[&str] = &[];
    let group = |strategy| match strategy {
        Strategy::OneForOne => vec!["b"],
        Strategy::OneForAll => vec!["a", "b", "c"],
        Strategy::RestForOne => vec!["b", "c"],
    };
    for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
        for (policy, end, restarted) in [
            (Restart::Permanent, Do::Panic, true),
            (Restart::Permanent, Do::PanicLater, true),
            (Restart::Permanent, Do::Stop, true),
            (Restart::Transient, Do::Panic, true),
            (Restart::Transient, Do::PanicLater, true),
            (Restart::Transient, Do::Stop, false),
            (Restart::Temporary, Do::Panic, false),
            (Restart::Temporary, Do::PanicLater, false),
            (Restart::Temporary, Do::Stop, false),
        ] {
            let expected = if restarted { group(strategy) } else { NONE.to_vec() };
            let started = stage(names_started_after(strategy, policy, &end));
            assert_eq!(started, expected, "{strategy:?} {policy:?} {end:?}");
        }
    }
}

#[test]
fn a_group_stops_in_reverse_order_before_any_of_it_starts() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForAll);
        let mut ports = Vec::new();
        for name in ["a", "b", "c"] {
            ports.push(stage.imp(&stage.root, name, Restart::Permanent).await);
        }
        stage.log.take();
        ports[1].ask(Do::Panic, SECOND).await.unwrap_err();
        settle().await;
        assert_eq!(
            stage.log.take(),
            ["c stopped", "a stopped", "a started", "b started", "c started"],
            "b has crashed and has nothing to stop"
        );
        for port in ports {
            assert_eq!(port.ask(Do::Count, SECOND).await, Ok(1));
        }
    });
}

#[test]
fn a_temporary_sibling_of_a_restarted_group_ends_and_is_forgotten() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForAll);
        let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
        let (seat, temporary) = seat(&stage.root, Restart::Temporary);
        let heard = Log::default();
        let exits = heard.clone();
        let seat = seat.on_exit(move |reason| exits.note(reason.kind()));
        seat.start(stage.make("t")).await.unwrap();
        port.ask(Do::Panic, SECOND).await.unwrap_err();
        settle().await;
        assert_eq!(heard.take(), ["shutdown"]);
        assert!(temporary.is_closed());
        assert_eq!(temporary.ask(Do::Count, SECOND).await, Err(AskError::Down));
        assert!(stage.tree.snapshot().groups.is_empty());
    });
}

#[test]
fn a_crashed_temporary_child_calls_on_exit_once_and_is_not_restarted() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let (seat, port) = seat(&stage.root, Restart::Temporary);
        let heard = Log::default();
        let exits = heard.clone();
        let again = port.clone();
        let seat = seat.on_exit(move |reason| {
            assert!(again.is_closed(), "closed before anybody hears");
            exits.note(format!("{reason:?}"));
        });
        seat.start(stage.make("t")).await.unwrap();
        let (lost, queued) = tokio::join!(port.ask(Do::Panic, SECOND), port.ask(Do::Count, SECOND));
        assert_eq!((lost, queued), (Err(AskError::Down), Err(AskError::Down)));
        settle().await;
        let expected = ExitReason::Panicked("told to".into());
        assert_eq!(heard.take(), [format!("{expected:?}")]);
        assert_eq!(stage.log.take(), ["t started", "t dropped"]);
        assert_eq!(port.tell_reason(), AskError::Down);
    });
}

trait TellReason {
    fn tell_reason(&self) -> AskError;
}

impl TellReason for somaagent_supervision::Port<Do> {
    fn tell_reason(&self) -> AskError {
        self.tell(Do::Count).unwrap_err().reason()
    }
}

#[test]
fn backoff_grows_with_each_failure_and_resets_after_quiet() {
    stage(async {
        let spec = lenient("root", Strategy::OneForOne).backoff(SECOND, 4 * SECOND, 60 * SECOND);
        let stage = Stage::new(spec);
        let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
        let wait = async || {
            let crash = Instant::now();
            port.ask(Do::Panic, SECOND).await.unwrap_err();
            assert_eq!(port.ask(Do::Count, 90 * SECOND).await, Ok(1));
            crash.elapsed().as_secs()
        };
        for expected in [1, 2, 4, 4] {
            assert_eq!(wait().await, expected);
        }
        tokio::time::sleep(60 * SECOND).await;
        assert_eq!(wait().await, 1);
    });
}

#[test]
fn a_group_waits_the_backoff_of_the_child_that_failed() {
    stage(async {
        let spec = lenient("root", Strategy::RestForOne).backoff(SECOND, 4 * SECOND, 60 * SECOND);
        let stage = Stage::new(spec);
        let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
        let rest = stage.imp(&stage.root, "b", Restart::Permanent).await;
        for expected in [1, 2, 4] {
            let crash = Instant::now();
            port.ask(Do::Panic, SECOND).await.unwrap_err();
            assert_eq!(rest.ask(Do::Count, 90 * SECOND).await, Ok(1));
            assert_eq!(crash.elapsed().as_secs(), expected);
        }
    });
}

#[test]
fn a_transient_child_that_stopped_itself_is_not_started_with_its_group() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForAll);
        let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
        let done = stage.imp(&stage.root, "t", Restart::Transient).await;
        done.ask(Do::Stop, SECOND).await.unwrap_err();
        settle().await;
        stage.log.take();
        port.ask(Do::Panic, SECOND).await.unwrap_err();
        settle().await;
        assert_eq!(stage.log.take(), ["a started"]);
    });
}

#[test]
fn a_failure_outside_the_group_waits_until_the_group_is_up() {
    stage(async {
        let spec = lenient("root", Strategy::RestForOne).backoff(SECOND, SECOND, SECOND);
        let stage = Stage::new(spec);
        let first = stage.imp(&stage.root, "a", Restart::Permanent).await;
        let second = stage.imp(&stage.root, "b", Restart::Permanent).await;
        stage.log.take();
        second.ask(Do::Panic, SECOND).await.unwrap_err();
        settle().await;
        first.ask(Do::Panic, SECOND).await.unwrap_err();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!(stage.log.take(), ["b started", "b stopped"]);
        tokio::time::sleep(SECOND).await;
        assert_eq!(stage.log.take(), ["a started", "b started"]);
        assert_eq!(second.ask(Do::Count, SECOND).await, Ok(1));
    });
}

#[test]
fn on_exit_is_called_also_for_a_child_that_could_not_be_started() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        // No actix system runs here, so there are no arbiters to be had.
        let spec = lenient("sub", Strategy::OneForOne).arbiters(1);
        let sub = stage.root.supervisor(spec).await.unwrap();
        let heard = Log::default();
        let exits = heard.clone();
        let (seat, port) = seat(&sub, Restart::Temporary);
        let seat = seat.on_exit(move |reason| exits.note(reason.kind()));
        seat.launch(stage.make("t"));
        settle().await;
        assert_eq!(heard.take(), ["shutdown"]);
        assert!(port.is_closed());
    });
}

#[test]
fn a_launch_under_an_ended_supervisor_calls_nobody_back() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        stage.root.stop(SECOND).await;
        let (seat, port) = seat(&stage.root, Restart::Temporary);
        let heard = Log::default();
        let exits = heard.clone();
        let seat = seat.on_exit(move |reason| exits.note(reason.kind()));
        seat.launch(stage.make("t"));
        settle().await;
        assert_eq!(heard.take(), [""; 0], "it may hold what on_exit takes");
        assert!(port.is_closed());
    });
}

#[test]
fn a_message_queued_before_the_start_that_crashes_the_actor_is_no_start_error() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let (seat, port) = seat(&stage.root, Restart::Permanent);
        port.tell(Do::Panic).unwrap();
        seat.start(stage.make("a")).await.unwrap();
        assert_eq!(port.ask(Do::Count, SECOND).await, Ok(1));
        assert_eq!(stage.log.take(), ["a started", "a started"]);
    });
}

#[test]
fn siblings_that_crash_in_the_same_turn_are_one_failure_of_their_group() {
    stage(async {
        let stage = Stage::new(lenient("root", Strategy::OneForAll).intensity(1, 60 * SECOND));
        let a = stage.imp(&stage.root, "a", Restart::Permanent).await;
        let b = stage.imp(&stage.root, "b", Restart::Permanent).await;
        a.tell(Do::Panic).unwrap();
        b.tell(Do::Panic).unwrap();
        assert_eq!(a.ask(Do::Count, SECOND).await, Ok(1));
        assert_eq!(b.ask(Do::Count, SECOND).await, Ok(1));
    });
}
