//! The log on Apache Kafka.
//!
//! | file | holds |
//! | --- | --- |
//! | `client` | what every connection has in common |
//! | `delivery` | one producer of the library, and what becomes of its records |
//! | `member` | a member of a group, on a thread of its own |
//! | `producer` | the appending half |
//! | `reader` | the reading half |
//! | `settings` | how to reach the brokers |
//! | `tenure` | which partitions a member has, and what it holds of them |
//! | `topics` | topics made or checked |
//!
//! The library keeps threads of its own; whatever of it waits is called on threads of ours, never on those of actors.

mod client;
mod delivery;
mod member;
mod producer;
mod reader;
mod settings;
mod tenure;
mod topics;

use futures_util::future::BoxFuture;

pub use settings::{KafkaSettings, KafkaSettingsError, TLS};
pub use topics::{TopicError, TopicNeed};

use super::{Log, LogError, Position, Reader, Record};

/// See the module.
pub struct KafkaLog {
    settings: KafkaSettings,
    producer: producer::Producer,
}

impl KafkaLog {
    /// The log on the brokers that the settings name; connects when it is used.
    #[must_use]
    pub fn new(settings: KafkaSettings) -> Self {
        Self { producer: producer::Producer::new(settings.clone()), settings }
    }

    /// Makes the topics that do not exist, and checks those that do.
    ///
    /// # Errors
    /// The first topic that cannot be used as it is, or that the brokers cannot be asked.
    pub async fn ensure_topics(&self, topics: &[TopicNeed<'_>]) -> Result<(), TopicError> {
        topics::ensure(&self.settings, topics).await
    }
}

impl Log for KafkaLog {
    fn append(&self, records: Vec<Record>) -> BoxFuture<'_, Vec<Result<Position, LogError>>> {
        Box::pin(self.producer.append(records))
    }

    fn join(&self, group: &str, topic: &str) -> BoxFuture<'_, Result<Box<dyn Reader>, LogError>> {
        let (group, topic) = (group.to_owned(), topic.to_owned());
        Box::pin(async move {
            reader::join(&self.settings, group, topic).await.map(|reader| Box::new(reader) as Box<dyn Reader>)
        })
    }
}
