//! Applies a batch: the replica's rows, the dead letters and the position change in one transaction. A batch that the
//! database refuses for its content is halved until the record at fault is alone.

use std::{ops::Range, sync::Arc};

use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use super::wal_replicator::ReplicatorDeps;
use crate::{
    bus::LoggedRecord,
    domain::{
        dead_letter::{Failure, Origin},
        ids::Tenant,
        text::storable,
        wal::{self, TakenBack, UnreadableRecord},
    },
    store::{
        StoreError,
        dead_letters::{self, NewDeadLetter},
        memory_replica::{self, LogPartition, NewReplica, tombstones},
        outbox_events::Enqueued,
    },
};

/// What the server says of a statement that took too long: of fewer records it may not.
const TOOK_TOO_LONG: &str = "57014";

/// A record, and what it says.
pub(super) struct Entry {
    record: LoggedRecord,
    told: Result<Told, String>,
}

/// What a record is good for.
#[expect(clippy::large_enum_variant, reason = "nearly all records are memories")]
enum Told {
    /// A memory.
    Memory(NewReplica),
    /// The end of one.
    Back(TakenBack),
}

impl Entry {
    pub(super) fn read(record: LoggedRecord) -> Self {
        let told = match wal::read(&record.payload) {
            Err(UnreadableRecord::OtherType) => match wal::read_tombstone(&record.payload) {
                Some(back) => return Self { record, told: Ok(Told::Back(back)) },
                None => Err(UnreadableRecord::OtherType),
            },
            told => told,
        };
        let told = told.map_err(|error| error.to_string()).map(|told| NewReplica {
            tenant: told.tenant,
            event_id: told.event_id,
            session_id: told.session_id,
            persona_id: told.persona_id,
            role: told.role,
            coord: told.coord,
            request_id: told.request_id,
            trace_id: told.trace_id,
            payload: told.payload,
            revision: told.revision,
            wal_timestamp: told.timestamp,
            offset: record.offset,
            sha256: Sha256::digest(&record.payload).into(),
        });
        Self { record, told: told.map(Told::Memory) }
    }

    /// Its number in its partition.
    pub(super) const fn offset(&self) -> i64 {
        self.record.offset
    }

