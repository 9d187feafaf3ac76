//! Writes many records into topics, as fast as the broker takes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rdkafka::ClientContext;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};

use super::Kafka;

/// Longest wait for the broker to take what was written.
const TAKEN_WITHIN: Duration = Duration::from_mins(2);
/// Time between two looks at what it has taken.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Somebody else who writes into topics: one call at a time.
#[derive(Clone)]
pub struct Writer {
    producer: Arc<ThreadedProducer<Taken>>,
}

/// How many records the broker has taken.
#[derive(Default)]
struct Taken(AtomicUsize);

impl ClientContext for Taken {}

impl ProducerContext for Taken {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Kafka {
    /// Something that writes many records into its topics.
    pub fn writer(&self) -> Result<Writer> {
        let producer = self.client().set("linger.ms", "0").create_with_context(Taken::default())?;
        Ok(Writer { producer: Arc::new(producer) })
    }
}

impl Writer {
    /// Appends records, each with its key, and waits until the broker has them all.
    ///
    /// # Errors
    /// When it does not take one of them.
    pub async fn append(&mut self, topic: &str, records: Vec<(String, Vec<u8>)>) -> Result<()> {
        let (producer, topic) = (self.producer.clone(), topic.to_owned());
        // The library waits for the broker.
        let work = move || {
            let taken = || producer.context().0.load(Ordering::Relaxed);
            let before = taken();
            for (key, payload) in &records {
                let record = BaseRecord::to(&topic).key(key).payload(payload);
                producer.send(record).map_err(|(error, _)| error)?;
            }
            // The library's own way to wait looks ten times a second only.
            let began = Instant::now();
            while taken() - before < records.len() {
                let count = taken() - before;
                ensure!(began.elapsed() < TAKEN_WITHIN, "{topic}: {count} of {} records were taken", records.len());
                thread::sleep(LOOK_AGAIN);
            }
            Ok(())
        };
        tokio::task::spawn_blocking(work).await?
    }
}
