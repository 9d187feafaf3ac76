//! An HTTP and SSE client for tests. It keeps what it was sent and never fails on a status: the test judges.

mod raw;
mod stream;

use std::time::Duration;

use anyhow::Result;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName};
use serde_json::{Value, json};

pub use self::raw::Raw;
pub use self::stream::{Frame, Mode, Stream, Subscription, frames_in};
use crate::wait::within;

/// A client of one server.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The body as JSON; null when it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The problem's stable code, from its `code`, else from the end of its `type`.
    #[must_use]
    pub fn code(&self) -> String {
        let body = self.json();
        let code = body["code"].as_str().map(str::to_owned);
        let from_type =
            || body["type"].as_str().and_then(|kind| kind.rsplit(['/', '#', ':']).next()).map(str::to_owned);
        code.or_else(from_type).unwrap_or_default()
    }

    /// A header field as text, empty when it is absent.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// A text of the JSON body by its name, empty when it is absent.
    #[must_use]
    pub fn text_of(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_default().to_owned()
    }
}

/// A message to post.
#[derive(Debug, Clone)]
pub struct Post {
    body: Value,
    key: Option<String>,
}

impl Post {
    /// A message that starts a new session.
    #[must_use]
    pub fn new(message: &str) -> Self {
        Self { body: json!({"message": message}), key: None }
    }

    /// In this session.
    #[must_use]
    pub fn to(self, session: &str) -> Self {
        self.with("session_id", session)
    }

    /// With this idempotency key.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// With another field of the body.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.body[name] = value.into();
        self
    }
}

/// Slower than every deadline of the server, so that what a test sees is the server's doing.
fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder().no_proxy().connect_timeout(Duration::from_secs(30))
}

impl Client {
    /// A client of the server at `base`, a URL without a slash at its end.
    pub fn new(base: &str) -> Result<Self> {
        Ok(Self { http: builder().build()?, base: base.to_owned() })
    }

    /// The same server as seen by who shows `token`.
    ///
    /// # Errors
    /// The token cannot be sent.
    pub fn showing(&self, token: &str) -> Result<Self> {
        self.sending(AUTHORIZATION, &format!("Bearer {token}"))
    }

    /// The same server as seen by a browser that keeps `cookies`.
    ///
    /// # Errors
    /// They cannot be sent.
    pub fn keeping(&self, cookies: &str) -> Result<Self> {
        self.sending(COOKIE, cookies)
    }

    fn sending(&self, name: HeaderName, value: &str) -> Result<Self> {
        let headers = HeaderMap::from_iter([(name, value.parse()?)]);
        Ok(Self { http: builder().default_headers(headers).build()?, base: self.base.clone() })
    }

    /// The server's URL.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The full URL of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// A request to be finished by the caller.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, self.url(path))
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When the connection fails before the answer is complete.
    ///
    /// # Panics
    /// When no answer comes at all.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer> {
        within("an HTTP answer", async {
            let answer = request.send().await?;
            let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
            Ok(Answer { status, headers, text: answer.text().await? })
        })
        .await
    }

    /// `GET` of a path.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(self.request(Method::GET, path)).await
    }

    /// `DELETE` of a path.
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// `POST` of a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// `PATCH` with a JSON body.
    pub async fn patch(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(self.request(Method::PATCH, path).json(body)).await
    }

    /// Posts a message.
    pub async fn message(&self, post: &Post) -> Result<Answer> {
        let mut request = self.request(Method::POST, "/v1/session/message").json(&post.body);
        if let Some(key) = &post.key {
            request = request.header("idempotency-key", key);
        }
        self.send(request).await
    }

    /// Stops a session's turn.
    pub async fn stop(&self, session: &str) -> Result<Answer> {
        self.post(&format!("/v1/sessions/{session}/stop"), &json!({})).await
    }

    /// A session as its conversation sees it.
    pub async fn state(&self, session: &str) -> Result<Value> {
        Ok(self.get(&format!("/v1/sessions/{session}/state")).await?.json())
    }

    /// Every stored event of a session, in order, read page by page.
    ///
    /// # Errors
    /// When a page cannot be read.
    pub async fn history(&self, session: &str) -> Result<Vec<Value>> {
        let mut events: Vec<Value> = Vec::new();
        loop {
            let after = events.last().map_or(0, |event| event["id"].as_u64().unwrap_or(0));
            let page = self.get(&format!("/v1/sessions/{session}/events?after={after}&limit=500")).await?;
            anyhow::ensure!(page.status == 200, "the events of {session} answered {}: {}", page.status, page.text);
            let items = page.json()["events"].as_array().cloned().unwrap_or_default();
            let last = items.len() < 500;
            events.extend(items);
            if last {
                return Ok(events);
            }
        }
    }

    /// Begins a subscription to a session's events.
    #[must_use]
    pub fn events(&self, session: &str) -> Subscription {
        Subscription::new(self.clone(), session)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_problem_is_known_by_its_code() {
        let answer = |text: &str| Answer { status: 404, headers: HeaderMap::new(), text: text.to_owned() };
        assert_eq!(answer(r#"{"code":"session-not-found"}"#).code(), "session-not-found");
        assert_eq!(answer(r#"{"type":"https://x.org/problems/gone"}"#).code(), "gone");
        assert_eq!(answer("nothing").code(), "");
    }
}
