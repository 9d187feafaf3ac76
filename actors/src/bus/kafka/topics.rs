//! Topics: made where they are missing, checked where they are not.

use std::time::Duration;

use rdkafka::{
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    config::FromClientConfigAndContext,
    error::{KafkaError, RDKafkaErrorCode},
    metadata::Metadata,
};
use tokio::time::{Instant, sleep};

use super::{
    client::{Logged, asked, config, said},
    delivery::MAX_MESSAGE_BYTES,
    settings::KafkaSettings,
};

/// Time between two looks for a topic that was just made.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A topic that must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicNeed {
    /// Its name.
    pub name: String,
    /// Partitions it is made with, and must have at least.
    pub partitions: i32,
    /// Whether it is made so that its records stay for ever.
    pub kept: bool,
}

impl TopicNeed {
    /// The topic `name` with at least so many partitions.
    #[must_use]
    pub fn new(name: impl Into<String>, partitions: i32) -> Self {
        Self { name: name.into(), partitions, kept: false }
    }

    /// The same; its records stay for ever.
    #[must_use]
    pub fn kept(self) -> Self {
        Self { kept: true, ..self }
    }
}

/// Why the topics are not as they must be.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TopicError {
    /// No broker answers, or none that can say; later it may.
    #[error("the brokers cannot be asked for topics: {0}")]
    Unavailable(String),
    /// A topic is missing and may not be made by us.
    #[error("topic {topic} is missing and this user may not make it ({reason}): make it with {partitions} partitions")]
    Forbidden {
        /// Its name.
        topic: String,
        /// Partitions it needs.
        partitions: i32,
        /// What the broker says.
        reason: String,
    },
    /// A topic is missing and the brokers do not make it.
    #[error("topic {topic} is missing and could not be made: {reason}")]
    NotMade {
        /// Its name.
        topic: String,
        /// What the broker says.
        reason: String,
    },
    /// A topic has too few partitions.
    #[error("topic {topic} has {found} partitions and needs {needed}: add some, or give it another name")]
    TooFew {
        /// Its name.
        topic: String,
        /// Partitions it has.
        found: i32,
        /// Partitions it needs.
        needed: i32,
    },
}

type Admin = AdminClient<Logged>;

/// See [`super::KafkaLog::ready`].
pub(super) async fn ensure(settings: &KafkaSettings, needs: &[TopicNeed]) -> Result<(), TopicError> {
    let deadline = Instant::now() + settings.timeout();
    let mut admin = Admin::from_config_and_context(&config(settings), Logged).map_err(|error| away(&error))?;
    let mut asked_for = false;
    loop {
        let found;
        (admin, found) = partitions(admin, needs, deadline).await?;
        for (need, found) in needs.iter().zip(&found) {
            if let Some(found) = found.filter(|found| *found < need.partitions) {
                return Err(TopicError::TooFew { topic: need.name.clone(), found, needed: need.partitions });
            }
        }
        let missing: Vec<TopicNeed> =
            needs.iter().zip(found).filter(|(_, found)| found.is_none()).map(|(need, _)| need.clone()).collect();
        let Some(first) = missing.first() else { return Ok(()) };
        if !asked_for {
            make(&admin, settings, &missing).await?;
            asked_for = true;
        } else if Instant::now() >= deadline {
            return Err(TopicError::Unavailable(format!("topic {} was made and is not there yet", first.name)));
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// How many partitions each topic has; none for a topic that is not there. All topics are asked for: to
/// ask for one may make it, with the broker's idea of partitions.
async fn partitions(
    admin: Admin,
    needs: &[TopicNeed],
    deadline: Instant,
) -> Result<(Admin, Vec<Option<i32>>), TopicError> {
    let within = deadline.saturating_duration_since(Instant::now()).max(LOOK_AGAIN);
    let ask = move || {
        let metadata = admin.inner().fetch_metadata(None, within);
        (admin, metadata)
    };
    let (admin, metadata) = asked("kafka-topics", ask).await.map_err(TopicError::Unavailable)?;
    let metadata = metadata.map_err(|error| away(&error))?;
    Ok((admin, needs.iter().map(|need| count(&metadata, &need.name)).collect()))
}

fn count(metadata: &Metadata, topic: &str) -> Option<i32> {
    let topic = metadata.topics().iter().find(|known| known.name() == topic)?;
    let count = i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX);
    (count > 0).then_some(count)
}

async fn make(admin: &Admin, settings: &KafkaSettings, missing: &[TopicNeed]) -> Result<(), TopicError> {
    let largest = MAX_MESSAGE_BYTES.to_string();
    let mut new = Vec::with_capacity(missing.len());
    for need in missing {
        let copies = TopicReplication::Fixed(settings.replication_factor);
        let topic = NewTopic::new(&need.name, need.partitions, copies).set("max.message.bytes", &largest);
        new.push(if need.kept { topic.set("retention.ms", "-1") } else { topic });
    }
    let timeout = Some(settings.timeout());
    let options = AdminOptions::new().request_timeout(timeout).operation_timeout(timeout);
    let made = admin.create_topics(&new, &options).await.map_err(|error| away(&error))?;
    for (need, made) in missing.iter().zip(made) {
        use RDKafkaErrorCode::{ClusterAuthorizationFailed, TopicAlreadyExists, TopicAuthorizationFailed};
        let topic = need.name.clone();
        match made {
            // Another process made it at the same time; the next look checks it.
            Ok(_) | Err((_, TopicAlreadyExists)) => {}
            Err((_, code @ (ClusterAuthorizationFailed | TopicAuthorizationFailed))) => {
                let (partitions, reason) = (need.partitions, code.to_string());
                return Err(TopicError::Forbidden { topic, partitions, reason });
            }
            Err((_, code)) => return Err(TopicError::NotMade { topic, reason: code.to_string() }),
        }
    }
    Ok(())
}

fn away(error: &KafkaError) -> TopicError {
    TopicError::Unavailable(said(error))
}
