//! Case 8: many clients at once.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::{join, join_all};
use serde_json::json;
use somaagent_test_services::client::Post;
use somaagent_test_services::model::{Gate, Script};
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

/// One of many sessions: a first message, then some more.
struct Plan {
    session: String,
    policy: &'static str,
    /// Whether no turn comes to its end by itself until every post has been answered: the later posts find the session busy
    /// for certain then, and only by chance otherwise.
    held: bool,
    /// When each further message is posted, after the first was accepted.
    more: Vec<Duration>,
}

impl Plan {
    /// Posts everything, and tells the number and the event of each message that was accepted.
    async fn play(&self, stack: &Stack) -> BTreeMap<u64, String> {
        let post = async |number: usize| {
            let said = if self.held { format!("held {number}") } else { format!("free {number}") };
            stack.client.message(&Post::new(&said).to(&self.session).with("on_busy", self.policy)).await.unwrap()
        };
        let first = post(0).await;
        assert_eq!(first.status, 200, "{}", first.text);
        let more = self.more.iter().enumerate().map(async |(place, after)| {
            tokio::time::sleep(*after).await;
            post(place + 1).await
        });
        let answers = join_all(more).await;
        let mut accepted = BTreeMap::new();
        for (number, answer) in std::iter::once(first).chain(answers).enumerate() {
            let refuses = self.policy == "reject" && number > 0;
            match answer.status {
                200 if !(refuses && self.held) => {
                    accepted.insert(answer.json()["seq"].as_u64().unwrap(), answer.text_of("event_id"));
                }
                409 if refuses => assert_eq!(answer.code(), "session-busy", "{}", answer.text),
                other => panic!("policy {}, held {}: {other}: {}", self.policy, self.held, answer.text),
            }
        }
        accepted
    }

    /// Checks the policy in the history: of each turn, when its message and its end came, and what its end was.
    fn check(&self, turns: &[Turn]) {
        let begun: Vec<u64> = turns.iter().map(|turn| turn.user["metadata"]["sequence"].as_u64().unwrap()).collect();
        let more = self.more.len();
        let ended: Vec<u64> = turns.iter().map(|turn| turn.meta("sequence").as_u64().unwrap()).collect();
        let (last, earlier) = turns.split_last().unwrap();
        let overlap = begun[1..].iter().zip(&ended).filter(|(begun, ended)| begun < ended).count();
        let finals = turns.iter().filter(|turn| turn.kind() == "assistant.final").count();
        match self.policy {
            "enqueue" => {
                assert_eq!(finals, 1 + more, "a message that waited was not answered: {turns:#?}");
                assert!(ended.is_sorted(), "messages were answered out of order: {turns:#?}");
                assert!(!self.held || overlap == more, "a message did not wait: {turns:#?}");
            }
            "reject" => {
                assert_eq!((finals, overlap), (turns.len(), 0), "a message came during another's turn: {turns:#?}");
            }
            _ => {
                let stopped = earlier.iter().filter(|turn| turn.kind() == "assistant.stopped").count();
                // One that ended by itself while the next message was on its way is not stopped any more.
                let ends = if self.held { 0 } else { finals - 1 };
                assert_eq!(stopped + ends, more, "an open turn was not stopped: {turns:#?}");
            }
        }
        assert_eq!(last.kind(), "assistant.final", "the last message was not answered: {turns:#?}");
        let answered = turns.iter().filter(|turn| turn.kind() == "assistant.final");
        for turn in answered {
            assert_eq!(turn.text(), format!("you said: {}", turn.said()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_sessions_at_once_each_keep_their_policy() {
    for mut case in seed::cases("two hundred sessions", 1) {
        let stack = Setup::default().set("SA01_TURNS__RECALL_DEADLINE_MS", 0).start().await;
        let gate = Gate::closed();
        stack.model.answer({
            let gate = gate.clone();
            move |exchange| {
                let held = exchange.prompt().starts_with("held");
                let script = if held { Script::new().wait(&gate) } else { Script::new() };
                script.text("you said: ").text(exchange.prompt()).done()
            }
        });
        // Every policy is met busy for certain, and by chance.
        let kinds = [("enqueue", true), ("reject", true), ("interrupt", true)];
        let kinds = kinds.into_iter().chain(kinds.map(|(policy, _)| (policy, false))).cycle();
        let plans: Vec<Plan> = kinds
            .take(200)
            .map(|(policy, held)| {
                let more = (0..case.number(1..=5)).map(|_| Duration::from_millis(case.number(0..=30))).collect();
                Plan { session: new_session(), policy, held, more }
            })
            .collect();
        let accepted = join_all(plans.iter().map(|plan| plan.play(&stack))).await;
        gate.open();
        for (plan, accepted) in plans.iter().zip(accepted) {
            let turns = stack.ended_turns(&plan.session, accepted.len()).await;
            let stored: BTreeMap<u64, String> = turns
                .iter()
                .map(|turn| &turn.user)
                .map(|user| (user["metadata"]["sequence"].as_u64().unwrap(), user["event_id"].as_str().unwrap().into()))
                .collect();
            assert_eq!(stored, accepted, "policy {}: what was accepted and what is stored differ", plan.policy);
            plan.check(&turns);
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
