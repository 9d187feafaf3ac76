#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::sync::Arc;

use super::*;
use crate::domain::audit_chain::VERSION;

fn said(text: &str) -> Said {
    vec![Some(text.to_owned()), None]
}

/// A chain over rows 11, 12 and so on, and its end.
fn chain(length: i64) -> (Vec<Entry>, Head) {
    let mut head = Head::default();
    let entries = (1..=length)
        .map(|number| {
            let said = said(&format!("row {number}"));
            let link = head.seal("t", number + 10, content(VERSION, &said).unwrap());
            let (event_id, version, said) = (link.event_id, VERSION, Some(said));
            Entry { number, event_id, version, content: link.content, hash: link.hash, said }
        })
        .collect();
    (entries, head)
}

fn walked(entries: &[Entry], known: Option<Head>, end: Option<Head>) -> Vec<(Kind, Option<i64>, Option<i64>)> {
    let known = known.map(|head| Known { head, source: "the checkpoint".to_owned(), at: None, stand: None });
    let mut walk = Walk::new(Judge::new("t", &[], None, Arc::default()), known, None);
    for entry in entries {
        walk.step(entry);
    }
    walk.end(end).findings.into_iter().map(|finding| (finding.kind, finding.number, finding.row)).collect()
}

#[test]
fn a_chain_that_nobody_touched_fits_and_may_have_grown() {
    let (entries, head) = chain(5);
    assert_eq!(walked(&entries, Some(head), Some(head)), []);
    let later = Head { number: 9, hash: [1; 32] };
    assert_eq!(walked(&entries, Some(head), Some(later)), []);
    assert_eq!(walked(&[], None, None), []);
}

#[test]
fn a_row_that_was_changed_or_removed_is_named() {
    let (mut entries, head) = chain(5);
    entries[2].said = Some(said("another"));
    entries[3].said = None;
    let expected = [(Kind::RowChanged, Some(3), Some(13)), (Kind::RowRemoved, Some(4), Some(14))];
    assert_eq!(walked(&entries, Some(head), Some(head)), expected);
}

#[test]
fn a_row_that_was_changed_with_its_link_breaks_the_chain() {
    let (mut entries, head) = chain(5);
    let other = said("another");
    let sum = content(VERSION, &other).unwrap();
    entries[2] = Entry { said: Some(other), content: sum, ..entries[2].clone() };
    assert_eq!(walked(&entries, None, Some(head)), [(Kind::LinkBroken, Some(3), Some(13))]);
    entries[2].hash = linked(&entries[1].hash, "t", 3, 13, &sum);
    assert_eq!(walked(&entries, None, Some(head)), [(Kind::LinkBroken, Some(4), Some(14))]);
}

#[test]
fn links_that_changed_places_are_named_near_and_far() {
    for (one, other) in [(1, 2), (0, 3), (1, 4), (3, 4)] {
        let (mut entries, head) = chain(6);
        entries.swap(one, other);
        for (number, entry) in (1..).zip(&mut entries) {
            entry.number = number;
        }
        let [first, second] = [one, other].map(|place| i64::try_from(place).unwrap() + 1);
        let expected =
            [(Kind::RowMoved, Some(first), Some(second + 10)), (Kind::RowMoved, Some(second), Some(first + 10))];
        assert_eq!(walked(&entries, None, Some(head)), expected, "{first} and {second}");
    }
}

#[test]
fn rows_whose_content_changed_places_are_named() {
    let (mut entries, head) = chain(5);
    let first = entries[1].said.take();
    entries[1].said = entries[3].said.replace(first.unwrap());
    let expected = [(Kind::RowMoved, Some(2), Some(12)), (Kind::RowMoved, Some(4), Some(14))];
    assert_eq!(walked(&entries, None, Some(head)), expected);
}

#[test]
fn what_is_missing_in_the_middle_or_at_the_end_is_told() {
    let (mut entries, head) = chain(6);
    entries.drain(1..3);
    assert_eq!(walked(&entries, None, Some(head)), [(Kind::LinkRemoved, Some(2), None)]);
    let (mut entries, head) = chain(6);
    entries.truncate(4);
    assert_eq!(walked(&entries, Some(head), Some(head)), [(Kind::Truncated, Some(6), None)]);
    let cut = Head { number: 4, hash: entries[3].hash };
    assert_eq!(walked(&entries, Some(head), Some(cut)), [(Kind::Truncated, Some(6), None)]);
    assert_eq!(walked(&entries, None, None), [(Kind::HeadWrong, None, None)]);
    let behind = Head { number: 3, ..cut };
    assert_eq!(walked(&entries, None, Some(behind)), [(Kind::HeadWrong, Some(4), None)]);
}

#[test]
fn a_chain_that_was_made_anew_is_told_by_what_was_known_of_it() {
    let (entries, head) = chain(6);
    let mut anew = Head::default();
    let forged: Vec<Entry> = entries
        .iter()
        .map(|entry| {
            let said = if entry.number == 2 { said("another") } else { entry.said.clone().unwrap() };
            let link = anew.seal("t", entry.event_id, content(VERSION, &said).unwrap());
            Entry { content: link.content, hash: link.hash, said: Some(said), ..entry.clone() }
        })
        .collect();
    assert_eq!(walked(&forged, None, Some(anew)), []);
    assert_eq!(walked(&forged, Some(head), Some(anew)), [(Kind::Rewritten, Some(6), Some(16))]);
}
