//! Plays a schedule on a stage.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use somaagent_test_services::brain::Mood;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::evidence::{MEMORIES, Planted};
use crate::schedule::{Fault, Illness, Line, Poison, Step, Trouble};
use crate::stage::Stage;

/// How long people talk before the first fault, and after the last.
const CALM: Duration = Duration::from_millis(300);

/// Plays the steps one after another; a fault may still last when the next one comes. Returns when all are over and
/// everything is well again. Records that it plants go to the partitions of these sessions.
pub async fn play(stage: &Arc<Stage>, steps: &[Step], sessions: &[String]) -> Result<()> {
    let mut under_way = JoinSet::new();
    tokio::time::sleep(CALM).await;
    for (number, step) in steps.iter().enumerate() {
        tokio::time::sleep(step.after).await;
        let (stage, fault, session) = (stage.clone(), step.fault, sessions[number % sessions.len()].clone());
        under_way.spawn(async move {
            if let Err(error) = inflict(&stage, fault, &session).await {
                stage.complain(format!("{fault:?} could not be played: {error:#}"));
            }
        });
    }
    while let Some(over) = under_way.join_next().await {
        over?;
    }
    stage.heal().await?;
    tokio::time::sleep(CALM).await;
    Ok(())
}

async fn inflict(stage: &Stage, fault: Fault, session: &str) -> Result<()> {
    match fault {
        Fault::Kill(seat, rest) => stage.kill(seat, rest).await,
        Fault::Freeze(seat, length) => stage.freeze(seat, length).await,
        Fault::ThirdReplicator(length) => stage.third_replicator(length).await,
        Fault::KillKafka(rest) => stage.ground.kill_kafka(rest).await,
        Fault::CrashPostgres(rest) => stage.ground.crash_postgres(rest).await,
        Fault::Line(line, trouble) => {
            disturb(stage, line, trouble).await;
            Ok(())
        }
        // Whether a write falls into the trap before the end is left to chance too.
        Fault::CutBeforeCommit(table) => {
            drop(stage.line(Line::Database).cut_before_commit(table));
            Ok(())
        }
        Fault::CutAfterCommit(table) => {
            drop(stage.line(Line::Database).cut_after_commit(table));
            Ok(())
        }
        Fault::IllFor(illness, calls) => {
            stage.brain.next_moods(vec![mood(illness); calls]);
            Ok(())
        }
        Fault::IllDuring(illness, length) => {
            stage.brain.set_mood(mood(illness));
            tokio::time::sleep(length).await;
            stage.brain.set_mood(Mood::Well);
            Ok(())
        }
        Fault::Poison(poison) => plant(stage, session, &poisoned(poison, session), None).await,
        Fault::Past(behind) => plant_past(stage, session, behind).await,
    }
}

async fn disturb(stage: &Stage, line: Line, trouble: Trouble) {
    let proxy = stage.line(line);
    match trouble {
        Trouble::Cut => proxy.cut(),
        Trouble::CutOne(choice) => proxy.cut_one(choice),
        Trouble::Stall(direction, length) => {
            proxy.stall(direction);
            tokio::time::sleep(length).await;
            proxy.resume(direction);
        }
        Trouble::Slow(direction, delay, length) => {
            proxy.delay(direction, delay);
            tokio::time::sleep(length).await;
            proxy.resume(direction);
        }
        Trouble::Refuse(length) => {
            proxy.refuse(true);
            proxy.cut();
            tokio::time::sleep(length).await;
            proxy.refuse(false);
        }
    }
}

fn mood(illness: Illness) -> Mood {
    match illness {
        Illness::Status(status, after) => Mood::Failing(status, after),
        Illness::Drop => Mood::Dropping,
        Illness::DropAfter => Mood::DroppingAfter,
    }
}

/// Bytes that are no memory and that no other record has.
fn poisoned(poison: Poison, session: &str) -> Vec<u8> {
    let id = Uuid::new_v4();
    let record = |kind: &str, memory: Value| {
        let record =
            json!({"type": kind, "tenant": "public", "session_id": session, "payload": memory, "timestamp": 1.0});
        record.to_string().into_bytes()
    };
    match poison {
        Poison::Bytes => format!("{id} \u{fffd} is no JSON").into_bytes(),
        Poison::OtherType => record("memory.dream", json!({"id": id})),
        Poison::Nameless => record("memory.write", json!({"content": id})),
        Poison::Zero => record("memory.write", json!({"id": id, "content": "a\0b"})),
    }
}

/// A memory that somebody tells the log of whose clock is late.
async fn plant_past(stage: &Stage, session: &str, behind: Duration) -> Result<()> {
    let id = format!("past-{}", Uuid::new_v4());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let clock = now.saturating_sub(behind).as_secs();
    let record = json!({
        "type": "memory.write", "role": "user", "session_id": session, "persona_id": null, "tenant": "public",
        "payload": {"id": id, "content": "told late", "role": "user", "session_id": session}, "result": null,
        "timestamp": clock,
    });
    plant(stage, session, record.to_string().as_bytes(), Some((id, clock))).await
}

async fn plant(stage: &Stage, session: &str, payload: &[u8], memory: Option<(String, u64)>) -> Result<()> {
    let clock = memory.as_ref().map(|(_, clock)| i64::try_from(clock * 1_000)).transpose()?;
    let (partition, offset) = stage.ground.kafka().append(MEMORIES, session, payload, clock).await?;
    #[expect(clippy::cast_precision_loss, reason = "seconds since 1970")]
    let memory = memory.map(|(id, clock)| (id, clock as f64));
    let planted = Planted { partition, offset, payload: payload.to_vec(), memory };
    stage.planted.lock().unwrap().push(planted);
    Ok(())
}
