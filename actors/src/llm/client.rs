//! The HTTP client of one endpoint.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{ClientBuilder, RequestBuilder, Url, redirect};
use serde_json::{Map, Value, json};

use super::run::Run;
use super::settings::{self, ModelSettings, SettingsError};
use super::{LlmMetrics, ModelError, Piece};
use crate::base_url;
use crate::domain::context::ChatMessage;
use crate::secret::Secret;

/// Keep-alive probes start after this silence, so that a peer that vanished is noticed.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);

/// What a model is asked.
#[derive(Debug, Clone, Default)]
pub struct ChatRequest {
    /// The conversation in the order it is sent; see [`crate::domain::context`].
    pub messages: Vec<ChatMessage>,
    /// Another model than the configured one.
    pub model: Option<String>,
    /// Another temperature than the configured one.
    pub temperature: Option<f64>,
}

impl ChatRequest {
    /// Asks the configured model.
    #[must_use]
    pub fn new(messages: Vec<ChatMessage>) -> Self {
        Self { messages, ..Self::default() }
    }
}

/// Calls one endpoint. Clones are cheap and share connections.
///
/// A connection is driven by the runtime it was opened on, so each arbiter that streams should have a client of its
/// own; then no piece crosses a thread on its way.
///
/// ```no_run
/// # async fn ask() -> Result<(), Box<dyn std::error::Error>> {
/// use std::pin::pin;
/// use futures_util::StreamExt as _;
/// use somaagent_actors::domain::context::{ChatMessage, Role};
/// use somaagent_actors::llm::{ChatRequest, ModelClient, ModelSettings, Piece};
///
/// let settings = ModelSettings {
///     base_url: "http://127.0.0.1:8080/v1".into(),
///     model: "qwen3".into(),
///     ..ModelSettings::default()
/// };
/// let client = ModelClient::new(settings)?;
/// let request = ChatRequest::new(vec![ChatMessage::new(Role::User, "Hello")]);
/// let mut pieces = pin!(client.stream(request));
/// let mut answer = String::new();
/// while let Some(piece) = pieces.next().await {
///     if let Piece::Text(text) = piece? {
///         answer.push_str(&text);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct ModelClient {
    inner: Arc<Endpoint>,
}

/// What all answers of a client share. No field shows the key in `Debug`.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) http: reqwest::Client,
    pub(super) url: Url,
    pub(super) settings: ModelSettings,
    pub(super) metrics: Option<LlmMetrics>,
}

impl ModelClient {
    /// A client for these settings. Opens no connection.
    ///
    /// # Errors
    /// The settings name no usable endpoint.
    pub fn new(settings: ModelSettings) -> Result<Self, SettingsError> {
        settings.validate()?;
        let url = settings::call_url(&settings.base_url)?;
        let http = http(&url)
            .tcp_nodelay(true)
            .tcp_keepalive(TCP_KEEPALIVE)
            .connect_timeout(Duration::from_millis(settings.connect_timeout_ms))
            .default_headers(headers());
        authorization(settings.api_key.as_ref())?;
        let http = http.build().map_err(SettingsError::Client)?;
        Ok(Self { inner: Arc::new(Endpoint { http, url, settings, metrics: None }) })
    }

    /// The same client, counting into `metrics`.
    #[must_use]
    pub fn with_metrics(mut self, metrics: LlmMetrics) -> Self {
        Arc::make_mut(&mut self.inner).metrics = Some(metrics);
        self
    }

    /// The settings this client was made from.
    #[must_use]
    pub fn settings(&self) -> &ModelSettings {
        &self.inner.settings
    }

    /// Asks the model and yields its answer piece by piece.
    ///
    /// Nothing is sent before the stream is polled, but the total deadline runs from here. It ends after
    /// [`Piece::Finished`] or after the one error. Dropping it closes the endpoint's socket at once.
    pub fn stream(&self, request: ChatRequest) -> impl Stream<Item = Result<Piece, ModelError>> + Send + 'static {
        let run = Box::new(Run::new(Arc::clone(&self.inner), request));
        stream::unfold(run, |mut run| async move { run.next().await.map(|item| (item, run)) })
    }
}

impl Endpoint {
    /// The body of a request.
    pub(super) fn body_of(&self, request: &ChatRequest) -> Bytes {
        let settings = &self.settings;
        let mut body: Map<String, Value> = settings.extra.clone();
        let model = request.model.as_deref().unwrap_or(&settings.model);
        body.insert("model".into(), model.into());
        body.insert("messages".into(), json!(request.messages));
        body.insert("stream".into(), true.into());
        if settings.include_usage {
            body.insert("stream_options".into(), json!({ "include_usage": true }));
        }
        if let Some(temperature) = request.temperature.or(settings.temperature) {
            body.insert("temperature".into(), json!(temperature));
        }
        Value::Object(body).to_string().into()
    }

    /// A request with this body and the key of now.
    pub(super) fn request(&self, body: Bytes) -> RequestBuilder {
        showing(self.settings.api_key.as_ref(), self.http.post(self.url.clone()).body(body))
    }

    /// The error without the key, should the endpoint have repeated it; it may also repeat the one before.
    pub(super) fn without_key(&self, error: ModelError) -> ModelError {
        let keys = self.settings.api_key.iter().flat_map(Secret::texts);
        keys.fold(error, |error, key| error.without(key.expose().trim()))
    }
}

/// The beginnings of a client of an endpoint.
pub(super) fn http(url: &Url) -> ClientBuilder {
    let http = reqwest::Client::builder()
        // One connection an answer: dropping the answer closes it, and the endpoint stops generating.
        .http1_only()
        // A redirected POST would lose its body or carry the conversation to another host.
        .redirect(redirect::Policy::none());
    if base_url::is_loopback(url) { http.no_proxy() } else { http }
}

/// The request with the key of now.
pub(super) fn showing(key: Option<&Secret>, request: RequestBuilder) -> RequestBuilder {
    // A key that no header can carry takes no other's place.
    match authorization(key).ok().flatten() {
        Some(bearer) => request.header(AUTHORIZATION, bearer),
        None => request,
    }
}

/// The headers of every request that are the same in all.
fn headers() -> HeaderMap {
    HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (ACCEPT, HeaderValue::from_static("text/event-stream, application/json")),
    ])
}

/// Whether a header can carry a key.
///
/// # Errors
/// It cannot.
pub fn check_key(key: &str) -> Result<(), SettingsError> {
    authorization(Some(&key.into())).map(drop)
}

/// The header that shows the key, if there is one.
///
/// # Errors
/// No header can carry it.
pub(super) fn authorization(key: Option<&Secret>) -> Result<Option<HeaderValue>, SettingsError> {
    let Some(key) = key.map(Secret::present) else { return Ok(None) };
    // A key read from a file often ends in a line feed.
    let key = key.expose().trim();
    if key.is_empty() {
        return Ok(None);
    }
    let mut bearer = HeaderValue::try_from(format!("Bearer {key}")).map_err(|_| SettingsError::ApiKey)?;
    bearer.set_sensitive(true);
    Ok(Some(bearer))
}

#[cfg(test)]
mod tests;
