//! The bound of a port, refusals, drains and dead letters.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests spawn the neighbours they play themselves")]

mod support;

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use somaagent_supervision::{AskError, Probe, Reply, Restart, Strategy, close_if_idle};
use support::{Do, Hint, SECOND, Stage, seat, settle, stage};
use tokio::time::Instant;

#[test]
fn a_full_port_is_busy_and_gives_a_told_message_back() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let seat = stage.root.seat(Restart::Permanent);
        let port = seat.port::<Hint>("hints", 2);
        assert_eq!((port.depth(), port.capacity()), (0, 2));
        port.tell(Hint(1)).unwrap();
        port.clone().tell(Hint(2)).unwrap();
        let refused = port.tell(Hint(3)).unwrap_err();
        assert_eq!(refused.reason(), AskError::Busy);
        assert_eq!(refused.to_string(), "message refused: mailbox is full");
        assert_eq!(refused.into_inner().0, 3);
        assert_eq!(port.ask(Hint(4), SECOND).await, Err(AskError::Busy));
        assert_eq!(port.depth(), 2);

        seat.start(stage.make("a")).await.unwrap();
        settle().await;
        assert_eq!(stage.log.take(), ["a started", "a hears 1", "a hears 2"], "queued before the start");
        assert_eq!(port.depth(), 0);
        let outcomes = [("busy", 2.0), ("handled", 2.0), ("dead", 0.0)];
        for (outcome, expected) in outcomes {
            let labels = [("actor", "imp"), ("message", "Hint"), ("outcome", outcome)];
            assert_eq!(stage.metric("actor_messages_total", &labels).to_string(), expected.to_string(), "{outcome}");
        }
    });
}

#[test]
fn the_bound_holds_for_clones_on_several_threads() {
    let (_probe, port) = Probe::<Hint>::new(100);
    let taken = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let port = port.clone();
            scope.spawn(|| {
                let port = port;
                for n in 0..1_000 {
                    match port.tell(Hint(n)) {
                        Ok(()) => taken.fetch_add(1, Ordering::Relaxed),
                        Err(refused) => {
                            assert_eq!(refused.reason(), AskError::Busy);
                            0
                        }
                    };
                    assert!(port.depth() <= 100);
                }
            });
        }
    });
    assert_eq!(taken.load(Ordering::Relaxed), 100);
    assert_eq!(port.depth(), 100);
}

#[test]
fn a_slot_is_held_until_the_reply_future_is_done() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
        let asks: Vec<_> = (0..8)
            .map(|_| {
                let port = port.clone();
                tokio::task::spawn_local(async move { port.ask(Do::Take(SECOND), 5 * SECOND).await })
            })
            .collect();
        settle().await;
        assert_eq!(port.depth(), 8);
        assert_eq!(port.ask(Do::Count, SECOND).await, Err(AskError::Busy));
        for ask in asks {
            assert_eq!(ask.await.unwrap(), Ok(0));
        }
        assert_eq!(port.depth(), 0);
        assert_eq!(port.ask(Do::Count, SECOND).await, Ok(1));
    });
}

#[test]
fn an_ask_without_an_answer_in_time_times_out_and_a_queued_one_is_skipped() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
        let begun = Instant::now();
        port.tell(Do::Block(10 * SECOND)).unwrap();
        settle().await;
        stage.log.take();
        assert_eq!(port.ask(Do::Note(1), 2 * SECOND).await, Err(AskError::Timeout));
        assert_eq!(begun.elapsed(), 2 * SECOND);
        assert_eq!(port.depth(), 2, "its message is still queued");
        tokio::time::sleep(10 * SECOND).await;
        assert_eq!(stage.log.take(), [""; 0]);
        assert_eq!(port.depth(), 0);
    });
}

#[test]
fn a_call_is_answered_by_the_reply_it_carries() {
    struct Look(Reply<&'static str>);
    impl actix::Message for Look {
        type Result = ();
    }
    stage(async {
        let (mut probe, port) = Probe::<Look>::new(1);
        let (answer, ()) = tokio::join!(port.call(Look, SECOND), async {
            let (Look(reply), _) = probe.next().await;
            assert!(!reply.is_abandoned());
            reply.send("seen");
        });
        assert_eq!(answer, Ok("seen"));

        let (answer, ()) = tokio::join!(port.call(Look, SECOND), async {
            drop(probe.next().await);
        });
        assert_eq!(answer, Err(AskError::Down), "a reply dropped unsent");

        assert_eq!(port.call(Look, SECOND).await, Err(AskError::Timeout));
        assert_eq!(port.call(Look, SECOND).await, Err(AskError::Busy));
        let (Look(reply), _) = probe.next().await;
        assert!(reply.is_abandoned(), "handled although nobody waits");
    });
}

#[test]
fn a_drain_waits_for_what_was_taken_and_takes_nothing_more() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
        let asker = port.clone();
        let ask = tokio::task::spawn_local(async move { asker.ask(Do::Take(2 * SECOND), 5 * SECOND).await });
        settle().await;
        let begun = Instant::now();
        let (drained, refused) = tokio::join!(port.drain(5 * SECOND), async {
            tokio::time::sleep(SECOND).await;
            port.ask(Do::Count, SECOND).await
        });
        assert!(drained);
        assert_eq!(begun.elapsed(), 2 * SECOND);
        assert_eq!(refused, Err(AskError::Draining));
        assert_eq!(ask.await.unwrap(), Ok(0));
        assert!(port.is_closed());
    });
}

