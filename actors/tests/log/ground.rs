//! What a case of the suite stands on: a log of one backend or the other, with topics and groups nobody else uses.

use std::{collections::HashSet, sync::Arc, time::Duration};

use serde_json::json;
use somaagent_actors::{
    bus::{
        Batch, Log, LogError, LoggedRecord, Position, Reader, Record,
        kafka::{KafkaLog, KafkaSettings, TopicNeed},
        table::TableLog,
    },
    store::{Connections, Store, migrate},
};
use somaagent_test_services::{kafka::Kafka, postgres::Postgres};
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::{runtime::Handle, time::Instant};
use uuid::Uuid;

/// Partitions of every topic.
pub const PARTITIONS: i32 = 3;
/// How long a silent reader keeps its partitions.
pub const LEASE: Duration = Duration::from_secs(10);
/// How long anything may take before its case fails.
pub const PATIENCE: Duration = Duration::from_mins(2);
/// A wait that something happens in, or is over soon.
pub const SOON: Duration = Duration::from_millis(100);

/// A backend.
pub enum Ground {
    Kafka(KafkaSettings),
    Table(PgPool),
}

pub fn kafka_settings(address: &str) -> KafkaSettings {
    KafkaSettings {
        bootstrap_servers: address.to_owned(),
        session_timeout_ms: u32::try_from(LEASE.as_millis()).unwrap(),
        timeout_seconds: 20.0,
        ..KafkaSettings::default()
    }
}

impl Ground {
    pub fn kafka() -> Self {
        Self::Kafka(kafka_settings(Kafka::shared().unwrap().address()))
    }

    pub async fn table() -> Self {
        let database = Postgres::shared().unwrap().fresh_database().await.unwrap();
        let pool = database.pool().await.unwrap();
        migrate::migrator().run(&pool).await.unwrap();
        Self::Table(pool)
    }

    /// The log, as one process sees it: each call is another process.
    pub fn log(&self) -> Arc<dyn Log> {
        match self {
            Self::Kafka(settings) => Arc::new(KafkaLog::new(settings.clone(), vec![])),
            Self::Table(pool) => Arc::new(self.table_log(pool)),
        }
    }

    /// The same, and it never gives up a silent reader.
    pub fn patient_log(&self) -> Arc<dyn Log> {
        let never = PATIENCE * 2;
        match self {
            Self::Kafka(settings) => {
                let session_timeout_ms = u32::try_from(never.as_millis()).unwrap();
                Arc::new(KafkaLog::new(KafkaSettings { session_timeout_ms, ..settings.clone() }, vec![]))
            }
            Self::Table(pool) => Arc::new(self.table_log(pool).with_lease(never)),
        }
    }

    #[expect(clippy::unused_self, reason = "reads as its callers do")]
    fn table_log(&self, pool: &PgPool) -> TableLog {
        let store = Store::new(Connections::of_pool(pool.clone()), PATIENCE, Handle::current());
        TableLog::new(store, OffsetDateTime::now_utc).with_lease(LEASE)
    }

    /// A new topic.
    pub async fn topic(&self) -> String {
        let topic = format!("topic-{}", Uuid::new_v4());
        match self {
            Self::Kafka(settings) => {
                let need = TopicNeed::new(&topic, PARTITIONS);
                KafkaLog::new(settings.clone(), vec![need]).ready().await.unwrap();
            }
            Self::Table(pool) => self.table_log(pool).ensure_topics(&[&topic]).await.unwrap(),
        }
        topic
    }
}

/// A group nobody else uses.
pub fn new_group() -> String {
    format!("group-{}", Uuid::new_v4())
}

pub fn record(topic: &str, key: &str, payload: impl Into<Vec<u8>>) -> Record {
    Record { topic: topic.to_owned(), key: key.to_owned(), headers: json!({}), payload: payload.into() }
}

/// Appends records that must all be taken.
pub async fn append(log: &Arc<dyn Log>, records: Vec<Record>) -> Vec<Position> {
    log.append(records).await.into_iter().collect::<Result<_, _>>().unwrap()
}

