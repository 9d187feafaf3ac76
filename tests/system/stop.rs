//! Case 4: ending a turn from outside, and the other ways in which messages and turns meet.

use std::time::Instant;

use futures_util::future::join_all;
use serde_json::json;
use somaagent_test_services::client::{Client, Post};
use somaagent_test_services::model::{Gate, Script};

use crate::stack::{Setup, Stack, new_session};

#[tokio::test]
async fn a_stop_from_another_client_closes_the_provider_and_keeps_the_text() {
    let stack = Stack::start().await;
    let (session, gate) = (new_session(), Gate::closed());
    stack.model.next(Script::new().text("half an ").usage(9, 3).text("answer").wait(&gate).text(" never sent").done());
    let mut stream = stack.client.events(&session).open().await.unwrap();
    stack.post(&Post::new("hi").to(&session)).await;
    stream.until(|frame| frame.text() == "half an answer").await.unwrap();

    let other = Client::new(stack.app.url()).unwrap();
    let asked = Instant::now();
    let answer = other.stop(&session).await.unwrap();
    assert_eq!((answer.status, answer.json()), (200, json!({"status": "stopped", "turn": 1})));

    // The gate is still shut: the socket was closed before the next scripted chunk.
    let exchange = stack.model.exchange(0).await;
    let closed = exchange.closed().await;
    assert!(closed > asked);
    assert_eq!(exchange.steps(), 3, "the model went on after the stop");
    let end = stream.until_terminal().await.unwrap();
    assert_eq!((end.kind(), end.data["message"].as_str()), ("assistant.stopped", Some("half an answer")));

    gate.open();
    let turns = stack.ended_turns(&session, 1).await;
    assert_eq!((turns[0].kind(), turns[0].text()), ("assistant.stopped", "half an answer"));
    assert_eq!(turns[0].meta("usage")["total_tokens"], 12, "{turns:#?}");
    stack.post(&Post::new("go on").to(&session)).await;
    let turns = stack.ended_turns(&session, 2).await;
    assert_eq!(turns[1].text(), "you said: go on");
}

#[tokio::test]
async fn a_stop_before_the_first_piece_closes_the_provider_too() {
    let stack = Stack::start().await;
    let session = new_session();
    stack.model.next(Script::silence());
    stack.post(&Post::new("hi").to(&session)).await;
    let exchange = stack.model.exchange(0).await;
    assert_eq!(stack.client.stop(&session).await.unwrap().json()["status"], "stopped");
    exchange.closed().await;
    let turns = stack.ended_turns(&session, 1).await;
    assert_eq!((turns[0].kind(), turns[0].text()), ("assistant.stopped", ""));
}

#[tokio::test]
async fn a_stop_gets_through_while_the_queue_of_posts_is_full() {
    let stack = Setup::default().set("SA01_SESSIONS__QUEUE_MAX", 16).start().await;
    let session = new_session();
    let gate = Gate::closed();
    stack.model.answer({
        let gate = gate.clone();
        move |_| Script::new().text("on and ").wait(&gate).text("on").done()
    });
    stack.post(&Post::new("message 0").to(&session)).await;
    for number in 1..=16 {
        stack.post(&Post::new(&format!("message {number}")).to(&session)).await;
    }
    let full = stack.client.message(&Post::new("one too many").to(&session)).await.unwrap();
    assert_eq!((full.status, full.code().as_str()), (409, "session-queue-full"));

    stack.model.exchange(0).await.played(1).await;
    // The mailbox is kept busy by posts that will be refused, while the stop goes through its own port.
    let crowd = (0..200).map(|_| {
        let (client, post) = (stack.client.clone(), Post::new("no room").to(&session));
        tokio::spawn(async move { client.message(&post).await.unwrap().status })
    });
    let crowd: Vec<_> = crowd.collect();
    let answer = stack.client.stop(&session).await.unwrap();
    assert_eq!((answer.status, answer.json()["turn"].clone()), (200, json!(1)), "{}", answer.text);
    stack.model.exchange(0).await.closed().await;
    let mut accepted = 0;
    for status in join_all(crowd).await {
        match status.unwrap() {
            200 => accepted += 1,
            409 | 503 => {}
            other => panic!("a post to a full queue was answered {other}"),
        }
    }
    gate.open();
    let turns = stack.ended_turns(&session, 17 + accepted).await;
    assert_eq!((turns.len(), turns[0].kind()), (17 + accepted, "assistant.stopped"));
    assert!(turns[1..].iter().all(|turn| turn.kind() == "assistant.final"), "{turns:#?}");
    for (number, turn) in turns[..17].iter().enumerate() {
        assert_eq!(turn.said(), format!("message {number}"));
    }
}

#[tokio::test]
async fn a_stop_of_an_idle_session_changes_nothing() {
    let stack = Stack::start().await;
    let session = new_session();
    stack.post(&Post::new("hi").to(&session)).await;
    stack.ended_turns(&session, 1).await;
    for _ in 0..2 {
        assert_eq!(stack.client.stop(&session).await.unwrap().json()["status"], "idle");
    }
    assert_eq!(stack.client.history(&session).await.unwrap().len(), 2);
}

#[tokio::test]
async fn two_stops_at_once_end_the_turn_once() {
    let stack = Stack::start().await;
    let session = new_session();
    stack.model.next(Script::new().text("x").stall());
    stack.post(&Post::new("hi").to(&session)).await;
    stack.model.exchange(0).await.played(1).await;
    let stops = join_all((0..8).map(|_| stack.client.stop(&session))).await;
    for stop in stops {
        assert_eq!(stop.unwrap().status, 200);
    }
    let turns = stack.ended_turns(&session, 1).await;
    assert_eq!((turns.len(), turns[0].kind()), (1, "assistant.stopped"));
}

#[tokio::test]
async fn an_interrupting_message_stops_the_turn_and_is_answered() {
    let stack = Stack::start().await;
    let session = new_session();
    stack.model.next(Script::new().text("old").stall());
    stack.post(&Post::new("first").to(&session)).await;
    let exchange = stack.model.exchange(0).await;
    exchange.played(1).await;
    stack.post(&Post::new("second").to(&session).with("on_busy", "interrupt")).await;
    exchange.closed().await;
    let turns = stack.ended_turns(&session, 2).await;
    assert_eq!((turns[0].kind(), turns[0].text()), ("assistant.stopped", "old"));
    assert_eq!((turns[1].kind(), turns[1].text()), ("assistant.final", "you said: second"));
}

#[tokio::test]
async fn a_rejecting_message_is_refused_while_the_session_is_busy() {
    let stack = Stack::start().await;
    let (session, gate) = (new_session(), Gate::closed());
    stack.model.next(Script::new().text("busy").wait(&gate).done());
    stack.post(&Post::new("first").to(&session)).await;
    stack.model.exchange(0).await.played(1).await;
    let second = Post::new("second").to(&session).with("on_busy", "reject");
    let refused = stack.client.message(&second).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (409, "session-busy"));
    gate.open();
    stack.ended_turns(&session, 1).await;
    stack.post(&second).await;
    let turns = stack.ended_turns(&session, 2).await;
    assert_eq!(turns[1].said(), "second");
}
