//! Case 7: PostgreSQL's connection is cut, stalled and spoiled under load, also between a commit and its reply.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use somaagent_test_services::client::{Client, Mode, Post};
use somaagent_test_services::model::{Gate, Script};
use somaagent_test_services::proxy::Fault;
use somaagent_test_services::seed::{self, Case};
use somaagent_test_services::wait::{eventually, within};
use tokio::sync::watch;
use uuid::Uuid;

use crate::history::turns;
use crate::stack::{Setup, Stack, ended_turns, new_session};

const FAULTS: usize = 200;
const SESSIONS: usize = 12;
/// How long a message waits for its answer, and a reply that comes later: what became of the message is not known then.
const PATIENCE: Duration = Duration::from_secs(3);
const TOO_LATE: Duration = Duration::from_secs(4);
const LATE_REPLIES: usize = 3;
/// What the statement that stores a message writes to.
const APPEND: &str = "session_events";

/// What one poster was told about its messages.
#[derive(Default)]
struct Told {
    /// Event ids that were acknowledged, by key.
    accepted: BTreeMap<String, String>,
    /// Event ids that were not stored, as the server said.
    refused: BTreeSet<String>,
    /// Messages whose fate the server did not know, by key.
    unknown: Vec<(String, String)>,
}

impl Told {
    fn note(&mut self, key: &str, message: &str, answer: &somaagent_test_services::client::Answer) {
        let event = answer.text_of("event_id");
        match answer.status {
            200 => {
                self.accepted.insert(key.to_owned(), event);
            }
            // Too many wait for their turn: nothing was stored, and no event is named.
            409 => assert_eq!(answer.code(), "session-queue-full", "{}", answer.text),
            503 => {
                self.refused.extend(Some(event).filter(|event| !event.is_empty()));
            }
            504 => self.unknown.push((key.to_owned(), message.to_owned())),
            other => panic!("a post was answered {other}: {}", answer.text),
        }
    }
}

/// Posts to one session until told to end.
async fn post_until(client: Client, session: String, load: Arc<Load>) -> Told {
    let mut told = Told::default();
    let mut number = 0;
    while !load.over.load(Ordering::Relaxed) {
        number += 1;
        let (key, message) = (Uuid::new_v4().to_string(), format!("message {number}"));
        let answer = client.message(&Post::new(&message).to(&session).key(&key)).await.unwrap();
        told.note(&key, &message, &answer);
        if answer.status == 200 {
            load.accepted.send_modify(|accepted| *accepted += 1);
        }
    }
    told
}

/// What the posters and the one who disturbs them tell each other.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    accepted: watch::Sender<u64>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_faults_lose_nothing_and_invent_nothing() {
    for mut case in seed::cases("database faults", 1) {
        let stack = Setup::default()
            .set("SA01_TURNS__RECALL_DEADLINE_MS", 0)
            .set("SA01_SESSIONS__LEASE_MS", 3000)
            .set("SA01_SESSIONS__ASK_TIMEOUT_MS", PATIENCE.as_millis())
            .start()
            .await;
        let load = Arc::new(Load::default());
        let sessions: Vec<String> = (0..SESSIONS).map(|_| new_session()).collect();
        let posters: Vec<_> = sessions
            .iter()
            .map(|session| tokio::spawn(post_until(stack.client.clone(), session.clone(), load.clone())))
            .collect();
        disturb(&stack, &mut case, &load).await;
        load.over.store(true, Ordering::Relaxed);
        let told = join_all(posters).await;
        let told: Vec<Told> = told.into_iter().map(Result::unwrap).collect();
        let sum = |count: fn(&Told) -> usize| told.iter().map(count).sum::<usize>();
        let (accepted, unknown) = (sum(|told| told.accepted.len()), sum(|told| told.unknown.len()));
        let refused = sum(|told| told.refused.len());
        eprintln!("{accepted} accepted, {refused} refused, {unknown} unknown, {} connections", stack.proxy.opened());
        // The faults met the load: without this the rest would prove nothing.
        assert!(accepted > FAULTS && refused > 0 && unknown > 0 && stack.proxy.opened() > FAULTS / 10);
        for (session, told) in sessions.iter().zip(told) {
            check_session(&stack, session, told).await;
        }
        check_pool(&stack).await;
    }
}

