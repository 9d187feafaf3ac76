//! P4: the stored answer is what the attempt that ended the turn streamed, as the model said it and as every reader saw it.
//! Readers have each stored event once and in order, through all the connections that they needed.

use std::collections::BTreeMap;

use serde_json::Value;
use somaagent_test_services::client::{Frame, Mode};

use super::text;
use crate::evidence::{Evidence, Reading, Seen, answer, request_of};

/// The end of a turn that nobody finished: what its attempts streamed is void.
const ABANDONED: &str = "turn-abandoned";

pub(super) fn check(evidence: &Evidence) -> Vec<String> {
    let mut findings = Vec::new();
    for (session, history) in &evidence.histories {
        findings.extend(answers(evidence, history).into_iter().map(|what| format!("P4: session {session}: {what}")));
    }
    for reading in &evidence.readings {
        let history = evidence.histories.get(&reading.session).map(Vec::as_slice).unwrap_or_default();
        let read = stored(reading, history).into_iter().chain(followed(reading));
        findings.extend(read.map(|what| format!("P4: a reader of {} ({:?}): {what}", reading.session, reading.mode)));
    }
    findings
}

/// The text that the attempt of an end streamed, as the end tells it.
fn streamed(end: &Value) -> Option<&str> {
    let metadata = &end["metadata"];
    match text(end, "type") {
        "assistant.final" | "assistant.stopped" => end["message"].as_str(),
        "assistant.error" if metadata["error_code"] == ABANDONED => None,
        "assistant.error" => Some(text(metadata, "partial")),
        _ => None,
    }
}

/// Each stored answer is one whole answer of the model to that message; what broke off is the beginning of one.
fn answers(evidence: &Evidence, history: &[Value]) -> Vec<String> {
    let said: BTreeMap<u64, &str> = history
        .iter()
        .filter(|event| event["payload"]["type"] == "user")
        .filter_map(|event| Some((event["id"].as_u64()?, text(&event["payload"], "message"))))
        .collect();
    let mut findings = Vec::new();
    for end in history.iter().map(|event| &event["payload"]).filter(|payload| payload["type"] != "user") {
        let Some(streamed) = streamed(end) else { continue };
        let whole = end["type"] == "assistant.final";
        if streamed.is_empty() && !whole {
            continue;
        }
        let request = request_of(streamed);
        let full = request.map(answer);
        let one = full.is_some_and(|full| if whole { full == streamed } else { full.starts_with(streamed) });
        if !one {
            findings.push(format!("no single answer of the model is stored as {end}"));
        }
        let asked = request.and_then(|request| evidence.asked.get(&request)).map(String::as_str);
        let message = end["metadata"]["turn"].as_u64().and_then(|turn| said.get(&turn).copied());
        if one && (message.is_none() || asked != message) {
            findings.push(format!("the answer to {asked:?} is stored for {message:?}: {end}"));
        }
    }
    findings
}

/// The stored events that a reader saw, against the history.
fn stored(reading: &Reading, history: &[Value]) -> Vec<String> {
    let seen: Vec<&Frame> =
        reading.seen.iter().map(|seen| &seen.frame).filter(|frame| frame.sequence().is_some()).collect();
    let mut findings = Vec::new();
    for (frame, event) in seen.iter().zip(history) {
        if frame.data != event["payload"] || frame.id.as_deref() != Some(event["id"].to_string().as_str()) {
            findings.push(format!("saw {:?} {} where the history has {event}", frame.id, frame.data));
        }
    }
    if seen.len() != history.len() {
        findings.push(format!("saw {} stored events of {}", seen.len(), history.len()));
    }
    findings
}

/// What a reader has on the screen of the answer under way.
#[derive(Default)]
struct Screen {
    turn: Option<u64>,
    attempt: Option<u64>,
    shown: String,
    /// The connection on which the last live frame of it came.
    connection: Option<usize>,
}

/// Follows the frames as the page does: an attempt that starts makes the screen empty, a piece is put behind the others, a
/// whole text replaces the one before it.
fn followed(reading: &Reading) -> Vec<String> {
    let mut findings = Vec::new();
    let mut screen = Screen::default();
    for Seen { connection, frame } in &reading.seen {
        let turn = frame.data["metadata"]["turn"].as_u64();
        if frame.is_terminal() {
            findings.extend(ended(reading.mode, &screen, *connection, frame));
            screen = Screen::default();
            continue;
        }
        match frame.kind() {
            "assistant.started" => screen = Screen { attempt: frame.attempt(), ..Screen::default() },
            "assistant.stream" if frame.attempt() != screen.attempt => {
                findings.push(format!("saw attempt {:?} without its beginning: {}", frame.attempt(), frame.data));
            }
            "assistant.stream" if reading.mode == Mode::Delta => screen.shown.push_str(frame.text()),
            "assistant.stream" => {
                if !frame.text().starts_with(&screen.shown) {
                    findings.push(format!("saw `{}` replaced by `{}`", screen.shown, frame.text()));
                }
                frame.text().clone_into(&mut screen.shown);
            }
            _ => continue,
        }
        screen.turn = turn.or(screen.turn);
        screen.connection = Some(*connection);
    }
    findings
}

/// The screen when a turn has ended, against what is stored as its answer.
fn ended(mode: Mode, screen: &Screen, connection: usize, end: &Frame) -> Option<String> {
    let streamed = streamed(&end.data)?;
    // Nothing of the attempt that counts was seen: it was over when the reader came back.
    if screen.turn.is_none() || screen.turn != end.data["metadata"]["turn"].as_u64() || screen.attempt != end.attempt()
    {
        return None;
    }
    // Whoever was there when it ended has seen all pieces; whole texts come at a bounded rate, and the end is the last one.
    let all = screen.connection == Some(connection) && mode == Mode::Delta;
    let right = if all { streamed == screen.shown } else { streamed.starts_with(&screen.shown) };
    (!right).then(|| format!("saw `{}`, and stored is {}", screen.shown, end.data))
}
