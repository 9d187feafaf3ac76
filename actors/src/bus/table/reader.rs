//! A member of a group that reads the log inside the database.
//!
//! It renews its lease whenever it is used. One that is not used for longer than its lease loses its partitions; its
//! commits are refused from then on.

use std::{collections::BTreeMap, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use sqlx::Connection;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{
    TableLog,
    share::{Change, change},
};
use crate::{
    bus::{Batch, LogError, LoggedRecord, Position, Reader},
    store::{
        Store, StoreError,
        event_log::{self, Page, StoredRecord},
        event_log_groups::{self as groups, GroupPartition},
    },
};

/// Renewals in the time of a lease: one or two may fail.
const RENEWALS: u32 = 3;
/// Bytes of one batch; a single record may be longer.
const BATCH_BYTES: i64 = 8 << 20;

/// Who reads what.
#[derive(Clone, Debug)]
pub(super) struct Membership {
    group: String,
    topic: String,
    member: Uuid,
}

impl Membership {
    pub(super) fn new(group: &str, topic: &str) -> Self {
        Self { group: group.to_owned(), topic: topic.to_owned(), member: Uuid::new_v4() }
    }

    fn key(&self) -> (&str, &str, Uuid) {
        (&self.group, &self.topic, self.member)
    }
}

/// A partition that is the reader's.
#[derive(Clone, Copy, Debug)]
struct Own {
    epoch: i64,
    /// What it reads next.
    position: i64,
    /// Where the partition ended when that was last asked.
    end: i64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct TableReader {
    log: TableLog,
    who: Membership,
    own: BTreeMap<i32, Own>,
    /// The partition that was read last: the others come first.
    last: i32,
    renew_at: Instant,
    left: bool,
}

impl TableReader {
    pub(super) fn new(log: TableLog, who: Membership) -> Self {
        Self { log, who, own: BTreeMap::new(), last: i32::MAX, renew_at: Instant::now(), left: false }
    }

    /// Renews the lease, and takes and gives back partitions.
    pub(super) async fn renew(&mut self) -> Result<(), LogError> {
        let (who, now) = (self.who.clone(), (self.log.clock)());
        let lease_until = now + self.log.lease;
        let begun = Instant::now();
        let work = self.log.store.run(move |connection| {
            Box::pin(async move {
                let mut transaction = connection.begin().await?;
                groups::renew(&mut transaction, who.key(), now, lease_until).await?;
                groups::ensure(&mut transaction, &who.group, &who.topic).await?;
                let mut partitions = groups::lock(&mut transaction, &who.group, &who.topic).await?;
                let living = groups::living(&mut transaction, &who.group, &who.topic, now).await?;
                let Change { taken, given_back } = change(who.member, &living, &partitions);
                if !taken.is_empty() || !given_back.is_empty() {
                    groups::hand_over(&mut transaction, who.key(), &taken, &given_back).await?;
                    partitions = groups::lock(&mut transaction, &who.group, &who.topic).await?;
                }
                transaction.commit().await?;
                partitions.retain(|place| place.owner == Some(who.member));
                Ok(partitions)
            })
        });
        let partitions = work.await.map_err(|error| unavailable(&error))?;
        self.have(&partitions);
        self.renew_at = begun + self.log.lease / RENEWALS;
        Ok(())
    }

    /// A partition that was the reader's all along stays where it was read; one that is new, or was another's meanwhile,
    /// begins where the group is.
    fn have(&mut self, partitions: &[GroupPartition]) {
        let own = |place: &GroupPartition| {
            let before = self.own.get(&place.partition).filter(|own| own.epoch == place.epoch);
            let fresh = Own { epoch: place.epoch, position: place.next_offset, end: place.next_offset };
            (place.partition, before.copied().unwrap_or(fresh))
        };
        self.own = partitions.iter().map(own).collect();
    }

    async fn poll(&mut self, limit: usize) -> Result<Option<Batch>, LogError> {
        if self.waiting().is_none() {
            self.ask_ends().await?;
        }
        while let Some(partition) = self.waiting() {
            if let Some(batch) = self.read(partition, limit).await? {
                return Ok(Some(batch));
            }
        }
        Ok(None)
    }

    /// The partition with unread records whose turn it is.
    fn waiting(&self) -> Option<i32> {
        let after = self.own.range(self.last.saturating_add(1)..);
        let mut in_turn = after.chain(&self.own);
        in_turn.find(|(_, own)| own.position < own.end).map(|(partition, _)| *partition)
    }

    async fn ask_ends(&mut self) -> Result<(), LogError> {
        if self.own.is_empty() {
            return Ok(());
        }
        let topic = self.who.topic.clone();
        let ends =
            run(&self.log.store, move |connection| Box::pin(async move { event_log::ends(connection, &topic).await }));
        for (partition, end) in ends.await? {
            if let Some(own) = self.own.get_mut(&partition) {
                own.end = end;
            }
        }
        Ok(())
    }

    async fn read(&mut self, partition: i32, limit: usize) -> Result<Option<Batch>, LogError> {
        let Some(own) = self.own.get_mut(&partition) else { return Ok(None) };
        let (topic, from) = (self.who.topic.clone(), own.position);
        let page = Page { records: i64::try_from(limit.max(1)).unwrap_or(i64::MAX), bytes: BATCH_BYTES };
        let records = run(&self.log.store, move |connection| {
            Box::pin(async move { event_log::read(connection, &topic, partition, from, page).await })
        });
        let records: Vec<LoggedRecord> = records.await?.into_iter().map(logged).collect();
        self.last = partition;
        // Nothing although there was something: it was erased.
        own.position = records.last().map_or(own.end, |last| last.offset + 1);
        Ok((!records.is_empty()).then_some(Batch { partition, records }))
    }

    fn own(&mut self, partition: i32) -> Result<&mut Own, LogError> {
        self.own.get_mut(&partition).ok_or_else(|| lost(partition))
    }

    /// Tells the others, whether anybody waits for the end of that or not.
    fn go(&self) -> BoxFuture<'static, ()> {
        let (store, who) = (self.log.store.clone(), self.who.clone());
        Box::pin(async move {
            let work = store.run(move |connection| Box::pin(async move { groups::leave(connection, who.key()).await }));
            if let Err(error) = work.await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "a reader could not leave its group: its lease runs out");
            }
        })
    }
}

