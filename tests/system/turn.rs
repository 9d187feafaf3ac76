//! Case 1: a message and its answer, in the shapes that clients read.

use reqwest::Method;
use serde_json::{Value, json};
use somaagent_test_services::client::{Frame, Mode, Post};
use somaagent_test_services::model::{Gate, Script};

use crate::history::{check_ids, kinds, turns};
use crate::stack::{Stack, new_session};

const PIECES: [&str; 4] = ["Hello", ", **bold** ", "wörld ", "🚆"];

#[tokio::test]
async fn a_turn_is_stored_as_it_was_streamed() {
    let stack = Stack::start().await;
    let (session, gate) = (new_session(), Gate::closed());
    stack.model.next(Script::gated(PIECES, &gate));
    let mut stream = stack.client.events(&session).open().await.unwrap();
    let accepted = stack.post(&Post::new("hi there").to(&session)).await.json();
    assert_eq!((&accepted["session_id"], &accepted["seq"]), (&json!(session), &json!(1)));

    let mut so_far = String::new();
    for piece in PIECES {
        so_far.push_str(piece);
        let frame = stream.until(|frame| frame.kind() == "assistant.stream" && frame.text() == so_far).await;
        assert!(frame.is_some(), "the stream ended before {so_far}");
        gate.release(1);
    }
    let end = stream.until_terminal().await.unwrap();

    let frames = stream.frames();
    assert_eq!(
        kinds(frames),
        ["user", "assistant.started", "assistant.thinking", "assistant.stream", "assistant.final"]
    );
    check_ids(frames);
    assert_eq!(frames[0].data["event_id"], accepted["event_id"]);
    for frame in frames {
        let data = &frame.data;
        assert_eq!((data["session_id"].as_str(), data["version"].as_str()), (Some(&*session), Some("sa01-v1")));
        assert_eq!(data["role"], if frame.kind() == "user" { "user" } else { "assistant" });
        assert!(data["metadata"].is_object() && data.get("persona_id").is_some(), "{data:#}");
    }
    let so_fars = frames.iter().filter(|frame| frame.kind() == "assistant.stream").map(Frame::text);
    assert!(so_fars.is_sorted_by_key(str::len), "the text so far shrank");

    assert_eq!(end.data["message"], PIECES.concat());
    assert_eq!((&end.data["metadata"]["turn"], &end.data["metadata"]["attempt"]), (&json!(1), &json!(1)));
    let stored = stack.client.history(&session).await.unwrap();
    let streamed: Vec<&Value> = frames.iter().filter(|frame| frame.sequence().is_some()).map(|f| &f.data).collect();
    assert_eq!(stored.iter().map(|event| &event["payload"]).collect::<Vec<_>>(), streamed);
}

#[tokio::test]
async fn delta_mode_has_one_frame_a_piece() {
    let stack = Stack::start().await;
    let session = new_session();
    stack.model.next(PIECES.iter().fold(Script::new(), |script, piece| script.text(piece)).done());
    let mut stream = stack.client.events(&session).mode(Mode::Delta).open().await.unwrap();
    stack.post(&Post::new("hi").to(&session)).await;
    let end = stream.until_terminal().await.unwrap();

    check_ids(stream.frames());
    let pieces = stream.frames().iter().filter(|frame| frame.kind() == "assistant.stream");
    let pieces: Vec<&str> = pieces
        .map(|frame| {
            assert!(frame.data.get("message").is_none(), "{frame:#?}");
            frame.data["delta"].as_str().unwrap()
        })
        .collect();
    assert_eq!(pieces, PIECES);
    assert_eq!(end.data["message"], PIECES.concat());
}

#[tokio::test]
async fn html_mode_adds_the_sanitised_rendering() {
    let stack = Stack::start().await;
    let (session, gate) = (new_session(), Gate::closed());
    stack.model.next(Script::gated(["some **bold** ", "<script>alert(1)</script> text"], &gate));
    let mut stream = stack.client.events(&session).mode(Mode::Html).open().await.unwrap();
    stack.post(&Post::new("hi").to(&session)).await;
    let first = stream.until(|frame| frame.kind() == "assistant.stream").await.unwrap();
    assert!(first.data["html"].as_str().unwrap().contains("<strong>bold</strong>"), "{first:#?}");
    assert!(first.data["message"].as_str().unwrap().starts_with("some **bold**"));
    gate.open();
    let end = stream.until_terminal().await.unwrap();
    let html = end.data["html"].as_str().unwrap();
    assert!(html.contains("<strong>bold</strong>") && !html.contains("<script"), "{html}");
    let stored = stack.get(&format!("/v1/sessions/{session}/events?render=html")).await;
    assert_eq!(stored["events"][1]["payload"]["html"], html);
}