async fn disturb(stack: &Stack, case: &mut Case, load: &Load) {
    let mut accepted = load.accepted.subscribe();
    let late = (0..LATE_REPLIES).map(|_| Fault::LateAfterCommit(TOO_LATE));
    let faults: Vec<Fault> = (0..FAULTS).map(|_| Fault::draw(case)).chain(late).collect();
    for (number, fault) in faults.into_iter().enumerate() {
        stack.proxy.play(&fault, APPEND).await;
        // The next one comes while work is under way again, at any point of it.
        let enough = *accepted.borrow_and_update() + case.number(1..=8);
        within(
            &format!("messages to be accepted after fault {number}, {fault:?}"),
            accepted.wait_for(|accepted| *accepted >= enough),
        )
        .await
        .unwrap();
    }
    stack.proxy.heal();
}

/// Every 200 is in the history, every 503 is not, and every 504 sent again with its key gives one event.
async fn check_session(stack: &Stack, session: &str, mut told: Told) {
    for (key, message) in std::mem::take(&mut told.unknown) {
        let post = Post::new(&message).to(session).key(&key);
        let answer = eventually("a clear answer to a message sent again", async || {
            let answer = stack.client.message(&post).await.unwrap();
            (answer.status == 200).then_some(answer)
        })
        .await;
        told.note(&key, &message, &answer);
    }
    let history = eventually("a readable history", async || stack.client.history(session).await.ok()).await;
    let count = turns(&history).len();
    let turns = ended_turns(&stack.client, session, count).await;
    let stored: Vec<&str> = turns.iter().map(|turn| turn.user["event_id"].as_str().unwrap()).collect();
    let distinct: BTreeSet<&str> = stored.iter().copied().collect();
    assert_eq!(stored.len(), distinct.len(), "an event was stored twice");
    let accepted: BTreeSet<&str> = told.accepted.values().map(String::as_str).collect();
    assert_eq!(accepted.len(), told.accepted.len(), "two messages got the same event");
    assert_eq!(accepted, distinct, "what was acknowledged and what is stored differ in session {session}");
    for event in &told.refused {
        assert!(!distinct.contains(&**event), "event {event} was answered 503 and is stored");
    }
}

