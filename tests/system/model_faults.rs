//! Case 5: everything a model server can do wrong. Each time there is exactly one end with the right code, nothing hangs, and
//! the session goes on.

use std::time::Duration;

use serde_json::{Value, json};
use somaagent_test_services::client::Post;
use somaagent_test_services::model::{Script, Step};
use somaagent_test_services::seed;

use crate::disturbance::disturbed;
use crate::history::Turn;
use crate::stack::{Setup, Stack, new_session};

/// A system that never asks a model twice.
fn strict() -> Setup {
    Setup::default().set("SA01_MODEL__MAX_RETRIES", 0).set("SA01_MODEL__MAX_ANSWER_BYTES", 65_536)
}

/// The same, and it waits only a moment for a silent model: longer than a busy machine is silent.
fn impatient() -> Setup {
    strict().set("SA01_MODEL__FIRST_BYTE_TIMEOUT_MS", 2_000).set("SA01_MODEL__IDLE_TIMEOUT_MS", 2_000)
}

/// Asks once; what comes must be the only end, and the next message must be answered.
async fn one_turn(stack: &Stack) -> Turn {
    let session = new_session();
    let mut stream = stack.client.events(&session).open().await.unwrap();
    stack.post(&Post::new("hi").to(&session)).await;
    let end = stream.until_terminal().await.expect("the stream ended before the turn");
    let turns = stack.ended_turns(&session, 1).await;
    assert_eq!((turns.len(), turns[0].end.as_ref()), (1, Some(&end.data)));
    stack.post(&Post::new("still there?").to(&session)).await;
    let turns = stack.ended_turns(&session, 2).await;
    assert_eq!(turns[1].text(), "you said: still there?", "the session did not recover");
    turns[0].clone()
}

/// Plays a script once and expects the turn to fail with this code and keep this text.
async fn fails(stack: &Stack, script: Script, code: &str) -> Turn {
    stack.model.next(script);
    let turn = one_turn(stack).await;
    assert_eq!((turn.kind(), turn.meta("error_code")), ("assistant.error", json!(code)), "{turn:#?}");
    turn
}

#[tokio::test]
async fn an_answer_that_the_model_broke_off_says_so() {
    let stack = strict().start().await;
    for reason in ["length", "content_filter"] {
        stack.model.next(Script::new().text("half an").finish(reason).step(Step::Done));
        let turn = one_turn(&stack).await;
        assert_eq!(
            (turn.kind(), turn.text(), turn.meta("finish_reason")),
            ("assistant.final", "half an", json!(reason))
        );
    }
    assert_eq!(one_turn(&stack).await.meta("finish_reason"), Value::Null);
}

#[tokio::test]
async fn a_refusing_model_has_a_code_for_each_refusal() {
    let stack = strict().start().await;
    let context =
        json!({"error": {"message": "maximum context length is 10 tokens", "code": "context_length_exceeded"}});
    for (script, code) in [
        (Script::refuse(401, "wrong key"), "model-refused"),
        (Script::refuse(403, "not for you"), "model-refused"),
        (Script::refuse(404, "no such model"), "model-refused"),
        (Script::refuse(400, "unknown parameter"), "model-refused"),
        (Script::refuse_as(400, &context), "model-context-too-long"),
        (Script::refuse(429, "slow down"), "model-rate-limited"),
        (Script::refuse(429, "slow\0 down"), "model-rate-limited"),
        (Script::refuse(500, "oops"), "model-unreachable"),
        (Script::refuse(503, "overloaded"), "model-unreachable"),
        (Script::refuse_as(200, &json!({"error": {"message": "not a stream"}})), "model-broken-stream"),
    ] {
        fails(&stack, script, code).await;
    }
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let stack = strict().direct().start().await;
    let session = new_session();
    stack.model.down().await;
    stack.post(&Post::new("hi").to(&session)).await;
    let turns = stack.ended_turns(&session, 1).await;
    assert_eq!(turns[0].meta("error_code"), "model-unreachable");
    stack.model.up().await.unwrap();
    stack.post(&Post::new("and now").to(&session)).await;
    assert_eq!(stack.ended_turns(&session, 2).await[1].text(), "you said: and now");
}

#[tokio::test]
async fn a_silent_model_times_out_before_and_inside_its_answer() {
    let stack = impatient().start().await;
    let turn = fails(&stack, Script::silence(), "model-timeout").await;
    assert_eq!(turn.meta("partial_text").as_str().unwrap_or_default(), "");
    fails(&stack, Script::new().stall(), "model-timeout").await;
    fails(&stack, Script::new().text("half an ").stall(), "model-timeout").await;
    for exchange in stack.model.exchanges() {
        if exchange.prompt() == "hi" {
            // The connection to a model that was given up is not left open.
            exchange.closed().await;
        }
    }
}

#[tokio::test]
async fn a_broken_answer_is_said_to_be_broken() {
    let stack = strict().start().await;
    for script in [
        Script::new().text("half").cut(),
        Script::new().text("half").reset(),
        Script::new().text("half").step(Step::Raw(b"data: {\"choices\": [\n\n".to_vec())).done(),
        Script::new().text("half").step(Step::Raw(b"data: nonsense\n\n".to_vec())).done(),
        Script::new().text("half").step(Step::Raw(b"data: {\"error\": {\"message\": \"worker died\"}}\n\n".to_vec())),
    ] {
        fails(&stack, script, "model-broken-stream").await;
    }
}

#[tokio::test]
async fn a_missing_done_after_the_reason_is_no_fault() {
    let stack = impatient().start().await;
    for script in [
        Script::new().text("whole").finish("stop"),
        Script::new().text("whole").finish("stop").usage(1, 1),
        Script::new().text("whole").finish("stop").stall(),
    ] {
        stack.model.next(script);
        let turn = one_turn(&stack).await;
        assert_eq!((turn.kind(), turn.text()), ("assistant.final", "whole"));
    }
}

