//! P2: each acknowledged memory, of a message and of its answer, ends as exactly one row of the replica or one dead letter;
//! the memory service has received the key of each row, and keeps one value under it. Records that others put into the log
//! end in the same way. Receipts tell the truth.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{Event, REFUSED, text};
use crate::evidence::{Evidence, MEMORIES};

pub(super) fn check(evidence: &Evidence, events: &BTreeMap<&str, Event<'_>>) -> Vec<String> {
    let traces = Traces::of(evidence);
    let mut findings = Vec::new();
    for (id, event) in events.iter().filter(|(_, event)| event.is_memory()) {
        findings.extend(traces.memory(id, event).into_iter().map(|what| format!("P2: memory {id} {what}")));
        findings
            .extend(receipt(evidence, &traces, id).into_iter().map(|what| format!("P2: the receipt of {id} {what}")));
    }
    findings.extend(planted(evidence, &traces));
    findings.extend(invented(evidence, &traces, events));
    findings
}

/// What is found of each memory, by its id.
struct Traces<'a> {
    rows: BTreeMap<&'a str, Vec<&'a Value>>,
    letters: BTreeMap<&'a str, Vec<&'a Value>>,
    received: BTreeSet<&'a str>,
    kept: BTreeMap<&'a str, Vec<&'a Value>>,
}

impl<'a> Traces<'a> {
    fn of(evidence: &'a Evidence) -> Self {
        let rows = evidence.replica.iter().map(|row| (text(row, "event_id"), row));
        let letters = evidence.letters.iter().map(|letter| (text(&letter["event"]["payload"], "id"), letter));
        let kept = evidence.kept.iter().map(|(key, value)| (key.as_str(), value));
        Self {
            rows: grouped(rows),
            letters: grouped(letters.filter(|(id, _)| !id.is_empty())),
            received: evidence.received.iter().map(String::as_str).collect(),
            kept: grouped(kept),
        }
    }

    fn memory(&self, id: &str, event: &Event<'_>) -> Vec<String> {
        let mut findings = self.ends_once(id);
        // An outage is waited for: only what the memory service refuses for its content is given up.
        for letter in some(&self.letters, id).iter().filter(|letter| letter["error_code"] != REFUSED) {
            findings.push(format!("was given up though nobody refused it: {letter}"));
        }
        for row in some(&self.rows, id) {
            let memory = &row["payload"];
            if (text(row, "session_id"), text(row, "role")) != (event.session, text(event.payload, "role"))
                || (text(memory, "id"), &memory["content"]) != (id, &event.payload["message"])
            {
                findings.push(format!("is {} in the history and {row} in the replica", event.payload));
            }
            if !self.received.contains(id) {
                findings.push("is in the replica and was never received by the memory service".to_owned());
            }
        }
        match some(&self.kept, id) {
            // Only what the memory service has taken comes into the replica.
            [] if some(&self.rows, id).is_empty() => {}
            [value] if value["content"] == event.payload["message"] => {}
            values => {
                findings.push(format!("is {} in the history and {values:?} in the memory service", event.payload));
            }
        }
        findings
    }

    fn ends_once(&self, id: &str) -> Vec<String> {
        let (rows, letters) = (some(&self.rows, id).len(), some(&self.letters, id).len());
        let once = rows + letters == 1;
        if once { vec![] } else { vec![format!("ended as {rows} rows of the replica and {letters} dead letters")] }
    }
}

fn grouped<'a>(pairs: impl Iterator<Item = (&'a str, &'a Value)>) -> BTreeMap<&'a str, Vec<&'a Value>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (id, value) in pairs {
        groups.entry(id).or_default().push(value);
    }
    groups
}

fn some<'t, 'a>(groups: &'t BTreeMap<&str, Vec<&'a Value>>, id: &str) -> &'t [&'a Value] {
    groups.get(id).map(Vec::as_slice).unwrap_or_default()
}

