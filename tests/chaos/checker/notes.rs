//! P2 of memories that were written anew and taken back: the replica has what was acknowledged last, or what a step has left
//! whose fate nobody told. Only what the memory service refuses for its content is given up.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{REFUSED, text};
use crate::evidence::{Evidence, Note};

pub(super) fn check(evidence: &Evidence) -> Vec<String> {
    let mut findings: Vec<String> = evidence.notes.iter().flat_map(|note| note.absurd.clone()).collect();
    for note in &evidence.notes {
        let of_note = |memory: &Value| text(memory, "id") == note.id;
        let rows: Vec<&Value> = evidence.replica.iter().filter(|row| text(row, "event_id") == note.id).collect();
        let letters = evidence.letters.iter().filter(|letter| of_note(&letter["event"]["payload"]));
        let (refused, odd): (Vec<&Value>, Vec<&Value>) = letters.partition(|letter| letter["error_code"] == REFUSED);
        for letter in odd {
            findings.push(format!("P2: the note {} was given up though nobody refused it: {letter}", note.id));
        }
        let refused: BTreeSet<&str> = refused.iter().map(|letter| said(letter)).collect();
        findings.extend(ends(note, &rows, &refused).map(|what| format!("P2: the note {} {what}", note.id)));
    }
    findings
}

fn said(letter: &Value) -> &str {
    text(&letter["event"]["payload"], "content")
}

fn ends(note: &Note, rows: &[&Value], refused: &BTreeSet<&str>) -> Option<String> {
    let row = match rows {
        [] => None,
        [row] => Some(*row),
        _ => return Some(format!("is in the replica more than once: {rows:?}")),
    };
    let found = row.map(|row| text(&row["payload"], "content"));
    // What was refused is a dead letter, and what was there before it stays.
    if note.last.as_deref().is_some_and(|left| refused.contains(left)) {
        return None;
    }
    let fits = |left: &Option<String>| left.as_deref() == found;
    (!fits(&note.last) && !note.unknown.iter().any(fits))
        .then(|| format!("was left as {:?} and is {found:?} in the replica", note.last))
}
