//! The checkpoints that the log has.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use super::checkpoint::{Checkpoint, CheckpointKey};
use crate::{
    bus::{Log, LogError},
    domain::audit_chain::CHECKPOINTS,
    store::{
        Store, StoreError,
        event_log::{self, Page},
    },
};

/// How long the first record is waited for: a new group gets its partitions after a while.
const FIRST_WITHIN: Duration = Duration::from_secs(20);
/// After so long without another record there is none.
const NEXT_WITHIN: Duration = Duration::from_secs(3);
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

/// A log has no end that could be asked for, so this takes a few seconds longer than the reading.
async fn of_log(log: &dyn Log, reader: &str, mut found: impl FnMut(String)) -> Result<(), LogError> {
    log.reached().await?;
    let mut member = log.join(reader, CHECKPOINTS).await?;
    let mut within = FIRST_WITHIN;
    while let Some(batch) = member.next(RECORDS, within).await? {
        for record in &batch.records {
            found(signed(&record.payload));
        }
        within = NEXT_WITHIN;
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

    use serde_json::json;
    use sqlx::PgPool;
    use time::OffsetDateTime;
    use tokio::runtime::Handle;

    use super::*;
    use crate::{
        bus::{Record, table::TableLog},
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

    #[test]
    fn a_file_has_records_or_what_is_signed_in_them() {
        assert_eq!(of_text("{\"jws\": \"a\"}\n\n  b.c.d \n{}"), ["a", "b.c.d", "{}"]);
    }
}
