#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use serde_json::json;

use super::*;
use crate::domain::{
    audit_chain::{Stand, TS, XACT},
    audit_walk::ALLOWANCE_SECONDS,
};

const PREVIOUS: Sum = [7; 32];
/// Seconds since 1970 of the row, which is of the year 2000.
const AT: i64 = 946_684_800 + 50;

/// The takeover of a chain at number 5, by the row 9 of transaction 30, with these details.
fn entry(details: &Value) -> Entry {
    let mut said = vec![None; XACT + 1];
    said[TS] = Some(format!("{:016x}", 50_400_000));
    (said[ACTION], said[DETAILS]) = (Some(TAKEOVER.to_owned()), Some(details.to_string()));
    said[XACT] = Some("30".to_owned());
    Entry { number: 5, event_id: 9, version: 2, content: [0; 32], hash: [0; 32], said: Some(said) }
}

fn details(signature: Option<&Vouched>) -> Value {
    // Whoever reads knows what was signed by what it says.
    let signature = signature.map(|vouched| serde_json::to_string(vouched).unwrap());
    json!({"from": "here", "to": "there", "rows": 3, "signature": signature})
}

fn vouched() -> Vouched {
    Vouched::behind(&Head { number: 4, hash: PREVIOUS }, "t", (Some("here"), "there"), 3, AT)
}

fn reader() -> Reader {
    Arc::new(|text: &str| serde_json::from_str(text).ok())
}

/// A checkpoint at a number, which says how far the sealing was on a server if it says so.
fn checkpoint(number: i64, server: Option<&str>) -> Known {
    let stand = server.map(|server| Stand { server: server.into(), xact: 1, id: 1, next: 2, signing: None });
    Known { head: Head { number, hash: [0; 32] }, source: String::new(), at: Some(AT), stand }
}

fn judged(judge: &Judge, entry: &Entry, since: i64) -> (Signature, Option<Kind>) {
    let moved = Moved::read(entry.said.as_ref().unwrap()).unwrap();
    let Verdict { signature, fault } = judge.judge(entry, &moved, &PREVIOUS, since);
    (signature, fault.map(|(kind, _)| kind))
}

#[test]
fn a_signature_counts_for_its_chain_its_place_both_servers_and_its_time() {
    let judge = Judge::new("t", &[], Some(reader()), Arc::default());
    assert_eq!(judged(&judge, &entry(&details(Some(&vouched()))), 0), (Signature::Good, None));
    let others: [fn(&mut Vouched); 7] = [
        |other| other.tenant = "u".into(),
        |other| other.number = 6,
        |other| other.previous = hex(&[8; 32]),
        |other| other.from = None,
        |other| other.to = "elsewhere".into(),
        |other| other.rows = 4,
        |other| other.iat += 1,
    ];
    for (case, change) in others.into_iter().enumerate() {
        let mut other = vouched();
        change(&mut other);
        let found = judged(&judge, &entry(&details(Some(&other))), 0);
        assert_eq!(found, (Signature::Wrong, Some(Kind::TakeoverUnsigned)), "{case}");
    }
    let mut rubbish = details(None);
    rubbish["signature"] = json!("rubbish");
    assert_eq!(judged(&judge, &entry(&rubbish), 0), (Signature::Wrong, Some(Kind::TakeoverUnsigned)));
    let unread = Judge::new("t", &[], None, Arc::default());
    assert_eq!(judged(&unread, &entry(&rubbish), 0), (Signature::Unread, None), "without a key nobody looks");
}

#[test]
fn without_a_signature_it_must_be_older_than_the_first_checkpoint_of_a_chain_that_is_older_than_the_key() {
    let unsigned = entry(&details(None));
    let (missing, older) = ((Signature::Missing, Some(Kind::TakeoverUnsigned)), (Signature::OlderThanKey, None));
    for (checkpoints, signing_began, expected) in [
        (vec![], AT, missing),
        (vec![checkpoint(5, None)], AT, older),
        (vec![checkpoint(8, Some("there"))], AT - ALLOWANCE_SECONDS, older),
        // Somebody made the chain when there was a key.
        (vec![checkpoint(8, Some("there"))], AT - ALLOWANCE_SECONDS - 1, missing),
        (vec![checkpoint(4, None), checkpoint(8, None)], AT, missing),
    ] {
        let mut clocks = Clocks::default();
        clocks.learn(None, signing_began);
        let judge = Judge::new("t", &checkpoints, Some(reader()), Arc::new(clocks));
        assert_eq!(judged(&judge, &unsigned, 0), expected, "{checkpoints:?} {signing_began}");
    }
}

#[test]
fn a_chain_does_not_come_to_where_its_last_checkpoint_was_signed() {
    let signed = entry(&details(Some(&vouched())));
    let feigned = (Signature::Good, Some(Kind::TakeoverFeigned));
    for (checkpoints, since, expected) in [
        (vec![checkpoint(2, Some("there"))], 0, feigned),
        (vec![checkpoint(2, Some("there")), checkpoint(3, None)], 0, feigned),
        (vec![checkpoint(3, Some("here")), checkpoint(2, Some("there"))], 0, (Signature::Good, None)),
        (vec![checkpoint(5, Some("there"))], 0, (Signature::Good, None)),
        // It was believed since that the chain went away.
        (vec![checkpoint(2, Some("there"))], 3, (Signature::Good, None)),
    ] {
        let judge = Judge::new("t", &checkpoints, Some(reader()), Arc::default());
        assert_eq!(judged(&judge, &signed, since), expected, "{checkpoints:?}");
    }
    let judge = Judge::new("t", &[checkpoint(2, Some("there"))], Some(reader()), Arc::default());
    assert_eq!((judge.believed(&signed, &PREVIOUS), judge.first_server()), (None, Some("there")));
    let judge = Judge::new("t", &[], Some(reader()), Arc::default());
    assert_eq!(judge.believed(&signed, &PREVIOUS).unwrap().from.as_deref(), Some("here"));
}
