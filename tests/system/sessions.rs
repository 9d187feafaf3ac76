//! The list of sessions and what can be done with one.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use somaagent_test_services::client::{Post, Stream};

use crate::stack::{Setup, Stack, new_session};

fn ids(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|session| session["session_id"].as_str().unwrap().to_owned()).collect()
}

async fn with_sessions(count: usize) -> (Stack, Vec<String>) {
    let stack = Stack::start().await;
    let mut sessions = Vec::new();
    for number in 0..count {
        let session = new_session();
        stack.post(&Post::new(&format!("talk number {number}")).to(&session)).await;
        stack.ended_turns(&session, 1).await;
        sessions.push(session);
    }
    sessions.reverse();
    (stack, sessions)
}

#[tokio::test]
async fn sessions_are_listed_latest_first_page_by_page() {
    let (stack, sessions) = with_sessions(5).await;
    assert_eq!(ids(&stack.get("/v1/sessions").await), sessions);
    let mut path = "/v1/sessions?limit=2".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = stack.client.get(&path).await.unwrap();
        assert_eq!(page.status, 200, "{path}: {}", page.text);
        seen.extend(ids(&page.json()));
        let Some(next) = next_page(page.header("link")) else { break };
        path = next;
    }
    assert_eq!(seen, sessions);
}

/// The path of the next page in a `Link` header.
fn next_page(link: &str) -> Option<String> {
    let next = link.split(',').find(|part| part.contains("rel=\"next\""))?;
    let url = next.split('<').nth(1)?.split('>').next()?;
    Some(url.find("/v1/").map_or_else(|| url.to_owned(), |start| url[start..].to_owned()))
}

#[tokio::test]
async fn a_session_is_named_after_its_first_message_until_it_is_renamed() {
    let stack = Stack::start().await;
    let session = new_session();
    let long = "word ".repeat(40);
    stack.post(&Post::new(&long).to(&session).with("persona_id", "poet")).await;
    stack.ended_turns(&session, 1).await;
    let listed = stack.get("/v1/sessions").await[0].clone();
    let title = listed["title"].as_str().unwrap();
    assert!(title.starts_with("word word") && title.chars().count() <= 80, "{title}");
    assert_eq!(
        (&listed["persona_id"], &listed["tenant"], &listed["last_seq"]),
        (&json!("poet"), &json!("public"), &json!(2))
    );

    let path = format!("/v1/sessions/{session}");
    let renamed = stack.client.patch(&path, &json!({"title": "Ein schöner Titel"})).await.unwrap();
    assert_eq!((renamed.status, renamed.text_of("title")), (200, "Ein schöner Titel".to_owned()));
    assert_eq!(ids(&stack.get("/v1/sessions?q=SCH%C3%96NER").await), [session.as_str()]);
    assert_eq!(stack.get("/v1/sessions?q=nothing+like+it").await, json!([]));
    stack.post(&Post::new("second").to(&session)).await;
    stack.ended_turns(&session, 2).await;
    assert_eq!(stack.get("/v1/sessions").await[0]["title"], "Ein schöner Titel");
}

