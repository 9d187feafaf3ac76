//! A member of a group, on a thread of its own: the library waits in many calls.
//!
//! It asks the library for news all the time, also while nobody asks it for records, because that is how partitions come
//! and go: a member that does not ask holds up its group. What comes meanwhile is kept, up to a limit.
//!
//! The library mends what breaks by itself, nearly always: after trouble that nothing has followed for longer than a group
//! takes to be shared out anew, the member joins it as somebody else.

use std::{
    mem,
    sync::mpsc::{Receiver, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::Duration,
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    config::FromClientConfigAndContext,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Headers},
};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use tokio::{sync::oneshot, time::Instant};

use super::{
    client::{config, said},
    settings::KafkaSettings,
    tenure::{Events, Tenure},
};
use crate::bus::{Batch, LogError, LoggedRecord, Position};

/// Longest wait for an order. Somebody who works on a batch and asks again sooner finds what came in the library's queue;
/// after that it is emptied, because the news of partitions that come and go lie behind the records in it.
const IDLE: Duration = Duration::from_millis(200);
/// Rest of the library before it fills a queue that was full. By default it sleeps for a second, however soon that queue is
/// empty.
const FETCH_AGAIN_MS: &str = "10";
/// Longest wait for a record before looking whether it is still wanted.
const LOOK_UP: Duration = Duration::from_millis(100);
/// Time between two tries of what the group is not ready for.
const AGAIN: Duration = Duration::from_millis(50);

/// What the library takes at most for [`sharing`].
const LONGEST_SHARING: Duration = Duration::from_hours(24);

/// Members that were given up and do not end; with more of them no other is given up.
const MOST_ENDING: usize = 3;

/// What a reader asks of its member.
pub(super) enum Order {
    /// See [`crate::bus::Reader::next`].
    Next { limit: usize, within: Duration, answer: oneshot::Sender<Result<Option<Batch>, LogError>> },
    /// Records that nobody took.
    PutBack(Batch),
    /// See [`crate::bus::Reader::seek`].
    Seek { at: Position, answer: oneshot::Sender<Result<(), LogError>> },
    /// See [`crate::bus::Reader::commit`].
    Commit { next: Position, answer: oneshot::Sender<Result<(), LogError>> },
}

/// See the module. Dropping it leaves the group, which waits for the brokers.
pub(super) struct Member {
    config: ClientConfig,
    consumer: BaseConsumer<Events>,
    /// Those that were given up, while they end.
    ending: Vec<JoinHandle<()>>,
    topic: String,
    patience: Duration,
    /// After so long a silence the library does not get over its trouble by itself.
    silence: Duration,
    tenure: Tenure,
    /// Why the library does not go on, if it does not.
    broken: Option<String>,
}

impl Member {
    pub(super) fn join(settings: &KafkaSettings, group: &str, topic: &str) -> Result<Self, LogError> {
        let mut config = config(settings);
        config
            .set("group.id", group)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("session.timeout.ms", settings.session_timeout_ms.to_string())
            .set("heartbeat.interval.ms", (settings.session_timeout_ms / 4).max(1).to_string())
            .set("max.poll.interval.ms", sharing(settings).as_millis().to_string())
            .set("fetch.error.backoff.ms", "100")
            .set("fetch.queue.backoff.ms", FETCH_AGAIN_MS)
            .set("queued.min.messages", "10000")
            .set("queued.max.messages.kbytes", "16384");
        let consumer = subscribed(&config, topic).map_err(|error| LogError::Unavailable(said(&error)))?;
        Ok(Self {
            config,
            consumer,
            ending: Vec::new(),
            topic: topic.to_owned(),
            patience: settings.timeout(),
            silence: sharing(settings) + session(settings),
            tenure: Tenure::default(),
            broken: None,
        })
    }

