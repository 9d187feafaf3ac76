//! What only brokers can do to a log: refuse, die, lack a topic, or not let us in.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use secrecy::SecretString;
use somaagent_actors::bus::{
    Log, LogError,
    kafka::{KafkaLog, KafkaSettings, TopicError, TopicNeed},
};
use somaagent_test_services::kafka::{GUEST, GUEST_PASSWORD, Guard, Kafka};
use tokio::time::Instant;
use uuid::Uuid;

use crate::ground::{
    Heard, KEYS, PARTITIONS, PATIENCE, SOON, commit, join, kafka_settings, new_group, next, read, record, said, say,
};

/// Settings with short patience.
fn hasty(address: &str) -> KafkaSettings {
    KafkaSettings { timeout_seconds: 6.0, ..kafka_settings(address) }
}

fn new_topic() -> String {
    format!("topic-{}", Uuid::new_v4())
}

fn log(settings: KafkaSettings) -> Arc<dyn Log> {
    Arc::new(KafkaLog::new(settings, vec![]))
}

#[tokio::test]
async fn a_record_that_the_broker_refuses_is_refused_alone() {
    let kafka = Kafka::shared().unwrap();
    let topic = new_topic();
    kafka.make_topic(&topic, PARTITIONS, &[("max.message.bytes", "500000")]).await.unwrap();
    let log = log(kafka_settings(kafka.address()));
    // Large ones between small ones of the same keys, all in one go. A full bunch of the small ones is too large as well,
    // and what comes behind it, in a bunch that is not full, must not overtake it.
    let large = |n: usize| n % 19 == 7;
    let text = |key: &str, n: usize| format!("{key} {n} {}", "x".repeat(if large(n) { 600_000 } else { 20_000 }));
    let all: Vec<(&str, usize)> = (0..57).flat_map(|n| KEYS[..4].iter().map(move |key| (*key, n))).collect();
    let results = log.append(all.iter().map(|(key, n)| record(&topic, key, text(key, *n))).collect()).await;
    for ((key, n), result) in all.iter().zip(&results) {
        assert_eq!(matches!(result, Err(LogError::Refused(_))), large(*n), "{key} {n}: {result:?}");
        assert!(large(*n) || result.is_ok(), "{key} {n}: {result:?}");
    }
    let heard = read(&mut join(&log, &new_group(), &topic).await, all.len() - 12).await;
    for key in &KEYS[..4] {
        let due: Vec<String> = (0..57).filter(|n| !large(*n)).map(|n| text(key, n)).collect();
        assert!(heard.first_of(key) == due, "{key} is out of order");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_the_log_after_a_failure_is_a_beginning() {
    let kafka = Kafka::start().unwrap();
    let log = log(hasty(kafka.address()));
    // A round in which the broker dies before or after the append proves little: how long one takes is found out.
    let mut after = Duration::from_millis(100);
    for _ in 0..16 {
        after = match killed_meanwhile(&kafka, &log, after).await {
            0 => after.mul_f64(1.5),
            taken if taken == EACH * KEYS.len() => after.mul_f64(0.6),
            _ => return,
        };
    }
    panic!("the broker never died in the middle of an append");
}

/// Records of a key in one append that is long enough to be cut.
const EACH: usize = 5_000;

/// Appends much at once, kills the broker meanwhile, and looks at what is left; then appends the rest as a relay does.
/// Returns how many records were acknowledged at first.
async fn killed_meanwhile(kafka: &Kafka, log: &Arc<dyn Log>, after: Duration) -> usize {
    let topic = new_topic();
    kafka.make_topic(&topic, PARTITIONS, &[]).await.unwrap();
    let said_of_all = (0..EACH).flat_map(|n| KEYS.iter().map(move |key| (*key, format!("{key} {n}"))));
    let mut left: Vec<(&str, String)> = said_of_all.collect();
    let append = |left: &[(&str, String)]| {
        log.append(left.iter().map(|(key, text)| record(&topic, key, text.as_str())).collect())
    };
    // Connected, so that the append begins at once.
    assert!(append(&[("elsewhere", String::new())]).await[0].is_ok());
    let (mut results, ()) = tokio::join!(append(&left), async {
        tokio::time::sleep(after).await;
        tokio::task::block_in_place(|| kafka.kill9()).unwrap();
    });
    tokio::task::block_in_place(|| kafka.restart()).unwrap();
    assert!(results.iter().all(|result| !matches!(result, Err(LogError::Refused(_)))));
    let taken = results.iter().filter(|result| result.is_ok()).count();

    let logged = heard(kafka, &topic).await;
    assert!(logged.len() > taken, "{} of {taken} acknowledged records are left", logged.len());
    for key in KEYS {
        let texts = logged.of(key);
        assert!(texts == said(key, texts.len()), "a record of {key} is there without one before it");
    }
    let deadline = Instant::now() + PATIENCE;
    while !left.is_empty() {
        assert!(Instant::now() < deadline, "{} records are not taken", left.len());
        let mut outcomes = results.iter();
        left.retain(|_| outcomes.next().is_some_and(Result::is_err));
        results = append(&left).await;
    }
    let logged = heard(kafka, &topic).await;
    for key in KEYS {
        assert!(logged.first_of(key) == said(key, EACH), "{key} is out of order or has a gap");
    }
    taken
}

/// What a topic has, seen without the log.
async fn heard(kafka: &Kafka, topic: &str) -> Heard {
    let mut heard = Heard::default();
    for record in kafka.records(topic).await.unwrap() {
        heard.note(record.partition, record.key, record.payload);
    }
    heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_outlives_its_broker() {
    let kafka = Kafka::start().unwrap();
    let (topic, group) = (new_topic(), new_group());
    kafka.make_topic(&topic, PARTITIONS, &[]).await.unwrap();
    let log = log(hasty(kafka.address()));
    say(&log, &topic, &KEYS, 0, 2).await;
    let mut reader = join(&log, &group, &topic).await;
    let heard = read(&mut reader, KEYS.len() * 2).await;
    tokio::task::block_in_place(|| kafka.kill9()).unwrap();
    let committed = reader.commit(heard.ends()[0]).await;
    assert!(matches!(committed, Err(LogError::Unavailable(_))), "{committed:?}");
    assert!(next(&mut reader, 10, Duration::from_secs(1)).await.is_none());
    tokio::task::block_in_place(|| kafka.restart()).unwrap();

    let deadline = Instant::now() + PATIENCE;
    while log.append(vec![record(&topic, "oak", "oak 2")]).await[0].is_err() {
        assert!(Instant::now() < deadline, "the broker that came back takes nothing");
    }
    let mut more = Heard::default();
    while more.of("oak").last().is_none_or(|last| last != "oak 2") {
        assert!(Instant::now() < deadline, "the reader gets nothing of the broker that came back");
        if let Some(batch) = next(&mut reader, 100, SOON).await {
            more.add(batch);
        }
    }
    commit(&mut reader, more.ends()).await;
}

/// What the process has logged since [`listen`].
static LOGGED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Ear;

impl io::Write for Ear {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOGGED.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn listen() {
    let all = tracing_subscriber::fmt().with_ansi(false).with_max_level(tracing::Level::WARN).with_writer(|| Ear);
    tracing::subscriber::set_global_default(all.finish()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stays_silent_after_trouble_joins_its_group_anew_and_goes_on() {
    listen();
    let kafka = Kafka::start().unwrap();
    let (topic, group) = (new_topic(), new_group());
    kafka.make_topic(&topic, PARTITIONS, &[]).await.unwrap();
    let log = log(KafkaSettings { timeout_seconds: 1.0, session_timeout_ms: 6_000, ..kafka_settings(kafka.address()) });
    let append = async |n: usize| {
        let deadline = Instant::now() + PATIENCE;
        while log.append(vec![record(&topic, "oak", format!("oak {n}"))]).await[0].is_err() {
            assert!(Instant::now() < deadline, "the broker takes nothing");
        }
    };
    append(0).await;
    let mut reader = join(&log, &group, &topic).await;
    let heard = read(&mut reader, 1).await;
    commit(&mut reader, heard.ends()).await;
    tokio::task::block_in_place(|| kafka.kill9()).unwrap();
    tokio::task::block_in_place(|| kafka.restart()).unwrap();

    // Nothing is said, so that nothing shows whether the reader got over it.
    let deadline = Instant::now() + PATIENCE;
    let line = format!("joins its group anew topic=\"{topic}\"");
    while !String::from_utf8_lossy(&LOGGED.lock().unwrap()).contains(&line) {
        assert!(Instant::now() < deadline, "the reader waits for ever");
        drop(next(&mut reader, 100, SOON).await);
    }
    append(1).await;
    let heard = read(&mut reader, 1).await;
    assert_eq!(heard.of("oak"), ["oak 1"], "what was committed does not come again");
    commit(&mut reader, heard.ends()).await;
}

#[tokio::test]
async fn a_reader_that_rests_gets_everything_afterwards() {
    let kafka = Kafka::shared().unwrap();
    let (log, topic) = (log(kafka_settings(kafka.address())), new_topic());
    kafka.make_topic(&topic, PARTITIONS, &[]).await.unwrap();
    say(&log, &topic, &KEYS, 0, 2_500).await;
    let mut reader = join(&log, &new_group(), &topic).await;
    let mut heard = read(&mut reader, 1).await;
    // Meanwhile more is sent than is held at most.
    tokio::time::sleep(Duration::from_secs(2)).await;
    heard.0.extend(read(&mut reader, KEYS.len() * 2_500 - heard.len()).await.0);
    for key in KEYS {
        assert!(heard.of(key) == said(key, 2_500), "{key} is out of order or has a gap");
    }
}

#[tokio::test]
async fn a_topic_that_is_missing_is_waited_for() {
    let kafka = Kafka::shared().unwrap();
    let (log, topic) = (log(hasty(kafka.address())), new_topic());
    let results = log.append(vec![record(&topic, "oak", "oak 0"), record(&topic, "oak", "oak 1")]).await;
    assert!(results.iter().all(|result| matches!(result, Err(LogError::Unavailable(_)))), "{results:?}");
    kafka.make_topic(&topic, PARTITIONS, &[]).await.unwrap();
    say(&log, &topic, &["oak"], 0, 2).await;
    let heard = read(&mut join(&log, &new_group(), &topic).await, 2).await;
    assert_eq!(heard.first_of("oak"), said("oak", 2));
}

#[tokio::test]
async fn topics_are_made_once_and_checked_ever_after() {
    let kafka = Kafka::shared().unwrap();
    let topic = new_topic();
    let ready = async |partitions| {
        KafkaLog::new(kafka_settings(kafka.address()), vec![TopicNeed::new(&topic, partitions)]).ready().await
    };
    // Two processes that start at once.
    let (one, two) = tokio::join!(ready(2), ready(2));
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    assert!(ready(1).await.is_ok());
    let error = ready(3).await.unwrap_err();
    assert!(matches!(error, TopicError::TooFew { found: 2, needed: 3, .. }) && error.to_string().contains(&topic));
}

#[tokio::test]
async fn brokers_that_are_away_are_told_in_time() {
    let settings = KafkaSettings { timeout_seconds: 1.0, ..hasty("127.0.0.1:9") };
    let log = KafkaLog::new(settings, vec![TopicNeed::new("t", 1)]);
    let begun = Instant::now();
    assert!(matches!(log.ready().await, Err(TopicError::Unavailable(_))));
    let results = log.append(vec![record("t", "oak", "oak 0")]).await;
    assert!(matches!(results[0], Err(LogError::Unavailable(_))), "{results:?}");
    assert!(log.join("g", "t").await.is_err());
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_user_without_rights_is_told_which_topic_is_missing() {
    let kafka = Kafka::start().unwrap();
    let guest = |password: &str| KafkaSettings {
        security_protocol: "SASL_PLAINTEXT".into(),
        sasl_mechanism: Some("PLAIN".into()),
        sasl_username: Some(GUEST.into()),
        sasl_password: Some(SecretString::from(password)),
        ..hasty(&kafka.guarded_address(Guard::Plain).unwrap())
    };
    assert_eq!(guest(GUEST_PASSWORD).validate(), Ok(()));
    let topic = new_topic();
    let ready = async |password: &str| {
        KafkaLog::new(guest(password), vec![TopicNeed::new(&topic, 3)]).ready().await.unwrap_err()
    };
    let error = ready(GUEST_PASSWORD).await;
    assert!(matches!(error, TopicError::Forbidden { partitions: 3, .. }), "{error}");
    assert!(error.to_string().contains(&topic), "{error}");
    let error = ready("another-canary").await;
    assert!(matches!(error, TopicError::Unavailable(_)) && !error.to_string().contains("canary"), "{error}");
    // Rights can be given later: nothing is refused for the lack of them.
    kafka.make_topic(&topic, 3, &[]).await.unwrap();
    let results = log(guest(GUEST_PASSWORD)).append(vec![record(&topic, "oak", "oak 0")]).await;
    assert!(matches!(results[0], Err(LogError::Unavailable(_))), "{results:?}");
}