#[tokio::test]
async fn nul_in_the_text_is_replaced_before_it_is_streamed() {
    let stack = strict().start().await;
    stack.model.next(Script::new().text("a\0b").text("\0").done());
    let turn = one_turn(&stack).await;
    assert_eq!((turn.kind(), turn.text()), ("assistant.final", "a\u{fffd}b\u{fffd}"));
}

#[tokio::test]
async fn an_endless_answer_is_ended() {
    let stack = strict().start().await;
    let turn = fails(&stack, Script::new().step(Step::Endless("and so on ".repeat(40))), "model-answer-too-long").await;
    assert!(turn.text().len() <= 70_000, "{} bytes were kept of a limit of 65536", turn.text().len());
    stack.model.exchange(0).await.closed().await;
}

#[tokio::test]
async fn endless_reasoning_is_ended_too() {
    let stack = strict().start().await;
    let chunk = json!({"choices": [{"index": 0, "delta": {"reasoning_content": "hm ".repeat(200)}}]});
    let block = format!("data: {chunk}\n\n").into_bytes();
    let script = (0..400).fold(Script::new(), |script, _| script.step(Step::Raw(block.clone())));
    fails(&stack, script.done(), "model-answer-too-long").await;
}

#[tokio::test]
async fn a_fault_before_the_first_token_is_tried_again() {
    let stack = Setup::default()
        .set("SA01_MODEL__MAX_RETRIES", 2)
        .set("SA01_MODEL__RETRY_FIRST_WAIT_MS", 10)
        .set("SA01_MODEL__RETRY_MAX_WAIT_MS", 20)
        .start()
        .await;
    for fault in [
        Script::refuse(500, "oops"),
        Script::refuse(429, "slow down").header("retry-after", "0"),
        Script::new().cut(),
        Script::new().reset(),
    ] {
        let session = new_session();
        let asked = stack.model.exchanges().len();
        stack.model.next(fault);
        stack.post(&Post::new("hi").to(&session)).await;
        let turns = stack.ended_turns(&session, 1).await;
        assert_eq!((turns[0].kind(), turns[0].text()), ("assistant.final", "you said: hi"));
        assert_eq!(stack.model.exchanges().len(), asked + 2);
        // A retry of the request is no new attempt at the turn.
        assert_eq!(turns[0].meta("attempt"), 1);
    }
}

#[tokio::test]
async fn retry_after_is_respected() {
    let stack = Setup::default()
        .set("SA01_MODEL__MAX_RETRIES", 1)
        .set("SA01_MODEL__RETRY_FIRST_WAIT_MS", 1)
        .set("SA01_MODEL__RETRY_MAX_WAIT_MS", 1)
        .start()
        .await;
    let session = new_session();
    stack.model.next(Script::refuse(429, "slow down").header("retry-after", "1"));
    stack.post(&Post::new("hi").to(&session)).await;
    let turns = stack.ended_turns(&session, 1).await;
    assert_eq!(turns[0].text(), "you said: hi");
    let (first, second) = (stack.model.exchange(0).await.at, stack.model.exchange(1).await.at);
    assert!(second - first >= Duration::from_secs(1), "asked again after {:?}", second - first);
}

#[tokio::test]
async fn text_of_two_answers_is_never_spliced() {
    let stack = Setup::default().set("SA01_MODEL__MAX_RETRIES", 2).start().await;
    let session = new_session();
    stack.model.next(Script::new().text("the first ").cut());
    stack.model.always(Script::words("the second"));
    stack.post(&Post::new("hi").to(&session)).await;
    let turns = stack.ended_turns(&session, 1).await;
    assert_eq!((turns[0].kind(), turns[0].meta("error_code")), ("assistant.error", json!("model-broken-stream")));
    assert_eq!(stack.model.exchanges().len(), 1, "a model that had begun to answer was asked again");
    let said: Value = turns[0].end.clone().unwrap();
    assert!(!said.to_string().contains("the second"));
}

/// What a turn may end with when its model's connection is disturbed.
const LOST: [&str; 3] = ["model-unreachable", "model-broken-stream", "model-timeout"];

#[tokio::test]
async fn a_disturbed_connection_gives_a_whole_answer_or_a_code() {
    const TURNS: usize = 60;
    let answer = |number: u64| (0..8).map(|piece| format!("<{number} {piece}> ")).collect::<Vec<_>>();
    for mut case in seed::cases("a disturbed model", 1) {
        let stack = impatient().start().await;
        stack.model.answer(move |exchange| {
            let pieces = answer(exchange.number).into_iter();
            pieces.fold(Script::new(), |script, piece| script.text(&piece).pause(Duration::from_millis(3))).done()
        });
        let turns = disturbed(&stack.model_proxy, &mut case, TURNS, async || {
            let session = new_session();
            stack.post(&Post::new("hi").to(&session)).await;
            stack.ended_turns(&session, 1).await.remove(0)
        })
        .await;
        let (mut whole, mut lost) = (0, 0);
        for turn in turns {
            if turn.kind() == "assistant.final" {
                let number = turn.text().trim_start_matches('<').split(' ').next().unwrap().parse().unwrap();
                assert_eq!(turn.text(), answer(number).concat(), "an answer was spliced or spoiled");
                whole += 1;
            } else {
                let code = turn.meta("error_code");
                assert!(LOST.iter().any(|lost| code == *lost), "{turn:#?}");
                lost += 1;
            }
        }
        eprintln!("{whole} whole, {lost} lost");
        assert!(whole > 0 && lost > 0, "the faults did not meet the turns: {whole} whole, {lost} lost");
    }
}
