//! Case 3: the process is killed, or a conversation panics, at any point of a turn.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use somaagent_test_services::client::{Client, Frame, Mode, Post};
use somaagent_test_services::model::{Exchange, Script};
use somaagent_test_services::postgres::{Ending, Postgres};
use somaagent_test_services::seed::{self, Case};
use somaagent_test_services::wait::{eventually, within};
use tokio::sync::watch;

use crate::history::{check_ids, spelled};
use crate::stack::{Setup, Stack, ended_turns, new_session};

/// Kills; each hits a few sessions in the middle of their turns.
const KILLS: usize = 20;
const SESSIONS_A_KILL: usize = 4;
/// Planted panics; each hits one of as many sessions.
const PANICS: usize = 20;
const PIECES: usize = 12;

/// An answer that no other request gets: its pieces name the request.
fn unique_answer(exchange: &Exchange, pause: Duration) -> Script {
    let pieces = (0..PIECES)
        .fold(Script::new(), |script, piece| script.text(&format!("<{} {piece}> ", exchange.number)).pause(pause));
    pieces.done()
}

fn full_answer(number: u64) -> String {
    (0..PIECES).map(|piece| format!("<{number} {piece}> ")).collect::<Vec<_>>().concat()
}

/// Reads a session in delta mode to the end of its turn, through every loss of the connection. Counts frames in `seen`.
async fn read_to_the_end(client: Client, session: String, seen: watch::Sender<u64>) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    within("the end of a turn through crashes", async {
        loop {
            let subscription = client.events(&session).mode(Mode::Delta);
            let subscription = match frames.iter().rev().find_map(|frame| frame.id.as_deref()) {
                Some(id) => subscription.last_event_id(id),
                None => subscription.after("0"),
            };
            let Ok(mut stream) = subscription.open().await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            while let Some(frame) = stream.next().await {
                seen.send_modify(|seen| *seen += 1);
                let over = frame.is_terminal();
                frames.push(frame);
                if over {
                    return;
                }
            }
        }
    })
    .await;
    frames
}

/// Checks P1, P3 and P4 for one session with one acknowledged message. Returns the attempt that ended its turn.
async fn check_turn(client: &Client, session: &str, frames: &[Frame], attempts: u64) -> u64 {
    let turns = ended_turns(client, session, 1).await;
    assert_eq!(turns.len(), 1, "{turns:#?}");
    let turn = &turns[0];
    assert_eq!(turn.said(), session, "the acknowledged message is not the one in the history");
    assert_eq!(turn.kind(), "assistant.final", "{turn:#?}");
    let attempt = turn.meta("attempt").as_u64().unwrap();
    assert!((1..=attempts).contains(&attempt), "attempt {attempt} of a turn that was broken {} times", attempts - 1);

    // The stored answer is one whole answer of the model, never two spliced ones.
    let number = turn.text().trim_start_matches('<').split(' ').next().unwrap().parse().unwrap();
    assert_eq!(turn.text(), full_answer(number));

    // Readers saw each stored event once, and of the last attempt exactly what was stored, if they saw it stream.
    let stored: Vec<u64> = frames.iter().filter_map(Frame::sequence).collect();
    assert_eq!(stored, [1, 2], "{frames:#?}");
    let last = frames.iter().rfind(|frame| frame.kind() == "assistant.started");
    if last.and_then(Frame::attempt) == Some(attempt) {
        let spelled = spelled(frames);
        assert!(turn.text().starts_with(&spelled), "streamed `{spelled}`, stored `{}`", turn.text());
        // The last attempt that may be tried is never broken, so its reader has all of it.
        assert!(attempt < attempts || spelled == turn.text(), "streamed `{spelled}`, stored `{}`", turn.text());
    }
    // A later attempt starts anew: its first frame says so.
    for pair in frames.windows(2) {
        let (before, after) = (pair[0].attempt(), pair[1].attempt());
        if before.is_some() && after > before && pair[1].sequence().is_none() {
            assert_eq!(pair[1].kind(), "assistant.started", "an attempt without its beginning: {pair:#?}");
        }
    }
    attempt
}

