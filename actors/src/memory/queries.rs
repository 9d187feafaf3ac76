//! Bounded reads for the door: they wake no actor.

use std::{str::FromStr, sync::Arc, time::Duration};

use somaagent_supervision::Port;
use time::OffsetDateTime;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until},
};

pub use super::{
    export::{Export, ExportOf},
    item::MemoryItem,
    settings::MemorySettings,
};
pub use crate::store::memory_replica::reads::ReplicaFilter;
use crate::{
    domain::{ids::Tenant, memory::MemorySpace, wal::MEMORY_WAL},
    somabrain::messages::{Consult, DeleteByKey},
    store::{
        Store, StoreError,
        memory_replica::{
            LogPartition,
            reads::{self, PageOf, ReplicaRow},
        },
    },
};

/// Most bytes of payloads in one page of a list or an export.
const PAGE_BYTES: i64 = 1 << 20;
/// First and longest pause between two looks at how far the replica is.
const LOOKS: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(200)];

/// Most requests that wait for receipts at a time.
const MOST_WAITING: usize = 256;

/// Reads what the replica has of a tenant's memories.
#[derive(Clone, Debug)]
pub struct Memories {
    pub(super) store: Store,
    /// The log that the replica is made from.
    pub(super) source: &'static str,
    pub(super) space: MemorySpace,
    /// Who deletes at the memory service.
    pub(super) forget: Port<Consult<DeleteByKey>>,
    pub(super) settings: Arc<MemorySettings>,
    /// Places for exports.
    pub(super) exports: Arc<Semaphore>,
    /// Places for those who wait for a receipt.
    pub(super) waiting: Arc<Semaphore>,
    pub(super) clock: fn() -> OffsetDateTime,
}

/// A place in the log: `<partition>:<offset>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPlace {
    /// The partition.
    pub partition: i32,
    /// The record's number in it.
    pub offset: i64,
}

/// The text is no place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a place in the log")]
pub struct LogPlaceError;

impl FromStr for LogPlace {
    type Err = LogPlaceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (partition, offset) = text.split_once(':').ok_or(LogPlaceError)?;
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let place = (number(partition) && number(offset)).then(|| partition.parse().ok().zip(offset.parse().ok()));
        let (partition, offset) = place.flatten().ok_or(LogPlaceError)?;
        Ok(Self { partition, offset })
    }
}

/// Whether the replica has come as far as somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// It has applied the record.
    Yes,
    /// Not in time: everything before this offset is applied.
    Behind(i64),
}

impl Memories {
    /// Reads from `store` the replica of the log `source`; `space` is where memories go that do not say it
    /// themselves, `forget` the way to delete them at the memory service.
    #[must_use]
    pub fn new(
        store: Store,
        source: &'static str,
        space: MemorySpace,
        forget: Port<Consult<DeleteByKey>>,
        settings: Arc<MemorySettings>,
        clock: fn() -> OffsetDateTime,
    ) -> Self {
        let exports = Arc::new(Semaphore::new(settings.export_concurrency.max(1)));
        let waiting = Arc::new(Semaphore::new(MOST_WAITING));
        Self { store, source, space, forget, settings, exports, waiting, clock }
    }

    /// A place for somebody who waits for a receipt, if there is one: each of them looks once a second.
    #[must_use]
    pub fn place_to_wait(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.waiting).try_acquire_owned().ok()
    }

    /// How to read.
    #[must_use]
    pub fn settings(&self) -> &MemorySettings {
        &self.settings
    }

    /// Waits until the replica has applied the record at `place`, as long as the settings allow.
    ///
    /// # Errors
    /// The store's.
    pub async fn reached(&self, place: LogPlace) -> Result<Reached, StoreError> {
        let until = Instant::now() + self.settings.offset_wait();
        let [mut pause, longest] = LOOKS;
        loop {
            let next = self.applied(place.partition).await?;
            if next > place.offset {
                return Ok(Reached::Yes);
            }
            let now = Instant::now();
            if now >= until {
                return Ok(Reached::Behind(next));
            }
            sleep_until(until.min(now + pause)).await;
            pause = longest.min(pause * 2);
        }
    }

    async fn applied(&self, partition: i32) -> Result<i64, StoreError> {
        let place = LogPartition { source: self.source, topic: MEMORY_WAL.to_owned(), partition };
        let work = self.store.run(move |connection| Box::pin(async move { reads::applied(connection, &place).await }));
        work.await
    }

    /// Up to `limit` memories of `tenant` that pass `filter` and have a row before `after`, the newest row first. Large
    /// memories make a shorter page.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(
        &self,
        tenant: &Tenant,
        filter: ReplicaFilter,
        after: Option<i64>,
        limit: i64,
    ) -> Result<Vec<MemoryItem>, StoreError> {
        let rows = self.page(tenant, &Arc::new(filter), after, limit).await?;
        Ok(rows.into_iter().map(MemoryItem::listed).collect())
    }

    /// The memory of `tenant` with that id.
    ///
    /// # Errors
    /// The store's.
    pub async fn find(&self, tenant: &Tenant, event_id: String) -> Result<Option<MemoryItem>, StoreError> {
        let of = tenant.clone();
        let work = self.store.read_for(tenant.clone(), move |rows| {
            Box::pin(async move { reads::find(rows, of.as_str(), &event_id).await })
        });
        Ok(work.await?.map(MemoryItem::listed))
    }

    pub(super) async fn page(
        &self,
        tenant: &Tenant,
        filter: &Arc<ReplicaFilter>,
        after: Option<i64>,
        rows: i64,
    ) -> Result<Vec<ReplicaRow>, StoreError> {
        let mut of = PageOf { after, rows, bytes: PAGE_BYTES };
        if filter.containing.is_none() {
            return self.page_among(tenant, filter, of, None).await;
        }
        loop {
            let numbers = self.numbers(tenant, filter, of).await?;
            let Some(last) = numbers.last().copied() else { return Ok(vec![]) };
            let found = self.page_among(tenant, filter, of, Some(numbers)).await?;
            if !found.is_empty() {
                return Ok(found);
            }
            // All of them have gone meanwhile, which is not the end.
            of.after = Some(last);
        }
    }

    async fn page_among(
        &self,
        tenant: &Tenant,
        filter: &Arc<ReplicaFilter>,
        of: PageOf,
        among: Option<Vec<i64>>,
    ) -> Result<Vec<ReplicaRow>, StoreError> {
        let (whose, filter) = (tenant.clone(), Arc::clone(filter));
        let work = self.store.search_for(tenant.clone(), move |rows| {
            Box::pin(async move { reads::page(rows, whose.as_str(), &filter, of, among.as_deref()).await })
        });
        work.await
    }

    async fn numbers(&self, tenant: &Tenant, filter: &Arc<ReplicaFilter>, of: PageOf) -> Result<Vec<i64>, StoreError> {
        let (tenant, filter) = (tenant.clone(), Arc::clone(filter));
        let work = self.store.run(move |connection| {
            Box::pin(async move { reads::numbers(connection, tenant.as_str(), &filter, of.after, of.rows).await })
        });
        work.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_partition_and_an_offset() {
        assert_eq!("3:17".parse(), Ok(LogPlace { partition: 3, offset: 17 }));
        for bad in ["", "3", "3:", ":17", "-1:3", "1:-3", "+1:3", "a:1", "1:2:3", "99999999999:1", "1 :2"] {
            assert_eq!(bad.parse::<LogPlace>(), Err(LogPlaceError), "{bad:?} was taken");
        }
    }
}
