//! What every history and every stream must look like, whatever happened.

use std::collections::BTreeMap;

use serde_json::Value;
use somaagent_test_services::client::Frame;

/// One turn of a stored history.
#[derive(Debug, Clone)]
pub struct Turn {
    /// The user event.
    pub user: Value,
    /// Its one terminal event, when it has ended.
    pub end: Option<Value>,
}

impl Turn {
    /// The type of its end; empty while it has none.
    pub fn kind(&self) -> &str {
        self.end.as_ref().and_then(|end| end["type"].as_str()).unwrap_or_default()
    }

    /// The text of its end.
    pub fn text(&self) -> &str {
        self.end.as_ref().and_then(|end| end["message"].as_str()).unwrap_or_default()
    }

    /// A metadata field of its end.
    pub fn meta(&self, name: &str) -> Value {
        self.end.as_ref().map_or(Value::Null, |end| end["metadata"][name].clone())
    }

    /// What the user said.
    pub fn said(&self) -> &str {
        self.user["message"].as_str().unwrap_or_default()
    }
}

/// Reads a listed history as turns, in order.
///
/// # Panics
/// When the numbers have a gap (P3), when a turn has two ends, or when an end belongs to no turn.
pub fn turns(events: &[Value]) -> Vec<Turn> {
    let mut turns: BTreeMap<u64, Turn> = BTreeMap::new();
    for (place, event) in events.iter().enumerate() {
        let (id, payload) = (event["id"].as_u64().unwrap(), &event["payload"]);
        assert_eq!(id, events[0]["id"].as_u64().unwrap() + place as u64, "a number is missing: {events:#?}");
        assert_eq!(payload["metadata"]["sequence"], id, "an event names another number: {event:#}");
        if payload["type"] == "user" {
            turns.insert(id, Turn { user: payload.clone(), end: None });
            continue;
        }
        let turn = payload["metadata"]["turn"].as_u64().unwrap();
        let turn = turns.get_mut(&turn).unwrap_or_else(|| panic!("an end without its turn: {event:#}"));
        assert!(payload["metadata"]["completed"] == true, "an end that does not say so: {event:#}");
        assert!(turn.end.is_none(), "a turn ended twice: {:#} and {event:#}", turn.end.as_ref().unwrap());
        turn.end = Some(payload.clone());
    }
    turns.into_values().collect()
}

/// The number before the first frame of an attempt in delta mode.
const PIECES_AFTER: u64 = 1_000_000;

/// Checks the ids of an unbroken stream: stored events by their number, live frames by the number before them, their
/// attempt, and a count that rises by one: from 1 for whole texts, from [`PIECES_AFTER`] for pieces.
///
/// # Panics
/// When an id is wrong or missing.
pub fn check_ids(frames: &[Frame]) {
    let (mut head, mut attempt, mut count) = (None::<u64>, 0, 0);
    for frame in frames {
        let id = frame.id.as_deref().unwrap_or_else(|| panic!("a frame without an id: {frame:#?}"));
        if let Some(sequence) = frame.sequence() {
            assert_eq!(id, sequence.to_string(), "a stored event under another id: {frame:#?}");
            assert!(head.is_none_or(|head| sequence == head + 1), "event {sequence} after {head:?}");
            head = Some(sequence);
            continue;
        }
        let parts: Vec<u64> = id.split('.').map(|part| part.parse().unwrap()).collect();
        let [before, of, n] = parts[..] else { panic!("a live frame with the id {id}") };
        assert!(head.is_none_or(|head| head == before), "a live frame {id} after event {head:?}");
        if frame.kind() == "assistant.started" {
            let first = if n > PIECES_AFTER { PIECES_AFTER + 1 } else { 1 };
            assert!(attempt != of || n == first, "an attempt began twice: {id}");
            (attempt, count) = (of, first - 1);
        }
        assert_eq!(of, attempt, "a live frame of another attempt: {id}");
        assert_eq!(n, count + 1, "a live frame out of order: {id}");
        count = n;
        assert_eq!(frame.attempt(), Some(of), "{frame:#?}");
    }
    let mut ids: Vec<_> = frames.iter().map(|frame| frame.data["event_id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), frames.len(), "an event_id came twice");
}

/// The kinds of the frames, repetitions drawn together.
pub fn kinds(frames: &[Frame]) -> Vec<&str> {
    let mut kinds: Vec<&str> = frames.iter().map(Frame::kind).collect();
    kinds.dedup();
    kinds
}

/// The text that the frames of the last attempt spell out in delta mode.
pub fn spelled(frames: &[Frame]) -> String {
    let start = frames.iter().rposition(|frame| frame.kind() == "assistant.started").unwrap_or(0);
    let text = frames[start..].iter().filter(|frame| frame.kind() == "assistant.stream");
    text.filter_map(|frame| frame.data["delta"].as_str()).collect()
}

/// Checks, for one reader of a turn in delta mode that came and went, that nothing is missing and nothing came twice.
///
/// # Panics
/// When it is not so.
pub fn check_union(frames: &[Frame], expected: &str) {
    let stored: Vec<u64> = frames.iter().filter_map(Frame::sequence).collect();
    let first = stored.first().copied().unwrap_or(1);
    let gapless: Vec<u64> = (first..first + stored.len() as u64).collect();
    assert_eq!(stored, gapless, "stored events are missing or came twice");
    let mut live: Vec<&str> =
        frames.iter().filter(|f| f.sequence().is_none()).filter_map(|f| f.id.as_deref()).collect();
    let all = live.len();
    live.sort_unstable();
    live.dedup();
    assert_eq!(live.len(), all, "a live frame came twice: {frames:#?}");
    assert_eq!(spelled(frames), expected, "the pieces do not spell the answer: {frames:#?}");
    let end = frames.iter().rfind(|frame| frame.is_terminal()).expect("no end");
    assert_eq!(end.data["message"], expected);
}
