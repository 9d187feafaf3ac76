//! Case 2: readers that come, go and come back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use somaagent_test_services::client::{Frame, Mode, Post, Stream};
use somaagent_test_services::model::{Gate, Script};
use somaagent_test_services::wait::within;

use crate::history::{check_union, kinds};
use crate::stack::{Stack, new_session};

const PIECES: [&str; 3] = ["one ", "two ", "three"];
/// user, started, thinking, one frame a piece, final.
const FRAMES: usize = 4 + PIECES.len();

/// How a reader says where it was.
#[derive(Clone, Copy, Debug)]
enum By {
    Header,
    Query,
}

/// What happens to the turn while the reader is away.
#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    Nothing,
    NextPiece,
    Everything,
}

/// What the model waits for while it answers one message.
#[derive(Clone)]
struct Gates {
    /// Before each piece but the first.
    piece: Gate,
    /// Before the end.
    end: Gate,
}

/// A system whose model answers each message behind gates of that message's own.
struct Gated {
    stack: Stack,
    gates: Arc<Mutex<BTreeMap<String, Gates>>>,
}

impl Gated {
    async fn start() -> Self {
        let stack = Stack::start().await;
        let gates = Arc::<Mutex<BTreeMap<String, Gates>>>::default();
        let known = gates.clone();
        stack.model.answer(move |exchange| {
            let gates = known.lock().unwrap()[exchange.prompt()].clone();
            let first = Script::new().text(PIECES[0]);
            let pieces = PIECES[1..].iter().fold(first, |script, piece| script.wait(&gates.piece).text(piece));
            pieces.wait(&gates.end).done()
        });
        Self { stack, gates }
    }

    /// Reads a turn in delta mode, leaves after `boundary` frames and comes back. Each piece is released only when its
    /// reader has seen the one before, so that every boundary lies in a running turn.
    async fn read_with_a_break(&self, boundary: usize, by: By, meanwhile: Meanwhile) -> Vec<Frame> {
        let (session, gates) = (new_session(), Gates { piece: Gate::closed(), end: Gate::closed() });
        self.gates.lock().unwrap().insert(session.clone(), gates.clone());
        let subscription = || self.stack.client.events(&session).mode(Mode::Delta);
        let mut stream = subscription().open().await.unwrap();
        // Its text is the session's id, by which the model finds the gate.
        self.stack.post(&Post::new(&session).to(&session)).await;
        let mut frames = Vec::new();
        if boundary == FRAMES {
            gates.end.open();
        }
        read(&mut stream, &gates.piece, &mut frames, boundary).await;
        drop(stream);
        match meanwhile {
            Meanwhile::Nothing => {}
            Meanwhile::NextPiece => gates.piece.release(1),
            Meanwhile::Everything => {
                gates.piece.open();
                gates.end.open();
                self.stack.ended_turns(&session, 1).await;
            }
        }
        let last = frames.iter().rev().find_map(|frame| frame.id.clone());
        let again = match (last, by) {
            (None, _) => subscription(),
            (Some(id), By::Header) => subscription().last_event_id(&id),
            (Some(id), By::Query) => subscription().after(&id),
        };
        let mut stream = again.open().await.unwrap();
        gates.piece.open();
        gates.end.open();
        if frames.iter().any(Frame::is_terminal) {
            // The whole turn has been read: what comes next is the next turn.
            self.stack.post(&Post::new(&session).to(&session)).await;
            assert_eq!(stream.next().await.unwrap().sequence(), Some(3), "a frame came twice");
        } else {
            read(&mut stream, &gates.piece, &mut frames, usize::MAX).await;
        }
        frames
    }
}

/// Reads frames until `limit` are there or the turn has ended; lets the model go on with each piece seen.
async fn read(stream: &mut Stream, gate: &Gate, frames: &mut Vec<Frame>, limit: usize) {
    while frames.len() < limit {
        let frame = stream.next().await.expect("the stream ended inside the turn");
        if frame.kind() == "assistant.stream" {
            gate.release(1);
        }
        let over = frame.is_terminal();
        frames.push(frame);
        if over {
            return;
        }
    }
}

#[tokio::test]
async fn coming_back_at_any_frame_of_a_running_turn_misses_nothing_and_repeats_nothing() {
    let gated = Gated::start().await;
    let cases = (0..=FRAMES).flat_map(|boundary| {
        [By::Header, By::Query].into_iter().flat_map(move |by| {
            [Meanwhile::Nothing, Meanwhile::NextPiece].into_iter().map(move |meanwhile| (boundary, by, meanwhile))
        })
    });
    let readings = cases.map(async |(boundary, by, meanwhile)| {
        let frames = gated.read_with_a_break(boundary, by, meanwhile).await;
        eprintln!("left after {boundary} frames, came back by {by:?}, meanwhile {meanwhile:?}");
        check_union(&frames, &PIECES.concat());
        let expected = ["user", "assistant.started", "assistant.thinking", "assistant.stream", "assistant.final"];
        assert_eq!(kinds(&frames), expected);
    });
    join_all(readings).await;
}

