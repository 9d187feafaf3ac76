//! What the server says of itself in its metrics.

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::clock;
use crate::measure;
use crate::wire::{self, Wire};

/// Time between two looks at a series that is waited for.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A listener of metrics that is asked again and again on one connection.
#[derive(Debug)]
pub struct Scrape {
    wire: Wire,
    request: Vec<u8>,
}

impl Scrape {
    /// Connects to `port`.
    pub async fn connect(port: u16) -> Result<Self> {
        Ok(Self { wire: Wire::connect(port).await?, request: wire::get(port, "/metrics") })
    }

    /// The value of `series` now, named as in the text form: with its labels.
    ///
    /// # Errors
    /// When there is none.
    pub async fn value(&mut self, series: &str) -> Result<f64> {
        self.wire.expect_ok(&self.request).await?;
        value_in(&self.wire.text(), series).with_context(|| format!("the metrics have no {series}"))
    }

    /// The same of a series that counts.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counts are whole and stay far below 2^53"
    )]
    pub async fn count(&mut self, series: &str) -> Result<u64> {
        Ok(self.value(series).await? as u64)
    }

    /// Waits until `series` has counted to `count` and returns how much that was a second. The time begins with the last look
    /// at which it stood at 0, so that it is not that of the start.
    pub async fn rate_to(&mut self, series: &str, count: u64) -> Result<f64> {
        let mut began = clock::now();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let (counted, now) = (self.count(series).await?, clock::now());
            if counted == 0 {
                began = now;
            } else if counted >= count {
                return Ok(measure::rate(counted, began, now));
            }
        }
    }
}

/// The value of a series in the text form of metrics.
fn value_in(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_found_by_its_whole_name() {
        let text = "# HELP sent_total x\nsent_total{result=\"ok\"} 12\nsent_total_before 3\nlag 0.5\n";
        assert_eq!(value_in(text, "sent_total{result=\"ok\"}"), Some(12.0));
        assert_eq!(value_in(text, "lag"), Some(0.5));
        assert_eq!(value_in(text, "sent_total"), None);
    }
}
