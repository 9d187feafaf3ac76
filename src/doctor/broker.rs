//! The brokers of the log: whether a record that they acknowledge stays.

use std::time::Duration;

use somaagent_actors::bus::MAX_RECORD_BYTES;
use somaagent_actors::bus::kafka::{BrokersLook, KafkaSettings, TopicLook};
use somaagent_actors::domain::wal::MEMORY_WAL;
use tokio::time::Instant;

use super::{
    Look,
    finding::{Notes, counted},
};
use crate::rooms::log::kafka_log;

/// A replicator that was away for a day must find what it has not read.
const DAY_MS: i64 = 86_400_000;

pub(super) async fn check(look: Look<'_>, notes: &Notes) {
    let kafka = &look.config.kafka;
    if kafka.bootstrap_servers.is_empty() {
        return notes
            .skipped("brokers", "none are configured: the log is a table of the database (KAFKA_BOOTSTRAP_SERVERS)");
    }
    // Two questions must end before the subject's time does.
    let within = kafka.timeout().min(look.within / 3);
    let hurried =
        KafkaSettings { timeout_seconds: within.max(Duration::from_millis(100)).as_secs_f64(), ..kafka.clone() };
    let begun = Instant::now();
    let seen = match kafka_log(&hurried).look().await {
        Ok(seen) => seen,
        Err(error) => {
            let advice = "see whether KAFKA_BOOTSTRAP_SERVERS, the security protocol and the credentials are right; until then records wait in the database";
            return notes.fault("brokers", format!("{}: {error}", kafka.bootstrap_servers), advice);
        }
    };
    let took = begun.elapsed().as_millis();
    notes.ok("brokers", format!("{} there, seen within {took} ms", counted(seen.brokers, "broker")));
    topics(&seen, notes);
    copies(look, &seen, notes);
    retention(&seen, notes);
}