#[tokio::test]
async fn a_plain_event_source_sees_every_frame() {
    let stack = Stack::start().await;
    let session = new_session();
    stack.post(&Post::new("hi").to(&session)).await;
    let mut stream = stack.client.events(&session).open().await.unwrap();
    let header = |name: &str| stream.headers()[name].to_str().unwrap().to_owned();
    assert!(header("content-type").starts_with("text/event-stream"));
    assert_eq!((header("cache-control").as_str(), header("x-accel-buffering").as_str()), ("no-cache", "no"));
    stream.until_terminal().await.unwrap();
    let text = String::from_utf8(stream.raw().to_vec()).unwrap();
    assert!(text.starts_with("retry: 1000\n\n"), "{text}");
    for line in text.lines() {
        let known = line.is_empty() || ["id: ", "data: ", "retry: "].iter().any(|name| line.starts_with(name));
        assert!(known, "an EventSource with only onmessage would miss this: {line}");
    }
}

#[tokio::test]
async fn quiet_streams_have_heartbeats_without_an_id() {
    let stack = crate::stack::Setup::default().set("SSE_HEARTBEAT_SECONDS", 1).start().await;
    let session = new_session();
    let mut stream = stack.client.events(&session).open().await.unwrap();
    let beat = stream.heartbeat().await.unwrap();
    assert_eq!(beat.data, json!({"type": "system.keepalive", "role": "system", "session_id": session}));
    assert_eq!(beat.id, None);
}

#[tokio::test]
async fn a_stream_stays_open_over_the_turns_of_its_session() {
    let stack = Stack::start().await;
    let session = new_session();
    let mut stream = stack.client.events(&session).open().await.unwrap();
    for number in 1..=3 {
        stack.post(&Post::new(&format!("message {number}")).to(&session)).await;
        let end = stream.until_terminal().await.unwrap();
        assert_eq!(end.data["message"], format!("you said: message {number}"));
        assert_eq!(end.sequence(), Some(number * 2));
    }
    check_ids(stream.frames());
    let context = stack.model.exchange(2).await.context();
    for said in ["message 1", "you said: message 1", "message 2", "you said: message 2", "message 3"] {
        assert!(context.contains(said), "the model was not told `{said}`: {context}");
    }
}

#[tokio::test]
async fn the_model_is_asked_for_a_stream_with_its_usage() {
    let stack = Stack::start().await;
    let session = new_session();
    stack.model.next(
        Script::new()
            .text("one ")
            .text("two")
            .finish("stop")
            .usage(17, 4)
            .step(somaagent_test_services::model::Step::Done),
    );
    stack.post(&Post::new("count").to(&session)).await;
    let turns = stack.ended_turns(&session, 1).await;
    let request = &stack.model.exchange(0).await.body;
    assert_eq!((&request["stream"], &request["model"]), (&json!(true), &json!("scripted")));
    assert_eq!(request["stream_options"]["include_usage"], true);
    let usage = turns[0].meta("usage");
    assert_eq!(
        (&usage["input_tokens"], &usage["output_tokens"], &usage["total_tokens"]),
        (&json!(17), &json!(4), &json!(21))
    );
    let state = stack.client.state(&session).await.unwrap();
    assert_eq!((&state["turn"], &state["head"]), (&Value::Null, &json!(2)));
    assert_eq!(state["last_usage"]["total_tokens"], 21);
    assert!(state["last_timing"]["total_ms"].is_u64(), "{state:#}");
}

#[tokio::test]
async fn reasoning_is_shown_in_pieces_and_is_no_part_of_the_answer() {
    let stack = Stack::start().await;
    let session = new_session();
    stack.model.next(Script::new().reasoning("let me ").reasoning("think").text("forty-two").done());
    let mut stream = stack.client.events(&session).mode(Mode::Delta).open().await.unwrap();
    stack.post(&Post::new("hi").to(&session)).await;
    let end = stream.until_terminal().await.unwrap();
    assert_eq!(end.data["message"], "forty-two");
    let thoughts = stream.frames().iter().filter(|frame| frame.kind() == "assistant.thinking");
    let thoughts: String = thoughts.map(Frame::text).collect();
    assert_eq!(thoughts, "let me think");
    check_ids(stream.frames());
}

#[tokio::test]
async fn a_tool_call_is_told_that_no_tool_exists() {
    let stack = Stack::start().await;
    let session = new_session();
    stack.model.next(Script::new().tool_call("call_1", "search", "{\"q\":\"x\"}").finish("tool_calls").usage(1, 1));
    stack.model.next(Script::words("then without it"));
    stack.post(&Post::new("search for x").to(&session)).await;
    let turns = stack.ended_turns(&session, 1).await;
    assert_eq!(turns[0].kind(), "assistant.final");
    let heard = stack.model.exchanges().last().unwrap().context();
    assert!(heard.contains("not available") || turns[0].text().contains("not available"), "{heard}");
}

