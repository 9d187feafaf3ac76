//! The keys that an issuer publishes (RFC 7517 §5).

use std::time::Duration;

use reqwest::{Client, Method, Request, Url};

use super::{
    fetching::{self, Answer, FetchError},
    keeper::Source,
    keys::KeySet,
    settings::{AuthSettings, SettingsError},
};

/// Where they are.
#[derive(Debug, Clone)]
pub struct PublishedKeys {
    http: Client,
    url: Url,
}

impl PublishedKeys {
    /// Those at `url`; nothing is sent yet.
    ///
    /// # Errors
    /// The client of the network cannot be made.
    pub(super) fn at(url: Url, settings: &AuthSettings) -> Result<Self, SettingsError> {
        let http = fetching::client(Duration::from_secs_f64(settings.jwks_timeout_seconds));
        let http = http.map_err(|error| SettingsError { setting: "jwks_url".to_owned(), what: error.to_string() })?;
        Ok(Self { http, url })
    }

    /// What is answered there, if it is a document.
    ///
    /// # Errors
    /// Nothing came, too much, or no document.
    pub(super) async fn answer(&self) -> Result<Answer, FetchError> {
        let answer = fetching::answer(&self.http, Request::new(Method::GET, self.url.clone())).await?;
        if answer.status == 200 { Ok(answer) } else { Err(FetchError::Status(answer.status)) }
    }
}

impl Source for PublishedKeys {
    type Document = KeySet;

    const ACTOR: &'static str = "key-keeper";
    const WHAT: &'static str = "the issuer's keys";

    fn label(&self) -> String {
        self.url.host_str().unwrap_or_default().to_owned()
    }

    async fn fetch(&self) -> Result<KeySet, FetchError> {
        Ok(KeySet::published(&self.answer().await?.body)?)
    }
}
