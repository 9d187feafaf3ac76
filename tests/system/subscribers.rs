//! Case 10: a reader that does not read never delays the others.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use somaagent_test_services::client::{Frame, Mode, Post, Raw, Stream, frames_in};
use somaagent_test_services::model::{Gate, Script};
use somaagent_test_services::wait::eventually;

use crate::history::check_union;
use crate::stack::{Setup, Stack, new_session};

/// More than all buffers on the way to a reader that stands still can hold: a system's socket buffer may grow to 4 MiB.
const PIECES: usize = 3000;
const PIECE_BYTES: usize = 1500;
const ANSWER_LIMIT: usize = 8 * 1024 * 1024;
const READERS: usize = 3;
const STALLED: usize = 3;
/// What two undisturbed answers may differ by.
const A_MOMENT: Duration = Duration::from_millis(20);
/// Comparisons, of which one must hold: a machine is seldom disturbed at the same point of each, a delay of ours is.
const ROUNDS: usize = 3;

fn piece(number: usize) -> String {
    format!("{number:0>PIECE_BYTES$}")
}

fn long_answer(gate: &Gate) -> Script {
    let script = Script::new().wait(gate);
    let pieces = (0..PIECES).fold(script, |script, number| {
        // A pace that readers which do read can keep up with.
        script.text(&piece(number)).pause(Duration::from_millis(1))
    });
    pieces.done()
}

/// Reads a turn in delta mode and tells, for each piece, when it arrived. The stream is still open.
async fn read(stack: &Stack, session: &str) -> (Stream, Vec<Instant>) {
    let mut stream = stack.client.events(session).mode(Mode::Delta).open().await.unwrap();
    stream.until_terminal().await.expect("a reader that reads was dropped");
    let arrived =
        stream.frames().iter().filter(|frame| frame.kind() == "assistant.stream").map(|frame| frame.at).collect();
    (stream, arrived)
}

/// Connects and then reads nothing.
async fn stalled(stack: &Stack, session: &str) -> Raw {
    let mut raw = Raw::connect(stack.app.url(), Some(4096)).await.unwrap();
    raw.ask(&format!("/v1/session/{session}/events?mode=delta")).await.unwrap();
    raw
}

/// Delays in order.
struct Delays(Vec<Duration>);

impl Delays {
    fn new(mut delays: Vec<Duration>) -> Self {
        delays.sort();
        Self(delays)
    }

    /// The delay that `percent` of 100 do not exceed.
    fn percentile(&self, percent: usize) -> Duration {
        self.0[self.0.len() * percent / 100]
    }

    /// Whether `percent` of 100 are about as short as those of `control`. A busy machine may hit a few more pieces of the one
    /// than of the other: hence the 5 percent.
    fn are_like(&self, control: &Self, percent: usize) -> bool {
        self.percentile(percent) <= control.percentile(percent + 5) * 2 + A_MOMENT
    }
}

/// Streams one long answer to readers that read, beside `count` that stand still, and tells the delays of those that read:
/// from the model's piece to their frame.
async fn streamed_beside(stack: &Stack, count: usize) -> Delays {
    let (session, gate) = (new_session(), Gate::closed());
    stack.model.next(long_answer(&gate));
    stack.post(&Post::new(&session).to(&session)).await;
    let mut idle = join_all((0..count).map(|_| stalled(stack, &session))).await;
    let subscribed = async {
        eventually("all readers", async || {
            (stack.client.state(&session).await.ok()?["subscribers"] == READERS + count).then_some(())
        })
        .await;
        gate.open();
    };
    let (read, ()) = tokio::join!(join_all((0..READERS).map(|_| read(stack, &session))), subscribed);

    let exchanges = stack.model.exchanges();
    let sent = exchanges.iter().find(|exchange| exchange.prompt() == session).unwrap().step_times();
    let mut delays = Vec::new();
    for (stream, arrived) in &read {
        check_union(stream.frames(), &(0..PIECES).map(piece).collect::<Vec<_>>().concat());
        // The first step is the gate, and each piece is followed by a pause.
        let sent_piece = |number: usize| sent[1 + 2 * number];
        delays.extend(arrived.iter().enumerate().map(|(number, at)| at.saturating_duration_since(sent_piece(number))));
    }
    if let Some(reader) = idle.first_mut() {
        was_dropped(stack, &session, reader).await;
    }
    Delays::new(delays)
}

/// Checks that all readers that stood still were dropped, and that this one gets the rest by its last id.
async fn was_dropped(stack: &Stack, session: &str, reader: &mut Raw) {
    eventually("the stalled readers to be dropped", async || {
        (stack.client.state(session).await.ok()?["subscribers"] == READERS).then_some(())
    })
    .await;
    let mut frames = frames_in(&reader.read_to_end().await);
    assert!(!frames.iter().any(Frame::is_terminal), "a reader that did not read was not dropped");
    let id = frames.iter().rev().find_map(|frame| frame.id.clone());
    let again = stack.client.events(session).mode(Mode::Delta);
    let again = id.map_or(again.clone(), |id| again.last_event_id(&id));
    let mut again = again.open().await.unwrap();
    again.until_terminal().await.unwrap();
    frames.extend(again.frames().iter().cloned());
    assert_eq!(frames.iter().filter_map(Frame::sequence).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stalled_readers_are_dropped_and_delay_nobody() {
    let stack = Setup::default()
        .set("SA01_TURNS__RECALL_DEADLINE_MS", 0)
        .set("SA01_MODEL__MAX_ANSWER_BYTES", ANSWER_LIMIT)
        .start()
        .await;
    let mut told = Vec::new();
    // One after the other, so that nothing of the one can slow the other: what does so is the machine, and not each time.
    for _ in 0..ROUNDS {
        let alone = streamed_beside(&stack, 0).await;
        let beside = streamed_beside(&stack, STALLED).await;
        let alike = [50, 90].into_iter().all(|percent| beside.are_like(&alone, percent));
        told.push([50, 90].map(|percent| (percent, alone.percentile(percent), beside.percentile(percent))));
        if alike {
            return;
        }
    }
    panic!("stalled readers delayed the others (percent, delay without them, beside them): {told:#?}");
}

#[tokio::test]
async fn readers_that_leave_are_forgotten() {
    let stack = Stack::start().await;
    let session = new_session();
    stack.post(&Post::new("hi").to(&session)).await;
    stack.ended_turns(&session, 1).await;
    let streams = join_all((0..30).map(|_| stack.client.events(&session).open())).await;
    eventually("thirty readers", async || {
        (stack.client.state(&session).await.ok()?["subscribers"] == 30).then_some(())
    })
    .await;
    drop(streams);
    // A gone client is noticed when something is sent to it.
    stack.post(&Post::new("anybody?").to(&session)).await;
    eventually("no readers", async || (stack.client.state(&session).await.ok()?["subscribers"] == 0).then_some(()))
        .await;
}

#[tokio::test]
async fn an_idle_conversation_leaves_memory_and_comes_back() {
    let stack = Setup::default().set("SA01_SESSIONS__IDLE_MS", 100).start().await;
    let session = new_session();
    stack.post(&Post::new("hi").to(&session)).await;
    stack.ended_turns(&session, 1).await;
    eventually("the conversation to leave", async || {
        (stack.client.state(&session).await.ok()?["live"] == false).then_some(())
    })
    .await;
    let mut stream = stack.client.events(&session).open().await.unwrap();
    stream.until_terminal().await.unwrap();
    stack.post(&Post::new("again").to(&session)).await;
    assert_eq!(stack.ended_turns(&session, 2).await[1].text(), "you said: again");
}
