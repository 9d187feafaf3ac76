//! People who read along: they come and go, lose their connection, and come back with the id of the last frame they saw.

use std::time::Duration;

use somaagent_test_services::client::{Client, Frame, Mode};
use somaagent_test_services::seed::Case;
use tokio::sync::watch;

use crate::evidence::{Reading, Seen};

/// Rest before a reader comes back.
const AGAIN: Duration = Duration::from_millis(40);

/// Reads a session until `goal` names an event and that has been seen, or says that nothing more is to be waited for.
pub async fn read(
    client: Client,
    session: String,
    mode: Mode,
    mut case: Case,
    mut goal: watch::Receiver<Goal>,
) -> Reading {
    let mut reading = Reading { session: session.clone(), mode, seen: Vec::new() };
    for connection in 0.. {
        if is_reached(&reading, *goal.borrow_and_update()) {
            break;
        }
        let subscription = client.events(&session).mode(mode);
        let subscription = match last_id(&reading) {
            Some(id) => subscription.last_event_id(&id),
            None => subscription.after("0"),
        };
        let opened = tokio::select! {
            opened = subscription.open() => opened,
            _ = goal.changed() => continue,
        };
        if let Ok(mut stream) = opened {
            // Some leave by themselves after a while.
            let leaves_after = if case.chance(40) { case.index(60) + 1 } else { usize::MAX };
            for _ in 0..leaves_after {
                let frame = tokio::select! {
                    frame = stream.next() => frame,
                    _ = goal.changed() => {
                        if is_reached(&reading, *goal.borrow_and_update()) { None } else { continue }
                    }
                };
                let Some(frame) = frame else { break };
                reading.seen.push(Seen { connection, frame });
                if is_reached(&reading, *goal.borrow()) {
                    break;
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
    reading
}

/// How far readers go on.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// There is more to come.
    Open,
    /// To the event with this number.
    Until(u64),
    /// No further.
    Here,
}

fn is_reached(reading: &Reading, goal: Goal) -> bool {
    match goal {
        Goal::Open => false,
        Goal::Until(head) => reading.seen.iter().rev().find_map(|seen| seen.frame.sequence()).unwrap_or(0) >= head,
        Goal::Here => true,
    }
}

fn last_id(reading: &Reading) -> Option<String> {
    reading.seen.iter().rev().find_map(|Seen { frame: Frame { id, .. }, .. }| id.clone())
}
