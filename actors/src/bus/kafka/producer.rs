//! Appends records.
//!
//! The brokers take an idempotent producer's records of a partition without a gap: a record is there only if all before
//! it are. So when the time is over and the rest is forgotten, what is in the log is a beginning of what was to be
//! appended, and appending again keeps the order. A refusal would be such a gap, and the library is told to stop at it:
//! it cannot say which record of a bunch was refused, so those that are left go one by one through a new producer.

use std::{sync::Arc, thread, time::Duration};

use parking_lot::Mutex;
use rdkafka::{
    error::KafkaError,
    producer::{Producer as _, PurgeConfig},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout_at},
};

use super::{
    client::{asked, said},
    delivery::{Failure, Live, Ticket, produce, send},
    settings::KafkaSettings,
};
use crate::bus::{LogError, MAX_RECORD_BYTES, Position, Record};

type Outcome = Result<Position, LogError>;

/// The producer in use, and how to make the next one.
pub(super) struct Producer {
    settings: KafkaSettings,
    live: Mutex<Option<Arc<Live>>>,
}

impl Producer {
    pub(super) const fn new(settings: KafkaSettings) -> Self {
        Self { settings, live: Mutex::new(None) }
    }

    /// See [`crate::bus::Log::append`].
    pub(super) async fn append(&self, records: Vec<Record>) -> Vec<Outcome> {
        let mut outcomes: Vec<Option<Outcome>> = records.iter().map(too_large).collect();
        let reason = match self.bunch(&records, &mut outcomes).await {
            Ok(()) => None,
            Err(Failure::Away(reason)) => Some(reason),
            Err(Failure::Refused(_)) => self.singly(&records, &mut outcomes).await,
        };
        // Every record without an outcome comes after one of its key that has none either, or is such a one.
        let unknown = || Err(LogError::Unavailable(reason.clone().unwrap_or_default()));
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(unknown)).collect()
    }

    /// Whether a broker answers.
    pub(super) async fn reached(&self, within: Duration) -> Result<(), LogError> {
        let away = |error: &KafkaError| LogError::Unavailable(said(error));
        let live = self.live().map_err(|error| away(&error))?;
        let ask = move || live.client().fetch_metadata(None, within).map(|_| ());
        let answer = asked("kafka-reach", ask).await.map_err(LogError::Unavailable)?;
        answer.map_err(|error| away(&error))
    }

    /// Sends everything that has no outcome yet, and waits for as many as possible. Only what was taken has one then.
    async fn bunch(&self, records: &[Record], outcomes: &mut [Option<Outcome>]) -> Result<(), Failure> {
        let deadline = Instant::now() + self.settings.timeout();
        let live = self.live().map_err(|error| Failure::Away(said(&error)))?;
        let (told, mut deliveries) = mpsc::unbounded_channel();
        let left: Vec<usize> = (0..records.len()).filter(|index| outcomes[*index].is_none()).collect();
        let (mut ended, mut sent) = (Ok(()), 0);
        for index in left {
            let ticket = Ticket { index, told: told.clone() };
            match send(&live, &records[index], ticket, deadline).await {
                Ok(()) => sent += 1,
                // What comes after it must not overtake it.
                Err(failure) => {
                    ended = Err(failure);
                    break;
                }
            }
        }
        while sent > 0 {
            let Ok(Some((index, delivered))) = timeout_at(deadline, deliveries.recv()).await else {
                ended = worse(ended, Failure::Away("not acknowledged in time".into()));
                break;
            };
            sent -= 1;
            match delivered {
                Ok(position) => outcomes[index] = Some(Ok(position)),
                Err(failure) => ended = worse(ended, failure),
            }
        }
        if ended.is_err() {
            self.retire(&live);
        }
        ended
    }

    /// Sends what has no outcome one by one, so that only what is bad is refused, up to the first that is not taken for
    /// another reason, which is returned.
    async fn singly(&self, records: &[Record], outcomes: &mut [Option<Outcome>]) -> Option<String> {
        for (record, outcome) in records.iter().zip(outcomes) {
            if outcome.is_some() {
                continue;
            }
            match self.bunch(std::slice::from_ref(record), std::slice::from_mut(outcome)).await {
                Ok(()) => {}
                Err(Failure::Refused(reason)) => *outcome = Some(Err(LogError::Refused(reason))),
                Err(Failure::Away(reason)) => return Some(reason),
            }
        }
        None
    }

    fn live(&self) -> Result<Arc<Live>, KafkaError> {
        let mut live = self.live.lock();
        if let Some(live) = &*live {
            return Ok(Arc::clone(live));
        }
        let new = Arc::new(produce(&self.settings)?);
        *live = Some(Arc::clone(&new));
        Ok(new)
    }

    /// Ends a producer: what it has not sent is never sent.
    fn retire(&self, ended: &Arc<Live>) {
        let mut live = self.live.lock();
        if live.as_ref().is_some_and(|live| Arc::ptr_eq(live, ended)) {
            *live = None;
        }
        end(Arc::clone(ended));
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if let Some(live) = self.live.lock().take() {
            end(live);
        }
    }
}

/// Forgets what a producer has in hand and drops it, on a thread of its own, because both wait for its threads.
fn end(live: Arc<Live>) {
    let ending = thread::Builder::new().name("kafka-producer-end".into()).spawn(move || {
        live.purge(PurgeConfig::default().queue().inflight());
        drop(live);
    });
    if let Err(error) = ending {
        tracing::warn!(error = &error as &dyn std::error::Error, "no thread to end a producer of the log on");
    }
}

/// A refusal explains what came after it.
fn worse(ended: Result<(), Failure>, failure: Failure) -> Result<(), Failure> {
    match (ended, failure) {
        (Err(Failure::Refused(first)), _) => Err(Failure::Refused(first)),
        (Err(first), Failure::Away(_)) => Err(first),
        (_, failure) => Err(failure),
    }
}

fn too_large(record: &Record) -> Option<Outcome> {
    let bytes = record.payload.len();
    let refused = || Err(LogError::Refused(format!("{bytes} bytes are more than {MAX_RECORD_BYTES}")));
    (bytes > MAX_RECORD_BYTES).then(refused)
}
