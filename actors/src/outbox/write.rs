//! The memory sync's work on sessions: claim waiting memories, write those of a session, settle them.

use std::collections::HashMap;

use serde_json::{Value, json};
use somaagent_supervision::AskError;
use sqlx::Connection;
use time::{Duration, OffsetDateTime};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    memory_sync::MemorySyncDeps,
    through::{Cause, Outcome},
};
use crate::{
    domain::{
        dead_letter::{Failure, HISTORY_HEADER, Origin},
        event,
        ids::{SessionKey, Tenant},
        memory::MemorySpace,
        trace_context::TraceContext,
        wal::{self, MEMORY_WAL},
    },
    policy::{Act, Context, Leave},
    somabrain::messages::{Arguments, Asker, BrainError, MemoryWrite, Remember, RememberBatch, Remembered, placed},
    store::{
        StoreError,
        dead_letters::{self, NewDeadLetter},
        memory_write_outbox::{self, ClaimedMemory, Place},
        message_outbox::{self, NewMessage},
        outbox::{ClaimTerms, GivenBack, Settled},
    },
};

/// Memories of a session in one call.
const ROWS_A_SESSION: u32 = 50;
/// Part of the lease that a call may take: what comes after it must fit too.
const CALLS_A_LEASE: u32 = 3;

/// What a claim took.
pub struct Claimed {
    /// Its name.
    pub claim: Uuid,
    /// The memories of each session, in order.
    pub sessions: Vec<Vec<ClaimedMemory>>,
    /// Where the next one begins.
    pub place: Place,
}

/// Claims up to `rows` memories.
///
/// # Errors
/// The store's.
pub async fn claim(deps: &MemorySyncDeps, from: Place, rows: u32) -> Result<Claimed, StoreError> {
    let terms = terms(deps, rows);
    let work = deps
        .store
        .run(move |connection| Box::pin(async move { memory_write_outbox::claim(connection, &from, terms).await }));
    let (claimed, place) = work.await?;
    Ok(Claimed { claim: terms.claim, sessions: by_session(&claimed), place })
}

/// What came of looking for one memory.
pub struct Sought {
    /// What was claimed to be written now.
    pub claimed: Claimed,
    /// What is known of the memory if it was not claimed, unless somebody is writing it.
    pub outcome: Option<Outcome>,
}

/// Claims what waits of one session, for the sake of one memory.
///
/// # Errors
/// The store's.
pub async fn seek(deps: &MemorySyncDeps, key: SessionKey, memory_id: String) -> Result<Sought, StoreError> {
    let terms = ClaimTerms { keys: 1, ..terms(deps, ROWS_A_SESSION) };
    let work = deps.store.run(move |connection| {
        Box::pin(async move {
            // If nothing of this session waits, this takes the next one: no harm.
            let from = Place::just_before(&key);
            let (claimed, place) = memory_write_outbox::claim(connection, &from, terms).await?;
            if claimed.iter().any(|row| memory_of(row).is_some_and(|(_, id)| id == memory_id)) {
                return Ok((claimed, place, None));
            }
            let state =
                memory_write_outbox::newest_state(connection, key.tenant.as_str(), &memory_id, terms.claim, terms.now)
                    .await?;
            let outcome = match state.as_deref() {
                Some("sent") => Some(Outcome::Remembered),
                Some("sending") => None,
                Some("failed") => Some(Outcome::Queued(Cause::Refused)),
                // One that is not there was taken back meanwhile: nobody has remembered it.
                Some(_) | None => Some(Outcome::Queued(Cause::Waiting)),
            };
            Ok((claimed, place, outcome))
        })
    });
    let (claimed, place, outcome) = work.await?;
    Ok(Sought { claimed: Claimed { claim: terms.claim, sessions: by_session(&claimed), place }, outcome })
}

fn terms(deps: &MemorySyncDeps, rows: u32) -> ClaimTerms {
    let terms = ClaimTerms::begin((deps.clock)(), deps.settings.lease(), rows);
    ClaimTerms { rows_a_key: ROWS_A_SESSION.into(), ..terms }
}

fn by_session(claimed: &[ClaimedMemory]) -> Vec<Vec<ClaimedMemory>> {
    claimed
        .chunk_by(|one, next| (&one.tenant, one.session_id) == (&next.tenant, next.session_id))
        .map(<[ClaimedMemory]>::to_vec)
        .collect()
}

/// Whose memory a row is, and its id.
fn memory_of(row: &ClaimedMemory) -> Option<(Tenant, String)> {
    Tenant::new(&row.tenant).zip(row.payload["id"].as_str().map(ToOwned::to_owned))
}

/// Why a memory was not written.
enum NotWritten {
    /// The service cannot now; the memory may be there all the same.
    Later { reason: String, after: Option<std::time::Duration>, cause: Cause },
    /// The policy does not let it be remembered.
    Denied,
    /// The service will never take it so.
    Refused { reason: String, code: Option<String> },
}

impl From<BrainError> for NotWritten {
    fn from(error: BrainError) -> Self {
        let (reason, cause) = (error.to_string(), Cause::from(&error));
        match error {
            // What a key or an address has to be mended for is no fault of the memory.
            BrainError::Refused { status: 401 | 403 | 404 | 405 | 407 | 421, .. } => {
                Self::Later { reason, after: None, cause }
            }
            BrainError::Refused { status, .. } => Self::Refused { reason, code: Some(status.to_string()) },
            BrainError::Unavailable { retry_after, .. } => Self::Later { reason, after: retry_after, cause },
            // An answer that nobody can read is none of the service, and does not say that the memory was taken.
            BrainError::TimedOut { .. } | BrainError::Broken { .. } => Self::Later { reason, after: None, cause },
        }
    }
}

