//! Whether the endpoint of a model is there. Nothing is asked that anybody would have to pay for.

use std::time::Duration;

use reqwest::{RequestBuilder, Response, Url};

use super::{
    client,
    settings::{self, ModelSettings, SettingsError},
};
use crate::{base_url, secret::Secret};

/// How long it has to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Providers by their hosts; any other host is another provider.
const PROVIDERS: [(&str, &str); 6] = [
    ("api.anthropic.com", "anthropic"),
    ("api.groq.com", "groq"),
    ("api.mistral.ai", "mistral"),
    ("api.openai.com", "openai"),
    ("generativelanguage.googleapis.com", "google"),
    ("openrouter.ai", "openrouter"),
];

/// Looks whether the endpoint of a model is there: whether it answers, and [which models it lists](Self::catalogue). Cheap to clone.
#[derive(Debug, Clone)]
pub struct ModelProbe {
    pub(super) http: reqwest::Client,
    url: Url,
    pub(super) key: Option<Secret>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The status of its answer; nothing if there was none.
    pub status: Option<u16>,
    /// Why there was none; never its address.
    pub detail: Option<String>,
}

impl ModelProbe {
    /// A probe of the endpoint of these settings. Opens no connection.
    ///
    /// # Errors
    /// The settings name no usable endpoint.
    pub fn new(settings: &ModelSettings) -> Result<Self, SettingsError> {
        // Neither password nor query is left in it.
        let base = settings::normalize_base_url(&settings.base_url)?;
        let url = Url::parse(&base).map_err(|_| SettingsError::BaseUrl("is not a URL"))?;
        client::authorization(settings.api_key.as_ref())?;
        // No connection is kept: each probe shows how it is now, on whichever thread it is made.
        let http = client::http(&url).pool_max_idle_per_host(0).build().map_err(SettingsError::Client)?;
        Ok(Self { http, url, key: settings.api_key.clone() })
    }

    /// The address, without anything secret.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// Whose it is, by its host: `openai`, …, `other`.
    #[must_use]
    pub fn provider(&self) -> &'static str {
        let host = self.url.host_str().unwrap_or_default();
        PROVIDERS.iter().find(|(known, _)| *known == host).map_or("other", |(_, name)| name)
    }

    /// Whether there is a key to be shown to it.
    #[must_use]
    pub fn has_credentials(&self) -> bool {
        self.key.as_ref().is_some_and(|key| !key.present().expose().trim().is_empty())
    }

    /// Looks: any answer to a `HEAD` in time will do. No key is shown.
    pub async fn look(&self) -> Found {
        match asked(self.http.head(self.url.clone()), PATIENCE).await {
            Ok(answer) => Found { status: Some(answer.status().as_u16()), detail: None },
            Err(detail) => Found { status: None, detail: Some(detail) },
        }
    }
}

/// What is answered to `request`, whose body has to come in time too; or why nothing was, without the address.
pub(super) async fn asked(request: RequestBuilder, within: Duration) -> Result<Response, String> {
    request.timeout(within).send().await.map_err(|error| lost(&error, within))
}

/// Why nothing was answered, or not all of it.
pub(super) fn lost(error: &reqwest::Error, within: Duration) -> String {
    if error.is_timeout() { format!("no answer in {} ms", within.as_millis()) } else { base_url::root_cause(error) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;
    use crate::loopback::{Play, Server};

    fn probe(base_url: &str, api_key: Option<&str>) -> ModelProbe {
        let api_key = api_key.map(Secret::from);
        let settings = ModelSettings { base_url: base_url.to_owned(), api_key, ..ModelSettings::default() };
        ModelProbe::new(&settings).unwrap()
    }

    #[tokio::test]
    async fn any_answer_is_one_and_no_key_is_shown() {
        for status in [200, 401, 404, 500] {
            let server = Server::start(move |_| Play::json(status, "{}")).await;
            let probe = probe(&format!("{}/base/v1", server.url), Some("canary"));
            assert_eq!(probe.look().await, Found { status: Some(status), detail: None });
            let head = server.last();
            assert!(head.starts_with("HEAD /base ") && !head.contains("canary"), "{head}");
        }
        let found = probe("http://127.0.0.1:1", None).look().await;
        assert!(found.status.is_none() && found.detail.is_some_and(|why| why.contains("refused")));
    }

    #[test]
    fn what_is_told_of_it_has_nothing_secret() {
        let probe = probe("https://api.groq.com/openai/v1/?key=canary#canary", Some("canary"));
        assert_eq!((probe.base_url(), probe.provider()), ("https://api.groq.com/openai", "groq"));
        assert!(probe.has_credentials() && !format!("{probe:?}").contains("canary"));
        let other = super::tests::probe("http://api.groq.com.evil.example/v1", Some(" \n"));
        assert_eq!((other.provider(), other.has_credentials()), ("other", false));
    }
}