    /// Does what it is told until nobody is left to tell it anything.
    pub(super) fn obey(mut self, orders: &Receiver<Order>) {
        loop {
            match orders.recv_timeout(IDLE) {
                Ok(Order::Next { limit, within, answer }) => self.next(limit, within, answer),
                Ok(Order::PutBack(batch)) => self.tenure.put_back(batch),
                Ok(Order::Seek { at, answer }) => drop(answer.send(self.seek(at))),
                Ok(Order::Commit { next, answer }) => drop(answer.send(self.commit(next))),
                Err(RecvTimeoutError::Timeout) => while self.look(Duration::ZERO) {},
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn next(&mut self, limit: usize, within: Duration, answer: oneshot::Sender<Result<Option<Batch>, LogError>>) {
        let deadline = Instant::now() + within;
        self.consumer.context().forget_trouble();
        let result = loop {
            // What is there already comes along.
            while !self.tenure.has(limit) && self.look(Duration::ZERO) {}
            if let Some(batch) = self.tenure.batch(limit) {
                break Ok(Some(batch));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(broken) = &self.broken {
                break Err(LogError::Unavailable(broken.clone()));
            }
            if left.is_zero() {
                break self.consumer.context().trouble().map_or(Ok(None), |why| Err(LogError::Unavailable(why)));
            }
            if answer.is_closed() {
                return;
            }
            self.look(left.min(LOOK_UP));
        };
        if let Err(Ok(Some(batch))) = answer.send(result) {
            self.tenure.put_back(batch);
        }
    }

    fn seek(&mut self, at: Position) -> Result<(), LogError> {
        let deadline = Instant::now() + self.patience;
        loop {
            while self.look(Duration::ZERO) {}
            if !self.tenure.holds(at.partition) {
                return Err(lost(at.partition));
            }
            let offset = Offset::Offset(at.offset);
            match self.consumer.seek(&self.topic, at.partition, offset, self.patience) {
                Ok(()) => {
                    self.tenure.begin_anew(at.partition);
                    return Ok(());
                }
                // A partition that has just come is not always ready for it.
                Err(error) if Instant::now() >= deadline => return Err(LogError::Unavailable(said(&error))),
                Err(_) => drop(self.look(AGAIN)),
            }
        }
    }

    fn commit(&mut self, next: Position) -> Result<(), LogError> {
        let deadline = Instant::now() + self.patience;
        let mut offsets = TopicPartitionList::new();
        let offset = Offset::Offset(next.offset);
        let set = offsets.add_partition_offset(&self.topic, next.partition, offset);
        set.map_err(|error| LogError::Refused(said(&error)))?;
        loop {
            // As far as the news are known. A partition is not another's before we have heard that it goes; only a member
            // that was taken for dead has not, and its commit is refused.
            if !self.tenure.is_due(next.partition) {
                return Err(lost(next.partition));
            }
            // Waits for the answer, at most as long as a session and a question last. No news is needed meanwhile: without
            // an answer of the group's coordinator nothing changes hands.
            let Err(error) = self.consumer.commit(&offsets, CommitMode::Sync) else { return Ok(()) };
            // A group that is being shared out anew refuses commits of its last generation; whether the partition is
            // still ours then, the news will tell.
            if !is_passing(&error) || Instant::now() >= deadline {
                return Err(LogError::Unavailable(said(&error)));
            }
            self.look(AGAIN);
            while self.look(Duration::ZERO) {}
        }
    }

    /// Waits for one piece of news and takes it in. `false` if there was none.
    fn look(&mut self, within: Duration) -> bool {
        let news = match self.consumer.poll(within) {
            Some(Ok(message)) => {
                let (partition, record) = (message.partition(), record(&message));
                drop(message);
                self.consumer.context().note_record();
                self.tenure.keep(partition, record);
                true
            }
            Some(Err(error)) => {
                let why = said(&error);
                tracing::debug!(error = why, topic = self.topic, "a reader of the log has trouble");
                if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
                    self.broken = Some(why.clone());
                }
                self.consumer.context().note_trouble(why);
                true
            }
            None => false,
        };
        let changes = self.consumer.context().moves();
        if !changes.is_empty() {
            tracing::info!(?changes, topic = self.topic, "partitions of the log came to this reader or went from it");
        }
        let moved = self.tenure.apply(changes);
        if let Some(pause) = self.tenure.pause(moved) {
            self.hold(pause);
        }
        if !news && self.is_stuck() {
            self.join_anew();
        }
        news || moved
    }

    fn is_stuck(&mut self) -> bool {
        if !self.tenure.is_empty() || !self.consumer.context().is_silent_for(self.silence) {
            return false;
        }
        self.ending.retain(|ending| !ending.is_finished());
        self.ending.len() < MOST_ENDING
    }

    /// Gives the library's member up for a new one, which goes on at what the group has committed. The old one ends on a
    /// thread of its own, for what is stuck may not end.
    fn join_anew(&mut self) {
        let fresh = match subscribed(&self.config, &self.topic) {
            Ok(fresh) => fresh,
            Err(error) => {
                tracing::warn!(error = said(&error), topic = self.topic, "a silent reader of the log cannot join anew");
                self.consumer.context().note_trouble(said(&error));
                return;
            }
        };
        tracing::warn!(
            topic = self.topic,
            "a reader of the log got nothing since it had trouble: it joins its group anew"
        );
        let stuck = mem::replace(&mut self.consumer, fresh);
        self.tenure.lose_all();
        self.broken = None;
        match thread::Builder::new().name("kafka-reader-end".into()).spawn(move || drop(stuck)) {
            Ok(ending) => self.ending.push(ending),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "no thread to end a reader of the log on");
            }
        }
    }

    /// Stops or goes on with what is sent to this member.
    fn hold(&self, pause: bool) {
        let done = self
            .consumer
            .assignment()
            .and_then(|assigned| if pause { self.consumer.pause(&assigned) } else { self.consumer.resume(&assigned) });
        if let Err(error) = done {
            tracing::warn!(error = said(&error), topic = self.topic, "a reader of the log cannot be slowed down");
        }
    }
}

/// How long the brokers wait for a member, when the group is shared out anew, before they go on without it; five minutes by
/// default, for which one that the library has got stuck holds up all others. This one asks for news several times a second,
/// except in a commit: that waits for its end at most as long as two questions and a session.
fn sharing(settings: &KafkaSettings) -> Duration {
    let most = 2 * (settings.timeout() + session(settings));
    most.min(LONGEST_SHARING)
}

fn session(settings: &KafkaSettings) -> Duration {
    Duration::from_millis(settings.session_timeout_ms.into())
}

fn subscribed(config: &ClientConfig, topic: &str) -> Result<BaseConsumer<Events>, KafkaError> {
    let consumer = BaseConsumer::from_config_and_context(config, Events::default())?;
    consumer.subscribe(&[topic])?;
    Ok(consumer)
}

fn lost(partition: i32) -> LogError {
    LogError::Lost(format!("partition {partition} is not this reader's any more"))
}

/// Whether a commit was refused because the group changes.
fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        CoordinatorLoadInProgress, CoordinatorNotAvailable, IllegalGeneration, NotCoordinator, RebalanceInProgress,
        UnknownMemberId, WaitingForCoordinator,
    };
    matches!(
        error.rdkafka_error_code(),
        Some(
            IllegalGeneration
                | UnknownMemberId
                | RebalanceInProgress
                | WaitingForCoordinator
                | NotCoordinator
                | CoordinatorNotAvailable
                | CoordinatorLoadInProgress
        )
    )
}

/// What other writers put into a record that is no text is shown as well as it can be.
fn record(message: &BorrowedMessage<'_>) -> LoggedRecord {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    let headers: Map<String, Value> = headers
        .map(|header| (header.key.to_owned(), header.value.map_or(Value::Null, |value| text(value).into())))
        .collect();
    let millis = message.timestamp().to_millis().unwrap_or_default();
    LoggedRecord {
        offset: message.offset(),
        key: message.key().map(text),
        headers: headers.into(),
        payload: message.payload().unwrap_or_default().to_vec(),
        appended_at: OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH),
    }
}
