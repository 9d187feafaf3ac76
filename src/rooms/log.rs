//! Which log records go to: Kafka where brokers are configured, else the table of the database.

use std::{sync::Arc, time::Duration};

use anyhow::Context;
use somaagent_actors::{
    bus::{
        Log,
        kafka::{KafkaLog, KafkaSettings, TopicError, TopicNeed},
        table::{TableLog, partitions},
    },
    domain::{
        audit_chain::CHECKPOINTS,
        dead_letter,
        session::{INBOUND, OUTBOUND},
        wal::MEMORY_WAL,
    },
    store::Store,
};
use somaagent_http::door::{Component, Condition, Finding, Scope, Weight};
use tokio::time::timeout;

use super::now;
use crate::{
    boot::Base,
    database::{may_pass, outlast},
    roles::Role,
};

/// Topics that are written to. Each has one for its dead letters.
const TOPICS: [&str; 4] = [INBOUND, OUTBOUND, MEMORY_WAL, CHECKPOINTS];

/// The name of the log inside the database, as the replica's positions know it.
pub(super) const TABLE: &str = "table";
/// The name of the log on Kafka.
const KAFKA: &str = "kafka";

/// A log that can be used.
#[derive(Clone)]
pub(super) struct Opened {
    /// It.
    pub(super) log: Arc<dyn Log>,
    /// Its name: offsets of one log say nothing of another.
    pub(super) source: &'static str,
}

/// Whether the log can be reached.
pub(super) fn component(opened: &Opened) -> Component {
    let (log, inside) = (Arc::clone(&opened.log), opened.source == TABLE);
    Component::new("kafka", Weight::Vital, Scope::Both, move || {
        let log = Arc::clone(&log);
        async move {
            let detail = inside.then(|| "not configured: the log is inside the database".to_owned());
            match log.reached().await {
                Ok(()) => Finding { detail, ..Finding::ok() },
                Err(_) => Finding::not_ok(Condition::Down, "no broker answers"),
            }
        }
    })
}

/// The configured log. Topics that cannot be used as they are end the start; brokers that are away do not, because what is
/// said is kept until they are back.
pub(super) async fn open(base: &Base, store: Store) -> anyhow::Result<Opened> {
    let kafka = &base.config.kafka;
    if kafka.bootstrap_servers.is_empty() {
        let log = TableLog::new(store, now);
        let ensure = async || log.ensure_topics(&TOPICS).await;
        outlast(("topics", base.patience()), may_pass, ensure).await.context("topics")?;
        if base.config.server.role.has(Role::Replicator) {
            // What is removed from the log is what every group has read; the replicator's counts before it first reads.
            let ensure = async || log.ensure_group(&base.config.replicator.group, MEMORY_WAL).await;
            let place = "the replicator's place";
            outlast((place, base.patience()), may_pass, ensure).await.context(place)?;
        }
        return Ok(Opened { log: Arc::new(log), source: TABLE });
    }
    let log = kafka_log(kafka);
    // The step of the start that this is part of has a deadline, and goes on after it.
    let within = Duration::from_millis(base.config.boot.step_ms / 2).min(kafka.timeout());
    match timeout(within, log.ready()).await {
        Ok(Ok(())) => tracing::info!(brokers = kafka.bootstrap_servers, "the log is on Kafka"),
        Ok(Err(error @ TopicError::Unavailable(_))) => away(&error.to_string()),
        Err(_) => away("no answer"),
        Ok(Err(error)) => return Err(error.into()),
    }
    Ok(Opened { log: Arc::new(log), source: KAFKA })
}

/// The log on these brokers, with all its topics.
pub(crate) fn kafka_log(kafka: &KafkaSettings) -> KafkaLog {
    let topics = TOPICS.into_iter().flat_map(|topic| [topic.to_owned(), dead_letter::topic_of(topic)]);
    // More partitions can be added later, but then keys move.
    let need = |topic: String| {
        let need = TopicNeed::new(&topic, partitions(&topic));
        if topic == CHECKPOINTS { need.kept() } else { need }
    };
    KafkaLog::new(kafka.clone(), topics.map(need).collect())
}

/// The name of a group that reads checkpoints, and that nobody else has.
pub(crate) fn audit_reader() -> String {
    format!("somaagent-audit-{}", uuid::Uuid::new_v4())
}

fn away(reason: &str) {
    tracing::warn!(reason, "the brokers are away: what is said is kept, and goes into the log when they are back");
}
