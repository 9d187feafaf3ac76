//! The log on Apache Kafka.
//!
//! | file | holds |
//! | --- | --- |
//! | `client` | what every connection has in common |
//! | `delivery` | one producer of the library, and what becomes of its records |
//! | `looking` | what the brokers promise, for whoever sets them up |
//! | `member` | a member of a group, on a thread of its own |
//! | `producer` | the appending half |
//! | `reach` | whether the brokers answer |
//! | `reader` | the reading half |
//! | `settings` | how to reach the brokers |
//! | `tenure` | which partitions a member has, and what it holds of them |
//! | `topics` | topics made or checked |
//!
//! The library keeps threads of its own; whatever of it waits is called on threads of ours, never on those of actors.

mod client;
mod delivery;
mod ends;
mod looking;
mod member;
mod producer;
mod reach;
mod reader;
mod settings;
mod tenure;
mod topics;

use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;

pub use looking::{BrokersLook, TopicLook};
pub use settings::{KafkaSettings, KafkaSettingsError, TLS};
pub use topics::{TopicError, TopicNeed};

use super::{End, Log, LogError, Position, Reader, Record};

/// See the module.
pub struct KafkaLog {
    settings: KafkaSettings,
    producer: producer::Producer,
    needs: Vec<TopicNeed>,
    ready: OnceCell<()>,
    reach: reach::Reach,
}

impl KafkaLog {
    /// The log on the brokers that the settings name, with the topics that must be there. Connects when it is used.
    #[must_use]
    pub fn new(settings: KafkaSettings, needs: Vec<TopicNeed>) -> Self {
        let producer = producer::Producer::new(settings.clone());
        Self { producer, settings, needs, ready: OnceCell::new(), reach: reach::Reach::default() }
    }

    /// Makes the topics that do not exist, and checks those that do, until it has succeeded once. Whatever uses the log
    /// does it too: at the start the brokers may be away.
    ///
    /// # Errors
    /// The first topic that cannot be used as it is, or that the brokers cannot be asked.
    pub async fn ready(&self) -> Result<(), TopicError> {
        self.ready.get_or_try_init(|| topics::ensure(&self.settings, &self.needs)).await.copied()
    }

    /// Looks at the brokers and the topics; nothing is made.
    ///
    /// # Errors
    /// They cannot be asked.
    pub async fn look(&self) -> Result<BrokersLook, TopicError> {
        looking::look(&self.settings, &self.needs).await
    }

    async fn used(&self) -> Result<(), LogError> {
        self.ready().await.map_err(|error| LogError::Unavailable(error.to_string()))
    }
}

impl Log for KafkaLog {
    fn append(&self, records: Vec<Record>) -> BoxFuture<'_, Vec<Result<Position, LogError>>> {
        Box::pin(async move {
            match self.used().await {
                Ok(()) => self.producer.append(records).await,
                Err(error) => vec![Err(error); records.len()],
            }
        })
    }

    fn reached(&self) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(self.reach.ask(&self.producer))
    }

    fn ends(&self, topic: &str) -> BoxFuture<'_, Result<Vec<End>, LogError>> {
        let topic = topic.to_owned();
        Box::pin(async move {
            self.used().await?;
            ends::ends(&self.settings, &topic).await
        })
    }

    fn join(&self, group: &str, topic: &str) -> BoxFuture<'_, Result<Box<dyn Reader>, LogError>> {
        let (group, topic) = (group.to_owned(), topic.to_owned());
        Box::pin(async move {
            self.used().await?;
            let reader = reader::join(&self.settings, group, topic).await?;
            Ok(Box::new(reader) as Box<dyn Reader>)
        })
    }
}