#[tokio::test]
async fn coming_back_after_the_turn_brings_its_stored_end() {
    let gated = Gated::start().await;
    let cases = (0..FRAMES).flat_map(|boundary| [(boundary, By::Header), (boundary, By::Query)]);
    let readings = cases.map(async |(boundary, by)| {
        let frames = gated.read_with_a_break(boundary, by, Meanwhile::Everything).await;
        let stored: Vec<u64> = frames.iter().filter_map(Frame::sequence).collect();
        assert_eq!(stored, [1, 2], "left after {boundary} frames, came back by {by:?}: {frames:#?}");
        assert_eq!(frames.last().unwrap().data["message"], PIECES.concat());
    });
    join_all(readings).await;
}

#[tokio::test]
async fn a_reader_of_whole_texts_comes_back_to_the_latest_one() {
    let stack = Stack::start().await;
    let (session, gate) = (new_session(), Gate::closed());
    stack.model.next(Script::gated(PIECES, &gate));
    let mut stream = stack.client.events(&session).open().await.unwrap();
    stack.post(&Post::new("hi").to(&session)).await;
    stream.until(|frame| frame.text() == "one ").await.unwrap();
    let left_at = stream.last_id().unwrap();

    let mut seen_all = stack.client.events(&session).last_event_id(&left_at).open().await.unwrap();
    gate.release(1);
    let next = seen_all.next().await.unwrap();
    assert_eq!((next.kind(), next.text()), ("assistant.stream", "one two "), "a frame came twice");

    let mut behind = stack.client.events(&session).last_event_id(&left_at).open().await.unwrap();
    let latest = behind.next().await.unwrap();
    assert_eq!((latest.kind(), latest.text()), ("assistant.stream", "one two "));
    assert_eq!(latest.id, next.id);
    gate.open();
    assert_eq!(behind.until_terminal().await.unwrap().data["message"], PIECES.concat());
}

#[tokio::test]
async fn readers_before_during_and_after_a_turn_see_the_whole_turn() {
    let stack = Stack::start().await;
    let (session, gate) = (new_session(), Gate::closed());
    stack.model.next(Script::gated(PIECES, &gate));
    let open = async || stack.client.events(&session).mode(Mode::Delta).open().await.unwrap();
    let mut before = open().await;
    stack.post(&Post::new("hi").to(&session)).await;
    before.until(|frame| frame.kind() == "assistant.stream").await.unwrap();
    let mut during = open().await;
    // It is known to read before the turn goes on, so that what it gets is the middle of the turn.
    during.until(|frame| frame.kind() == "assistant.stream").await.unwrap();
    gate.open();
    for stream in [&mut before, &mut during] {
        stream.until_terminal().await.unwrap();
        check_union(stream.frames(), &PIECES.concat());
    }
    let mut after = open().await;
    after.until_terminal().await.unwrap();
    assert_eq!(kinds(after.frames()), ["user", "assistant.final"]);
    assert_eq!(after.frames()[0].sequence(), Some(1));
}

#[tokio::test]
async fn twenty_readers_see_identical_bytes() {
    let stack = Stack::start().await;
    for mode in [Mode::Default, Mode::Delta, Mode::Html] {
        let session = new_session();
        let open = (0..20).map(async |_| stack.client.events(&session).mode(mode).open().await.unwrap());
        let mut streams = join_all(open).await;
        stack.post(&Post::new("tell me something that takes a few words").to(&session)).await;
        let read = streams.iter_mut().map(async |stream| {
            stream.until_terminal().await.unwrap();
            stream.raw().to_vec()
        });
        let bodies = join_all(read).await;
        assert!(bodies.iter().all(|body| *body == bodies[0]), "{mode:?}: readers saw different bytes");
        // The others are the encodings of the same turn.
        assert!(String::from_utf8_lossy(&bodies[0]).contains("assistant.final"));
    }
}

#[tokio::test]
async fn an_unused_id_waits_for_its_first_message_and_leaves_no_row() {
    let stack = Stack::start().await;
    let (used, unused) = (new_session(), new_session());
    let mut waiting = stack.client.events(&used).open().await.unwrap();
    let idle = stack.client.events(&unused).open().await.unwrap();
    stack.post(&Post::new("hi").to(&used)).await;
    waiting.until_terminal().await.unwrap();
    drop(idle);
    for rest in ["events", "state"] {
        assert_eq!(stack.client.get(&format!("/v1/sessions/{unused}/{rest}")).await.unwrap().status, 404, "{rest}");
    }
    let listed = stack.get("/v1/sessions").await;
    let ids: Vec<&str> = listed.as_array().unwrap().iter().map(|s| s["session_id"].as_str().unwrap()).collect();
    assert_eq!(ids, [used.as_str()]);
}

#[tokio::test]
async fn after_zero_brings_the_whole_history() {
    let stack = Stack::start().await;
    let session = new_session();
    for number in 1..=3 {
        stack.post(&Post::new(&format!("message {number}")).to(&session)).await;
        stack.ended_turns(&session, number).await;
    }
    let mut stream = stack.client.events(&session).after("0").open().await.unwrap();
    within("the history", async {
        while stream.frames().len() < 6 {
            stream.next().await.unwrap();
        }
    })
    .await;
    let stored: Vec<u64> = stream.frames().iter().filter_map(Frame::sequence).collect();
    assert_eq!(stored, [1, 2, 3, 4, 5, 6]);
}
