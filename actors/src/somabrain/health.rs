//! How the server is: judging a probe's answer, and the last report for readers who do not want to ask.

use std::{sync::Arc, time::Duration};

use serde_json::Value;
use tokio::sync::watch;

/// The three states of the server, as dashboards and the page know them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthState {
    /// All is well.
    Normal,
    /// It answers, but says that something is amiss.
    Degraded,
    /// No answer, or one that is no 200.
    Down,
}

impl HealthState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Normal, Self::Degraded, Self::Down];

    /// The fixed lower-case word for metrics and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }

    /// Reads the answer to `GET /health`: 200 with `ok: true` or a `status` of ok, healthy or up is normal, another
    /// 200 degraded, everything else down.
    #[must_use]
    pub fn of_answer(status: u16, body: &Value) -> Self {
        let well = body["ok"] == Value::Bool(true)
            || body["status"]
                .as_str()
                .is_some_and(|word| ["ok", "healthy", "up"].iter().any(|good| word.eq_ignore_ascii_case(good)));
        match (status, well) {
            (200, true) => Self::Normal,
            (200, false) => Self::Degraded,
            _ => Self::Down,
        }
    }
}

/// The outcome of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReport {
    /// How the server is.
    pub state: HealthState,
    /// The server's own words, or why there are none; shortened.
    pub detail: Arc<str>,
    /// How long the probe took.
    pub took: Duration,
}

/// The last health report, readable from any thread without an ask.
#[derive(Debug, Clone)]
pub struct HealthReader(watch::Receiver<Option<HealthReport>>);

impl HealthReader {
    /// The report of the last probe; `None` until the first one has ended.
    #[must_use]
    pub fn last(&self) -> Option<HealthReport> {
        self.0.borrow().clone()
    }

    /// A reader of a server that nobody asks how it is.
    #[must_use]
    pub fn never() -> Self {
        Self(watch::Sender::new(None).subscribe())
    }

    /// Waits for the next report. Never returns if the client is gone for good.
    pub async fn changed(&mut self) -> HealthReport {
        while self.0.changed().await.is_ok() {
            if let Some(report) = self.0.borrow_and_update().clone() {
                return report;
            }
        }
        std::future::pending().await
    }
}

/// The writing end of a [`HealthReader`].
#[derive(Debug, Clone)]
pub(super) struct HealthBoard(Arc<watch::Sender<Option<HealthReport>>>);

impl HealthBoard {
    pub(super) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    pub(super) fn reader(&self) -> HealthReader {
        HealthReader(self.0.subscribe())
    }

    /// Publishes a report and returns the state before it.
    pub(super) fn publish(&self, report: HealthReport) -> Option<HealthState> {
        self.0.send_replace(Some(report)).map(|before| before.state)
    }
}

#[cfg(test)]
mod tests {
    use super::HealthState::{Degraded, Down, Normal};
    use super::*;
    use serde_json::json;

    #[test]
    fn health_is_read_from_every_version_of_the_server() {
        let cases = [
            ("old", 200, json!({"ok": true}), Normal),
            ("december", 200, json!({"status": "healthy", "infrastructure": {}}), Normal),
            ("december, degraded", 200, json!({"status": "degraded"}), Degraded),
            ("now", 200, json!({"ok": true, "status": "degraded", "ready": true}), Normal),
            ("now, critical", 200, json!({"ok": false, "status": "critical"}), Degraded),
            ("upper case", 200, json!({"status": "UP"}), Normal),
            ("ok as text", 200, json!({"ok": "true"}), Degraded),
            ("no JSON", 200, Value::Null, Degraded),
            ("other success", 204, json!({"ok": true}), Down),
            ("unavailable", 503, json!({"ok": true}), Down),
        ];
        for (name, status, body, state) in cases {
            assert_eq!(HealthState::of_answer(status, &body), state, "{name}");
        }
    }

    #[test]
    fn a_reader_sees_the_last_report_without_asking() {
        let board = HealthBoard::new();
        let reader = board.reader();
        assert_eq!(reader.last(), None);
        let report = |state| HealthReport { state, detail: "".into(), took: Duration::ZERO };
        assert_eq!(board.publish(report(Normal)), None);
        assert_eq!(board.publish(report(Down)), Some(Normal));
        assert_eq!(reader.last().map(|report| report.state), Some(Down));
    }
}
