//! The log inside the database.

mod reader;
mod share;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use serde::Deserialize;
use time::OffsetDateTime;
use tokio::sync::Notify;

use self::reader::{Membership, TableReader};
use super::{Log, LogError, MAX_RECORD_BYTES, Position, Reader, Record, partition_of};
use crate::{
    domain::dead_letter,
    store::{
        Store, StoreError,
        event_log::{self, NewRecord},
        event_log_groups,
    },
};

/// Partitions of a topic that is none of dead letters. Part of where a key's records are: it never changes.
pub const PARTITIONS: i32 = 3;

/// Partitions of `topic`. Dead letters of a topic are few and are read as one list.
#[must_use]
pub fn partitions(topic: &str) -> i32 {
    if dead_letter::is_dead(topic) { 1 } else { PARTITIONS }
}

/// How long a member may be silent before its partitions are free.
pub const LEASE: Duration = Duration::from_secs(10);

/// Time between two looks for records that other processes appended.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The section `event_log` of the configuration.
#[derive(Clone, Debug, Deserialize)]
pub struct EventLogSettings {
    /// How long records are kept, in milliseconds; one that a group has not passed is kept longer.
    pub retention_ms: u64,
}

impl Default for EventLogSettings {
    fn default() -> Self {
        Self { retention_ms: 7 * 86_400_000 }
    }
}

/// See the module. Clones wake each other's readers; readers elsewhere look for new records by the clock.
#[derive(Clone, Debug)]
pub struct TableLog {
    store: Store,
    clock: fn() -> OffsetDateTime,
    lease: Duration,
    look_every: Duration,
    appended: Arc<Notify>,
}

impl TableLog {
    /// The log of `store`'s database.
    #[must_use]
    pub fn new(store: Store, clock: fn() -> OffsetDateTime) -> Self {
        Self { store, clock, lease: LEASE, look_every: LOOK_EVERY, appended: Arc::default() }
    }

    /// The same with another lease of its readers.
    #[must_use]
    pub fn with_lease(self, lease: Duration) -> Self {
        Self { lease, ..self }
    }

    /// The same with another time between two looks.
    #[cfg(test)]
    fn with_looks(self, look_every: Duration) -> Self {
        Self { look_every, ..self }
    }

    /// Makes the topics that do not exist, and those of their dead letters.
    ///
    /// # Errors
    /// The store's.
    pub async fn ensure_topics(&self, topics: &[&str]) -> Result<(), StoreError> {
        let dead = topics.iter().filter(|topic| !dead_letter::is_dead(topic)).map(|topic| dead_letter::topic_of(topic));
        let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).chain(dead).collect();
        self.store
            .run(move |connection| {
                Box::pin(async move {
                    for topic in &topics {
                        event_log::ensure_topic(connection, topic, partitions(topic)).await?;
                    }
                    Ok(())
                })
            })
            .await
    }

    /// Gives `group` a place in `topic`, so that nothing is removed before the group has read it, even if no member ever
    /// joined.
    ///
    /// # Errors
    /// The store's.
    pub async fn ensure_group(&self, group: &str, topic: &str) -> Result<(), StoreError> {
        let (group, topic) = (group.to_owned(), topic.to_owned());
        self.store
            .run(move |connection| Box::pin(async move { event_log_groups::ensure(connection, &group, &topic).await }))
            .await
    }

    /// Appends all or none.
    async fn write(&self, records: Arc<[NewRecord]>) -> Result<Vec<Position>, StoreError> {
        let partitions: Vec<i32> = records.iter().map(|record| record.partition).collect();
        let at = (self.clock)();
        let offsets = self
            .store
            .run(move |connection| Box::pin(async move { event_log::append(connection, &records, at).await }))
            .await?;
        self.appended.notify_waiters();
        let place = |(partition, offset)| Position { partition, offset };
        Ok(partitions.into_iter().zip(offsets).map(place).collect())
    }

    /// One by one after all together held bad data, so that only the bad one is refused.
    async fn place(&self, records: Vec<Record>) -> Vec<Result<Position, LogError>> {
        let record = |Record { topic, key, headers, payload }| {
            let partition = partition_of(&key, partitions(&topic));
            NewRecord { topic, partition, key, headers, payload }
        };
        let records: Arc<[NewRecord]> = records.into_iter().map(record).collect();
        let count = records.len();
        match self.write(records.clone()).await {
            Ok(positions) => positions.into_iter().map(Ok).collect(),
            Err(error) if error.is_bad_data() && count > 1 => {
                let mut results = Vec::with_capacity(count);
                for record in records.iter() {
                    let one = self.write([record.clone()].into()).await.map_err(|error| log_error(&error));
                    let placed = one.and_then(|places| {
                        places.first().copied().ok_or_else(|| LogError::Unavailable("no offset was told".into()))
                    });
                    // After a record of which nobody knows what became of it, no later one may go before it.
                    let gone = matches!(placed, Err(LogError::Unavailable(_)));
                    results.push(placed);
                    if gone {
                        results.resize(count, Err(LogError::Unavailable("an earlier record was not taken".into())));
                        break;
                    }
                }
                results
            }
            Err(error) => vec![Err(log_error(&error)); count],
        }
    }
}

fn log_error(error: &StoreError) -> LogError {
    let reason = error.to_string();
    if error.is_bad_data() { LogError::Refused(reason) } else { LogError::Unavailable(reason) }
}

impl Log for TableLog {
    fn append(&self, records: Vec<Record>) -> BoxFuture<'_, Vec<Result<Position, LogError>>> {
        Box::pin(async move {
            let (large, taken): (Vec<_>, Vec<_>) =
                records.into_iter().enumerate().partition(|(_, record)| record.payload.len() > MAX_RECORD_BYTES);
            let (numbers, taken): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
            let placed = if taken.is_empty() { vec![] } else { self.place(taken).await };
            let mut results: Vec<_> = numbers.into_iter().zip(placed).collect();
            results.extend(large.into_iter().map(|(place, record)| {
                let reason = format!("{} bytes are more than {MAX_RECORD_BYTES}", record.payload.len());
                (place, Err(LogError::Refused(reason)))
            }));
            results.sort_by_key(|(place, _)| *place);
            results.into_iter().map(|(_, result)| result).collect()
        })
    }

    fn join(&self, group: &str, topic: &str) -> BoxFuture<'_, Result<Box<dyn Reader>, LogError>> {
        let place = Membership::new(group, topic);
        Box::pin(async move {
            let mut reader = TableReader::new(self.clone(), place);
            reader.renew().await?;
            Ok(Box::new(reader) as Box<dyn Reader>)
        })
    }
}