#[tokio::test]
async fn a_search_takes_its_text_as_it_is() {
    let (stack, _) = with_sessions(2).await;
    for wild in ["%25", "_", "%5C"] {
        assert_eq!(stack.get(&format!("/v1/sessions?q={wild}")).await, json!([]), "{wild}");
    }
    assert_eq!(stack.get("/v1/sessions?q=number").await.as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_deleted_session_is_gone_and_says_so() {
    let (stack, sessions) = with_sessions(2).await;
    let session = &sessions[0];
    let mut stream = stack.client.events(session).open().await.unwrap();
    let deleted = stack.client.delete(&format!("/v1/sessions/{session}")).await.unwrap();
    assert_eq!(deleted.status, 200, "{}", deleted.text);
    assert_eq!(deleted.json(), json!({"status": "deleted", "result": {"events": 2, "envelopes": 1}}));
    let told = stream.until(|frame| frame.kind() == "session.deleted").await;
    assert!(told.is_some(), "the reader was not told");
    stream.until_end().await;
    for (method, path) in [
        (Method::GET, "events"),
        (Method::GET, "history"),
        (Method::GET, "state"),
        (Method::POST, "stop"),
        (Method::POST, "reset"),
    ] {
        let request = stack.client.request(method.clone(), &format!("/v1/sessions/{session}/{path}")).json(&json!({}));
        assert_eq!(stack.client.send(request).await.unwrap().status, 410, "{method} {path}");
    }
    let post = stack.client.message(&Post::new("hi").to(session)).await.unwrap();
    assert_eq!((post.status, post.code().as_str()), (410, "session-deleted"));
    let stream = stack.client.send(stack.client.request(Method::GET, &format!("/v1/session/{session}/events"))).await;
    assert_eq!(stream.unwrap().status, 410);
    assert_eq!(ids(&stack.get("/v1/sessions").await), sessions[1..]);
}

#[tokio::test]
async fn deleting_a_session_ends_its_turn() {
    let stack = Stack::start().await;
    let session = new_session();
    stack.model.next(somaagent_test_services::model::Script::new().text("half").stall());
    stack.post(&Post::new("hi").to(&session)).await;
    let exchange = stack.model.exchange(0).await;
    exchange.played(1).await;
    assert_eq!(stack.client.delete(&format!("/v1/sessions/{session}")).await.unwrap().status, 200);
    exchange.closed().await;
}

#[tokio::test]
async fn a_reset_empties_the_history_and_goes_on_counting() {
    let (stack, sessions) = with_sessions(1).await;
    let session = &sessions[0];
    let reset = stack.client.post(&format!("/v1/sessions/{session}/reset"), &json!({})).await.unwrap();
    assert_eq!((reset.status, reset.json()), (200, json!({"status": "reset", "result": {"events": 2}})));
    assert_eq!(stack.client.history(session).await.unwrap(), Vec::<Value>::new());
    let next = stack.post(&Post::new("after").to(session)).await.json();
    assert_eq!(next["seq"], 3);
    let turns = stack.ended_turns(session, 1).await;
    assert_eq!((turns.len(), turns[0].said()), (1, "after"));
    let context = stack.model.exchange(1).await.context();
    assert!(!context.contains("talk number"), "the model was told what had been removed: {context}");
}

#[tokio::test]
async fn a_paused_session_takes_no_message() {
    let (mut stack, sessions) = with_sessions(1).await;
    let session = sessions[0].clone();
    let pause = async |stack: &Stack, paused: bool| {
        let path = format!("/v1/sessions/{session}/pause");
        let answer = stack.client.post(&path, &json!({"paused": paused})).await.unwrap();
        assert_eq!((answer.status, answer.json()), (200, json!({"status": "ok", "paused": paused})));
    };
    pause(&stack, true).await;
    for _ in 0..2 {
        let refused = stack.client.message(&Post::new("hi").to(&session)).await.unwrap();
        assert_eq!((refused.status, refused.code().as_str()), (409, "session-paused"));
        assert_eq!(stack.client.state(&session).await.unwrap()["paused"], true);
        // It stays paused over a restart.
        stack.app.terminate().await.unwrap();
        stack.restart().await;
    }
    pause(&stack, false).await;
    stack.post(&Post::new("hi").to(&session)).await;
    assert_eq!(stack.ended_turns(&session, 2).await.len(), 2);
}

#[tokio::test]
async fn quick_actions_post_their_sentence_or_set_the_pause() {
    let stack = Stack::start().await;
    let session = new_session();
    let act = async |action: &str| {
        let body = json!({"session_id": session, "action": action});
        stack.client.post("/v1/session/action", &body).await.unwrap()
    };
    for (number, action) in ["summarize", "next_steps", "status_report", "nudge"].into_iter().enumerate() {
        assert_eq!(act(action).await.status, 200, "{action}");
        let turns = stack.ended_turns(&session, number + 1).await;
        let user = &turns[number].user;
        assert_eq!(
            (&user["metadata"]["source"], &user["metadata"]["action"]),
            (&json!("quick_action"), &json!(action))
        );
        assert!(!turns[number].said().is_empty());
    }
    assert_eq!(act("pause").await.status, 200);
    assert_eq!(stack.client.message(&Post::new("hi").to(&session)).await.unwrap().code(), "session-paused");
    assert_eq!(act("resume").await.status, 200);
    assert_eq!(stack.client.history(&session).await.unwrap().len(), 8);
    stack.post(&Post::new("hi").to(&session)).await;
}

#[tokio::test]
async fn another_tenants_sessions_do_not_exist() {
    let stack = Stack::start().await;
    let session = new_session();
    stack.post(&Post::new("ours").to(&session)).await;
    stack.ended_turns(&session, 1).await;
    let theirs = |method: Method, path: &str| {
        stack.client.request(method, &path.replace("{id}", &session)).header("x-tenant-id", "another")
    };
    for (method, path) in [
        (Method::GET, "/v1/sessions/{id}/events"),
        (Method::GET, "/v1/sessions/{id}/history"),
        (Method::GET, "/v1/sessions/{id}/state"),
        (Method::POST, "/v1/sessions/{id}/stop"),
        (Method::DELETE, "/v1/sessions/{id}"),
    ] {
        let answer = stack.client.send(theirs(method.clone(), path).json(&json!({}))).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (404, "session-not-found"), "{method} {path}");
    }
    assert_eq!(stack.client.send(theirs(Method::GET, "/v1/sessions")).await.unwrap().json(), json!([]));
    // The same id is another session for them.
    let body = json!({"message": "theirs", "session_id": session});
    let answer = stack.client.send(theirs(Method::POST, "/v1/session/message").json(&body)).await.unwrap();
    assert_eq!((answer.status, answer.json()["seq"].clone()), (200, json!(1)), "{}", answer.text);
    assert_eq!(stack.client.history(&session).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_body_id_that_is_no_uuid_starts_a_new_session() {
    let stack = Stack::start().await;
    let answers = [stack.post(&Post::new("hi").to("not-a-uuid")).await, stack.post(&Post::new("hi")).await];
    let made: BTreeSet<String> = answers.iter().map(|answer| answer.text_of("session_id")).collect();
    assert_eq!(made.len(), 2);
    assert!(made.iter().all(|id| uuid::Uuid::try_parse(id).is_ok()));
}

#[tokio::test]
async fn a_fleet_of_readers_is_told_of_a_shutdown_by_the_end_of_their_streams() {
    let mut stack = Setup::default().start().await;
    let session = new_session();
    stack.post(&Post::new("hi").to(&session)).await;
    stack.ended_turns(&session, 1).await;
    let mut streams: Vec<Stream> = Vec::new();
    for _ in 0..10 {
        streams.push(stack.client.events(&session).open().await.unwrap());
    }
    assert_eq!(stack.app.terminate().await.unwrap(), Some(0));
    for stream in &mut streams {
        stream.until_end().await;
    }
}

/// What clients say of a message cannot pass for what this system says of its answer.
#[tokio::test]
async fn a_client_cannot_write_what_only_the_system_says() {
    let stack = Stack::start().await;
    let session = new_session();
    let forged = ["final", "completed", "error_code", "error", "partial", "retriable", "status", "usage", "recall"];
    let mut metadata: serde_json::Map<_, _> = forged.iter().map(|name| ((*name).to_owned(), json!("forged"))).collect();
    metadata.insert("colour".into(), json!("green"));
    let mut stream = stack.client.events(&session).open().await.unwrap();
    stack.post(&Post::new("hi").to(&session).with("metadata", json!(metadata))).await;
    let last = stream.until_terminal().await.unwrap();
    assert_eq!(last.data["metadata"]["colour"], "green", "what is the client's own is lost");
    assert_eq!(last.data["metadata"]["status"], "completed");
    assert!(stream.frames().len() >= 3, "{:?}", stream.frames());
    for frame in stream.frames() {
        assert!(!frame.data.to_string().contains("forged"), "{}", frame.data);
    }
}
