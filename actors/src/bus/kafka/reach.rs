//! Whether the brokers answer: asked at most every few seconds, however many want to know.

use std::time::Duration;

use tokio::{sync::Mutex, time::Instant};

use super::producer::Producer;
use crate::bus::LogError;

/// How long an answer is good.
const GOOD_FOR: Duration = Duration::from_secs(3);
/// How long the brokers have to answer.
const WITHIN: Duration = Duration::from_millis(1_500);

/// The last answer, and when it came.
#[derive(Default)]
pub(super) struct Reach(Mutex<Option<(Instant, Result<(), LogError>)>>);

impl Reach {
    /// See [`crate::bus::Log::reached`].
    pub(super) async fn ask(&self, producer: &Producer) -> Result<(), LogError> {
        let mut last = self.0.lock().await;
        if let Some((_, known)) = last.as_ref().filter(|(at, _)| at.elapsed() < GOOD_FOR) {
            return known.clone();
        }
        // Whoever stops waiting leaves a question behind, which keeps others from asking as well.
        *last = Some((Instant::now(), Err(LogError::Unavailable("no answer yet".into()))));
        let answer = producer.reached(WITHIN).await;
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::kafka::KafkaSettings;

    #[tokio::test]
    async fn brokers_that_nobody_runs_are_not_reached_and_not_asked_again_at_once() {
        let settings = KafkaSettings { bootstrap_servers: "127.0.0.1:1".into(), ..KafkaSettings::default() };
        let (producer, reach) = (Producer::new(settings), Reach::default());
        assert!(matches!(reach.ask(&producer).await, Err(LogError::Unavailable(_))));
        let begun = Instant::now();
        assert!(reach.ask(&producer).await.is_err());
        assert!(begun.elapsed() < WITHIN, "the brokers were asked again");
    }
}
