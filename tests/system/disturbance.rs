//! Turns whose connection to one service is disturbed by a random schedule: cases 5 and 6.

use std::time::Duration;

use futures_util::future::join_all;
use somaagent_test_services::proxy::{Fault, Proxy};
use somaagent_test_services::seed::Case;
use tokio::sync::watch;

/// Plays `count` turns, a few at a time, while faults drawn from `case` disturb what passes through `proxy`. Ends with the
/// last turn, and the proxy is well then.
pub async fn disturbed<T>(proxy: &Proxy, case: &mut Case, count: usize, turn: impl AsyncFn() -> T) -> Vec<T> {
    let ended = watch::Sender::new(0);
    let turns = join_all((0..count).map(async |number: usize| {
        // Each begins when an earlier one has ended.
        let before = number.saturating_sub(5);
        ended.subscribe().wait_for(|ended| *ended >= before).await.unwrap();
        let outcome = turn().await;
        ended.send_modify(|ended| *ended += 1);
        outcome
    }));
    let disturbing = async {
        while *ended.borrow() < count {
            let fault = Fault::draw_for_bytes(case);
            // The next one comes when the turns got on, however long they take; at which point of one is left to chance.
            let enough = (*ended.borrow() + usize::try_from(case.number(0..=2)).unwrap()).min(count);
            proxy.play(&fault, "").await;
            ended.subscribe().wait_for(|ended| *ended >= enough).await.unwrap();
            tokio::time::sleep(Duration::from_millis(case.number(1..=60))).await;
        }
    };
    let (outcomes, ()) = tokio::join!(turns, disturbing);
    outcomes
}