    /// When it was published, in seconds since 1970.
    pub(super) fn published(&self) -> f64 {
        let told = match &self.told {
            Ok(Told::Memory(row)) => row.wal_timestamp,
            _ => None,
        };
        told.unwrap_or_else(|| (self.record.appended_at - OffsetDateTime::UNIX_EPOCH).as_seconds_f64())
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// All of it is done with.
    Done,
    /// Somebody else applies this partition: nothing more was changed.
    Elsewhere,
}

/// A part of a batch, and why its only record cannot be applied.
#[derive(Clone)]
struct Part {
    range: Range<usize>,
    refused: Option<String>,
}

/// Applies `entries`, which begin at `expected`.
///
/// # Errors
/// The store's. Then a first part of the batch may be applied: the position tells.
pub(super) async fn apply(
    deps: &ReplicatorDeps,
    place: &LogPartition,
    mut expected: i64,
    entries: Arc<[Entry]>,
) -> Result<Applied, StoreError> {
    let mut parts = vec![Part { range: 0..entries.len(), refused: None }];
    while let Some(part) = parts.pop() {
        match transact(deps, place, expected, Arc::clone(&entries), part.clone()).await {
            Ok(Some(next)) => expected = next,
            Ok(None) => return Ok(Applied::Elsewhere),
            Err(error) => parts.extend(apart(&entries, &part, error)?),
        }
    }
    Ok(Applied::Done)
}

/// The parts to try instead of one that failed, the first one last; the error again if that is no fault of the records.
fn apart(entries: &[Entry], part: &Part, error: StoreError) -> Result<Vec<Part>, StoreError> {
    let Range { start, end } = part.range.clone();
    let slow = error.sqlstate().is_some_and(|code| code == TOOK_TOO_LONG);
    if end - start > 1 && (slow || error.is_bad_data()) {
        let middle = start.midpoint(end);
        return Ok([middle..end, start..middle].map(|range| Part { range, refused: None }).into());
    }
    let unread = entries.get(start).is_none_or(|entry| entry.told.is_err());
    if unread || part.refused.is_some() || !error.is_bad_data() {
        return Err(error);
    }
    Ok(vec![Part { range: start..end, refused: Some(error.refusal()) }])
}

/// Applies a part and returns the offset after it; `None` if the partition is somewhere else.
async fn transact(
    deps: &ReplicatorDeps,
    place: &LogPartition,
    expected: i64,
    entries: Arc<[Entry]>,
    Part { range, refused }: Part,
) -> Result<Option<i64>, StoreError> {
    let (place, at) = (place.clone(), (deps.clock)());
    let part = entries.get(range.clone()).unwrap_or_default();
    let next = part.last().map_or(expected, |entry| entry.offset() + 1);
    let bad = |entry: &&Entry| refused.is_some() || entry.told.is_err();
    let letters: Vec<NewDeadLetter> =
        part.iter().filter(bad).map(|entry| letter(deps, &place, entry, refused.as_ref())).collect();
    let (ok, error) = (part.len() - letters.len(), letters.len());
    let work = deps.store.run_enqueuing(move |connection| {
        Box::pin(async move {
            let part = entries.get(range).unwrap_or_default();
            let mut transaction = connection.begin().await?;
            if !memory_replica::advance(&mut transaction, &place, expected, next, at).await? {
                transaction.rollback().await?;
                return Ok((false, Enqueued::default()));
            }
            if refused.is_none() {
                change(&mut transaction, &place, part, at).await?;
            }
            let put = dead_letters::bury(&mut transaction, letters, at).await?;
            transaction.commit().await?;
            Ok((true, put))
        })
    });
    if !work.await? {
        return Ok(None);
    }
    deps.metrics.applied(ok, error);
    if error > 0 {
        tracing::warn!(records = error, "records of the log could not be applied and are dead letters now");
    }
    Ok(Some(next))
}

/// Changes the replica as the records say, in their order.
async fn change(
    connection: &mut PgConnection,
    place: &LogPartition,
    part: &[Entry],
    at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let back = |entry: &Entry| matches!(entry.told, Ok(Told::Back(_)));
    for alike in part.chunk_by(|one, next| back(one) == back(next)) {
        let mut rows = Vec::with_capacity(alike.len());
        for entry in alike {
            match &entry.told {
                Ok(Told::Memory(row)) => rows.push(row),
                Ok(Told::Back(back)) => tombstones::remove(connection, place, back, entry.offset(), at).await?,
                Err(_) => {}
            }
        }
        memory_replica::upsert(connection, place, &rows, at).await?;
    }
    Ok(())
}

/// The record as a dead letter.
fn letter(deps: &ReplicatorDeps, place: &LogPartition, entry: &Entry, refused: Option<&String>) -> NewDeadLetter {
    let Entry { record, told } = entry;
    let reason = refused.or_else(|| told.as_ref().err()).map_or("", String::as_str);
    let class = if refused.is_some() { "record-refused" } else { "record-unreadable" };
    let json: Option<Value> = serde_json::from_slice(&record.payload).ok();
    let said = json.as_ref().map(|json| &json["tenant"]).and_then(Value::as_str);
    let named = [said, record.headers["tenant_id"].as_str()];
    // What is no name of a tenant is nobody's.
    let tenant = named.into_iter().flatten().find(|name| Tenant::new(name).is_some());
    let session = json.as_ref().and_then(|json| json["session_id"].as_str());
    let mut headers = record.headers.clone();
    clean(&mut headers);
    NewDeadLetter {
        tenant: tenant.map_or_else(|| deps.tenant.to_string(), ToOwned::to_owned),
        source_topic: place.topic.clone(),
        key: record.key.as_deref().map(storable),
        headers,
        original: record.payload.clone(),
        failure: Failure { error: storable(reason), class, code: None, tries: 1 },
        origin: Origin::Replicator,
        session_id: session.and_then(|id| Uuid::try_parse(id).ok()),
        seq: None,
        position: Some((place.partition, entry.offset())),
    }
}

/// All texts in `value` without what PostgreSQL has no place for.
fn clean(value: &mut Value) {
    match value {
        Value::String(text) => *text = storable(text),
        Value::Array(members) => members.iter_mut().for_each(clean),
        Value::Object(members) => {
            let cleaned = std::mem::take(members).into_iter().map(|(name, mut value)| {
                clean(&mut value);
                (storable(&name), value)
            });
            *members = cleaned.collect();
        }
        _ => {}
    }
}
