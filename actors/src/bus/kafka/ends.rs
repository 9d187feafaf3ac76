//! How far a topic goes now.

use std::time::Duration;

use rdkafka::{admin::AdminClient, config::FromClientConfigAndContext, error::KafkaError, metadata::MetadataTopic};

use super::{
    client::{Logged, asked, config, said},
    settings::KafkaSettings,
};
use crate::bus::{End, LogError};

type Admin = AdminClient<Logged>;

/// See [`Log::ends`](crate::bus::Log::ends).
pub(super) async fn ends(settings: &KafkaSettings, topic: &str) -> Result<Vec<End>, LogError> {
    let admin = Admin::from_config_and_context(&config(settings), Logged).map_err(|error| away(&error))?;
    let (topic, within) = (topic.to_owned(), settings.timeout());
    let ends = asked("kafka-ends", move || ask(&admin, &topic, within)).await.map_err(LogError::Unavailable)?;
    ends.map_err(|error| away(&error))
}

fn ask(admin: &Admin, topic: &str, within: Duration) -> Result<Vec<End>, KafkaError> {
    let metadata = admin.inner().fetch_metadata(Some(topic), within)?;
    let partitions = metadata.topics().iter().filter(|known| known.name() == topic).flat_map(MetadataTopic::partitions);
    let end = |partition| {
        let (first, next) = admin.inner().fetch_watermarks(topic, partition, within)?;
        Ok(End { partition, first, next })
    };
    partitions.map(|partition| end(partition.id())).collect()
}

fn away(error: &KafkaError) -> LogError {
    LogError::Unavailable(said(error))
}
