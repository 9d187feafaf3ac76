//! Two processes on one database: the fence.

use serde_json::Value;
use somaagent_test_services::client::{Client, Post};
use somaagent_test_services::model::{Gate, Script};
use somaagent_test_services::process::{ProcessSignal, Running};
use somaagent_test_services::wait::{eventually, within};

use crate::stack::{Setup, Stack, ended_turns, new_session};

async fn with_a_short_lease() -> Stack {
    Setup::default().set("SA01_SESSIONS__LEASE_MS", 6000).set("SA01_TURNS__SWEEP_MS", 500).start().await
}

#[tokio::test]
async fn an_owner_that_fell_asleep_can_append_nothing() {
    let stack = with_a_short_lease().await;
    let second = stack.app.binary().elsewhere().unwrap().fixed_port().start().await.unwrap();
    let other = Client::new(second.url()).unwrap();
    let (session, gate) = (new_session(), Gate::closed());
    stack.model.next(Script::new().text("from the stale ").wait(&gate).text("owner").done());
    stack.model.always(Script::words("from the new owner"));
    stack.post(&Post::new("hi").to(&session)).await;
    stack.model.exchange(0).await.played(1).await;

    // The owner stands still; when its lease is over, the other process takes the session and its turn.
    stack.app.signal(ProcessSignal::STOP).unwrap();
    let turns = ended_turns(&other, &session, 1).await;
    assert_eq!((turns[0].text(), turns[0].meta("attempt").as_u64()), ("from the new owner", Some(2)));
    let post = Post::new("more").to(&session).key("k");
    eventually("the new owner to take messages", async || {
        (other.message(&post).await.unwrap().status == 200).then_some(())
    })
    .await;
    let before = ended_turns(&other, &session, 2).await;

    // The old owner wakes up in the middle of its turn, whose end it now wants to write.
    gate.open();
    stack.app.signal(ProcessSignal::CONT).unwrap();
    let woken = stack.client.get("/healthz").await.unwrap();
    assert_eq!(woken.status, 200);
    // Its next message shows that it has looked at the session again, after its stale write was refused.
    let post = Post::new("and more").to(&session).key("k2");
    let answered = within("an answer from either process", async {
        loop {
            for client in [&stack.client, &other] {
                let answer = client.message(&post).await.unwrap();
                if answer.status == 200 {
                    return answer.text_of("event_id");
                }
                assert_eq!(answer.status, 503, "{}", answer.text);
            }
        }
    })
    .await;
    let turns = ended_turns(&other, &session, 3).await;
    assert_eq!(turns.len(), 3);
    for (old, new) in before.iter().zip(&turns) {
        assert_eq!((&old.user, &old.end), (&new.user, &new.end), "history changed behind its owner");
    }
    assert_eq!(turns[2].user["event_id"].as_str(), Some(&*answered));
}

#[tokio::test]
async fn a_session_owned_by_a_living_process_is_refused_by_the_other() {
    let stack = Stack::start().await;
    let second = stack.app.binary().elsewhere().unwrap().fixed_port().start().await.unwrap();
    let other = Client::new(second.url()).unwrap();
    let session = new_session();
    stack.post(&Post::new("hi").to(&session)).await;
    stack.ended_turns(&session, 1).await;
    let refused = other.message(&Post::new("hi from afar").to(&session)).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (503, "session-elsewhere"), "{}", refused.text);
    assert!(!refused.header("retry-after").is_empty());
    // Reading needs no owner.
    assert_eq!(other.history(&session).await.unwrap().len(), 2);
}

#[tokio::test]
async fn two_processes_racing_for_one_session_keep_its_numbers_gapless() {
    let stack = with_a_short_lease().await;
    let second = stack.app.binary().elsewhere().unwrap().fixed_port().start().await.unwrap();
    let clients = [stack.client.clone(), Client::new(second.url()).unwrap()];
    let sessions: Vec<String> = (0..8).map(|_| new_session()).collect();
    let work = sessions.iter().flat_map(|session| {
        let clients = &clients;
        (0..6).map(async move |number| {
            let post = Post::new(&format!("message {number}")).to(session).key(&format!("key-{number}"));
            // Whichever process owns the session takes it; the other says where to look.
            let mut turn = number;
            eventually("an owner", async || {
                turn += 1;
                let answer = clients[turn % 2].message(&post).await.unwrap();
                match answer.status {
                    200 => Some(answer.text_of("event_id")),
                    503 | 504 => None,
                    other => panic!("{other}: {}", answer.text),
                }
            })
            .await
        })
    });
    let accepted = futures_util::future::join_all(work).await;
    let mut stored = Vec::new();
    for session in &sessions {
        let turns = ended_turns(&clients[0], session, 6).await;
        assert_eq!(turns.len(), 6);
        stored.extend(turns.iter().map(|turn| turn.user["event_id"].as_str().unwrap().to_owned()));
    }
    let mut accepted: Vec<String> = accepted;
    accepted.sort();
    stored.sort();
    assert_eq!(accepted, stored);
}

