//! Case 6: a turn goes on whatever becomes of SomaBrain, and says so.

use somaagent_test_services::brain::{Mood, Shape};
use somaagent_test_services::client::{Mode, Post};
use somaagent_test_services::model::Gate;
use somaagent_test_services::proxy::Direction;
use somaagent_test_services::seed;

use crate::disturbance::disturbed;
use crate::history::Turn;
use crate::stack::{Setup, Stack, new_session};

/// A system that looks at each fault anew.
fn forgetful() -> Setup {
    Setup::default()
        // Each fault is looked at by itself: a breaker opened by one would hide the next.
        .set("SA01_BRAIN__BREAKER_COOLDOWN_MS", 1)
}

/// A system that tells its memory nothing of what is said meanwhile.
fn untaught() -> Setup {
    Setup::default().set("MEMORY_SYNC_INTERVAL_SECONDS", 3600)
}

async fn one_turn(stack: &Stack) -> Turn {
    let session = new_session();
    let mut stream = stack.client.events(&session).mode(Mode::Delta).open().await.unwrap();
    stack.post(&Post::new("which colour has the sky").to(&session)).await;
    stream.until_terminal().await.unwrap();
    let turn = stack.ended_turns(&session, 1).await.remove(0);
    assert_eq!((turn.kind(), turn.text()), ("assistant.final", "you said: which colour has the sky"));
    let thinking = stream.frames().iter().find(|frame| frame.kind() == "assistant.thinking").unwrap();
    assert_eq!(thinking.data["metadata"]["recall"]["state"], turn.meta("recall")["state"]);
    let state = stack.client.state(&session).await.unwrap();
    assert_eq!(state["last_recall"]["state"], turn.meta("recall")["state"]);
    turn
}

