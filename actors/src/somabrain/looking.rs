//! How the server is, and whether it takes the secret, without anything that is remembered: for whoever sets it up.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    connection::{Connection, Request},
    consulting::escaped,
    endpoint::Endpoint,
    exchange::{Answer, Lost},
    health::HealthState,
    settings::{BrainSettings, SettingsError},
    wire::shortened,
};
use crate::domain::ids::Tenant;

/// What was seen of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrainLook {
    /// How it says it is.
    pub state: HealthState,
    /// Its own words, or why there are none; shortened, without the secret.
    pub detail: String,
    /// Its version, where it tells.
    pub version: Option<String>,
    /// Whether it lets us in.
    pub entry: Entry,
    /// How long it took to say how it is.
    pub took: Duration,
}

/// Whether the server lets us in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// It answered what needs the secret.
    Granted,
    /// It did not refuse us, and does not know what we asked for: the oldest servers do not.
    NotRefused,
    /// It refused us, with this status.
    Refused(u16),
    /// It failed at that, with this status.
    Failed(u16),
    /// It did not answer.
    Unknown,
}

/// Looks at the server of the settings; each of two calls may take `within`.
///
/// # Errors
/// The settings are unusable.
pub async fn look(settings: &BrainSettings, tenant: &Tenant, within: Duration) -> Result<BrainLook, SettingsError> {
    let connection = Connection::new(settings)?;
    connection.refresh().await;
    let begun = Instant::now();
    let healthy = attempt(&connection, Endpoint::Health, None, within).await;
    let took = begun.elapsed();
    let (state, detail, version) = match healthy {
        Ok(answer) => {
            let body = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
            let said = shortened(&connection.scrubbed(&String::from_utf8_lossy(&answer.body)));
            let version = body["version"].as_str().map(|version| shortened(&connection.scrubbed(version)));
            let said = if answer.status == 200 { said } else { format!("status {}: {said}", answer.status) };
            (HealthState::of_answer(answer.status, &body), said, version)
        }
        Err(Lost::Transport(reason)) => (HealthState::Down, reason, None),
        Err(Lost::TimedOut) => (HealthState::Down, format!("no answer in {} ms", within.as_millis()), None),
    };
    let namespace = escaped(&settings.memory_namespace);
    let target =
        format!("{}?tenant={}&namespace={namespace}", Endpoint::MemoryMetrics.path(), escaped(tenant.as_str()));
    let entry = attempt(&connection, Endpoint::MemoryMetrics, Some((target, tenant)), within).await;
    let entry = entry.map_or(Entry::Unknown, |answer| Entry::of(answer.status));
    Ok(BrainLook { state, detail, version, entry, took })
}

impl Entry {
    const fn of(status: u16) -> Self {
        match status {
            200..=299 => Self::Granted,
            401 | 403 | 407 => Self::Refused(status),
            400..=499 => Self::NotRefused,
            _ => Self::Failed(status),
        }
    }
}

async fn attempt(
    connection: &Connection,
    endpoint: Endpoint,
    of: Option<(String, &Tenant)>,
    within: Duration,
) -> Result<Answer, Lost> {
    let (target, tenant) = of.unzip();
    let headers = connection.headers(tenant, &Uuid::new_v4().to_string(), None);
    connection.attempt(&Request { endpoint, target, headers, body: None }, Instant::now() + within).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;
    use crate::loopback::{Play, Server};

    async fn looked(metrics: u16) -> BrainLook {
        let server = Server::start(move |request| {
            if request.starts_with("GET /health ") {
                Play::json(200, r#"{"ok": true, "version": "2.1", "echo": "sk-canary"}"#)
            } else {
                Play::json(metrics, r#"{"detail": "sk-canary"}"#)
            }
        })
        .await;
        let settings = BrainSettings {
            base_url: server.url.clone(),
            api_key: Some("sk-canary".into()),
            ..BrainSettings::default()
        };
        let look = look(&settings, &Tenant::new("größe").unwrap(), Duration::from_mins(1)).await.unwrap();
        let asked = server.last();
        assert!(asked.starts_with("GET /memory/metrics?tenant=gr%C3%B6%C3%9Fe&namespace=wm "), "{asked}");
        look
    }

    #[tokio::test]
    async fn a_refusal_is_told_apart_from_an_old_server_and_from_a_fault() {
        for (status, entry) in [
            (200, Entry::Granted),
            (401, Entry::Refused(401)),
            (403, Entry::Refused(403)),
            (404, Entry::NotRefused),
            (503, Entry::Failed(503)),
        ] {
            let look = looked(status).await;
            assert_eq!((look.state, look.version.as_deref()), (HealthState::Normal, Some("2.1")));
            assert_eq!(look.entry, entry);
            assert!(!format!("{look:?}").contains("canary"), "{look:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_down_and_says_why() {
        let settings = BrainSettings { base_url: "http://127.0.0.1:1".into(), ..BrainSettings::default() };
        let look = look(&settings, &Tenant::new("acme").unwrap(), Duration::from_mins(1)).await.unwrap();
        assert_eq!((look.state, look.entry), (HealthState::Down, Entry::Unknown));
        assert!(look.detail.starts_with("cannot connect: "), "{look:?}");
    }
}
