//! What the brokers promise about the topics, for whoever sets them up. Nothing is made or changed.

use rdkafka::{
    admin::{AdminClient, AdminOptions, ConfigResource, ResourceSpecifier},
    config::FromClientConfigAndContext,
    error::KafkaError,
    metadata::{Metadata, MetadataTopic},
};

use super::{
    client::{Logged, asked, config, said},
    settings::KafkaSettings,
    topics::{TopicError, TopicNeed},
};

/// The brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokersLook {
    /// How many there are.
    pub brokers: usize,
    /// The topics that must be there, each in the order of the needs.
    pub topics: Vec<TopicLook>,
    /// Why the topics' settings are not known, if they are not.
    pub unknown: Option<String>,
}

/// A topic. What is not known, or not to be had from this topic, is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicLook {
    /// What it must be.
    pub need: TopicNeed,
    /// Its partitions; 0 if it is not there.
    pub partitions: i32,
    /// Copies of the partition that has the fewest.
    pub replicas: usize,
    /// Copies that are up to date, of the partition that has the fewest.
    pub in_sync: usize,
    /// Partitions that nobody leads, which can neither be read nor written.
    pub leaderless: usize,
    /// Copies that must have a record before it is acknowledged (`min.insync.replicas`).
    pub min_in_sync: Option<usize>,
    /// Milliseconds that records stay (`retention.ms`); -1: for ever.
    pub retention_ms: Option<i64>,
    /// Longest batch in bytes (`max.message.bytes`).
    pub max_bytes: Option<usize>,
}

type Admin = AdminClient<Logged>;

/// See [`super::KafkaLog::look`].
pub(super) async fn look(settings: &KafkaSettings, needs: &[TopicNeed]) -> Result<BrokersLook, TopicError> {
    let admin = Admin::from_config_and_context(&config(settings), Logged).map_err(|error| away(&error))?;
    let (admin, metadata) = metadata(admin, settings).await?;
    let mut topics: Vec<TopicLook> = needs.iter().map(|need| TopicLook::of(need, &metadata)).collect();
    let unknown = promises(&admin, settings, &mut topics).await.err().map(|error| said(&error));
    Ok(BrokersLook { brokers: metadata.brokers().len(), topics, unknown })
}

/// All topics are asked for: to ask for one may make it.
async fn metadata(admin: Admin, settings: &KafkaSettings) -> Result<(Admin, Metadata), TopicError> {
    let within = settings.timeout();
    let ask = move || {
        let metadata = admin.inner().fetch_metadata(None, within);
        (admin, metadata)
    };
    let (admin, metadata) = asked("kafka-look", ask).await.map_err(TopicError::Unavailable)?;
    Ok((admin, metadata.map_err(|error| away(&error))?))
}

/// Fills in what the topics' settings say.
async fn promises(admin: &Admin, settings: &KafkaSettings, topics: &mut [TopicLook]) -> Result<(), KafkaError> {
    let there: Vec<ResourceSpecifier<'_>> = topics
        .iter()
        .filter(|topic| topic.partitions > 0)
        .map(|topic| ResourceSpecifier::Topic(&topic.need.name))
        .collect();
    if there.is_empty() {
        return Ok(());
    }
    let timeout = Some(settings.timeout());
    let described = admin.describe_configs(&there, &AdminOptions::new().request_timeout(timeout)).await?;
    for (topic, found) in topics.iter_mut().filter(|topic| topic.partitions > 0).zip(described) {
        let found = found.map_err(KafkaError::AdminOp)?;
        topic.min_in_sync = value(&found, "min.insync.replicas");
        topic.retention_ms = value(&found, "retention.ms");
        topic.max_bytes = value(&found, "max.message.bytes");
    }
    Ok(())
}

fn value<T: std::str::FromStr>(found: &ConfigResource, name: &str) -> Option<T> {
    found.get(name)?.value.as_ref()?.parse().ok()
}

impl TopicLook {
    fn of(need: &TopicNeed, metadata: &Metadata) -> Self {
        let found = metadata.topics().iter().find(|known| known.name() == need.name);
        let partitions = found.map_or(&[][..], MetadataTopic::partitions);
        let fewest = |count: fn(&rdkafka::metadata::MetadataPartition) -> usize| {
            partitions.iter().map(count).min().unwrap_or_default()
        };
        Self {
            need: need.clone(),
            partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
            replicas: fewest(|partition| partition.replicas().len()),
            in_sync: fewest(|partition| partition.isr().len()),
            leaderless: partitions.iter().filter(|partition| partition.leader() < 0).count(),
            min_in_sync: None,
            retention_ms: None,
            max_bytes: None,
        }
    }
}

fn away(error: &KafkaError) -> TopicError {
    TopicError::Unavailable(said(error))
}
