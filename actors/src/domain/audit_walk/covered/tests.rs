#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

mod history;

use std::sync::Arc;

use proptest::prelude::*;

use self::history::{Event, History};
use super::*;
use crate::domain::{
    audit_chain::{Head, Signing, Stand, XACT},
    audit_walk::{Judge, Kind, Reader},
};

const HOUR: i64 = 3_600;

/// A checkpoint up to a number, signed at this hour by the transaction `next` when the sealing was up to `xact`.
fn checkpoint(number: i64, (xact, next): (i64, i64), hour: i64, signing: impl Into<Option<Signing>>) -> Known {
    let stand = Some(Stand { server: "here".into(), xact, id: 9, next, signing: signing.into() });
    Known { head: Head { number, hash: [0; 32] }, source: String::new(), at: Some(hour * HOUR), stand }
}

const fn whole(is_first: bool) -> Signing {
    Signing { is_first, is_whole: true, chains: 1 }
}

/// Whether the link 5 with a row of the transaction `xact`, summed so, is found to be late, where a chain has these checkpoints and
/// others have those.
fn is_late(version: i16, xact: i64, own: &[Known], others: &[Known]) -> bool {
    let mut clocks = Clocks::default();
    for known in own.iter().chain(others) {
        clocks.learn(known.stand.as_ref(), known.at.unwrap());
    }
    let mut said = vec![None; XACT + 1];
    said[XACT] = Some(xact.to_string());
    let entry = Entry { number: 5, event_id: 9, version, content: [0; 32], hash: [0; 32], said: None };
    Covered::new(own, &clocks).judge(&entry, &said, Some("here"), &clocks).is_some()
}

#[test]
fn a_link_that_no_checkpoint_covers_when_one_must_is_late() {
    let others = [checkpoint(7, (20, 30), 0, whole(true)), checkpoint(8, (40, 50), 1, whole(false))];
    let late = |xact, own: &[Known]| is_late(2, xact, own, &others);
    assert!(late(10, &[]) && late(20, &[]), "never signed");
    assert!(late(10, &[checkpoint(4, (20, 30), 0, whole(true))]), "only what was before it was signed");
    assert!(late(10, &[checkpoint(5, (20, 31), 0, whole(false))]), "signed later, although soon");
    assert!(!late(10, &[checkpoint(6, (20, 29), 3, whole(false))]), "signed before, by a clock that was ahead");
    assert!(!late(40, &[]), "what was signed last may be on its way");
    assert!(!late(41, &[]), "behind everything");
    assert!(is_late(1, 41, &[], &others), "what the sums do not cover does not count");
}

#[test]
fn nobody_is_blamed_for_what_the_checkpoints_do_not_tell() {
    let [first, second] = [checkpoint(7, (20, 30), 0, whole(false)), checkpoint(8, (40, 50), 1, whole(false))];
    let last = checkpoint(8, (60, 70), 2, whole(false));
    let oldest = checkpoint(6, (5, 6), 0, None);
    assert!(is_late(2, 21, &[], &[oldest.clone(), first.clone(), second.clone(), last.clone()]));
    assert!(
        !is_late(2, 20, &[], &[oldest.clone(), first.clone(), second, last.clone()]),
        "it may have been signed before the first one"
    );
    assert!(!is_late(1, 21, &[], &[oldest.clone(), first.clone(), last.clone()]));
    let parts = [
        checkpoint(7, (40, 50), 1, None),
        checkpoint(7, (40, 51), 1, Some(Signing { is_first: false, is_whole: false, chains: 1 })),
    ];
    let parts = parts.into_iter().chain([oldest, first, last.clone()]).collect::<Vec<_>>();
    assert!(!is_late(2, 21, &[checkpoint(5, (60, 70), 2, whole(false))], &parts), "no round ended before");
    // An end that was signed where the sealing was not told has nothing but its time.
    let elsewhere = |seconds| Known { stand: None, at: Some(2 * HOUR + seconds), ..last.clone() };
    let all = [parts, vec![checkpoint(7, (80, 90), 3, whole(false))]].concat();
    let late = |seconds| is_late(2, 21, &[elsewhere(seconds)], &all);
    assert!(!late(ALLOWANCE_SECONDS) && late(ALLOWANCE_SECONDS + 1));
}

proptest! {
    #[test]
    fn nothing_is_found_in_an_honest_history(events in proptest::collection::vec(history::event(), 1..120)) {
        let mut history = History::default();
        for event in events {
            history.happen(event);
        }
        for tenant in 0..history::TENANTS {
            let found = history.walked(tenant);
            prop_assert!(found.is_empty(), "{found:?}");
        }
    }

    /// The same histories, so that it is not for want of looking.
    #[test]
    fn a_link_that_somebody_puts_into_such_a_history_is_found(
        events in proptest::collection::vec(history::event(), 1..120), tenant in 0..history::TENANTS,
    ) {
        let mut history = History::default();
        for event in [Event::Key, Event::Write(0), Event::Seal(9), Event::Sign(9)].into_iter().chain(events) {
            if !matches!(event, Event::Move(_) | Event::Forget(_)) {
                history.happen(event);
            }
        }
        let place = history.first_signed();
        history.smuggle(tenant, place);
        for event in [Event::Wait(2 * HOUR), Event::Write(0), Event::Write(1), Event::Write(2), Event::Commit] {
            history.happen(event);
        }
        for event in [Event::Seal(999), Event::Sign(9)] {
            history.happen(event);
        }
        let found = history.walked(tenant);
        let named = |kind: &Kind| matches!(kind, Kind::RowSmuggled | Kind::RowInserted);
        prop_assert!(found.iter().any(|finding| named(&finding.kind)), "{found:?}");
    }
}
