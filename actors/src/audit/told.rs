//! The checkpoints that the log has.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::Value;

use super::checkpoint::{Checkpoint, CheckpointKey};
use crate::{
    bus::{Batch, Log, LogError},
    domain::audit_chain::CHECKPOINTS,
    store::{
        Store, StoreError,
        event_log::{self, Page},
    },
};

/// How long a record that is there is waited for: a new group gets its partitions after a while, and a partition whose leader
/// died gets another.
const WITHIN: Duration = Duration::from_secs(20);
/// Records in one read.
const RECORDS: usize = 500;
/// A page of the table.
const PAGE: Page = Page { records: 500, bytes: 8 << 20 };

/// The log that checkpoints are told to.
#[derive(Clone)]
pub enum Book {
    /// The one inside the database.
    Table(Store),
    /// Another one, and the name of a group of readers that nobody else has.
    Log(Arc<dyn Log>, String),
}

/// Why checkpoints could not be read.
#[derive(Debug, thiserror::Error)]
pub enum BookError {
    /// The database's.
    #[error("database")]
    Store(#[from] StoreError),
    /// The log's.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl Book {
    /// Every checkpoint, signed as it is.
    ///
    /// # Errors
    /// [`BookError`].
    pub async fn all(&self) -> Result<Vec<String>, BookError> {
        let mut found = Vec::new();
        self.each(|jws| found.push(jws)).await?;
        Ok(found)
    }

    /// On which server the newest checkpoint was signed that tells it, of those that are known by `key`.
    ///
    /// # Errors
    /// [`BookError`].
    pub async fn signed_on(&self, key: &CheckpointKey) -> Result<Option<String>, BookError> {
        let mut newest: Option<(i64, String)> = None;
        self.each(|jws| {
            // There may be many, and to look at what is said takes less time than to see who said it.
            let is_newer = |said: &Checkpoint| newest.as_ref().is_none_or(|(at, _)| *at < said.iat);
            let newer = Checkpoint::claimed(&jws).filter(is_newer).and_then(|_| key.read(&jws));
            if let Some(Checkpoint { iat, sealer: Some(stand), .. }) = newer {
                newest = Some((iat, stand.server));
            }
        })
        .await?;
        Ok(newest.map(|(_, server)| server))
    }

    async fn each(&self, found: impl FnMut(String)) -> Result<(), BookError> {
        match self {
            Self::Table(store) => Ok(of_table(store, found).await?),
            Self::Log(log, reader) => Ok(of_log(&**log, reader, found).await?),
        }
    }
}

async fn of_table(store: &Store, mut found: impl FnMut(String)) -> Result<(), StoreError> {
    let ends = store.run(|connection| Box::pin(event_log::ends(connection, CHECKPOINTS))).await?;
    for (partition, _) in ends {
        let mut next = 0;
        loop {
            let work = store.run(move |connection| {
                Box::pin(async move { event_log::read(connection, CHECKPOINTS, partition, next, PAGE).await })
            });
            let records = work.await?;
            let Some(last) = records.last() else { break };
            next = last.offset + 1;
            for record in &records {
                found(signed(&record.payload));
            }
        }
    }
    Ok(())
}

/// Reads as far as the log goes when this begins. What is there and does not come is not taken for the end: of checkpoints that are
/// missing others would be blamed.
async fn of_log(log: &dyn Log, reader: &str, mut found: impl FnMut(String)) -> Result<(), LogError> {
    log.reached().await?;
    let ends = log.ends(CHECKPOINTS).await?;
    let there = ends.into_iter().filter(|end| end.first < end.next);
    let mut left: BTreeMap<i32, i64> = there.map(|end| (end.partition, end.next)).collect();
    if left.is_empty() {
        return Ok(());
    }
    let mut member = log.join(reader, CHECKPOINTS).await?;
    while !left.is_empty() {
        let Some(Batch { partition, records }) = member.next(RECORDS, WITHIN).await? else {
            let partitions: Vec<i32> = left.into_keys().collect();
            return Err(LogError::Unavailable(format!(
                "partitions {partitions:?} of {CHECKPOINTS} do not come to their end"
            )));
        };
        for record in &records {
            found(signed(&record.payload));
        }
        let come_to = records.last().map(|record| record.offset);
        if come_to.is_some_and(|offset| left.get(&partition).is_some_and(|next| offset + 1 >= *next)) {
            left.remove(&partition);
        }
    }
    member.leave().await;
    Ok(())
}

/// The lines of a file: records of the log, or what is signed in them.
#[must_use]
pub fn of_text(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| signed(line.as_bytes())).collect()
}