#[test]
fn a_drain_ends_at_its_deadline() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
        let asker = port.clone();
        let ask = tokio::task::spawn_local(async move { asker.ask(Do::Take(9 * SECOND), 20 * SECOND).await });
        settle().await;
        let begun = Instant::now();
        assert!(!port.drain(SECOND).await);
        assert_eq!(begun.elapsed(), SECOND);
        assert!(port.drain(20 * SECOND).await, "a second drain waits on");
        assert_eq!(ask.await.unwrap(), Ok(0));
    });
}

#[test]
fn ports_close_together_only_if_all_are_idle() {
    stage(async {
        let (mut probe, posts) = Probe::<Hint>::new(2);
        let (_other, control) = Probe::<Do>::new(2);
        posts.tell(Hint(1)).unwrap();
        assert!(!close_if_idle(&[&posts, &control]));
        assert!(!posts.is_closed() && !control.is_closed());
        let taken = probe.next().await;
        assert!(!close_if_idle(&[&control, &posts]), "one is in hand");
        drop(taken);
        assert!(close_if_idle(&[&posts, &control, &posts]), "named twice");
        assert_eq!(posts.tell(Hint(2)).unwrap_err().reason(), AskError::Draining);
        assert_eq!(control.ask(Do::Count, SECOND).await, Err(AskError::Draining));
    });
}

#[test]
fn closing_if_idle_never_loses_a_message_to_a_race() {
    for _ in 0..200 {
        let (_probe, port) = Probe::<Hint>::new(4);
        let (_probe, other) = Probe::<Hint>::new(4);
        let (closed, told) = std::thread::scope(|scope| {
            let told = scope.spawn(|| port.tell(Hint(1)).is_ok());
            let closed = scope.spawn(|| close_if_idle(&[&other, &port]));
            (closed.join().unwrap(), told.join().unwrap())
        });
        assert_ne!(closed, told, "either the message is in or the door is shut");
    }
}

#[test]
fn messages_never_opened_are_dead_letters() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let (seat, port) = seat(&stage.root, Restart::Temporary);
        let hints = seat.port::<Hint>("hints", 8);
        seat.start(stage.make("a")).await.unwrap();
        port.tell(Do::Block(SECOND)).unwrap();
        settle().await;
        for n in 0..3 {
            hints.tell(Hint(n)).unwrap();
        }
        stage.root.stop(SECOND).await;
        let dead = stage.metric("actor_dead_letters_total", &[("actor", "imp"), ("message", "Hint")]);
        assert!((dead - 3.0).abs() < 0.1, "{dead}");
        assert_eq!(hints.depth(), 0);
        assert_eq!(hints.tell(Hint(9)).unwrap_err().reason(), AskError::Down);
        let dead = stage.metric("actor_dead_letters_total", &[]);
        assert!((dead - 3.0).abs() < 0.1, "a refused one is none: {dead}");
    });
}

#[test]
fn a_seat_dropped_unstarted_leaves_its_port_down() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let (seat, port) = seat(&stage.root, Restart::Permanent);
        let asker = port.clone();
        let ask = tokio::task::spawn_local(async move { asker.ask(Do::Count, SECOND).await });
        settle().await;
        drop(seat);
        assert_eq!(ask.await.unwrap(), Err(AskError::Down));
        assert!(port.is_closed());
        assert_eq!(port.ask(Do::Count, SECOND).await, Err(AskError::Down));
        assert_eq!(port.depth(), 0);
    });
}

#[test]
fn a_port_knows_its_instance() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
        let other = stage.imp(&stage.root, "b", Restart::Permanent).await;
        assert!(port.same_as(&port.clone()));
        assert!(!port.same_as(&other));
    });
}

#[test]
fn a_time_without_end_is_no_overflow() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let port = stage.imp(&stage.root, "a", Restart::Permanent).await;
        let asks = tokio::join!(port.ask(Do::Take(SECOND), Duration::MAX), port.ask(Do::Count, Duration::MAX),);
        assert_eq!(asks, (Ok(0), Ok(1)));
        assert!(port.drain(Duration::MAX).await);
        stage.root.stop(Duration::MAX).await;
    });
}

#[test]
fn a_probe_skips_a_message_whose_asker_has_gone() {
    stage(async {
        let (mut probe, port) = Probe::<Do>::new(4);
        assert_eq!(port.ask(Do::Count, SECOND).await, Err(AskError::Timeout));
        assert_eq!(port.depth(), 1);
        port.tell(Do::Note(7)).unwrap();
        let (message, reply) = probe.next().await;
        assert!(matches!(message, Do::Note(7)));
        assert!(!reply.is_awaited(), "it was told");
        reply.send(0);
        assert_eq!(port.depth(), 0);
        assert!(probe.next_within(SECOND).await.is_none());
        drop(probe);
        assert!(port.is_closed());
    });
}
