//! Case 6: a turn goes on whatever becomes of SomaBrain, and says so.

use somaagent_test_services::brain::{Mood, Shape};
use somaagent_test_services::client::{Mode, Post};
use somaagent_test_services::model::Gate;

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
    let stack = forgetful().start().await;
    stack.brain.know("k1", "the sky has the colour of green tea");
    stack.brain.down().await;
    assert_eq!(one_turn(&stack).await.meta("recall")["state"], "unavailable");
    stack.brain.up().await.unwrap();
    let recovered = somaagent_test_services::wait::eventually("a recall that works again", async || {
        (one_turn(&stack).await.meta("recall")["state"] == "ok").then_some(())
    });
    recovered.await;
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