/// The names of topics of which something is true.
fn those(seen: &BrokersLook, holds: impl Fn(&TopicLook) -> bool) -> Option<String> {
    let names: Vec<&str> =
        seen.topics.iter().filter(|topic| holds(topic)).map(|topic| topic.need.name.as_str()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}

fn topics(seen: &BrokersLook, notes: &Notes) {
    match those(seen, |topic| topic.partitions == 0) {
        None => notes.ok("topics", format!("all {} are there", seen.topics.len())),
        Some(names) => {
            let advice = "the next start makes them; if its user may not, make them: docs/doctor.md tells with how many partitions";
            notes.note("topics", format!("not there: {names}"), Some(advice));
        }
    }
    for topic in seen.topics.iter().filter(|topic| (1..topic.need.partitions).contains(&topic.partitions)) {
        let seen =
            format!("{} has {} and needs {}", topic.need.name, partitions(topic.partitions), topic.need.partitions);
        notes.fault("partitions", seen, "add some (kafka-topics --alter --partitions): no process starts with fewer");
    }
    if let Some(names) = those(seen, |topic| topic.leaderless > 0) {
        notes.fault(
            "leaders",
            format!("partitions without a leader: {names}"),
            "bring back the brokers that have their copies",
        );
    }
    if let Some(why) = &seen.unknown {
        let advice = "let this user describe the settings of topics (DescribeConfigs) to have them looked at";
        notes.note("topics", format!("their settings are not known: {why}"), Some(advice));
    }
}

fn partitions(count: i32) -> String {
    counted(usize::try_from(count).unwrap_or_default(), "partition")
}

/// Records are appended with acks=all: all copies that are up to date must have them, and at least so many as the topic says.
fn copies(look: Look<'_>, seen: &BrokersLook, notes: &Notes) {
    let is_there = |topic: &TopicLook| topic.partitions > 0;
    let too_few = those(seen, |topic| is_there(topic) && topic.min_in_sync.is_some_and(|least| topic.in_sync < least));
    if let Some(names) = &too_few {
        let seen = format!(
            "fewer copies are up to date than must be (min.insync.replicas), so nothing can be appended: {names}"
        );
        notes.fault("acks", seen, "bring back the brokers that are away; until then records wait in the database");
    }
    let single = those(seen, |topic| is_there(topic) && topic.replicas < 2);
    if let Some(names) = &single {
        let advice = "have three copies of each (kafka-reassign-partitions), and SA01_KAFKA__REPLICATION_FACTOR=3 for topics to come";
        notes.warning_if(
            look.is_serious(),
            "copies",
            format!("there is one copy, which is gone with its broker: {names}"),
            advice,
        );
    }
    let alone = those(seen, |topic| topic.replicas > 1 && topic.min_in_sync == Some(1));
    if let Some(names) = &alone {
        let advice = "set min.insync.replicas=2 for these topics (kafka-configs --alter)";
        let seen = format!("a record is acknowledged when one copy has it (min.insync.replicas=1): {names}");
        notes.warning_if(look.is_serious(), "acks", seen, advice);
    }
    if too_few.is_none() && single.is_none() && alone.is_none() && seen.topics.iter().any(is_there) {
        notes.ok("acks", "acks=all can be had: copies enough are up to date");
    }
}

fn retention(seen: &BrokersLook, notes: &Notes) {
    if let Some(names) = those(seen, |topic| topic.need.kept && topic.retention_ms.is_some_and(|kept| kept != -1)) {
        let seen = format!("records that prove the audit trail are thrown away after a time: {names}");
        notes.warning("retention", seen, "set retention.ms=-1 for it (kafka-configs --alter)");
    }
    let is_short = |topic: &TopicLook| topic.retention_ms.is_some_and(|kept| (0..DAY_MS).contains(&kept));
    if let Some(names) = those(seen, |topic| topic.need.name == MEMORY_WAL && is_short(topic)) {
        let seen = format!("records are thrown away within a day: {names}");
        notes.warning(
            "retention",
            seen,
            "set retention.ms to a week (604800000): a replicator that is away longer never sees them",
        );
    }
    if let Some(names) = those(seen, |topic| topic.max_bytes.is_some_and(|most| most < MAX_RECORD_BYTES)) {
        let seen = format!("the longest records are refused and become dead letters (max.message.bytes): {names}");
        notes.note("length", seen, Some("set max.message.bytes as topics have it that a start makes"));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use somaagent_actors::bus::kafka::TopicNeed;

    use super::*;
    use crate::config::{Config, Environment};
    use crate::doctor::finding::{Finding, Severity};

    fn sound(name: &str) -> TopicLook {
        TopicLook {
            need: TopicNeed::new(name, 3),
            partitions: 3,
            replicas: 3,
            in_sync: 3,
            leaderless: 0,
            min_in_sync: Some(2),
            retention_ms: Some(7 * DAY_MS),
            max_bytes: Some(2 * MAX_RECORD_BYTES),
        }
    }

    fn found(topic: TopicLook) -> Vec<Finding> {
        let environment = Environment::of([("SA01_ENV", "STAGING")]);
        let config = Config::load(&environment).unwrap();
        let look = Look { config: &config, environment: &environment, within: Duration::from_secs(1) };
        let seen = BrokersLook { brokers: 3, topics: vec![topic], unknown: None };
        let notes = Notes::of("log");
        topics(&seen, &notes);
        copies(look, &seen, &notes);
        retention(&seen, &notes);
        notes.into_findings()
    }

    #[test]
    fn each_ill_of_a_topic_is_told_apart() {
        let wal = || sound(MEMORY_WAL);
        assert!(found(wal()).iter().all(|found| found.severity == Severity::Ok), "{:?}", found(wal()));
        for (topic, check, severity) in [
            (
                TopicLook { partitions: 0, replicas: 0, in_sync: 0, min_in_sync: None, ..wal() },
                "topics",
                Severity::Note,
            ),
            (TopicLook { partitions: 2, ..wal() }, "partitions", Severity::Fault),
            (TopicLook { leaderless: 1, ..wal() }, "leaders", Severity::Fault),
            (TopicLook { in_sync: 1, ..wal() }, "acks", Severity::Fault),
            (TopicLook { replicas: 1, in_sync: 1, min_in_sync: Some(1), ..wal() }, "copies", Severity::Note),
            (TopicLook { min_in_sync: Some(1), ..wal() }, "acks", Severity::Note),
            (TopicLook { retention_ms: Some(3_600_000), ..wal() }, "retention", Severity::Warning),
            (
                TopicLook { need: TopicNeed::new("audit.checkpoints", 3).kept(), ..wal() },
                "retention",
                Severity::Warning,
            ),
            (TopicLook { max_bytes: Some(1_048_588), ..wal() }, "length", Severity::Note),
        ] {
            let found = found(topic);
            let worst = found.iter().max_by_key(|found| found.severity).unwrap();
            assert_eq!((worst.check, worst.severity), (check, severity), "{found:?}");
            assert!(worst.advice.is_some(), "{worst:?}");
        }
        let forever = TopicLook { retention_ms: Some(-1), ..sound("audit.checkpoints") };
        assert!(
            found(TopicLook { need: TopicNeed::new("audit.checkpoints", 3).kept(), ..forever })
                .iter()
                .all(|found| found.severity == Severity::Ok)
        );
    }
}
