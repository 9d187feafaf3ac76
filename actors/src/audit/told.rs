//! The checkpoints that the log has.

use std::time::Duration;

use serde_json::Value;

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

/// Those of the log inside the database, signed as they are.
///
/// # Errors
/// The store's.
pub async fn of_table(store: &Store) -> Result<Vec<String>, StoreError> {
    let ends = store.run(|connection| Box::pin(event_log::ends(connection, CHECKPOINTS))).await?;
    let mut found = Vec::new();
    for (partition, _) in ends {
        let mut next = 0;
        loop {
            let work = store.run(move |connection| {
                Box::pin(async move { event_log::read(connection, CHECKPOINTS, partition, next, PAGE).await })
            });
            let records = work.await?;
            let Some(last) = records.last() else { break };
            next = last.offset + 1;
            found.extend(records.iter().map(|record| signed(&record.payload)));
        }
    }
    Ok(found)
}

/// Those of another log: `reader` is the name of a group that nobody else has. A log has no end that could be asked for, so
/// this takes a few seconds longer than the reading.
///
/// # Errors
/// The log's.
pub async fn of_log(log: &dyn Log, reader: &str) -> Result<Vec<String>, LogError> {
    log.reached().await?;
    let mut member = log.join(reader, CHECKPOINTS).await?;
    let mut found = Vec::new();
    loop {
        let within = if found.is_empty() { FIRST_WITHIN } else { NEXT_WITHIN };
        let Some(batch) = member.next(RECORDS, within).await? else { break };
        found.extend(batch.records.iter().map(|record| signed(&record.payload)));
    }
    member.leave().await;
    Ok(found)
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
        let mut found = of_table(&store).await.unwrap();
        found.sort();
        assert_eq!(found, ["a", "b", "c", "d"]);
    }

    #[test]
    fn a_file_has_records_or_what_is_signed_in_them() {
        assert_eq!(of_text("{\"jws\": \"a\"}\n\n  b.c.d \n{}"), ["a", "b.c.d", "{}"]);
    }
}