#[tokio::test]
async fn sessions_of_a_killed_process_are_taken_over() {
    let mut stack = with_a_short_lease().await;
    let second = stack.app.binary().elsewhere().unwrap().fixed_port().start().await.unwrap();
    let other = Client::new(second.url()).unwrap();
    let session = new_session();
    stack.model.next(Script::new().text("half").stall());
    stack.post(&Post::new("hi").to(&session)).await;
    stack.model.exchange(0).await.played(1).await;
    stack.app.kill().await.unwrap();
    let turns = ended_turns(&other, &session, 1).await;
    assert_eq!((turns[0].text(), turns[0].meta("attempt").as_u64()), ("you said: hi", Some(2)));
}

/// Two processes, and a session that the first used and then left alone until the second took it with a message, whose
/// answer is held back by the gate.
async fn taken_over() -> (Stack, Running, Client, String, Gate) {
    let stack = with_a_short_lease().await;
    let second = stack.app.binary().elsewhere().unwrap().fixed_port().start().await.unwrap();
    let other = Client::new(second.url()).unwrap();
    let (session, gate) = (new_session(), Gate::closed());
    stack.post(&Post::new("hi").to(&session)).await;
    stack.ended_turns(&session, 1).await;
    stack.model.next(Script::new().text("from the new ").wait(&gate).text("owner").done());
    let post = Post::new("more").to(&session).key("k");
    eventually("the lease to run out", async || (other.message(&post).await.unwrap().status == 200).then_some(()))
        .await;
    stack.model.exchange(1).await.played(1).await;
    (stack, second, other, session, gate)
}

#[tokio::test]
async fn an_owner_whose_lease_ran_out_answers_nothing_from_memory() {
    let (stack, _second, other, session, gate) = taken_over().await;
    let state = stack.client.state(&session).await.unwrap();
    assert_eq!((&state["live"], &state["turn"]), (&false.into(), &Value::Null), "{state}");
    assert_eq!(state["owner"], other.state(&session).await.unwrap()["owner"]);
    for position in ["2", "3", "99"] {
        let refused = stack.client.events(&session).after(position).open().await.err().unwrap().to_string();
        assert!(refused.contains("session-elsewhere"), "{refused}");
    }
    let refused = stack.client.stop(&session).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (503, "session-elsewhere"), "{}", refused.text);
    gate.open();
    let turns = ended_turns(&other, &session, 2).await;
    assert_eq!((turns[1].kind(), turns[1].text()), ("assistant.final", "from the new owner"));
}

#[tokio::test]
async fn a_stop_finds_its_way_to_the_owner_that_has_the_session_now() {
    let (stack, second, other, session, gate) = taken_over().await;
    assert_eq!(other.stop(&session).await.unwrap().json()["turn"], 3);
    ended_turns(&other, &session, 2).await;
    gate.open();
    drop(second);
    // The lease of the process that is gone runs out; then the first one reads the store again.
    let mut stream = eventually("the first owner to take it back", async || {
        stack.client.events(&session).after("2").open().await.ok()
    })
    .await;
    let end = stream.until_terminal().await.unwrap();
    assert_eq!((end.kind(), end.id.as_deref()), ("assistant.stopped", Some("4")));
}

#[tokio::test]
async fn readers_of_an_owner_that_fell_asleep_are_sent_to_the_new_one() {
    let stack = with_a_short_lease().await;
    let second = stack.app.binary().elsewhere().unwrap().fixed_port().start().await.unwrap();
    let other = Client::new(second.url()).unwrap();
    let session = new_session();
    let mut stream = stack.client.events(&session).open().await.unwrap();
    stack.post(&Post::new("hi").to(&session)).await;
    stream.until_terminal().await.unwrap();
    stack.app.signal(ProcessSignal::STOP).unwrap();
    let post = Post::new("more").to(&session).key("k");
    eventually("the lease to run out", async || (other.message(&post).await.unwrap().status == 200).then_some(()))
        .await;
    ended_turns(&other, &session, 2).await;
    stack.app.signal(ProcessSignal::CONT).unwrap();
    within("the end of a stream that would stay silent", stream.until_end()).await;
    let last = stream.last_id().unwrap();
    let refused = stack.client.events(&session).last_event_id(&last).open().await.err().unwrap().to_string();
    assert!(refused.contains("session-elsewhere"), "{refused}");
    let mut stream = other.events(&session).last_event_id(&last).open().await.unwrap();
    assert_eq!(stream.until_terminal().await.unwrap().id.as_deref(), Some("4"));
}

#[tokio::test]
async fn a_reader_who_waits_for_a_first_message_is_sent_to_the_process_that_took_it() {
    let stack = with_a_short_lease().await;
    let second = stack.app.binary().elsewhere().unwrap().fixed_port().start().await.unwrap();
    let other = Client::new(second.url()).unwrap();
    let session = new_session();
    let mut stream = stack.client.events(&session).open().await.unwrap();
    assert_eq!(other.message(&Post::new("hi").to(&session)).await.unwrap().status, 200);
    ended_turns(&other, &session, 1).await;
    within("the end of a stream that would stay silent", stream.until_end()).await;
    let refused = stack.client.stop(&session).await.unwrap();
    assert_eq!(refused.code(), "session-elsewhere", "{}", refused.text);
}
