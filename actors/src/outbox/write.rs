//! The memory sync's work on one session: its memories are written and settled.

use std::collections::HashMap;

use serde_json::{Value, json};
use sqlx::Connection;
use time::{Duration, OffsetDateTime};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    claiming::memory_of,
    memory_sync::MemorySyncDeps,
    sending::{NotWritten, Sent, send},
    through::{Cause, Outcome},
};
use crate::{
    domain::{
        dead_letter::{Failure, HISTORY_HEADER, Origin},
        ids::Tenant,
        wal::{self, MEMORY_WAL},
    },
    somabrain::messages::Remembered,
    store::{
        StoreError,
        dead_letters::{self, NewDeadLetter},
        memory_write_outbox::{self, ClaimedMemory},
        message_outbox::{self, NewMessage},
        outbox::{GivenBack, Settled},
    },
};

/// What became of each memory.
pub type Outcomes = Vec<((Tenant, String), Outcome)>;

/// Writes the memories of one session, as far as they go, and settles them.
///
/// # Errors
/// The store's; the memories come back when their lease is over.
pub async fn write(deps: &MemorySyncDeps, claim: Uuid, rows: Vec<ClaimedMemory>) -> Result<Outcomes, StoreError> {
    let begun = Instant::now();
    let sent = send(deps, &rows).await;
    let mut judged = judge(deps, rows, sent, (deps.clock)());
    let outcomes = std::mem::take(&mut judged.outcomes);
    let counts = (judged.settled.sent.len(), judged.retried, judged.settled.failed.len());
    settle(deps, claim, judged).await?;
    deps.metrics.settled(counts.0, counts.1, counts.2, begun.elapsed());
    Ok(outcomes)
}

/// What becomes of the rows of one session.
#[derive(Default)]
struct Judged {
    settled: Settled,
    retried: usize,
    /// Records for the log, by the row they come from.
    records: HashMap<i64, NewMessage>,
    letters: HashMap<i64, NewDeadLetter>,
    outcomes: Outcomes,
}

impl Judged {
    /// The row becomes a dead letter.
    fn give_up(&mut self, row: &ClaimedMemory, failure: Failure, now: OffsetDateTime) {
        self.settled.failed.push((row.id, failure.error.clone()));
        self.letters.insert(row.id, dead_letter(row, failure, now));
    }
}

fn whole(tries: u32) -> i32 {
    i32::try_from(tries).unwrap_or(i32::MAX)
}

fn judge(deps: &MemorySyncDeps, rows: Vec<ClaimedMemory>, sent: Sent, now: OffsetDateTime) -> Judged {
    let mut judged = Judged::default();
    judged.settled.keys = rows.iter().map(|row| (row.id, row.queue_key())).collect();
    let (mut taken, mut stopped) = (sent.taken.into_iter(), sent.stopped);
    for row in rows {
        let remembered = taken.next();
        let outcome = match (&remembered, &stopped) {
            (Some(_), _) => Outcome::Remembered,
            (None, Some(NotWritten::Refused { .. } | NotWritten::Denied)) => Outcome::Queued(Cause::Refused),
            (None, Some(NotWritten::Later { cause, .. })) => Outcome::Queued(*cause),
            (None, None) => Outcome::Queued(Cause::Waiting),
        };
        judged.outcomes.extend(memory_of(&row).map(|memory| (memory, outcome)));
        if let Some(remembered) = remembered {
            judged.settled.sent.push(row.id);
            judged.records.insert(row.id, record(&row, &remembered, now));
            continue;
        }
        let tries = u32::try_from(row.retry_count).unwrap_or_default() + 1;
        let (wait, error) = match stopped.take() {
            Some(NotWritten::Refused { reason, code }) if tries > deps.settings.max_retries => {
                judged.give_up(
                    &row,
                    Failure { error: reason, class: "memory-refused", code, tries: whole(tries) },
                    now,
                );
                continue;
            }
            // Nothing changes that but another policy, and then the letter can be sent again.
            Some(NotWritten::Denied) => {
                let error = "the policy does not let it be remembered".to_owned();
                judged.give_up(&row, Failure { error, class: "policy-denied", code: None, tries: whole(tries) }, now);
                continue;
            }
            Some(NotWritten::Refused { reason, .. }) => (deps.settings.backoff(tries), Some(reason)),
            Some(NotWritten::Later { reason, after, .. }) => {
                (deps.settings.backoff(tries).max(after.unwrap_or_default()), Some(reason))
            }
            // Not tried: it waits for those before it.
            None => (std::time::Duration::ZERO, None),
        };
        judged.retried += usize::from(error.is_some());
        let next_attempt_at = now + Duration::try_from(wait).unwrap_or(Duration::MINUTE);
        judged.settled.given_back.push(GivenBack { id: row.id, next_attempt_at, error });
    }
    judged
}

