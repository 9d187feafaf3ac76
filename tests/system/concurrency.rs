//! Case 8: many clients at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::{join, join_all};
use serde_json::json;
use somaagent_test_services::client::Post;
use somaagent_test_services::model::Script;
use somaagent_test_services::seed;
use uuid::Uuid;

use crate::history::Turn;
use crate::stack::{Setup, Stack, new_session};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_clients_in_one_session_get_one_line_of_numbers() {
    let stack = Stack::start().await;
    let session = new_session();
    let clients = (0..50).map(async |client| {
        // A full queue is an answer; the message is sent again until it has its place.
        let post = Post::new(&format!("client {client}")).to(&session).key(&format!("client-{client}"));
        somaagent_test_services::wait::eventually("a place in the queue", async || {
            let answer = stack.client.message(&post).await.unwrap();
            match (answer.status, answer.code().as_str()) {
                (200, _) => Some(answer.json()),
                (409, "session-queue-full") | (503, "overloaded") => None,
                other => panic!("{other:?}: {}", answer.text),
            }
        })
        .await
    });
    let accepted = join_all(clients).await;
    let turns = stack.ended_turns(&session, 50).await;
    assert_eq!(turns.len(), 50);
    let by_number: BTreeMap<u64, &str> =
        turns.iter().map(|turn| (turn.user["metadata"]["sequence"].as_u64().unwrap(), turn.said())).collect();
    for (client, answer) in accepted.iter().enumerate() {
        let said = by_number[&answer["seq"].as_u64().unwrap()];
        assert_eq!(said, format!("client {client}"), "an acknowledgement names another message");
    }
    assert!(turns.iter().all(|turn| turn.text() == format!("you said: {}", turn.said())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_sessions_at_once_each_keep_their_policy() {
    for mut case in seed::cases("two hundred sessions", 1) {
        let stack = Setup::default().set("SA01_TURNS__RECALL_DEADLINE_MS", 0).start().await;
        let sessions: Vec<_> = (0..200)
            .map(|_| {
                let policy = *case.pick(&["enqueue", "reject", "interrupt"]);
                (new_session(), policy, usize::try_from(case.number(2..=5)).unwrap())
            })
            .collect();
        let work = sessions.iter().map(async |(session, policy, count)| {
            let posts = (0..*count).map(async |number| {
                let post = Post::new(&format!("m{number}")).to(session).with("on_busy", *policy);
                stack.client.message(&post).await.unwrap()
            });
            let mut accepted = BTreeSet::new();
            for answer in join_all(posts).await {
                match (answer.status, *policy) {
                    (200, _) => assert!(accepted.insert(answer.text_of("event_id"))),
                    (409, "reject") => assert_eq!(answer.code(), "session-busy"),
                    other => panic!("{other:?}: {}", answer.text),
                }
            }
            (session, *policy, accepted)
        });
        for (session, policy, accepted) in join_all(work).await {
            let turns = stack.ended_turns(session, accepted.len()).await;
            let stored: BTreeSet<String> =
                turns.iter().map(|turn| turn.user["event_id"].as_str().unwrap().to_owned()).collect();
            assert_eq!(stored, accepted, "policy {policy}");
            let kinds: BTreeSet<&str> = turns.iter().map(Turn::kind).collect();
            let allowed: &[&str] =
                if policy == "interrupt" { &["assistant.final", "assistant.stopped"] } else { &["assistant.final"] };
            assert!(kinds.iter().all(|kind| allowed.contains(kind)), "policy {policy}: {kinds:?}");
            assert_eq!(turns.last().unwrap().kind(), "assistant.final", "the last message was not answered");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_requests_of_a_session_at_once_begin_each_turn_once() {
    let stack = Stack::start().await;
    let pause = Duration::from_millis(5);
    stack.model.answer(move |_| (0..8).fold(Script::new(), |script, _| script.text("piece ").pause(pause)).done());
    for round in 0..30 {
        let session = new_session();
        let posts = (0..3).map(async |number| {
            let post = Post::new(&format!("m{number}")).to(&session).key(&number.to_string());
            join(stack.client.message(&post), stack.client.message(&post)).await
        });
        let readers = (0..3).map(async |_| stack.client.events(&session).open().await.unwrap());
        let (posts, _readers) = join(join_all(posts), join_all(readers)).await;
        for (first, again) in posts {
            assert_eq!((first.unwrap().status, again.unwrap().status), (200, 200));
        }
        let attempts: Vec<_> =
            stack.ended_turns(&session, 3).await.iter().map(|turn| turn.meta("attempt").as_u64()).collect();
        assert_eq!(attempts, [Some(1); 3], "round {round}");
        let state = stack.client.state(&session).await.unwrap();
        assert_eq!(state["owner"]["epoch"], 1, "round {round}: the session changed hands: {state}");
    }
    assert_eq!(stack.model.exchanges().len(), 90);
}

#[tokio::test]
async fn a_repeated_message_is_answered_once() {
    let stack = Stack::start().await;
    let session = new_session();
    let post = Post::new("only once").to(&session).key("the-key");
    let answers = join_all((0..20).map(|_| stack.client.message(&post))).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.unwrap()).collect();
    for answer in &answers {
        assert_eq!((answer.status, answer.json()), (200, answers[0].json()), "{}", answer.text);
    }
    assert_eq!(stack.ended_turns(&session, 1).await.len(), 1);
    assert_eq!(stack.post(&post).await.json(), answers[0].json(), "after the turn the key is forgotten");
    let in_metadata = Post::new("only once").to(&session).with("metadata", json!({"idempotency_key": "other"}));
    let first = stack.post(&in_metadata).await.json();
    assert_eq!(stack.post(&in_metadata).await.json(), first);
    assert_eq!(stack.ended_turns(&session, 2).await.len(), 2);
    assert_eq!(stack.model.exchanges().len(), 2);
}

#[tokio::test]
async fn a_repeated_first_message_makes_one_session() {
    let stack = Stack::start().await;
    let key = Uuid::new_v4().to_string();
    let post = Post::new("a new one").key(&key);
    let answers = join_all((0..20).map(|_| stack.client.message(&post))).await;
    let answers: Vec<_> = answers.into_iter().map(|answer| answer.unwrap()).collect();
    for answer in &answers {
        assert_eq!((answer.status, answer.json()), (200, answers[0].json()), "{}", answer.text);
    }
    assert_eq!(stack.ended_turns(&answers[0].text_of("session_id"), 1).await.len(), 1);
    assert_eq!(stack.get("/v1/sessions").await.as_array().unwrap().len(), 1);
    let another = stack.post(&Post::new("a new one").key("another key")).await;
    assert_ne!(another.text_of("session_id"), answers[0].text_of("session_id"));
}

#[tokio::test]
async fn a_key_used_for_another_message_is_refused() {
    let stack = Stack::start().await;
    let session = new_session();
    stack.post(&Post::new("one").to(&session).key("k")).await;
    let refused = stack.client.message(&Post::new("two").to(&session).key("k")).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (422, "idempotency-key-reused"));
    // The same key in another session is another key.
    stack.post(&Post::new("two").to(&new_session()).key("k")).await;
}

#[tokio::test]
async fn a_client_that_is_behind_is_told_what_it_missed() {
    let stack = Stack::start().await;
    let session = new_session();
    stack.post(&Post::new("one").to(&session).with("expected_head", 0)).await;
    stack.ended_turns(&session, 1).await;
    let behind = stack.client.message(&Post::new("two").to(&session).with("expected_head", 0)).await.unwrap();
    assert_eq!((behind.status, behind.code().as_str()), (409, "head-moved"));
    let missing = behind.json()["missing"].clone();
    let ids: Vec<_> = missing.as_array().unwrap().iter().map(|event| event["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1, 2]);
    stack.post(&Post::new("two").to(&session).with("expected_head", 2)).await;
    assert_eq!(stack.ended_turns(&session, 2).await.len(), 2);
}
