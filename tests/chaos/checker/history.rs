//! P1: every acknowledged message is in the history, once, and nothing is there that nobody said. P3: the numbers of a
//! session rise from 1 without a gap, and every turn has one end.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::text;
use crate::evidence::Evidence;

pub(super) fn check(evidence: &Evidence) -> Vec<String> {
    let mut findings = Vec::new();
    for (session, history) in &evidence.histories {
        findings.extend(numbers(session, history));
        findings.extend(ends(session, history));
    }
    findings.extend(acknowledged(evidence));
    findings.extend(invented(evidence));
    findings.extend(order(evidence));
    findings
}

fn numbers(session: &str, history: &[Value]) -> Vec<String> {
    let mut findings = Vec::new();
    let mut ids = BTreeSet::new();
    for (event, expected) in history.iter().zip(1_u64..) {
        let payload = &event["payload"];
        if event["id"] != expected || payload["metadata"]["sequence"] != expected {
            findings.push(format!("P3: session {session} has {event} where number {expected} should be"));
        }
        if payload["session_id"] != session {
            findings.push(format!("P3: session {session} has an event of another one: {event}"));
        }
        if !ids.insert(text(payload, "event_id")) {
            findings.push(format!("P3: session {session} has an event twice: {event}"));
        }
    }
    findings
}

fn ends(session: &str, history: &[Value]) -> Vec<String> {
    let mut findings = Vec::new();
    // The ends of each turn, by the number of its message.
    let mut turns: BTreeMap<u64, usize> = BTreeMap::new();
    for event in history {
        let payload = &event["payload"];
        if payload["type"] == "user" {
            turns.insert(event["id"].as_u64().unwrap_or_default(), 0);
            continue;
        }
        let turn = payload["metadata"]["turn"].as_u64().and_then(|turn| turns.get_mut(&turn));
        match turn {
            Some(ends) => *ends += 1,
            None => findings.push(format!("P3: session {session} has an end without its turn: {event}")),
        }
        if payload["metadata"]["completed"] != true {
            findings.push(format!("P3: session {session} has an end that does not say so: {event}"));
        }
    }
    let wrong = turns.into_iter().filter(|(_, ends)| *ends != 1);
    findings.extend(wrong.map(|(turn, ends)| format!("P3: turn {turn} of session {session} has {ends} ends")));
    findings
}

fn acknowledged(evidence: &Evidence) -> Vec<String> {
    let mut findings = Vec::new();
    for said in &evidence.told.acknowledged {
        let history = evidence.histories.get(&said.session).map(Vec::as_slice).unwrap_or_default();
        let found: Vec<&Value> =
            history.iter().filter(|event| text(&event["payload"], "event_id") == said.event_id).collect();
        match found[..] {
            [event] if event["id"] == said.seq && event["payload"]["message"] == *said.message => {}
            [event] => findings.push(format!("P1: {said:?} was acknowledged and is stored as {event}")),
            _ => findings.push(format!("P1: {said:?} was acknowledged and is stored {} times", found.len())),
        }
        let alike = history.iter().filter(|event| event["payload"]["message"] == *said.message);
        if alike.count() > 1 {
            findings.push(format!("P1: `{}` was said once and is stored more often", said.message));
        }
    }
    findings
}

/// What is stored was said: it was acknowledged, or its sender never learnt what became of it.
fn invented(evidence: &Evidence) -> Vec<String> {
    let told = &evidence.told;
    let acknowledged: BTreeSet<&str> = told.acknowledged.iter().map(|said| said.event_id.as_str()).collect();
    let unknown: BTreeSet<&str> = told.unknown.iter().map(String::as_str).collect();
    let refused: BTreeSet<&str> = told.refused.iter().map(String::as_str).collect();
    let mut findings = Vec::new();
    let (mut uncertain, stored) = (BTreeSet::new(), evidence.histories.values().flatten());
    for payload in stored.map(|event| &event["payload"]).filter(|payload| payload["type"] == "user") {
        let (id, message) = (text(payload, "event_id"), text(payload, "message"));
        if refused.contains(id) {
            findings.push(format!("P1: `{message}` was refused and is stored as {id}"));
        }
        let said = acknowledged.contains(id) || (unknown.contains(message) && uncertain.insert(message));
        if !said {
            findings.push(format!("P1: nobody said `{message}`, which is stored as {id}"));
        }
    }
    findings
}

/// People wait for an answer before they go on, so their messages are stored in the order of their sending.
fn order(evidence: &Evidence) -> Vec<String> {
    let mut last = BTreeMap::new();
    let mut findings = Vec::new();
    for said in &evidence.told.acknowledged {
        if last.insert(&said.session, said.seq).is_some_and(|before| before >= said.seq) {
            findings.push(format!("P3: {said:?} is stored before what was acknowledged earlier"));
        }
    }
    findings
}
