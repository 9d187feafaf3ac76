//! Whether an endpoint is there and takes the key, without an answer that anybody would have to pay for: its list of models.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::{
    client::showing,
    probe::{ModelProbe, asked, lost},
};
use crate::bounded::{self, Unread};

/// Longest list that is read, in bytes; the longest known has a few hundred kilobytes.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// The endpoint's list of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatalogueLook {
    /// How many it has.
    pub models: usize,
    /// Whether the configured one is among them.
    pub has_ours: bool,
}

/// Why there is no list. No text of it holds the key, or anything that the endpoint sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookError {
    /// Nothing came, or not all of it; in words.
    #[error("{0}")]
    Lost(String),
    /// The endpoint refuses us, with this status.
    #[error("it refuses us with status {0}")]
    Refused(u16),
    /// It answered with another status.
    #[error("it answers with status {0}")]
    Status(u16),
    /// It is an endpoint that has no such list.
    #[error("it has no list of models")]
    NoList,
}

#[derive(Deserialize)]
struct Catalogue {
    data: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: Value,
}

impl ModelProbe {
    /// Reads the endpoint's list of models (`GET /v1/models`), showing the key, and looks for `ours`.
    ///
    /// # Errors
    /// [`LookError`].
    pub async fn catalogue(&self, ours: &str, within: Duration) -> Result<CatalogueLook, LookError> {
        let request = self.http.get(format!("{}/v1/models", self.base_url()));
        let reply = asked(showing(self.key.as_ref(), request), within).await.map_err(LookError::Lost)?;
        match reply.status().as_u16() {
            200 => {}
            status @ (401 | 403 | 407) => return Err(LookError::Refused(status)),
            404 | 405 | 501 => return Err(LookError::NoList),
            status => return Err(LookError::Status(status)),
        }
        let body = bounded::body(reply, MAX_BYTES).await.map_err(|unread| match unread {
            Unread::TooLong(_) => LookError::NoList,
            Unread::Lost(error) => LookError::Lost(lost(&error, within)),
        })?;
        let catalogue: Catalogue = serde_json::from_slice(&body).map_err(|_| LookError::NoList)?;
        let has_ours = catalogue.data.iter().any(|entry| entry.id.as_str() == Some(ours.trim()));
        Ok(CatalogueLook { models: catalogue.data.len(), has_ours })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;
    use crate::{
        llm::ModelSettings,
        loopback::{Play, Server},
    };

    async fn looked(status: u16, body: &'static str) -> Result<CatalogueLook, LookError> {
        let server = Server::start(move |request| {
            let right = request.starts_with("GET /api/v1/models HTTP") && request.contains("Bearer sk-canary");
            Play::json(if right { status } else { 418 }, body)
        })
        .await;
        let settings = ModelSettings {
            base_url: format!("{}/api/v1", server.url),
            api_key: Some("sk-canary".into()),
            ..ModelSettings::default()
        };
        ModelProbe::new(&settings).unwrap().catalogue("m", Duration::from_mins(1)).await
    }

    #[tokio::test]
    async fn the_list_tells_whether_the_key_is_taken_and_the_model_there() {
        let ours = looked(200, r#"{"object": "list", "data": [{"id": "n"}, {"id": "m"}]}"#).await;
        assert_eq!(ours, Ok(CatalogueLook { models: 2, has_ours: true }));
        let others = looked(200, r#"{"data": [{"id": "n"}]}"#).await;
        assert_eq!(others, Ok(CatalogueLook { models: 1, has_ours: false }));
        for (status, body, error) in [
            (401, "bad key sk-canary", LookError::Refused(401)),
            (404, "", LookError::NoList),
            (200, "<html>", LookError::NoList),
            (502, "", LookError::Status(502)),
        ] {
            assert_eq!(looked(status, body).await, Err(error), "{status}");
        }
        let away = ModelSettings { base_url: "http://127.0.0.1:1".into(), ..ModelSettings::default() };
        let away = ModelProbe::new(&away).unwrap().catalogue("m", Duration::from_mins(1)).await;
        assert!(matches!(away, Err(LookError::Lost(_))), "{away:?}");
    }
}
