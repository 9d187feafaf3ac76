//! One round of the relay: claim rows, append them to the log, write down what became of each. Rounds have different keys, so
//! several may be under way.

use std::collections::{HashMap, HashSet};

use sqlx::Connection;
use time::{Duration, OffsetDateTime};
use tokio::time::Instant;
use uuid::Uuid;

use super::{headers::headers, metrics::Fates, relay::RelayDeps, settings::QueueSettings};
use crate::{
    bus::{LogError, Position, Record},
    domain::dead_letter::{self, Failure, Origin},
    store::{
        StoreError,
        dead_letters::{self, NewDeadLetter},
        message_outbox::{self, ClaimedMessage, Place},
        outbox::{ClaimTerms, GivenBack, Settled},
    },
};

/// What a round took.
#[derive(Debug)]
pub struct Claimed {
    /// Its name.
    pub claim: Uuid,
    /// The rows of each key, in order.
    pub rows: Vec<ClaimedMessage>,
    /// Where the next one begins.
    pub place: Place,
}

/// Begins a round: takes up to `rows` rows.
///
/// # Errors
/// The store's.
pub async fn claim(deps: &RelayDeps, from: Place, rows: u32) -> Result<Claimed, StoreError> {
    let terms = ClaimTerms::begin((deps.clock)(), deps.settings.lease(), rows);
    let claim = deps
        .store
        .run(move |connection| Box::pin(async move { message_outbox::claim(connection, &from, terms).await }));
    let (rows, place) = claim.await?;
    deps.store.outbox_events().claimed(rows.len());
    Ok(Claimed { claim: terms.claim, rows, place })
}

/// Ends a round: sends what it took, and writes down what became of it.
///
/// # Errors
/// The store's. The rows come back when their lease is over.
pub async fn send(deps: &RelayDeps, claim: Uuid, rows: Vec<ClaimedMessage>) -> Result<(), StoreError> {
    let begun = Instant::now();
    let results = deps.log.append(rows.iter().map(record).collect()).await;
    deps.metrics.seconds.observe(begun.elapsed().as_secs_f64());
    let (settled, letters) = judge(rows, results, &deps.settings, (deps.clock)());
    settle(deps, claim, settled, letters).await
}

fn record(row: &ClaimedMessage) -> Record {
    let (topic, key) = (row.topic.clone(), row.key.clone());
    Record { topic, key, headers: headers(row), payload: row.payload.clone() }
}

/// Decides what becomes of each row. A key whose record was not taken keeps its later rows back, unless they are in the
/// log already.
fn judge(
    rows: Vec<ClaimedMessage>,
    results: Vec<Result<Position, LogError>>,
    settings: &QueueSettings,
    now: OffsetDateTime,
) -> (Settled, HashMap<i64, NewDeadLetter>) {
    let (mut settled, mut letters) = (Settled::default(), HashMap::new());
    settled.keys = rows.iter().map(|row| (row.id, row.queue_key())).collect();
    let mut held_back = HashSet::new();
    for (row, result) in rows.into_iter().zip(results) {
        let key = row.queue_key();
        let tries = u32::try_from(row.retry_count).unwrap_or_default() + 1;
        match result {
            Ok(Position { partition, offset }) => {
                settled.sent.push(row.id);
                settled.places.insert(row.id, (partition, offset));
            }
            Err(_) if held_back.contains(&key) => {
                settled.given_back.push(GivenBack { id: row.id, next_attempt_at: now, error: None });
            }
            Err(LogError::Refused(reason)) if tries > settings.max_retries => {
                settled.failed.push((row.id, reason.clone()));
                letters.insert(row.id, dead_letter(row, reason, tries));
            }
            Err(error) => {
                let wait = Duration::try_from(settings.backoff(tries)).unwrap_or(Duration::MINUTE);
                let (id, error) = (row.id, Some(error.to_string()));
                settled.given_back.push(GivenBack { id, next_attempt_at: now + wait, error });
                held_back.insert(key);
            }
        }
    }
    (settled, letters)
}

fn dead_letter(row: ClaimedMessage, error: String, tries: u32) -> NewDeadLetter {
    let tries = i32::try_from(tries).unwrap_or(i32::MAX);
    NewDeadLetter {
        tenant: row.tenant,
        source_topic: row.topic,
        key: Some(row.key),
        headers: row.headers,
        original: row.payload,
        failure: Failure { error, class: "log-refused", code: None, tries },
        origin: Origin::Outbox,
        session_id: row.session_id,
        seq: row.seq,
        position: None,
    }
}

/// In one transaction: the rows as they are now, and the dead letters among them. Rows whose lease ran out meanwhile are
/// somebody else's, and so is what becomes of them.
async fn settle(
    deps: &RelayDeps,
    claim: Uuid,
    settled: Settled,
    mut letters: HashMap<i64, NewDeadLetter>,
) -> Result<(), StoreError> {
    let at = (deps.clock)();
    let is_notice = |id| settled.keys.get(&id).is_some_and(|(topic, _)| dead_letter::is_dead(topic));
    let (fates, notices) = (Fates::of(&settled, |_| true), Fates::of(&settled, is_notice));
    let all = settled.sent.len() + settled.given_back.len() + settled.failed.len();
    let work = deps.store.run_enqueuing(move |connection| {
        Box::pin(async move {
            let mut transaction = connection.begin().await?;
            let held = message_outbox::settle(&mut transaction, claim, &settled, at).await?;
            let letters: Vec<_> = held.iter().filter_map(|id| letters.remove(id)).collect();
            let put = dead_letters::bury(&mut transaction, letters, at).await?;
            transaction.commit().await?;
            Ok((held.len(), put))
        })
    });
    let held = work.await?;
    if held < all {
        tracing::warn!(rows = all - held, "a round of the outbox outlived its lease: records will be in the log twice");
    }
    deps.store.outbox_events().settled(fates.sent, fates.retried, fates.failed);
    deps.metrics.settled(fates, notices);
    Ok(())
}

#[cfg(test)]
mod tests;