impl From<AskError> for NotWritten {
    fn from(error: AskError) -> Self {
        let reason = format!("the client of the memory service: {error}");
        Self::Later { reason, after: None, cause: Cause::Waiting }
    }
}

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

/// What the service took, in order, and why it did not take the next one.
struct Sent {
    taken: Vec<Remembered>,
    stopped: Option<NotWritten>,
}

/// Sends as many as the policy lets, in order.
async fn send(deps: &MemorySyncDeps, rows: &[ClaimedMemory]) -> Sent {
    let refused = NotWritten::Refused { reason: "its tenant is no name of a tenant".into(), code: None };
    let Some(tenant) = rows.first().and_then(|row| Tenant::new(&row.tenant)) else {
        return Sent { taken: vec![], stopped: Some(refused) };
    };
    let (allowed, held_up) = allowed(deps, &tenant, rows).await;
    let sent = carry(deps, &tenant, allowed).await;
    Sent { stopped: sent.stopped.or(held_up), ..sent }
}

/// The memories up to the first that the policy does not let be remembered, or does not decide about, and why that is not written.
async fn allowed<'a>(
    deps: &MemorySyncDeps,
    tenant: &Tenant,
    rows: &'a [ClaimedMemory],
) -> (&'a [ClaimedMemory], Option<NotWritten>) {
    for (count, row) in rows.iter().enumerate() {
        let context = Context {
            session_id: Some(row.session_id),
            payload_type: row.payload["type"].as_str(),
            role: row.payload["role"].as_str(),
            ..Context::default()
        };
        let act = Act { tenant, subject: None, action: "memory.write", resource: "somabrain" };
        let held_up = match deps.policy.leave(act, &context).await {
            Leave::Granted => continue,
            Leave::Denied => NotWritten::Denied,
            Leave::Unknown => {
                let reason = "the policy could not be asked".to_owned();
                NotWritten::Later { reason, after: None, cause: Cause::Waiting }
            }
        };
        return (&rows[..count], Some(held_up));
    }
    (rows, None)
}

/// Sends all at once, and one by one where the service refuses that: then only the refused one is at fault.
async fn carry(deps: &MemorySyncDeps, tenant: &Tenant, rows: &[ClaimedMemory]) -> Sent {
    let arguments = Arguments { tenant: Some(tenant), ..Arguments::default() };
    let space = |row: &ClaimedMemory| placed(&row.payload, arguments, tenant, &deps.space).1;
    let spaces: Vec<MemorySpace> = rows.iter().map(space).collect();
    if rows.len() > 1 && spaces.windows(2).all(|pair| pair[0] == pair[1]) {
        match batch(deps, tenant, &spaces[0], rows).await {
            Ok(taken) if taken.len() == rows.len() => return Sent { taken, stopped: None },
            Ok(_) | Err(NotWritten::Refused { .. }) => {}
            Err(later) => return Sent { taken: vec![], stopped: Some(later) },
        }
    }
    let mut taken = Vec::with_capacity(rows.len());
    for (row, space) in rows.iter().zip(&spaces) {
        match one(deps, tenant, space, row).await {
            Ok(remembered) => taken.push(remembered),
            Err(stopped) => return Sent { taken, stopped: Some(stopped) },
        }
    }
    Sent { taken, stopped: None }
}

fn memory(row: &ClaimedMemory) -> MemoryWrite {
    let key = row.payload["id"].as_str().map_or_else(|| row.id.to_string(), ToOwned::to_owned);
    MemoryWrite::new(key, row.payload.clone())
}

/// A call is made in the name of the request that the first of its memories goes back to.
fn asker(deps: &MemorySyncDeps, tenant: &Tenant, first: Option<&ClaimedMemory>) -> (Asker, std::time::Duration) {
    let within = deps.settings.lease() / CALLS_A_LEASE;
    let deadline = Instant::now() + within;
    let correlation_id = first.and_then(|row| event::correlation_id(&row.payload)).unwrap_or_else(Uuid::new_v4);
    let trace = first.and_then(|row| TraceContext::within(&row.payload["metadata"]));
    (Asker { tenant: tenant.clone(), correlation_id, trace, deadline }, within)
}

async fn batch(
    deps: &MemorySyncDeps,
    tenant: &Tenant,
    space: &MemorySpace,
    rows: &[ClaimedMemory],
) -> Result<Vec<Remembered>, NotWritten> {
    let (asker, within) = asker(deps, tenant, rows.first());
    let (space, memories) = (space.clone(), rows.iter().map(memory).collect());
    let ask = deps.remember_batch.call(|reply| RememberBatch { asker, space, memories, reply }, within);
    Ok(ask.await??)
}

async fn one(
    deps: &MemorySyncDeps,
    tenant: &Tenant,
    space: &MemorySpace,
    row: &ClaimedMemory,
) -> Result<Remembered, NotWritten> {
    let (asker, within) = asker(deps, tenant, Some(row));
    let (space, memory) = (space.clone(), memory(row));
    let ask = deps.remember.call(|reply| Remember { asker, space, memory, reply }, within);
    Ok(ask.await??)
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