/// The session that a memory names; one that names none has a lane of its own.
fn session_of(row: &ClaimedMemory) -> String {
    row.payload["session_id"].as_str().map_or_else(|| row.session_id.to_string(), ToOwned::to_owned)
}

fn record(row: &ClaimedMemory, remembered: &Remembered, now: OffsetDateTime) -> NewMessage {
    let result = json!({
        "coord": remembered.coordinate_text(),
        "trace_id": remembered.trace_id,
        "request_id": remembered.request_id,
    });
    NewMessage {
        tenant: row.tenant.clone(),
        session_id: row.session_id,
        seq: row.seq,
        topic: MEMORY_WAL,
        headers: headers(row),
        payload: wal::record(&row.tenant, &session_of(row), &row.payload, &result, row.revision, now),
        dedupe_key: row.payload["id"].as_str().map(ToOwned::to_owned),
    }
}

/// What it went through as a dead letter goes along with it.
fn headers(row: &ClaimedMemory) -> Value {
    match row.history.as_array() {
        Some(history) if history.is_empty() => json!({}),
        _ => json!({ HISTORY_HEADER: row.history.to_string() }),
    }
}

/// The letter has the form of the record that the log would have got, so that both kinds of its topic look alike.
fn dead_letter(row: &ClaimedMemory, failure: Failure, now: OffsetDateTime) -> NewDeadLetter {
    let session = row.session_id.to_string();
    NewDeadLetter {
        tenant: row.tenant.clone(),
        source_topic: MEMORY_WAL.to_owned(),
        original: wal::record(&row.tenant, &session, &row.payload, &Value::Null, row.revision, now)
            .to_string()
            .into_bytes(),
        key: Some(session),
        headers: headers(row),
        failure,
        origin: Origin::Memory,
        session_id: Some(row.session_id),
        seq: row.seq,
        position: None,
    }
}

/// In one transaction: the rows as they are now, the records for the log, the dead letters. Rows whose lease ran out
/// meanwhile are somebody else's, and so is what becomes of them.
async fn settle(deps: &MemorySyncDeps, claim: Uuid, judged: Judged) -> Result<(), StoreError> {
    let at = (deps.clock)();
    let Judged { settled, mut records, mut letters, .. } = judged;
    let work = deps.store.run_enqueuing(move |connection| {
        Box::pin(async move {
            let mut transaction = connection.begin().await?;
            let mut held = memory_write_outbox::settle(&mut transaction, claim, &settled, at).await?;
            held.sort_unstable();
            let records: Vec<_> = held.iter().filter_map(|id| records.remove(id)).collect();
            let letters: Vec<_> = held.iter().filter_map(|id| letters.remove(id)).collect();
            let mut put = dead_letters::bury(&mut transaction, letters, at).await?;
            if !records.is_empty() {
                put += message_outbox::insert(&mut transaction, &records, at).await?;
            }
            transaction.commit().await?;
            Ok(((), put))
        })
    });
    work.await
}
