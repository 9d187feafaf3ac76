//! One producer of the library, and what becomes of each record it was given.

use std::time::Duration;

use rdkafka::{
    ClientContext, Message,
    config::{FromClientConfigAndContext, RDKafkaLogLevel},
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer},
};
use serde_json::Value;
use tokio::{
    sync::mpsc::UnboundedSender,
    time::{Instant, sleep},
};

use super::{
    client::{config, log_error, log_line, said},
    settings::KafkaSettings,
};
use crate::bus::{MAX_RECORD_BYTES, Position, Record};

/// Longest message in bytes: the longest payload, and room for its key and headers. Topics that are made here take it.
pub(super) const MAX_MESSAGE_BYTES: usize = MAX_RECORD_BYTES + (1 << 20);
/// Time between two tries when the library's queue is full.
const QUEUE_FULL: Duration = Duration::from_millis(5);

/// A producer with the thread that tells what became of its records.
pub(super) type Live = ThreadedProducer<Deliveries>;

/// Why a record is not known to be in the log.
#[derive(Debug)]
pub(super) enum Failure {
    /// It, or one that was sent together with it, is not taken.
    Refused(String),
    /// Nobody could say.
    Away(String),
}

/// Whose record it is, and who wants to know.
pub(super) struct Ticket {
    pub(super) index: usize,
    pub(super) told: UnboundedSender<(usize, Result<Position, Failure>)>,
}

/// Hears what became of each record.
pub(super) struct Deliveries;

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        log_line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, delivered: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let outcome = match delivered {
            Ok(message) => Ok(Position { partition: message.partition(), offset: message.offset() }),
            Err((error, _)) => Err(failure(error)),
        };
        // Nobody hears it when the time was over.
        let _ = ticket.told.send((ticket.index, outcome));
    }
}

/// Starts a producer; it connects by itself.
pub(super) fn produce(settings: &KafkaSettings) -> Result<Live, KafkaError> {
    let mut config = config(settings);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // See the module of the producer.
        .set("enable.gapless.guarantee", "true")
        // Its own timeouts would drop single records and go on with the next: our deadline ends them all.
        .set("message.timeout.ms", "0")
        .set("message.max.bytes", MAX_MESSAGE_BYTES.to_string())
        // Under what a broker takes in one bunch by default: then only a single large record can be too large for it.
        .set("batch.size", "900000")
        .set("queue.buffering.max.ms", "1")
        // Where the JVM's clients put a key, so that all writers agree.
        .set("partitioner", "murmur2_random");
    Live::from_config_and_context(&config, Deliveries)
}

/// Hands a record to the producer.
pub(super) async fn send(live: &Live, record: &Record, ticket: Ticket, deadline: Instant) -> Result<(), Failure> {
    let mut opaque = Box::new(ticket);
    loop {
        let message = BaseRecord::with_opaque_to(&record.topic, opaque)
            .key(&record.key)
            .payload(&record.payload)
            .headers(headers(&record.headers));
        match live.send(message) {
            Ok(()) => return Ok(()),
            Err((error, message))
                if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) && Instant::now() < deadline =>
            {
                opaque = message.delivery_opaque;
                sleep(QUEUE_FULL).await;
            }
            Err((error, _)) => return Err(failure(&error)),
        }
    }
}

fn headers(headers: &Value) -> OwnedHeaders {
    let fields = headers.as_object().into_iter().flatten();
    fields.fold(OwnedHeaders::new(), |all, (key, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        all.insert(Header { key, value: Some(text.as_bytes()) })
    })
}

/// What can never be appended is refused; anything else, rights that are missing included, can be mended by time or by the
/// people who keep the brokers.
fn failure(error: &KafkaError) -> Failure {
    use RDKafkaErrorCode::{InvalidRecord, InvalidTimestamp, MessageBatchTooLarge, MessageSizeTooLarge};
    let reason = said(error);
    match error.rdkafka_error_code() {
        Some(InvalidRecord | InvalidTimestamp | MessageBatchTooLarge | MessageSizeTooLarge) => Failure::Refused(reason),
        _ => Failure::Away(reason),
    }
}
