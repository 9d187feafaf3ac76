//! What can be done at a broker from outside: topics made and removed, records appended and read.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{ClientContext, Message as _, Offset, TopicPartitionList};

use super::Kafka;
use crate::lock::locked;

/// Longest wait for an answer of the broker.
const ANSWER_WITHIN: Duration = Duration::from_mins(2);

/// Time between two looks at the list of topics.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A record of a topic.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Its partition.
    pub partition: i32,
    /// Its number there.
    pub offset: i64,
    /// Its key.
    pub key: Option<String>,
    /// What it says.
    pub payload: Vec<u8>,
}

impl Kafka {
    /// Makes a topic with settings of its own.
    pub async fn make_topic(&self, topic: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<()> {
        let admin: AdminClient<_> = self.client().create()?;
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let new = settings.iter().fold(new, |new, (key, value)| new.set(key, value));
        for made in admin.create_topics([&new], &AdminOptions::new()).await? {
            made.map_err(|(topic, error)| anyhow!("{topic} was not made: {error}"))?;
        }
        Ok(())
    }

    /// Removes every topic but those of the broker itself, and waits until they are gone.
    pub async fn remove_topics(&self) -> Result<()> {
        let client = self.client();
        let mut admin: AdminClient<_> = client.create()?;
        loop {
            let names;
            // The library waits for the broker.
            (admin, names) = tokio::task::spawn_blocking(move || topics(&admin).map(|names| (admin, names))).await??;
            if names.is_empty() {
                return Ok(());
            }
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            // Those that are going already are refused, which is as good.
            admin.delete_topics(&names, &AdminOptions::new()).await?;
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Appends a record as any other program might, with the clock that it names (milliseconds since 1970), and tells its
    /// partition and its number there. Waits for a broker that is down.
    pub async fn append(&self, topic: &str, key: &str, payload: &[u8], clock: Option<i64>) -> Result<(i32, i64)> {
        let (mut client, topic, key, payload) = (self.client(), topic.to_owned(), key.to_owned(), payload.to_owned());
        client.set("enable.idempotence", "true").set("partitioner", "murmur2_random");
        tokio::task::spawn_blocking(move || {
            let producer = BaseProducer::from_config_and_context(&client, Delivered::default())?;
            let record = BaseRecord::to(&topic).key(&key).payload(&payload);
            let record = clock.into_iter().fold(record, BaseRecord::timestamp);
            producer.send(record).map_err(|(error, _)| error)?;
            producer.flush(ANSWER_WITHIN)?;
            let place = locked(&producer.context().0).take();
            place.context("nobody told what became of a record")?
        })
        .await?
    }

    /// All records of a topic by now, partition after partition; none of a topic that is not there.
    pub async fn records(&self, topic: &str) -> Result<Vec<Kept>> {
        let (mut client, topic) = (self.client(), topic.to_owned());
        client.set("group.id", "looking-on").set("enable.auto.commit", "false").set("enable.partition.eof", "true");
        // The end of a partition is told by a fetch that waited in vain.
        client.set("fetch.wait.max.ms", "5");
        tokio::task::spawn_blocking(move || all_records(&client.create()?, &topic)).await?
    }
}

/// Where the one record of a producer went.
#[derive(Default)]
struct Delivered(Mutex<Option<Result<(i32, i64)>>>);

impl ClientContext for Delivered {}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, delivered: &DeliveryResult<'_>, (): ()) {
        let place = match delivered {
            Ok(message) => Ok((message.partition(), message.offset())),
            Err((error, _)) => Err(error.clone().into()),
        };
        *locked(&self.0) = Some(place);
    }
}

fn topics(admin: &AdminClient<DefaultClientContext>) -> Result<Vec<String>> {
    let metadata = admin.inner().fetch_metadata(None, ANSWER_WITHIN)?;
    let names = metadata.topics().iter().map(|topic| topic.name().to_owned());
    Ok(names.filter(|name| !name.starts_with("__")).collect())
}

fn all_records(consumer: &BaseConsumer, topic: &str) -> Result<Vec<Kept>> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_WITHIN)?;
    let partitions: usize = metadata.topics().iter().map(|topic| topic.partitions().len()).sum();
    let mut places = TopicPartitionList::new();
    for partition in 0..i32::try_from(partitions)? {
        places.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&places)?;
    let (mut kept, mut ended) = (Vec::new(), HashSet::new());
    while ended.len() < partitions {
        match consumer.poll(ANSWER_WITHIN) {
            Some(Ok(message)) => kept.push(Kept {
                partition: message.partition(),
                offset: message.offset(),
                key: message.key().map(|key| String::from_utf8_lossy(key).into_owned()),
                payload: message.payload().unwrap_or_default().to_vec(),
            }),
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(ended.insert(partition)),
            Some(Err(error)) => return Err(error.into()),
            None => bail!("the broker does not answer"),
        }
    }
    // Within a partition they came in its order.
    kept.sort_by_key(|record| record.partition);
    Ok(kept)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[tokio::test]
    async fn what_is_appended_is_there_until_its_topic_is_removed() {
        let kafka = tokio::task::spawn_blocking(Kafka::start).await.unwrap().unwrap();
        kafka.make_topic("said", 3, &[]).await.unwrap();
        let (partition, offset) = kafka.append("said", "k", b"first", Some(1_000)).await.unwrap();
        assert_eq!(kafka.append("said", "k", b"second", None).await.unwrap(), (partition, offset + 1));
        let kept = kafka.records("said").await.unwrap();
        let kept: Vec<_> = kept.iter().map(|record| (record.partition, record.offset, &*record.payload)).collect();
        assert_eq!(kept, [(partition, 0, &b"first"[..]), (partition, 1, b"second")]);

        kafka.remove_topics().await.unwrap();
        assert!(kafka.records("said").await.unwrap().is_empty());
        kafka.make_topic("said", 1, &[]).await.unwrap();
        assert_eq!(kafka.append("said", "k", b"anew", None).await.unwrap(), (0, 0));
    }
}
