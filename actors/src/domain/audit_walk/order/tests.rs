#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use super::*;
use crate::domain::audit_chain::{ACTION, DETAILS, TAKEOVER};

/// A row that says that it was written so many seconds after 2000 in this transaction.
fn row(seconds: i64, xact: i64) -> Said {
    let mut said = vec![None; XACT + 1];
    said[TS] = Some(format!("{:016x}", (seconds * 1_000_000).cast_unsigned()));
    said[XACT] = Some(xact.to_string());
    said
}

fn entry(event_id: i64, version: i16) -> Entry {
    Entry { number: event_id, event_id, version, content: [0; 32], hash: [0; 32], said: None }
}

/// What is wrong with rows 1, 2 and so on of these times and transactions.
fn judged(rows: &[(i64, i64)], clocks: &Clocks) -> Vec<Option<Kind>> {
    let mut order = Order::on(Some("here".to_owned()));
    let rows = (1..).zip(rows);
    rows.map(|(id, (seconds, xact))| order.next(&entry(id, 2), &row(*seconds, *xact), clocks).map(|(kind, _)| kind))
        .collect()
}

#[test]
fn rows_may_be_a_little_older_than_those_before_them() {
    let none = Clocks::default();
    assert_eq!(
        judged(&[(1_000, 5), (1_000 - ALLOWANCE_SECONDS, 5), (900, 6), (-3, 7), (1_000, 8)], &none),
        [None, None, None, Some(Kind::RowBackdated), None]
    );
    let mut order = Order::on(None);
    for seconds in [1_000, 0] {
        assert_eq!(order.next(&entry(1, 1), &row(seconds, 5), &none), None, "the old sums do not cover transactions");
    }
}

#[test]
fn a_row_of_an_earlier_transaction_was_put_in() {
    let found = judged(&[(1, 5), (2, 6), (3, 5), (4, 6), (5, 7)], &Clocks::default());
    assert_eq!(found, [None, None, Some(Kind::RowInserted), None, None]);
}

#[test]
fn a_row_that_a_checkpoint_should_tell_of_was_put_in() {
    let (mut order, none) = (Order::on(Some("here".to_owned())), Clocks::default());
    let mut next = |id, xact, told: Option<(&str, i64)>| {
        if let Some((server, xact)) = told {
            order.told(&Stand { server: server.into(), xact, id: 4, next: 99, signing: None });
        }
        order.next(&entry(id, 2), &row(1, xact), &none).map(|(kind, _)| kind)
    };
    assert_eq!(next(1, 5, None), None);
    assert_eq!(next(3, 8, Some(("there", 9))), None, "another server's numbers say nothing");
    assert_eq!(next(4, 9, Some(("here", 9))), Some(Kind::RowInserted));
    assert_eq!(next(5, 9, None), None);
}

#[test]
fn a_transaction_that_began_after_a_checkpoint_wrote_nothing_long_before_it() {
    let mut clocks = Clocks::default();
    let stand = |server: &str, next| Stand { server: server.into(), xact: 1, id: 1, next, signing: None };
    let at = |seconds| EPOCH_2000 + seconds;
    clocks.learn(Some(&stand("here", 10)), at(5_000));
    clocks.learn(Some(&stand("here", 20)), at(9_000));
    clocks.learn(Some(&stand("there", 1)), at(1_000_000));
    clocks.learn(None, at(4_900));
    let none = Clocks::default();
    // What was under way at that time may be as old as it likes.
    let found = judged(&[(1, 9), (4_000, 10), (5_000 - ALLOWANCE_SECONDS, 19), (5_000, 20), (9_000, 21)], &clocks);
    assert_eq!(found, [None, Some(Kind::RowBackdated), None, Some(Kind::RowBackdated), None]);
    let begun =
        [4_900, 4_900 + ALLOWANCE_SECONDS, 4_901 + ALLOWANCE_SECONDS].map(|seconds| clocks.is_first(at(seconds)));
    assert_eq!((begun, none.is_first(0)), ([true, true, false], false));
    assert_eq!((clocks.newest(), none.newest()), (Some("there"), None));
    assert_eq!(clocks.reached("here"), Some((1, 1)));
    assert_eq!(clocks.reached("nowhere"), None);
}

#[test]
fn on_another_server_everything_begins_anew() {
    let mut order = Order::on(Some("here".to_owned()));
    let none = Clocks::default();
    assert_eq!(order.next(&entry(5, 2), &row(9_000, 50), &none), None);
    assert_eq!((order.reached("here"), order.reached("there")), (Some((50, 5)), None));
    let mut said = row(20_000, 7);
    said[ACTION] = Some(TAKEOVER.to_owned());
    said[DETAILS] = Some(r#"{"from": "here", "to": "there", "rows": 3}"#.to_owned());
    let moved = Moved::read(&said).unwrap();
    assert_eq!(moved, Moved { from: Some("here".into()), to: Some("there".into()), rows: 3, signature: None });
    order.moved(&moved);
    assert_eq!(order.next(&entry(4, 2), &row(100, 3), &none), None);
    assert_eq!((order.reached("here"), order.reached("there")), (None, Some((3, 4))));
    assert_eq!(Moved::read(&row(1, 1)), None);
}
