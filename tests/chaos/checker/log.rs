//! P3: the log has the events of each session in their order, in one partition, under the session's key. A record may be
//! there again, because it is appended until that is known to be done; then its first place counts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use somaagent_test_services::kafka::Kept;

use super::{Event, text};
use crate::evidence::{Evidence, INBOUND, LETTERS, MEMORIES, OUTBOUND};

pub(super) fn check(evidence: &Evidence, events: &BTreeMap<&str, Event<'_>>) -> Vec<String> {
    // What was given up before it came to the log has no record.
    let letters: BTreeSet<&str> =
        evidence.letters.iter().map(|letter| text(&letter["event"]["payload"], "id")).collect();
    let planted: BTreeSet<(i32, i64)> =
        evidence.planted.iter().map(|record| (record.partition, record.offset)).collect();
    // A broker that dies forgets whoever wrote a record with a clock of more than a day ago (`producer.id.expiration.ms`), so
    // one that was sent again may be there twice: these are known by their bytes, which no other record has.
    let late = evidence.planted.iter().filter(|record| record.memory.is_some());
    let late: BTreeSet<&[u8]> = late.map(|record| record.payload.as_slice()).collect();
    // Memories that are no part of a conversation have no number in it.
    let is_note = |record: &Kept| {
        let told: Value = serde_json::from_slice(&record.payload).unwrap_or_default();
        evidence.is_note(text(&told["payload"], "id"))
    };
    let is_aside = |record: &Kept| {
        planted.contains(&(record.partition, record.offset))
            || late.contains(record.payload.as_slice())
            || is_note(record)
    };
    let topics: [(&str, Id); 3] = [
        (MEMORIES, |said| text(&said["payload"], "id")),
        (INBOUND, |said| text(said, "event_id")),
        (OUTBOUND, |said| text(said, "event_id")),
    ];
    let mut findings = Vec::new();
    for (topic, id) in topics {
        let expected = events.iter().filter(|(id, event)| match topic {
            MEMORIES => event.is_memory() && !letters.contains(*id),
            INBOUND => event.is_user(),
            _ => !event.is_user(),
        });
        let expected: BTreeSet<&str> = expected.map(|(id, _)| *id).collect();
        let records = evidence.log.get(topic).into_iter().flatten();
        let records = records.filter(|record| topic != MEMORIES || !is_aside(record));
        let found = follow(records, events, id);
        findings.extend(found.findings.into_iter().map(|what| format!("P3: {topic} {what}")));
        let missing = expected.difference(&found.ids);
        findings.extend(missing.map(|id| format!("P3: {topic} does not tell of {id}")));
        let odd = found.ids.difference(&expected);
        findings.extend(odd.map(|id| format!("P3: {topic} tells of {id} and should not")));
    }
    findings.extend(notices(evidence));
    findings
}

/// The id of the event that a record of a topic tells of.
type Id = fn(&Value) -> &str;

#[derive(Default)]
struct Found<'a> {
    ids: BTreeSet<&'a str>,
    findings: Vec<String>,
}

/// Reads the records of a topic in the order of each partition.
fn follow<'a>(records: impl Iterator<Item = &'a Kept>, events: &BTreeMap<&'a str, Event<'a>>, id: Id) -> Found<'a> {
    let mut found = Found::default();
    // The partition of each session, and the last number seen of it for the first time.
    let mut sessions: BTreeMap<&str, (i32, u64)> = BTreeMap::new();
    for record in records {
        let said: Value = serde_json::from_slice(&record.payload).unwrap_or_default();
        let Some((id, event)) = events.get_key_value(id(&said)) else {
            found.findings.push(format!("has a record of no event that is stored: {said}"));
            continue;
        };
        let session = event.session;
        if said["session_id"] != session || record.key.as_deref() != Some(session) {
            found.findings.push(format!("has {id} of session {session} under the key {:?}: {said}", record.key));
        }
        let (partition, last) = sessions.entry(session).or_insert((record.partition, 0));
        if *partition != record.partition {
            found
                .findings
                .push(format!("has session {session} in the partitions {partition} and {}", record.partition));
        }
        if found.ids.insert(id) {
            if event.seq <= *last {
                let seq = event.seq;
                found.findings.push(format!("has number {seq} of session {session} only after number {last}"));
            }
            *last = event.seq;
        }
    }
    found
}

/// Every dead letter is told of on its topic.
fn notices(evidence: &Evidence) -> Vec<String> {
    let records = evidence.log.get(LETTERS).into_iter().flatten();
    let told: BTreeSet<i64> = records
        .filter_map(|record| serde_json::from_slice::<Value>(&record.payload).ok()?["dead_letter_id"].as_i64())
        .collect();
    let ids = evidence.letters.iter().filter_map(|letter| letter["id"].as_i64());
    let missing = ids.filter(|id| !told.contains(id));
    missing.map(|id| format!("P2: {LETTERS} does not tell of dead letter {id}")).collect()
}
