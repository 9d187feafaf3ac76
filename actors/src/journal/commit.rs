//! Sends a batch to the store and reads what became of each step.

use crate::{
    domain::append::{Append, Outcome, RefusedReason},
    store::{
        Store, StoreError,
        append::append_batch,
        outbox_events::{Enqueued, OutboxEvents},
    },
};

/// Tries of a batch that lost a deadlock or a serialisation conflict; such a loss leaves no effect.
const CONFLICT_TRIES: u32 = 5;

/// Commits `batch` and answers for each step in its order.
pub async fn commit(store: &Store, batch: Vec<Append>) -> Vec<Outcome> {
    let events: Vec<usize> = batch.iter().map(|step| step.events.len()).collect();
    let outcomes = commit_apart(store, batch).await;
    count(&events, &outcomes, store.outbox_events());
    outcomes
}

/// Commits a batch at once, and step by step if one of them has bad data.
async fn commit_apart(store: &Store, batch: Vec<Append>) -> Vec<Outcome> {
    match send(store, &batch).await {
        Err(error) if error.is_bad_data() && batch.len() > 1 => {
            tracing::warn!(error = &error as &dyn std::error::Error, "a batch had bad data: its steps go one by one");
            let mut outcomes = Vec::with_capacity(batch.len());
            for step in batch {
                outcomes.extend(outcomes_of(send(store, &[step]).await, 1));
            }
            outcomes
        }
        result => outcomes_of(result, batch.len()),
    }
}

async fn send(store: &Store, batch: &[Append]) -> Result<Vec<bool>, StoreError> {
    let mut tries = 1;
    loop {
        let sent = batch.to_vec();
        let result =
            store.run_journal(move |connection| Box::pin(async move { append_batch(connection, &sent).await })).await;
        match result {
            Err(error) if error.is_conflict() && tries < CONFLICT_TRIES => tries += 1,
            result => return result,
        }
    }
}

/// Counts the records of a batch: each event has one for other consumers, in the same statement. What a stale writer sent was
/// never to be there.
fn count(events: &[usize], outcomes: &[Outcome], counted: &OutboxEvents) {
    for (events, outcome) in events.iter().zip(outcomes).filter(|(events, _)| **events > 0) {
        match outcome {
            Outcome::Committed => {
                let inserted = u64::try_from(*events).unwrap_or(u64::MAX);
                counted.enqueued(Enqueued { inserted, deduped: 0 });
            }
            Outcome::Refused(RefusedReason::Stale) => {}
            Outcome::Refused(_) | Outcome::Unknown => counted.not_enqueued(),
        }
    }
}

fn outcomes_of(result: Result<Vec<bool>, StoreError>, steps: usize) -> Vec<Outcome> {
    let error = match result {
        Ok(held) => {
            let outcome = |held| if held { Outcome::Committed } else { Outcome::Refused(RefusedReason::Stale) };
            return held.into_iter().map(outcome).collect();
        }
        Err(error) => error,
    };
    tracing::error!(error = &error as &dyn std::error::Error, steps, "the journal could not commit");
    let outcome = match error {
        StoreError::Rejected(_) if error.is_bad_data() => Outcome::Refused(RefusedReason::BadData),
        StoreError::Rejected(_) | StoreError::Unavailable(_) => Outcome::Refused(RefusedReason::Unavailable),
        StoreError::Interrupted(_) | StoreError::TimedOut => Outcome::Unknown,
    };
    vec![outcome; steps]
}