/// Appends `count` records of each key, in turns, numbered from `from`.
pub async fn say(log: &Arc<dyn Log>, topic: &str, keys: &[&str], from: usize, count: usize) -> Vec<Position> {
    let records =
        (from..from + count).flat_map(|n| keys.iter().map(move |key| record(topic, key, format!("{key} {n}"))));
    append(log, records.collect()).await
}

/// What [`say`] says of one key.
pub fn said(key: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{key} {n}")).collect()
}

/// As many keys that all three partitions have some.
pub const KEYS: [&str; 12] =
    ["alder", "birch", "cedar", "elm", "fir", "hazel", "larch", "maple", "oak", "pine", "rowan", "yew"];

pub async fn join(log: &Arc<dyn Log>, group: &str, topic: &str) -> Box<dyn Reader> {
    log.join(group, topic).await.unwrap()
}

/// What was read, by partition in the order it came.
#[derive(Default)]
pub struct Heard(pub Vec<(i32, LoggedRecord)>);

impl Heard {
    pub fn add(&mut self, batch: Batch) {
        self.0.extend(batch.records.into_iter().map(|record| (batch.partition, record)));
    }

    /// Adds one of which no more is known.
    pub fn note(&mut self, partition: i32, key: Option<String>, payload: Vec<u8>) {
        let (headers, appended_at) = (json!({}), OffsetDateTime::UNIX_EPOCH);
        self.0.push((partition, LoggedRecord { offset: 0, key, headers, payload, appended_at }));
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The texts of a key in the order they came.
    pub fn of(&self, key: &str) -> Vec<String> {
        let of_key = self.0.iter().filter(|(_, record)| record.key.as_deref() == Some(key));
        of_key.map(|(_, record)| String::from_utf8(record.payload.clone()).unwrap()).collect()
    }

    /// The same without what came again.
    pub fn first_of(&self, key: &str) -> Vec<String> {
        let mut known = HashSet::new();
        self.of(key).into_iter().filter(|text| known.insert(text.clone())).collect()
    }

    /// The offset after the last record of each partition.
    pub fn ends(&self) -> Vec<Position> {
        let end = |partition: i32| {
            let of_partition = self.0.iter().filter(|(of, _)| *of == partition);
            let offset = of_partition.map(|(_, record)| record.offset + 1).max()?;
            Some(Position { partition, offset })
        };
        (0..PARTITIONS).filter_map(end).collect()
    }

    pub fn partitions(&self) -> Vec<i32> {
        self.ends().iter().map(|end| end.partition).collect()
    }
}

/// Reads until `count` records have come.
pub async fn read(reader: &mut Box<dyn Reader>, count: usize) -> Heard {
    let mut heard = Heard::default();
    let deadline = Instant::now() + PATIENCE;
    while heard.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} records came", heard.len());
        if let Some(batch) = next(reader, 100, SOON).await {
            heard.add(batch);
        }
    }
    heard
}

/// The next batch; trouble on the way there is waited for like a record.
pub async fn next(reader: &mut Box<dyn Reader>, limit: usize, within: Duration) -> Option<Batch> {
    match reader.next(limit, within).await {
        Ok(batch) => batch,
        Err(LogError::Unavailable(_)) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Reads for a while, expecting nothing.
pub async fn nothing_more(reader: &mut Box<dyn Reader>) {
    let batch = next(reader, 100, Duration::from_millis(1_500)).await;
    assert!(batch.is_none(), "more came than was due: {batch:?}");
}

pub async fn commit(reader: &mut Box<dyn Reader>, ends: Vec<Position>) {
    for end in ends {
        reader.commit(end).await.unwrap();
    }
}

/// Both readers read until the second has a partition and the first has given it up: what each has heard meanwhile.
pub async fn share(first: &mut Box<dyn Reader>, second: &mut Box<dyn Reader>) -> (Heard, Heard) {
    let (mut one, mut two) = (Heard::default(), Heard::default());
    let deadline = Instant::now() + PATIENCE;
    while two.len() == 0 {
        assert!(Instant::now() < deadline, "the second reader got nothing");
        if let Some(batch) = next(first, 100, SOON).await {
            one.add(batch);
        }
        if let Some(batch) = next(second, 100, SOON).await {
            two.add(batch);
        }
    }
    (one, two)
}