/// Waits until a turn recalls again.
async fn recalls_again(stack: &Stack) {
    somaagent_test_services::wait::eventually("a recall that works again", async || {
        (one_turn(stack).await.meta("recall")["state"] == "ok").then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_recalled_reaches_the_model_in_every_shape() {
    let stack = untaught().start().await;
    stack.brain.know("k1", "the sky has the colour of green tea");
    for (number, shape) in [Shape::Content, Shape::Payload, Shape::Text].into_iter().enumerate() {
        stack.brain.set_shape(shape);
        let turn = one_turn(&stack).await;
        assert_eq!(
            (&turn.meta("recall")["state"], &turn.meta("recall")["count"]),
            (&"ok".into(), &1.into()),
            "{shape:?}"
        );
        let context = stack.model.exchange(number).await.context();
        assert!(context.contains("green tea"), "{shape:?}: the model was not told: {context}");
    }
    let recall = &stack.brain.calls_to("/memory/recall")[0];
    assert_eq!((&recall.body["tenant"], &recall.body["namespace"]), (&"public".into(), &"wm".into()));
}

#[tokio::test]
async fn nothing_to_recall_is_no_fault() {
    let stack = untaught().start().await;
    let turn = one_turn(&stack).await;
    assert_eq!((&turn.meta("recall")["state"], &turn.meta("recall")["count"]), (&"ok".into(), &0.into()));
}

#[tokio::test]
async fn a_failing_brain_is_unavailable() {
    let stack = forgetful().start().await;
    stack.brain.know("k1", "the sky has the colour of green tea");
    for status in [500, 503, 429, 422, 401] {
        stack.brain.set_mood(Mood::Failing(status, None));
        assert_eq!(one_turn(&stack).await.meta("recall")["state"], "unavailable", "status {status}");
    }
    let context = stack.model.exchange(0).await.context();
    assert!(!context.contains("green tea"));
}

#[tokio::test]
async fn a_brain_that_asks_for_patience_is_not_waited_for() {
    let stack = forgetful().start().await;
    stack.brain.set_mood(Mood::Failing(503, Some(100)));
    assert_eq!(one_turn(&stack).await.meta("recall")["state"], "unavailable");
}

#[tokio::test]
async fn a_slow_brain_times_out() {
    let stack = forgetful().set("SA01_TURNS__RECALL_DEADLINE_MS", 400).start().await;
    let gate = Gate::closed();
    stack.brain.set_mood(Mood::Slow(gate.clone()));
    assert_eq!(one_turn(&stack).await.meta("recall")["state"], "timeout");
    gate.open();
}

#[tokio::test]
async fn a_brain_that_is_down_is_unavailable_until_it_is_back() {
    let stack = forgetful().direct().start().await;
    stack.brain.know("k1", "the sky has the colour of green tea");
    stack.brain.down().await;
    assert_eq!(one_turn(&stack).await.meta("recall")["state"], "unavailable");
    stack.brain.up().await.unwrap();
    recalls_again(&stack).await;
}

#[tokio::test]
async fn an_open_breaker_asks_nothing_and_closes_again() {
    let stack = Setup::default()
        .set("SA01_BRAIN__BREAKER_FAILURES", 3)
        .set("SA01_BRAIN__BREAKER_COOLDOWN_MS", 600_000)
        .set("SA01_BRAIN__HEALTH_INTERVAL_MS", 600_000)
        .start()
        .await;
    stack.brain.set_mood(Mood::Failing(503, None));
    for _ in 0..4 {
        assert_eq!(one_turn(&stack).await.meta("recall")["state"], "unavailable");
    }
    let asked = stack.brain.calls_to("/memory/recall").len();
    stack.brain.set_mood(Mood::Well);
    for _ in 0..3 {
        assert_eq!(one_turn(&stack).await.meta("recall")["state"], "unavailable");
    }
    assert_eq!(stack.brain.calls_to("/memory/recall").len(), asked, "an open breaker let a call through");
}

#[tokio::test]
async fn recall_can_be_switched_off() {
    let stack = Setup::default().set("SA01_TURNS__RECALL_DEADLINE_MS", 0).start().await;
    assert_eq!(one_turn(&stack).await.meta("recall")["state"], "off");
    assert!(stack.brain.calls_to("/memory/recall").is_empty());
}

/// What is there to recall.
const KNOWN: &str = "the sky has the colour of green tea";

/// A system that looks at each fault anew and has one thing to recall.
async fn with_a_memory(setup: Setup) -> Stack {
    let stack = setup.set("SA01_BRAIN__BREAKER_COOLDOWN_MS", 1).start().await;
    stack.brain.know("k1", KNOWN);
    stack
}

/// Something that happens to a connection.
type Strike<'a> = Box<dyn Fn() + 'a>;

/// One turn, during whose recall `fault` happens: the request has been read, and its answer waits.
async fn disturbed_turn(stack: &Stack, fault: impl FnOnce()) -> Turn {
    let gate = Gate::closed();
    stack.brain.set_mood(Mood::Slow(gate.clone()));
    let asked = stack.brain.calls_to("/memory/recall").len();
    let strike = async {
        stack.brain.called("/memory/recall", asked + 1).await;
        fault();
    };
    let (turn, ()) = tokio::join!(one_turn(stack), strike);
    stack.brain.recover();
    gate.open();
    turn
}

#[tokio::test]
async fn a_recall_whose_line_breaks_in_the_middle_is_unavailable_at_once() {
    let stack = with_a_memory(untaught().set("SA01_BRAIN__RECALL_MAX_RETRIES", 0)).await;
    let proxy = &stack.brain_proxy;
    // Whole as HTTP, and rubbish inside.
    let answer = [&b"HTTP/1.1 200 OK\r\ncontent-length: 64\r\n\r\n{\"results\": ["[..], &[0xff; 51]].concat();
    let faults: [(&str, Strike); 3] = [
        ("cut", Box::new(|| proxy.cut())),
        ("rubbish in place of the answer", Box::new(|| proxy.spoil(Direction::Down, &[0xff; 64]))),
        ("rubbish inside the answer", Box::new(move || proxy.spoil(Direction::Down, &answer))),
    ];
    for (name, fault) in faults {
        // Not `timeout`: the recall's deadline was not waited for.
        assert_eq!(disturbed_turn(&stack, fault).await.meta("recall")["state"], "unavailable", "{name}");
        let next = one_turn(&stack).await;
        assert_eq!(next.meta("recall")["count"], 1, "after {name}: {}", next.meta("recall"));
    }
}

#[tokio::test]
async fn a_recall_that_is_cut_is_asked_again() {
    let stack = with_a_memory(untaught()).await;
    let asked = async || {
        stack.brain.called("/memory/recall", 1).await;
        stack.brain.recover();
        stack.brain_proxy.cut();
    };
    stack.brain.set_mood(Mood::Slow(Gate::closed()));
    let (turn, ()) = tokio::join!(one_turn(&stack), asked());
    assert_eq!((&turn.meta("recall")["state"], &turn.meta("recall")["count"]), (&"ok".into(), &1.into()));
    assert_eq!(stack.brain.calls_to("/memory/recall").len(), 2);
}

#[tokio::test]
async fn a_recall_whose_line_stands_still_times_out() {
    let stack = with_a_memory(untaught().set("SA01_TURNS__RECALL_DEADLINE_MS", 1000)).await;
    let proxy = &stack.brain_proxy;
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 64\r\n\r\n{\"results\": [";
    let turn = disturbed_turn(&stack, || proxy.spoil(Direction::Down, half)).await;
    assert_eq!(turn.meta("recall")["state"], "timeout", "half an answer");
    for direction in [Direction::Up, Direction::Down] {
        proxy.stall(direction);
        assert_eq!(one_turn(&stack).await.meta("recall")["state"], "timeout", "{direction:?}");
        proxy.resume(direction);
    }
    recalls_again(&stack).await;
}

#[tokio::test]
async fn a_disturbed_connection_costs_memories_and_no_turn() {
    const TURNS: usize = 60;
    for mut case in seed::cases("a disturbed memory service", 1) {
        let setup = untaught().set("SA01_TURNS__RECALL_DEADLINE_MS", 2000);
        // Asked again, nearly every recall would come through.
        let stack = with_a_memory(setup.set("SA01_BRAIN__RECALL_MAX_RETRIES", 0)).await;
        let turns = disturbed(&stack.brain_proxy, &mut case, TURNS, async || one_turn(&stack).await).await;
        let (mut told, mut lost) = (0, 0);
        for turn in turns {
            let recall = turn.meta("recall");
            match recall["state"].as_str() {
                Some("ok") => {
                    assert_eq!(recall["count"], 1, "a spoiled answer was taken for one: {recall}");
                    told += 1;
                }
                Some("unavailable" | "timeout") => lost += 1,
                _ => panic!("a recall ended as {recall}"),
            }
        }
        eprintln!("{told} told, {lost} not told");
        assert!(told > 0 && lost > 0, "the faults did not meet the recalls: {told} told, {lost} not");
        recalls_again(&stack).await;
    }
}