impl Reader for TableReader {
    fn next(&mut self, limit: usize, within: Duration) -> BoxFuture<'_, Result<Option<Batch>, LogError>> {
        let until = Instant::now() + within;
        Box::pin(async move {
            let wake = std::sync::Arc::clone(&self.log.appended);
            loop {
                // Listened for before the look, so that what is appended after it is not missed.
                let mut appended = std::pin::pin!(wake.notified());
                appended.as_mut().enable();
                if self.renew_at <= Instant::now() {
                    self.renew().await?;
                }
                if let Some(batch) = self.poll(limit).await? {
                    return Ok(Some(batch));
                }
                let now = Instant::now();
                if now >= until {
                    return Ok(None);
                }
                let rested =
                    timeout_at(until.min(now + self.log.look_every).min(self.renew_at), appended).await.is_err();
                // The next call looks at once: looking here too would double what an idle reader asks.
                if rested && Instant::now() >= until {
                    return Ok(None);
                }
            }
        })
    }

    fn seek(&mut self, at: Position) -> BoxFuture<'_, Result<(), LogError>> {
        let sought = self.own(at.partition).map(|own| {
            own.position = at.offset;
            // Where it ends is asked again.
            own.end = at.offset;
        });
        Box::pin(async move { sought })
    }

    fn commit(&mut self, next: Position) -> BoxFuture<'_, Result<(), LogError>> {
        let Position { partition, offset } = next;
        Box::pin(async move {
            let (epoch, who) = (self.own(partition)?.epoch, self.who.clone());
            let done = run(&self.log.store, move |connection| {
                Box::pin(async move { groups::commit(connection, who.key(), (partition, epoch), offset).await })
            });
            if !done.await? {
                self.own.remove(&partition);
                return Err(lost(partition));
            }
            Ok(())
        })
    }

    fn leave(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let gone = self.go();
            self.left = true;
            gone.await;
        })
    }
}

impl Drop for TableReader {
    fn drop(&mut self) {
        if !self.left {
            // The store does its work apart from its asker, once it was asked.
            let () = self.go().now_or_never().unwrap_or_default();
        }
    }
}

async fn run<T, W>(store: &Store, work: W) -> Result<T, LogError>
where
    T: Send + 'static,
    W: for<'c> FnOnce(&'c mut sqlx::PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send + 'static,
{
    store.run(work).await.map_err(|error| unavailable(&error))
}

fn logged(record: StoredRecord) -> LoggedRecord {
    let StoredRecord { offset, key, headers, payload, created_at } = record;
    LoggedRecord { offset, key, headers, payload, appended_at: created_at }
}

fn unavailable(error: &StoreError) -> LogError {
    LogError::Unavailable(error.to_string())
}

fn lost(partition: i32) -> LogError {
    LogError::Lost(format!("partition {partition}"))
}

#[cfg(test)]
mod tests;