/// What is signed in a record; what is none is given on as it is, and no key knows it.
fn signed(payload: &[u8]) -> String {
    let record: Value = serde_json::from_slice(payload).unwrap_or_default();
    record["jws"].as_str().map_or_else(|| String::from_utf8_lossy(payload).into_owned(), str::to_owned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use futures_util::future::BoxFuture;
    use serde_json::json;
    use sqlx::PgPool;
    use time::OffsetDateTime;
    use tokio::runtime::Handle;

    use super::*;
    use crate::{
        bus::{End, LoggedRecord, Position, Reader, Record, table::TableLog},
        store::Connections,
    };

    fn clock() -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH
    }

    #[sqlx::test(migrations = "../migrations")]
    async fn checkpoints_stay_in_the_log_when_everything_else_is_old(pool: PgPool) {
        let store = Store::new(Connections::of_pool(pool), Duration::from_secs(5), Handle::current());
        let log = TableLog::new(store.clone(), clock);
        log.ensure_topics(&[CHECKPOINTS, "other"]).await.unwrap();
        let record = |topic: &str, tenant: &str| Record {
            topic: topic.to_owned(),
            key: tenant.to_owned(),
            headers: json!({}),
            payload: json!({"jws": tenant}).to_string().into_bytes(),
        };
        let records =
            ["a", "b", "c", "d"].map(|tenant| record(CHECKPOINTS, tenant)).into_iter().chain([record("other", "e")]);
        assert!(log.append(records.collect()).await.iter().all(Result::is_ok));
        let later = clock() + Duration::from_secs(1);
        let purge =
            store.run(move |connection| Box::pin(async move { event_log::purge(connection, later, 100).await }));
        assert_eq!(purge.await.unwrap(), 1);
        let mut found = Book::Table(store).all().await.unwrap();
        found.sort();
        assert_eq!(found, ["a", "b", "c", "d"]);
    }

    /// A log with three partitions, of which one is empty and one may have lost its leader.
    struct Partitioned {
        stalls: bool,
    }

    impl Log for Partitioned {
        fn append(&self, _: Vec<Record>) -> BoxFuture<'_, Vec<Result<Position, LogError>>> {
            unreachable!("nothing is appended")
        }

        fn ends(&self, _: &str) -> BoxFuture<'_, Result<Vec<End>, LogError>> {
            let ends = [(0, 3, 5), (1, 7, 7), (2, 0, 1)];
            let ends = ends.map(|(partition, first, next)| End { partition, first, next }).to_vec();
            Box::pin(std::future::ready(Ok(ends)))
        }

        fn join(&self, _: &str, _: &str) -> BoxFuture<'_, Result<Box<dyn Reader>, LogError>> {
            let mut batches = vec![batch(0, &[3]), batch(0, &[4])];
            if !self.stalls {
                batches.push(batch(2, &[0, 1]));
            }
            let member: Box<dyn Reader> = Box::new(Member(batches.into_iter()));
            Box::pin(std::future::ready(Ok(member)))
        }
    }

    fn batch(partition: i32, offsets: &[i64]) -> Batch {
        let record = |offset: &i64| LoggedRecord {
            offset: *offset,
            key: None,
            headers: json!({}),
            payload: format!("{partition}.{offset}").into_bytes(),
            appended_at: clock(),
        };
        Batch { partition, records: offsets.iter().map(record).collect() }
    }

    struct Member(std::vec::IntoIter<Batch>);

    impl Reader for Member {
        fn next(&mut self, _: usize, _: Duration) -> BoxFuture<'_, Result<Option<Batch>, LogError>> {
            Box::pin(std::future::ready(Ok(self.0.next())))
        }

        fn seek(&mut self, _: Position) -> BoxFuture<'_, Result<(), LogError>> {
            unreachable!("nothing is read again")
        }

        fn commit(&mut self, _: Position) -> BoxFuture<'_, Result<(), LogError>> {
            unreachable!("nothing is done")
        }

        fn leave(self: Box<Self>) -> BoxFuture<'static, ()> {
            Box::pin(std::future::ready(()))
        }
    }

    #[tokio::test]
    async fn a_log_is_read_to_its_end_and_one_that_pauses_is_not_taken_for_read() {
        let whole = Book::Log(Arc::new(Partitioned { stalls: false }), "reader".to_owned());
        assert_eq!(whole.all().await.unwrap(), ["0.3", "0.4", "2.0", "2.1"]);
        let stalled = Book::Log(Arc::new(Partitioned { stalls: true }), "reader".to_owned());
        let error = stalled.all().await.unwrap_err();
        assert!(matches!(&error, BookError::Log(LogError::Unavailable(why)) if why.contains("[2]")), "{error}");
    }

    #[test]
    fn a_file_has_records_or_what_is_signed_in_them() {
        assert_eq!(of_text("{\"jws\": \"a\"}\n\n  b.c.d \n{}"), ["a", "b.c.d", "{}"]);
    }
}
