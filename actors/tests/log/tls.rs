//! Brokers that speak TLS and want to know who comes, for builds that can (`--features kafka-tls`).

use std::sync::Arc;

use secrecy::SecretString;
use somaagent_actors::bus::{
    Log,
    kafka::{KafkaLog, KafkaSettings, TopicError, TopicNeed},
};
use somaagent_test_services::kafka::{Guard, Kafka, WRITER, WRITER_PASSWORD};
use uuid::Uuid;

use crate::ground::{PARTITIONS, join, kafka_settings, new_group, read, record};

/// Settings for a guarded way to `kafka`, which has papers that only its own authority vouches for.
fn through(kafka: &Kafka, guard: Guard, protocol: &str) -> KafkaSettings {
    KafkaSettings {
        security_protocol: protocol.into(),
        tls_ca: Some(kafka.paper("ca").unwrap()),
        timeout_seconds: 10.0,
        ..kafka_settings(&kafka.guarded_address(guard).unwrap())
    }
}

/// Makes a topic, writes a record and reads it.
async fn used(settings: KafkaSettings) {
    assert_eq!(settings.validate(), Ok(()));
    let topic = format!("topic-{}", Uuid::new_v4());
    let log = KafkaLog::new(settings, vec![TopicNeed::new(&topic, PARTITIONS)]);
    log.ready().await.unwrap();
    let log: Arc<dyn Log> = Arc::new(log);
    let results = log.append(vec![record(&topic, "oak", "oak 0")]).await;
    assert!(results[0].is_ok(), "{results:?}");
    let heard = read(&mut join(&log, &new_group(), &topic).await, 1).await;
    assert_eq!(heard.first_of("oak"), ["oak 0"]);
}

/// Why nothing can be had with these settings.
async fn refused(settings: KafkaSettings) -> String {
    let log = KafkaLog::new(KafkaSettings { timeout_seconds: 3.0, ..settings }, vec![TopicNeed::new("t", 1)]);
    let error = log.ready().await.unwrap_err();
    assert!(matches!(error, TopicError::Unavailable(_)), "{error}");
    error.to_string()
}

#[tokio::test]
async fn brokers_are_reached_over_tls_by_password_and_by_certificate_and_not_without() {
    let kafka = Kafka::start_with_tls().unwrap();
    let by_password = |mechanism: &str, password: &str| KafkaSettings {
        sasl_mechanism: Some(mechanism.into()),
        sasl_username: Some(WRITER.into()),
        sasl_password: Some(SecretString::from(password)),
        ..through(&kafka, Guard::Scram, "SASL_SSL")
    };
    for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
        used(by_password(mechanism, WRITER_PASSWORD)).await;
        assert!(!refused(by_password(mechanism, "another-canary")).await.contains("canary"));
    }
    let bare = through(&kafka, Guard::Certificate, "SSL");
    let (tls_cert, tls_key) = (kafka.paper("cert").unwrap(), kafka.paper("key").unwrap());
    used(KafkaSettings { tls_cert: Some(tls_cert), tls_key: Some(tls_key), ..bare.clone() }).await;
    refused(bare).await;
    // Without the authority nobody vouches for the brokers.
    refused(KafkaSettings { tls_ca: None, ..by_password("SCRAM-SHA-256", WRITER_PASSWORD) }).await;
}