#[tokio::test]
async fn killed_at_random_points_every_turn_ends_once_with_one_whole_answer() {
    for mut case in seed::cases("killed at random points of a turn", 1) {
        let mut stack = Setup::default().set("SA01_SESSIONS__LEASE_MS", 3000).start().await;
        let pause = Duration::from_millis(4);
        stack.model.answer(move |exchange| unique_answer(exchange, pause));
        let mut broken = 0;
        for kill in 0..KILLS {
            broken += kill_once(&mut stack, &mut case, kill).await;
        }
        // The kills hit turns: without this the rest would prove nothing.
        assert!(broken * 4 >= KILLS, "only {broken} turns were broken by {KILLS} kills");
    }
}

/// Kills once, in the middle of a few turns, and checks each. Returns how many turns were broken and tried again.
async fn kill_once(stack: &mut Stack, case: &mut Case, kill: usize) -> usize {
    let seen = watch::Sender::new(0);
    let sessions: Vec<String> = (0..SESSIONS_A_KILL).map(|_| new_session()).collect();
    let readers: Vec<_> = sessions
        .iter()
        .map(|session| tokio::spawn(read_to_the_end(stack.client.clone(), session.clone(), seen.clone())))
        .collect();
    // Anywhere between the first post and the last frame; 0 kills before anything was heard.
    let frames_of_all = (SESSIONS_A_KILL * (PIECES + 4)) as u64;
    let after = case.number(0..=frames_of_all - 1);
    let posts: Vec<_> = sessions
        .iter()
        .map(|session| {
            let (client, session) = (stack.client.clone(), session.clone());
            let post = Post::new(&session).to(&session).key(&session);
            tokio::spawn(async move { client.message(&post).await })
        })
        .collect();
    let mut count = seen.subscribe();
    within("the frame to kill at", count.wait_for(|count| *count >= after)).await.unwrap();
    stack.app.kill().await.unwrap();
    stack.restart().await;

    for (session, post) in sessions.iter().zip(posts) {
        // A message whose acknowledgement was lost is sent again with its key, as the contract tells clients to do.
        let acknowledged = post.await.unwrap().is_ok_and(|answer| answer.status == 200);
        let again = stack.client.message(&Post::new(session).to(session).key(session)).await.unwrap();
        assert_eq!(again.status, 200, "kill {kill} after {after} frames: {}", again.text);
        assert_eq!(again.json()["seq"], 1, "kill {kill}: acknowledged {acknowledged}, and stored twice");
    }
    let mut broken = 0;
    for (session, reader) in sessions.iter().zip(readers) {
        let frames = reader.await.unwrap();
        let attempt = check_turn(&stack.client, session, &frames, 2).await;
        broken += usize::from(attempt > 1);
    }
    broken
}

#[tokio::test]
async fn a_reader_sees_the_second_attempt_begin_anew() {
    let mut stack = Setup::default().set("SA01_SESSIONS__LEASE_MS", 3000).start().await;
    let session = new_session();
    stack.model.next(Script::new().text("void ").text("text").stall());
    stack.model.next(Script::words("the whole answer"));
    let mut stream = stack.client.events(&session).mode(Mode::Delta).open().await.unwrap();
    stack.post(&Post::new("hi").to(&session)).await;
    stream.until(|frame| frame.text() == "text").await.unwrap();
    stack.app.kill().await.unwrap();
    stream.until_end().await;
    stack.restart().await;

    let id = stream.last_id().unwrap();
    let mut again = stack.client.events(&session).mode(Mode::Delta).last_event_id(&id).open().await.unwrap();
    let started = again.next().await.unwrap();
    assert_eq!((started.kind(), started.attempt()), ("assistant.started", Some(2)));
    let end = again.until_terminal().await.unwrap();
    assert_eq!((end.data["message"].as_str(), end.attempt()), (Some("the whole answer"), Some(2)));
    check_ids(again.frames());
    assert_eq!(spelled(again.frames()), "the whole answer");
    let context = stack.model.exchange(1).await.context();
    assert!(!context.contains("void"), "text of the broken attempt reached the model: {context}");
}

