//! What is counted of dead letters.

use std::collections::BTreeMap;

use prometheus::{
    IntCounterVec, IntGaugeVec, Opts, Registry,
    core::Collector as _,
    proto::{LabelPair, Metric, MetricFamily},
};

/// Metrics of dead letters, by the original's names.
#[derive(Clone, Debug)]
pub struct DeadLetterMetrics {
    depth: IntGaugeVec,
    handled: IntCounterVec,
}

impl DeadLetterMetrics {
    /// Makes the metrics and registers them.
    ///
    /// # Errors
    /// When the registry has metrics of these names.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = Opts::new("gateway_dlq_depth", "Dead letters of all tenants, by topic.");
        let depth = IntGaugeVec::new(opts, &["topic"])?;
        let opts =
            Opts::new("sa01_dlq_events_total", "Dead letters that people let go, by topic and by what was done.");
        let handled = IntCounterVec::new(opts, &["topic", "result"])?;
        registry.register(Box::new(depth.clone()))?;
        registry.register(Box::new(handled.clone()))?;
        Ok(Self { depth, handled })
    }

    /// Sets the depths; a topic that was shown before and is not among them falls to 0.
    pub(super) fn depths(&self, depths: &BTreeMap<String, i64>) {
        let families = self.depth.collect();
        let labels = families.iter().flat_map(MetricFamily::get_metric).flat_map(Metric::get_label);
        for topic in labels.map(LabelPair::value).filter(|topic| !depths.contains_key(*topic)) {
            self.depth.with_label_values(&[topic]).set(0);
        }
        for (topic, depth) in depths {
            self.depth.with_label_values(&[topic.as_str()]).set(*depth);
        }
    }

    pub(super) fn reprocessed(&self, topic: &str, letters: u64) {
        self.handle(topic, "reprocessed", letters);
    }

    pub(super) fn deleted(&self, topic: &str, letters: u64) {
        self.handle(topic, "deleted", letters);
    }

    /// A topic that anybody may have made up is nowhere unless it had letters.
    fn handle(&self, topic: &str, result: &str, letters: u64) {
        if letters > 0 {
            self.handled.with_label_values(&[topic, result]).inc_by(letters);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    #[test]
    fn a_topic_that_has_been_emptied_falls_to_nothing() {
        let metrics = DeadLetterMetrics::register(&Registry::new()).unwrap();
        let depth = |topic: &str| metrics.depth.with_label_values(&[topic]).get();
        metrics.depths(&[("a.dlq".to_owned(), 3), ("b.dlq".to_owned(), 1)].into());
        metrics.depths(&[("b.dlq".to_owned(), 2)].into());
        assert_eq!((depth("a.dlq"), depth("b.dlq")), (0, 2));
    }
}
