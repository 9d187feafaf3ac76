//! How far a topic goes now.

use std::time::Duration;

use rdkafka::{admin::AdminClient, config::FromClientConfigAndContext, error::KafkaError, metadata::MetadataTopic};
use tokio::sync::oneshot;

use super::{
    client::{Logged, config, said},
    settings::KafkaSettings,
};
use crate::bus::{End, LogError};

type Admin = AdminClient<Logged>;

/// See [`Log::ends`](crate::bus::Log::ends).
pub(super) async fn ends(settings: &KafkaSettings, topic: &str) -> Result<Vec<End>, LogError> {
    let admin = Admin::from_config_and_context(&config(settings), Logged).map_err(|error| away(&error))?;
    let (answer, answered) = oneshot::channel();
    let (topic, within) = (topic.to_owned(), settings.timeout());
    // The library waits for the answers, hence the thread.
    let spawned = std::thread::Builder::new()
        .name("kafka-ends".into())
        .spawn(move || drop(answer.send(ask(&admin, &topic, within))));
    spawned.map_err(|error| LogError::Unavailable(format!("no thread to ask on: {error}")))?;
    let ends = answered.await.map_err(|_| LogError::Unavailable("nobody answered".to_owned()))?;
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
