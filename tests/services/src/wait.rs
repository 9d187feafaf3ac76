//! Waiting for a condition, never for a length of time.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How long any single condition may take before its test fails. Generous: it is reached only when something hangs.
pub const PATIENCE: Duration = Duration::from_mins(3);

/// Time between two looks at a condition that cannot announce itself (a row, a page, a port).
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Waits for `work`.
///
/// # Panics
/// When it has not ended within [`PATIENCE`]; the message names `what`.
#[expect(clippy::panic, reason = "a condition that never comes true fails the test")]
pub async fn within<F: Future>(what: &str, work: F) -> F::Output {
    let outcome = timeout(PATIENCE, work).await;
    outcome.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}"))
}

/// Looks again and again until `look` finds something, and returns that.
///
/// # Panics
/// When nothing was found within [`PATIENCE`]; the message names `what`.
#[expect(clippy::panic, reason = "a condition that never comes true fails the test")]
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        // The look itself may hang on a broken service, so it shares the deadline.
        match tokio::time::timeout_at(deadline, look()).await {
            Ok(Some(found)) => return found,
            Ok(None) if Instant::now() < deadline => sleep(LOOK_AGAIN).await,
            _ => panic!("not within {PATIENCE:?}: {what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_condition_is_looked_at_until_it_holds() {
        let mut looks = 0;
        let found = eventually("the third look", async || {
            looks += 1;
            (looks == 3).then_some(looks)
        })
        .await;
        assert_eq!(found, 3);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "the moon")]
    async fn a_condition_that_never_holds_names_itself() {
        within("the moon", std::future::pending::<()>()).await;
    }
}