#[tokio::test]
async fn an_answer_split_inside_its_characters_arrives_whole() {
    let stack = Stack::start().await;
    let session = new_session();
    let text = "snow ❄ and trains 🚆 and ümläuts";
    let block = format!("data: {}\r\n\r\n", json!({"choices": [{"index": 0, "delta": {"content": text}}]}));
    let odd = b": a comment\r\n\r\n".iter().copied().chain(block.into_bytes()).collect::<Vec<u8>>();
    let lengths = vec![3; odd.len() / 3];
    stack.model.next(Script::new().step(somaagent_test_services::model::Step::Split(odd, lengths)).finish("stop"));
    stack.post(&Post::new("hi").to(&session)).await;
    let turns = stack.ended_turns(&session, 1).await;
    assert_eq!((turns[0].kind(), turns[0].text()), ("assistant.final", text));
}

#[tokio::test]
async fn the_written_forms_of_a_session_tell_what_was_said() {
    let stack = Stack::start().await;
    let session = new_session();
    stack.post(&Post::new("what is up").to(&session)).await;
    stack.ended_turns(&session, 1).await;
    let history = stack.get(&format!("/v1/sessions/{session}/history")).await;
    let text = history["history"].as_str().unwrap();
    assert!(
        text.contains("### User\n\nwhat is up") && text.contains("### Assistant\n\nyou said: what is up"),
        "{text}"
    );
    let chars = text.chars().count() as u64;
    assert!(history["tokens"].as_u64().unwrap().abs_diff(chars / 4) <= 1, "{history:#}");
    let window = stack.get(&format!("/v1/sessions/{session}/context-window")).await;
    assert!(window["content"].as_str().unwrap().contains("what is up"), "{window:#}");
    let page = stack.get(&format!("/v1/sessions/{session}/events?limit=1")).await;
    assert_eq!((page["events"].as_array().unwrap().len(), &page["next_cursor"]), (1, &json!(1)));
    assert_eq!(turns(&stack.client.history(&session).await.unwrap()).len(), 1);
}

#[tokio::test]
async fn the_newest_events_are_read_without_knowing_their_numbers() {
    let stack = Stack::start().await;
    let session = new_session();
    for count in 1..=2 {
        stack.post(&Post::new("and then?").to(&session)).await;
        stack.ended_turns(&session, count).await;
    }
    let all = stack.get(&format!("/v1/sessions/{session}/events")).await;
    let page = stack.get(&format!("/v1/sessions/{session}/events?last=3")).await;
    assert_eq!(page["events"].as_array().unwrap(), &all["events"].as_array().unwrap()[1..]);
    assert_eq!((&page["events"][0]["id"], &page["next_cursor"]), (&json!(2), &json!(4)));
    let before = stack.get(&format!("/v1/sessions/{session}/events?last=1&before=2")).await;
    assert_eq!(before["events"].as_array().unwrap(), &all["events"].as_array().unwrap()[..1]);
    assert_eq!([&page["more"], &before["more"], &all["more"]], [&json!(true), &json!(false), &json!(false)]);
    assert_eq!(stack.get(&format!("/v1/sessions/{session}/events?last=500")).await, all);
}

#[tokio::test]
async fn the_old_names_do_the_same() {
    let stack = Stack::start().await;
    let session = new_session();
    let answer = stack.client.post("/message_async", &json!({"message": "hi", "session_id": session})).await.unwrap();
    assert_eq!((answer.status, answer.text_of("session_id")), (200, session.clone()));
    stack.ended_turns(&session, 1).await;
    let request = stack.client.request(reqwest::Method::GET, &format!("/gateway_stream?session_id={session}"));
    let mut answer = request.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let mut text = String::new();
    while !text.contains("assistant.final") {
        let chunk = somaagent_test_services::wait::within("the turn", answer.chunk()).await.unwrap().unwrap();
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
}

#[tokio::test]
async fn what_a_request_caused_names_it() {
    let stack = Stack::start().await;
    let (session, id) = (new_session(), uuid::Uuid::new_v4().to_string());
    let mut stream = stack.client.events(&session).open().await.unwrap();
    let forged = json!({"session_id": session, "message": "hi", "metadata": {"correlation_id": "somebody else's"}});
    let request = stack.client.request(Method::POST, "/v1/session/message").header("X-Request-ID", &id).json(&forged);
    assert_eq!(stack.client.send(request).await.unwrap().status, 200);
    stream.until_terminal().await.unwrap();
    for frame in stream.frames() {
        assert_eq!(frame.data["metadata"]["correlation_id"], *id, "{frame:#?}");
    }
    let recalls = stack.brain.calls_to("/memory/recall");
    assert_eq!(recalls.iter().map(|call| &call.headers["x-request-id"]).collect::<Vec<_>>(), [&id]);
    let pool = stack.database.pool().await.unwrap();
    let audited: Vec<String> =
        sqlx::query_scalar("SELECT request_id FROM audit_event WHERE action = 'message.enqueue'")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert_eq!(audited, [id]);
}
