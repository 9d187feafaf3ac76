//! One step of the replicator: read a batch, apply it, tell the log.

use std::{collections::BTreeMap, sync::Arc};

use time::OffsetDateTime;
use tokio::time::Instant;

use super::{
    apply::{Applied, Entry, apply},
    wal_replicator::ReplicatorDeps,
};
use crate::{
    bus::{Batch, LogError, Position, Reader},
    domain::wal::MEMORY_WAL,
    store::{
        StoreError,
        memory_replica::{self, LogPartition},
    },
};

/// Why a step was not done. All of them pass.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    /// The log's.
    #[error("the log could not be read")]
    Log(#[from] LogError),
    /// The store's.
    #[error("records could not be applied")]
    Store(#[from] StoreError),
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Records were applied.
    Applied,
    /// A partition was somewhere else than the log thought.
    Moved,
    /// There were no records.
    Idle,
}

/// What the replicator works with between two steps.
#[derive(Default)]
pub(super) struct Work {
    reader: Option<Box<dyn Reader>>,
    /// Where the replica is in each partition, as far as that is known.
    positions: BTreeMap<i32, i64>,
    /// The last place that was sought: what comes next there may begin later, because the log has forgotten the rest.
    sought: Option<(i32, i64)>,
    /// What was read and is not applied: a partition and records of it.
    in_hand: Option<(i32, Arc<[Entry]>)>,
}

impl Work {
    /// Does a step.
    ///
    /// # Errors
    /// [`StepError`]; what was read stays in hand.
    pub(super) async fn step(&mut self, deps: &ReplicatorDeps) -> Result<Step, StepError> {
        let reader = match &mut self.reader {
            Some(reader) => reader,
            none => none.insert(deps.log.join(&deps.settings.group, MEMORY_WAL).await?),
        };
        if self.in_hand.is_none() {
            let batch = reader.next(deps.settings.batch_size, deps.wait).await?;
            let read = |Batch { partition, records }| (partition, records.into_iter().map(Entry::read).collect());
            self.in_hand = batch.map(read);
        }
        let Some((partition, entries)) = self.in_hand.clone() else {
            deps.metrics.lag(0.0);
            return Ok(Step::Idle);
        };
        let outcome = self.settle(deps, partition, entries).await;
        if outcome.is_err() {
            // What was done of it is not known.
            self.positions.remove(&partition);
            self.tell_age(deps);
        }
        outcome
    }

    async fn settle(
        &mut self,
        deps: &ReplicatorDeps,
        partition: i32,
        entries: Arc<[Entry]>,
    ) -> Result<Step, StepError> {
        let (Some((first, last)), Some(reader)) = (entries.first().zip(entries.last()), &mut self.reader) else {
            self.in_hand = None;
            return Ok(Step::Idle);
        };
        let (first, next, published) = (first.offset(), last.offset() + 1, last.published());
        let place = LogPartition { source: deps.source, topic: MEMORY_WAL.to_owned(), partition };
        let expected = match self.positions.get(&partition) {
            Some(position) => *position,
            None => load(deps, place.clone()).await?,
        };
        if first < expected || (first > expected && self.sought != Some((partition, expected))) {
            self.in_hand = None;
            self.positions.insert(partition, expected);
            self.sought = Some((partition, expected));
            if let Err(error) = reader.seek(Position { partition, offset: expected }).await {
                self.positions.remove(&partition);
                return lost(error);
            }
            return Ok(Step::Moved);
        }
        let begun = Instant::now();
        if apply(deps, &place, expected, entries).await? == Applied::Elsewhere {
            // The batch stays in hand, to be compared with the position as it is now.
            self.positions.remove(&partition);
            return Ok(Step::Moved);
        }
        deps.metrics.took(begun.elapsed());
        deps.metrics.lag(now(deps) - published);
        self.in_hand = None;
        self.positions.insert(partition, next);
        if let Err(error) = reader.commit(Position { partition, offset: next }).await {
            if matches!(error, LogError::Lost(_)) {
                self.positions.remove(&partition);
            } else {
                tracing::warn!(%error, "the log was not told what is applied: the next batch tells it");
            }
        }
        Ok(Step::Applied)
    }

    /// What cannot be applied grows older.
    fn tell_age(&self, deps: &ReplicatorDeps) {
        if let Some(oldest) = self.in_hand.as_ref().and_then(|(_, entries)| entries.first()) {
            deps.metrics.lag(now(deps) - oldest.published());
        }
    }
}

/// A partition that another has by now is no failure.
fn lost(error: LogError) -> Result<Step, StepError> {
    match error {
        LogError::Lost(_) => Ok(Step::Moved),
        other => Err(other.into()),
    }
}

async fn load(deps: &ReplicatorDeps, place: LogPartition) -> Result<i64, StoreError> {
    let at = (deps.clock)();
    let work = deps
        .store
        .run(move |connection| Box::pin(async move { memory_replica::position(connection, &place, at).await }));
    work.await
}

fn now(deps: &ReplicatorDeps) -> f64 {
    ((deps.clock)() - OffsetDateTime::UNIX_EPOCH).as_seconds_f64()
}
