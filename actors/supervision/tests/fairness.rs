//! A mailbox that never runs empty must not keep the thread from its other tasks.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests spawn the neighbours they play themselves")]

mod support;

use actix::{Actor, Context, Handler, Message, Supervised};
use somaagent_supervision::{Admitted, Child, Port, Restart, Strategy};
use support::{SECOND, Stage, stage};

const CAPACITY: usize = 4;
const COUNT: u32 = 10_000;
/// The burst of one poll and what may be queued when it is reached.
const MOST_IN_A_TURN: u32 = 256 + 4;

/// Says how many rounds were done.
struct Rounds;

impl Message for Rounds {
    type Result = u32;
}

struct Round;

impl Message for Round {
    type Result = ();
}

/// Sends itself the next message while it handles one: the queue is never empty. Worse than any
/// number of other senders, and does not depend on how threads are scheduled.
struct Restless {
    own: Port<Round>,
    rounds: u32,
}

impl Actor for Restless {
    type Context = Context<Self>;
}

impl Supervised for Restless {}

impl Child for Restless {
    const NAME: &'static str = "restless";
}

impl Handler<Admitted<Round>> for Restless {
    type Result = ();

    fn handle(&mut self, message: Admitted<Round>, _: &mut Context<Self>) {
        let (Round, _in_flight) = message.open();
        self.rounds += 1;
        if self.rounds < COUNT {
            self.own.tell(Round).unwrap();
        }
    }
}

impl Handler<Admitted<Rounds>> for Restless {
    type Result = u32;

    fn handle(&mut self, message: Admitted<Rounds>, _: &mut Context<Self>) -> u32 {
        let (Rounds, _in_flight) = message.open();
        self.rounds
    }
}

#[test]
fn a_queue_that_never_runs_empty_leaves_the_thread_in_turns() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let seat = stage.root.seat::<Restless>(Restart::Permanent);
        let rounds = seat.port::<Round>("rounds", CAPACITY);
        let inspect = seat.port::<Rounds>("inspect", 1);
        let own = rounds.clone();
        seat.start(move || Restless { own, rounds: 0 }).await.unwrap();
        rounds.tell(Round).unwrap();
        // A task of its own: tokio gives it every other turn.
        let other = tokio::task::spawn_local(async move {
            let (mut before, mut most) = (0, 0);
            while before < COUNT {
                // Answered in the middle of it all, also when held back for the next turn.
                let done = inspect.ask(Rounds, SECOND).await.unwrap();
                most = most.max(done - before);
                before = done;
            }
            (before, most)
        });
        let (rounds, most) = other.await.unwrap();
        assert!(most <= 2 * MOST_IN_A_TURN, "{most} rounds without a turn");
        assert_eq!(rounds, COUNT, "nothing was lost");
    });
}

#[test]
fn messages_held_back_keep_their_order() {
    stage(async {
        let stage = Stage::lenient(Strategy::OneForOne);
        let seat = stage.root.seat(Restart::Permanent);
        let port = seat.port::<support::Hint>("hints", 2_000);
        let last = seat.port::<support::Do>("do", 1);
        for n in 0..1_000 {
            port.tell(support::Hint(n)).unwrap();
        }
        seat.start(stage.make("a")).await.unwrap();
        for n in 1_000..1_500 {
            port.tell(support::Hint(n)).unwrap();
            if n % 100 == 0 {
                tokio::task::yield_now().await;
            }
        }
        last.ask(support::Do::Note(0), SECOND).await.unwrap();
        let mut expected = vec!["a started".to_owned()];
        expected.extend((0..1_500).map(|n| format!("a hears {n}")));
        expected.push("a notes 0".to_owned());
        assert_eq!(stage.log.take(), expected);
    });
}
