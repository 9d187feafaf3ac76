//! One step of the replicator: apply a batch, and read the next one meanwhile; tell the log.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

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
    /// What was read and is not applied.
    in_hand: Option<Read>,
    /// What was read while that was being applied.
    ahead: Option<Read>,
    /// What is applied and the log does not know yet.
    untold: Option<Position>,
}

/// A partition and records of it.
type Read = (i32, Arc<[Entry]>);

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
            self.in_hand = match self.ahead.take() {
                None => read(reader.as_mut(), deps, deps.wait).await?,
                ahead => ahead,
            };
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
        let Some((first, last)) = entries.first().zip(entries.last()) else {
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
            return self.seek(Position { partition, offset: expected }).await;
        }
        let begun = Instant::now();
        let applying = async { (apply(deps, &place, expected, entries).await, begun.elapsed()) };
        let ((applied, took), ()) = tokio::join!(applying, self.meanwhile(deps));
        if applied? == Applied::Elsewhere {
            // The batch stays in hand, to be compared with the position as it is now.
            self.positions.remove(&partition);
            return Ok(Step::Moved);
        }
        deps.metrics.took(took);
        deps.metrics.lag(now(deps) - published);
        self.in_hand = None;
        self.positions.insert(partition, next);
        self.untold = Some(Position { partition, offset: next });
        if self.ahead.is_none() {
            self.tell().await;
        }
        Ok(Step::Applied)
    }

    /// What the log is asked while a batch is being applied: it is told of the one before, and the next one is read if it is
    /// there.
    async fn meanwhile(&mut self, deps: &ReplicatorDeps) {
        self.tell().await;
        if let (None, Some(reader)) = (&self.ahead, &mut self.reader) {
            // Trouble shows again when there is nothing else to do than to wait for the log.
            self.ahead = read(reader.as_mut(), deps, Duration::ZERO).await.unwrap_or_default();
        }
    }

    /// Tells the log what is done with.
    async fn tell(&mut self) {
        let (Some(next), Some(reader)) = (self.untold.take(), &mut self.reader) else { return };
        if let Err(error) = reader.commit(next).await {
            if matches!(error, LogError::Lost(_)) {
                self.positions.remove(&next.partition);
            } else {
                tracing::warn!(%error, "the log was not told what is applied: the next batch tells it");
            }
        }
    }

    /// Goes on at `at`. What was read ahead of that partition is not what comes there.
    async fn seek(&mut self, at: Position) -> Result<Step, StepError> {
        self.tell().await;
        self.ahead.take_if(|(partition, _)| *partition == at.partition);
        self.positions.insert(at.partition, at.offset);
        self.sought = Some((at.partition, at.offset));
        let sought = match &mut self.reader {
            Some(reader) => reader.seek(at).await,
            None => Ok(()),
        };
        match sought {
            Ok(()) => Ok(Step::Moved),
            Err(error) => {
                self.positions.remove(&at.partition);
                lost(error)
            }
        }
    }

    /// What cannot be applied grows older.
    fn tell_age(&self, deps: &ReplicatorDeps) {
        if let Some(oldest) = self.in_hand.as_ref().and_then(|(_, entries)| entries.first()) {
            deps.metrics.lag(now(deps) - oldest.published());
        }
    }
}

async fn read(reader: &mut dyn Reader, deps: &ReplicatorDeps, within: Duration) -> Result<Option<Read>, LogError> {
    let batch = reader.next(deps.settings.batch_size, within).await?;
    Ok(batch.map(|Batch { partition, records }| (partition, records.into_iter().map(Entry::read).collect())))
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