/// Afterwards the system answers as if nothing had happened, on connections that are idle in between.
async fn check_pool(stack: &Stack) {
    let posts = (0..32).map(async |_| {
        let session = new_session();
        stack.post(&Post::new("afterwards").to(&session)).await;
        assert_eq!(stack.ended_turns(&session, 1).await.len(), 1);
    });
    join_all(posts).await;
    assert_eq!(stack.client.get("/readyz").await.unwrap().status, 200);
    let pool = stack.database.pool().await.unwrap();
    let unfinished = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
                 AND (state LIKE 'idle in transaction%' OR (state = 'active' AND now() - query_start > interval '5 s'))";
    eventually("connections that are all idle", async || {
        let count: i64 = sqlx::query_scalar(unfinished).fetch_one(&pool).await.unwrap();
        (count == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_reply_lost_after_the_commit_is_found_again() {
    let stack = Stack::start().await;
    let session = new_session();
    stack.post(&Post::new("warm").to(&session)).await;
    stack.ended_turns(&session, 1).await;
    let mut sprung = stack.proxy.cut_after_commit(APPEND);
    let answer = stack.client.message(&Post::new("kept").to(&session).key("k")).await.unwrap();
    sprung.wait().await;
    // It is durable, so the conversation reads it back and acknowledges it.
    assert_eq!((answer.status, answer.json()["seq"].clone()), (200, json!(3)), "{}", answer.text);
    let turns = stack.ended_turns(&session, 2).await;
    assert_eq!((turns.len(), turns[1].said()), (2, "kept"));
}

#[tokio::test]
async fn a_write_lost_before_the_commit_is_not_acknowledged() {
    let stack = Stack::start().await;
    let session = new_session();
    stack.post(&Post::new("warm").to(&session)).await;
    stack.ended_turns(&session, 1).await;
    let mut sprung = stack.proxy.cut_before_commit(APPEND);
    let post = Post::new("lost").to(&session).key("k");
    let lost = stack.client.message(&post).await.unwrap();
    sprung.wait().await;
    assert!([503, 504].contains(&lost.status), "{}: {}", lost.status, lost.text);
    assert!(!lost.text_of("event_id").is_empty(), "the client cannot ask for its event: {}", lost.text);
    let again = stack.post(&post).await.json();
    let turns = stack.ended_turns(&session, 2).await;
    assert_eq!((turns.len(), &turns[1].user["event_id"]), (2, &again["event_id"]));
}

#[tokio::test]
async fn the_end_of_a_turn_survives_a_lost_reply() {
    let stack = Stack::start().await;
    let (session, gate) = (new_session(), Gate::closed());
    stack.model.next(Script::gated(["one ", "two"], &gate));
    let mut stream = stack.client.events(&session).open().await.unwrap();
    stack.post(&Post::new("hi").to(&session)).await;
    stream.until(|frame| frame.text() == "one ").await.unwrap();
    let mut sprung = stack.proxy.cut_after_commit(APPEND);
    gate.open();
    let end = stream.until_terminal().await.unwrap();
    sprung.wait().await;
    assert_eq!(
        (end.kind(), end.data["message"].as_str(), end.sequence()),
        ("assistant.final", Some("one two"), Some(2))
    );
    assert_eq!(stack.ended_turns(&session, 1).await.len(), 1);
}

#[tokio::test]
async fn the_end_of_a_turn_survives_a_lost_write() {
    let stack = Setup::default().set("SA01_SESSIONS__LEASE_MS", 3000).start().await;
    let (session, gate) = (new_session(), Gate::closed());
    stack.model.next(Script::gated(["one ", "two"], &gate));
    let mut stream = stack.client.events(&session).open().await.unwrap();
    stack.post(&Post::new("hi").to(&session)).await;
    stream.until(|frame| frame.text() == "one ").await.unwrap();
    let mut sprung = stack.proxy.cut_before_commit(APPEND);
    gate.open();
    sprung.wait().await;
    let turns = stack.ended_turns(&session, 1).await;
    assert_eq!((turns.len(), turns[0].kind()), (1, "assistant.final"), "{turns:#?}");
}

/// Breaks every connection when the next append is committed, before its reply, and leaves the process without a database
/// until it has given up finding out what became of the append.
async fn leave_in_doubt(stack: &Stack, begin: impl Future<Output = ()>) {
    lose_the_outcome(stack, begin).await;
    stack.proxy.heal();
}

/// The same, with the database still away.
async fn lose_the_outcome(stack: &Stack, begin: impl Future<Output = ()>) {
    let never = Gate::closed();
    let mut sprung = stack.proxy.hold_after_commit(APPEND, &never);
    begin.await;
    sprung.wait().await;
    stack.proxy.refuse(true);
    stack.proxy.cut();
    eventually("the process to give up", async || stack.app.output().contains("could not be found out").then_some(()))
        .await;
}

#[tokio::test]
async fn an_end_in_doubt_is_neither_forgotten_nor_stored_twice() {
    let stack = in_doubt().await;
    let (session, gate) = (new_session(), Gate::closed());
    stack.model.next(Script::gated(["one ", "two"], &gate));
    let mut stream = stack.client.events(&session).open().await.unwrap();
    stack.post(&Post::new("first").to(&session)).await;
    stream.until(|frame| frame.text() == "one ").await.unwrap();
    leave_in_doubt(&stack, async { gate.open() }).await;
    // Another step of the session gets into doubt before the end is tried again; what it finds out moves the head.
    let sprung = stack.proxy.cut_before_commit(APPEND);
    let post = Post::new("second").to(&session).key("k");
    eventually("the second message to be accepted", async || {
        (stack.client.message(&post).await.unwrap().status == 200).then_some(())
    })
    .await;
    assert!(sprung.has_sprung());
    let turns = stack.ended_turns(&session, 2).await;
    assert_eq!((turns.len(), turns[0].text(), turns[1].said()), (2, "one two", "second"));
}

#[tokio::test]
async fn a_message_in_doubt_that_was_stored_is_answered() {
    let stack = in_doubt().await;
    let session = new_session();
    stack.post(&Post::new("warm").to(&session)).await;
    stack.ended_turns(&session, 1).await;
    let (client, post) = (stack.client.clone(), Post::new("first").to(&session).key("1"));
    let (told, ()) = tokio::join!(client.message(&post), leave_in_doubt(&stack, std::future::ready(())));
    let told = told.unwrap();
    assert_eq!((told.status, told.code().as_str()), (504, "outcome-unknown"), "{}", told.text);
    let sprung = stack.proxy.cut_before_commit(APPEND);
    let second = Post::new("second").to(&session).key("2");
    for post in [&second, &post] {
        eventually("both messages to be accepted", async || {
            (stack.client.message(post).await.unwrap().status == 200).then_some(())
        })
        .await;
    }
    assert!(sprung.has_sprung());
    let turns = stack.ended_turns(&session, 3).await;
    let said: Vec<&str> = turns.iter().map(crate::history::Turn::said).collect();
    assert_eq!(said, ["warm", "first", "second"]);
}

#[tokio::test]
async fn a_stop_is_refused_while_it_is_not_known_whether_there_is_anything_to_stop() {
    let stack = in_doubt().await;
    let session = new_session();
    stack.post(&Post::new("warm").to(&session)).await;
    stack.ended_turns(&session, 1).await;
    let post = Post::new("kept").to(&session).key("k");
    let (told, ()) = tokio::join!(stack.client.message(&post), lose_the_outcome(&stack, std::future::ready(())));
    assert_eq!(told.unwrap().status, 504);
    let stop = stack.client.stop(&session).await.unwrap();
    assert_eq!((stop.status, stop.code().as_str()), (503, "unavailable"), "{}", stop.text);
    assert!(!stop.header("retry-after").is_empty());
    stack.proxy.heal();
    let turns = stack.ended_turns(&session, 2).await;
    assert_eq!((turns[1].said(), turns[1].kind()), ("kept", "assistant.final"));
    // It was stored with its first attempt, which is the one that ran.
    assert_eq!(turns[1].meta("attempt"), 1);
}

#[tokio::test]
async fn a_stop_waits_for_a_message_on_its_way_and_stops_that() {
    let stack = Stack::start().await;
    let (session, never) = (new_session(), Gate::closed());
    stack.post(&Post::new("warm").to(&session)).await;
    stack.ended_turns(&session, 1).await;
    stack.model.next(Script::gated(["never"], &never));
    let gate = Gate::closed();
    let mut sprung = stack.proxy.hold_after_commit(APPEND, &gate);
    let (client, post) = (stack.client.clone(), Post::new("stop me").to(&session).key("k"));
    let posting = tokio::spawn(async move { client.message(&post).await.unwrap() });
    sprung.wait().await;
    let (client, of) = (stack.client.clone(), session.clone());
    let stopping = tokio::spawn(async move { client.stop(&of).await.unwrap() });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!stopping.is_finished(), "a stop was answered that missed what was on its way");
    gate.open();
    assert_eq!(posting.await.unwrap().status, 200);
    let stop = stopping.await.unwrap();
    assert_eq!((stop.status, stop.json()["turn"].clone()), (200, json!(3)), "{}", stop.text);
    let turns = stack.ended_turns(&session, 2).await;
    assert_eq!((turns[1].said(), turns[1].kind()), ("stop me", "assistant.stopped"));
}

#[tokio::test]
async fn an_interrupting_message_in_doubt_that_was_stored_interrupts() {
    let stack = in_doubt().await;
    let (session, never) = (new_session(), Gate::closed());
    stack.model.next(Script::gated(["old ", "never"], &never));
    let mut stream = stack.client.events(&session).open().await.unwrap();
    stack.post(&Post::new("first").to(&session)).await;
    stream.until(|frame| frame.text() == "old ").await.unwrap();
    let post = Post::new("second").to(&session).with("on_busy", "interrupt").key("k");
    let (told, ()) = tokio::join!(stack.client.message(&post), leave_in_doubt(&stack, std::future::ready(())));
    assert_eq!(told.unwrap().status, 504);
    let turns = stack.ended_turns(&session, 2).await;
    assert_eq!((turns[0].kind(), turns[0].text()), ("assistant.stopped", "old "), "{turns:#?}");
    assert_eq!((turns[1].kind(), turns[1].said()), ("assistant.final", "second"));
}

#[tokio::test]
async fn readers_stay_while_the_fate_of_a_message_is_not_known_and_get_it_when_it_is() {
    let stack = in_doubt().await;
    let session = new_session();
    let mut streams = [
        stack.client.events(&session).open().await.unwrap(),
        stack.client.events(&session).mode(Mode::Delta).open().await.unwrap(),
    ];
    stack.post(&Post::new("warm").to(&session)).await;
    for stream in &mut streams {
        stream.until_terminal().await.unwrap();
    }
    let post = Post::new("kept").to(&session).key("k");
    let (told, ()) = tokio::join!(stack.client.message(&post), leave_in_doubt(&stack, std::future::ready(())));
    assert_eq!(told.unwrap().status, 504);
    for stream in &mut streams {
        let user = stream.next().await.expect("a healthy reader was dropped");
        assert_eq!((user.kind(), user.sequence(), user.text()), ("user", Some(3), "kept"));
        assert_eq!(stream.until_terminal().await.unwrap().sequence(), Some(4));
    }
    let again = stack.client.message(&post).await.unwrap();
    assert_eq!((again.status, again.json()["seq"].clone()), (200, json!(3)), "{}", again.text);
}

#[tokio::test]
async fn a_lost_reply_is_looked_for_as_long_as_its_asker_waits() {
    let setup = Setup::default().set("SA01_DATABASE__ACQUIRE_TIMEOUT_MS", 500);
    let stack = setup.set("SA01_SESSIONS__ASK_TIMEOUT_MS", 60_000).start().await;
    let session = new_session();
    stack.post(&Post::new("warm").to(&session)).await;
    stack.ended_turns(&session, 1).await;
    let never = Gate::closed();
    let mut sprung = stack.proxy.hold_after_commit(APPEND, &never);
    let (client, post) = (stack.client.clone(), Post::new("kept").to(&session).key("k"));
    let posting = tokio::spawn(async move { client.message(&post).await.unwrap() });
    sprung.wait().await;
    stack.proxy.refuse(true);
    stack.proxy.cut();
    // Longer than any single look takes, shorter than the asker waits.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!posting.is_finished(), "given up after one look");
    stack.proxy.heal();
    let answer = posting.await.unwrap();
    assert_eq!((answer.status, answer.json()["seq"].clone()), (200, json!(3)), "{}", answer.text);
}

/// A system that gives up on its database soon.
async fn in_doubt() -> Stack {
    Setup::default()
        .set("SA01_DATABASE__ACQUIRE_TIMEOUT_MS", 1000)
        .set("SA01_DATABASE__STATEMENT_TIMEOUT_MS", 2500)
        .set("SA01_SESSIONS__ASK_TIMEOUT_MS", 6000)
        .start()
        .await
}

#[tokio::test]
async fn a_held_reply_holds_up_the_acknowledgement_and_not_the_health() {
    let stack = Stack::start().await;
    let session = new_session();
    let gate = Gate::closed();
    let mut sprung = stack.proxy.hold_after_commit(APPEND, &gate);
    let (client, post) = (stack.client.clone(), Post::new("hi").to(&session).key("k"));
    let posting = tokio::spawn(async move { client.message(&post).await.unwrap() });
    sprung.wait().await;
    assert!(!posting.is_finished(), "a message was acknowledged before its commit was known");
    assert_eq!(stack.client.get("/healthz").await.unwrap().status, 200);
    gate.open();
    let answer = posting.await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(stack.ended_turns(&session, 1).await.len(), 1);
}

#[tokio::test]
async fn without_a_database_posts_are_refused_and_readiness_says_so() {
    let stack = Stack::start().await;
    let session = new_session();
    stack.post(&Post::new("before").to(&session)).await;
    stack.ended_turns(&session, 1).await;
    stack.proxy.refuse(true);
    stack.proxy.cut();
    let refused = stack.client.message(&Post::new("during").to(&session).key("k")).await.unwrap();
    assert!([503, 504].contains(&refused.status), "{}: {}", refused.status, refused.text);
    assert!(refused.status == 504 || !refused.header("retry-after").is_empty(), "503 without Retry-After");
    let unready = async || (stack.client.get("/readyz").await.unwrap().status == 503).then_some(());
    eventually("readiness to say no", unready).await;
    let health: Value = stack.get("/healthz").await;
    assert_eq!((&health["status"], &health["components"]["postgres"]["status"]), (&json!("down"), &json!("down")));
    stack.proxy.heal();
    eventually("readiness to say yes", async || {
        (stack.client.get("/readyz").await.unwrap().status == 200).then_some(())
    })
    .await;
    eventually("the message, sent again", async || {
        let answer = stack.client.message(&Post::new("during").to(&session).key("k")).await.unwrap();
        (answer.status == 200).then_some(())
    })
    .await;
    assert_eq!(stack.ended_turns(&session, 2).await.len(), 2);
}

#[tokio::test]
async fn rubbish_from_the_database_costs_a_connection_and_no_more() {
    let stack = Stack::start().await;
    let session = new_session();
    stack.post(&Post::new("before").to(&session)).await;
    stack.ended_turns(&session, 1).await;
    stack.proxy.spoil(somaagent_test_services::proxy::Direction::Down, &[0xff; 64]);
    eventually("an answer after the rubbish", async || {
        let answer = stack.client.message(&Post::new("after").to(&session).key("k")).await.unwrap();
        (answer.status == 200).then_some(())
    })
    .await;
    assert_eq!(stack.ended_turns(&session, 2).await.len(), 2);
    within("a pool that is well", check_pool(&stack)).await;
}