#[tokio::test]
async fn a_turn_that_kills_its_process_each_time_is_given_up() {
    let mut stack =
        Setup::default().set("SA01_SESSIONS__LEASE_MS", 3000).set("SA01_TURNS__MAX_ATTEMPTS", 3).start().await;
    let session = new_session();
    stack.model.always(Script::new().text("never ").stall());
    stack.post(&Post::new("hi").to(&session)).await;
    for attempt in 0..3 {
        stack.model.exchange(attempt).await.played(1).await;
        stack.app.kill().await.unwrap();
        stack.restart().await;
    }
    let turns = stack.ended_turns(&session, 1).await;
    assert_eq!((turns[0].kind(), turns[0].meta("error_code")), ("assistant.error", json!("turn-abandoned")));
    assert_eq!(stack.model.exchanges().len(), 3, "a turn was tried more often than it may be");
    stack.model.always(Script::words("well again"));
    stack.post(&Post::new("again").to(&session)).await;
    assert_eq!(stack.ended_turns(&session, 2).await[1].text(), "well again");
}

#[tokio::test]
async fn messages_that_waited_for_their_turn_are_answered_after_a_kill() {
    let mut stack = Setup::default().set("SA01_SESSIONS__LEASE_MS", 3000).start().await;
    let session = new_session();
    stack.model.next(Script::new().text("stuck").stall());
    for number in 0..4 {
        stack.post(&Post::new(&format!("message {number}")).to(&session)).await;
    }
    stack.model.exchange(0).await.played(1).await;
    stack.app.kill().await.unwrap();
    stack.restart().await;
    let turns = stack.ended_turns(&session, 4).await;
    for (number, turn) in turns.iter().enumerate() {
        assert_eq!(turn.text(), format!("you said: message {number}"));
    }
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn panics_at_random_points_cost_one_attempt_of_one_turn_and_nothing_else() {
    for mut case in seed::cases("panics at random points of a turn", 1) {
        for panic in 0..PANICS {
            panic_once(&mut case, panic).await;
        }
    }
}

/// Panics once in a conversation, in a build that has the fault, in the middle of a few turns, and checks each.
#[cfg(debug_assertions)]
async fn panic_once(case: &mut Case, panic: usize) {
    // It springs at this piece of all the answers together.
    let at = case.number(1..=(SESSIONS_A_KILL * PIECES) as u64);
    let pause = Duration::from_millis(case.number(0..=3));
    let mut stack = Setup::default().set("SA01_FAULTS__CONVERSATION_PANIC_AT_PIECE", at).start().await;
    stack.model.answer(move |exchange| unique_answer(exchange, pause));
    let process = stack.app.id();
    let sessions: Vec<String> = (0..SESSIONS_A_KILL).map(|_| new_session()).collect();
    let read = join_all(
        sessions.iter().map(|session| read_to_the_end(stack.client.clone(), session.clone(), watch::Sender::new(0))),
    );
    let post = async |session: &String| stack.post(&Post::new(session).to(session).key(session)).await;
    let (read, _) = tokio::join!(read, join_all(sessions.iter().map(post)));
    let mut attempts = Vec::new();
    for (session, frames) in sessions.iter().zip(read) {
        attempts.push(check_turn(&stack.client, session, &frames, 2).await);
    }
    attempts.sort_unstable();
    assert_eq!(attempts, [1, 1, 1, 2], "panic {panic} at piece {at}: not one turn was broken once");
    assert!(stack.app.is_running() && stack.app.id() == process, "panic {panic} ended the process");
    // The session whose conversation panicked goes on as the others do.
    for session in &sessions {
        stack.post(&Post::new("and now").to(session)).await;
        assert_eq!(stack.ended_turns(session, 2).await[1].meta("attempt"), 1, "panic {panic} at piece {at}");
    }
}

#[cfg(debug_assertions)]
#[tokio::test]
async fn a_turn_that_panics_each_time_is_given_up_and_costs_no_other() {
    let attempts = 3;
    let mut stack = Setup::default()
        .set("SA01_TURNS__MAX_ATTEMPTS", attempts)
        .set("SA01_FAULTS__CONVERSATION_PANIC_AT_PIECE", 2)
        .set("SA01_FAULTS__CONVERSATION_PANICS", attempts)
        .start()
        .await;
    let session = new_session();
    let mut stream = stack.client.events(&session).open().await.unwrap();
    stack.post(&Post::new("first").to(&session)).await;
    // It may be in the hands of the conversation that panics: its fate is not known then, and it is sent again with its key.
    let second = Post::new("second").to(&session).key("second");
    eventually("an acknowledgement", async || {
        let answer = stack.client.message(&second).await.unwrap();
        assert!([200, 503, 504].contains(&answer.status), "{}: {}", answer.status, answer.text);
        (answer.status == 200).then_some(())
    })
    .await;
    let turns = stack.ended_turns(&session, 2).await;
    assert_eq!(turns.len(), 2, "a message was stored twice: {turns:#?}");
    assert_eq!((turns[0].kind(), turns[0].meta("error_code")), ("assistant.error", json!("turn-abandoned")));
    assert_eq!((turns[1].kind(), turns[1].text()), ("assistant.final", "you said: second"));
    let asked = stack.model.exchanges().iter().filter(|exchange| exchange.prompt() == "first").count();
    assert_eq!(asked, attempts, "a turn was tried more often than it may be");
    assert!(stack.app.is_running(), "the panics ended the process");
    // Its reader was told of the first attempt, and was sent away by the panic.
    stream.until_end().await;
    assert!(!stream.frames().iter().any(Frame::is_terminal));
}

#[tokio::test]
async fn a_crash_of_the_database_server_loses_nothing_acknowledged() {
    let postgres = Arc::new(Postgres::start().unwrap());
    let database = postgres.fresh_database().await.unwrap();
    let stack = Setup::default().set("SA01_DB_DSN", database.dsn()).start().await;
    let acknowledged = watch::Sender::new(0);
    let posting = join_all((0..8).map(|_| post_forty(&stack.client, &acknowledged)));
    let crash = async {
        within("some acknowledged messages", acknowledged.subscribe().wait_for(|count| *count > 60)).await.unwrap();
        let restart = move || postgres.end(Ending::Crash).and_then(|()| postgres.restart()).map(|()| postgres);
        tokio::task::spawn_blocking(restart).await.unwrap().unwrap()
    };
    let (posted, _postgres) = tokio::join!(posting, crash);
    for (session, event) in posted.into_iter().flatten() {
        let turns = ended_turns(&stack.client, &session, 1).await;
        assert_eq!((turns.len(), turns[0].user["event_id"].as_str()), (1, Some(&*event)));
    }
}

/// Posts forty messages, each with its key until it is acknowledged, as clients are told to do. Returns their sessions and
/// events.
async fn post_forty(client: &Client, acknowledged: &watch::Sender<usize>) -> Vec<(String, String)> {
    let mut accepted = Vec::new();
    for number in 0..40 {
        let post = Post::new(&format!("message {number}")).key(&new_session());
        let answer = eventually("an acknowledgement", async || {
            client.message(&post).await.ok().filter(|answer| answer.status == 200)
        });
        let answer = answer.await;
        accepted.push((answer.text_of("session_id"), answer.text_of("event_id")));
        acknowledged.send_modify(|count| *count += 1);
    }
    accepted
}