/// What the receipt of a memory says, against what became of it.
fn receipt(evidence: &Evidence, traces: &Traces<'_>, id: &str) -> Vec<String> {
    let Some(receipt) = evidence.receipts.get(id) else { return vec!["is missing".to_owned()] };
    let expected = if some(&traces.rows, id).is_empty() { "dead" } else { "replicated" };
    if receipt["state"] != expected {
        return vec![format!("says {receipt}, and it is {expected}")];
    }
    if expected == "dead" {
        return vec![];
    }
    let named = evidence
        .log
        .get(MEMORIES)
        .into_iter()
        .flatten()
        .find(|record| receipt["partition"] == record.partition && receipt["offset"] == record.offset);
    let right = named.is_some_and(|record| {
        let told: Value = serde_json::from_slice(&record.payload).unwrap_or_default();
        let hex = Sha256::digest(&record.payload).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        told["payload"]["id"] == id && receipt["sha256"] == hex
    });
    if right { vec![] } else { vec![format!("says {receipt}, and that record is not there")] }
}

/// What others put into the log is applied if it can be, and else is a dead letter with the bytes as they were.
fn planted(evidence: &Evidence, traces: &Traces<'_>) -> Vec<String> {
    let mut findings = Vec::new();
    for record in &evidence.planted {
        let place = (record.partition, record.offset);
        if let Some((id, clock)) = &record.memory {
            findings.extend(traces.ends_once(id).into_iter().map(|what| format!("P2: the planted memory {id} {what}")));
            let told = some(&traces.rows, id).iter().map(|row| row["wal_timestamp"].as_f64());
            if told.into_iter().any(|told| told != Some(*clock)) {
                findings.push(format!("P2: the planted memory {id} has another clock than {clock}"));
            }
            continue;
        }
        let letters = evidence.letters.iter().filter(|letter| at(letter) == Some(place));
        let letters: Vec<&Value> = letters.collect();
        match letters[..] {
            [letter] if original(letter).as_deref() == Some(&record.payload) => {}
            [letter] => findings.push(format!("P2: the bad record at {place:?} is another one in its letter {letter}")),
            _ => findings.push(format!("P2: the bad record at {place:?} is {} dead letters", letters.len())),
        }
    }
    findings
}

/// The place in the log that a letter was read from.
fn at(letter: &Value) -> Option<(i32, i64)> {
    let origin = &letter["origin"];
    Some((i32::try_from(origin["partition"].as_i64()?).ok()?, origin["offset"].as_i64()?))
}

fn original(letter: &Value) -> Option<Vec<u8>> {
    base64::engine::general_purpose::STANDARD.decode(letter["original"].as_str()?).ok()
}

/// Nothing is remembered, copied or given up that nobody said and nobody planted.
fn invented(evidence: &Evidence, traces: &Traces<'_>, events: &BTreeMap<&str, Event<'_>>) -> Vec<String> {
    let planted: BTreeSet<&str> =
        evidence.planted.iter().filter_map(|record| record.memory.as_ref().map(|(id, _)| id.as_str())).collect();
    let bad: BTreeSet<(i32, i64)> = evidence
        .planted
        .iter()
        .filter(|record| record.memory.is_none())
        .map(|record| (record.partition, record.offset))
        .collect();
    let mut findings = Vec::new();
    let said = |id: &str| events.get(id).is_some_and(Event::is_memory) || evidence.is_note(id);
    let rows = traces.rows.keys().filter(|id| !said(id) && !planted.contains(*id));
    findings.extend(rows.map(|id| format!("P2: the replica has {id}, which nobody said")));
    let received = traces.received.iter().filter(|id| !said(id));
    findings.extend(received.map(|id| format!("P2: the memory service received {id}, which nobody said")));
    let letters = evidence.letters.iter().filter(|letter| {
        !said(text(&letter["event"]["payload"], "id")) && !at(letter).is_some_and(|at| bad.contains(&at))
    });
    findings.extend(letters.map(|letter| format!("P2: a dead letter of nothing that was said: {letter}")));
    findings
}
