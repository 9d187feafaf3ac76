//! One HTTP attempt: headers, limits, and reading the answer. Keeps the secret to itself.

use std::{fmt, time::Duration};

use reqwest::{
    Client, Method,
    header::{ACCEPT, CONTENT_TYPE, DATE, ETAG, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect::Policy,
};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{
    credentials::Credentials,
    endpoint::Endpoint,
    exchange::{Answer, Lost},
    settings::{BrainSettings, SettingsError},
    tls,
};
use crate::{
    base_url::root_cause,
    bounded::{self, Unread},
    domain::{ids::Tenant, trace_context::TraceContext},
    retry,
};

/// Longest answer that is read.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection is kept that nobody uses. Servers commonly end theirs after five seconds, which is also the time between
/// two probes: one that was taken just then would look like an outage.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// The longest `Retry-After` that is believed.
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_mins(2);

/// What is sent besides the settings' own headers. Built once a call, sent as often as there are attempts.
#[derive(Debug)]
pub(super) struct Request {
    pub endpoint: Endpoint,
    /// Path and query, where they are not the endpoint's own.
    pub target: Option<String>,
    pub headers: HeaderMap,
    pub body: Option<Vec<u8>>,
}

/// The way to one server. A clone uses the same pool of sockets.
#[derive(Clone)]
pub(super) struct Connection {
    http: Client,
    base: String,
    credentials: Credentials,
    tenant_header: HeaderName,
    attempt_timeout: Duration,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Connection {
    pub fn new(settings: &BrainSettings) -> Result<Self, SettingsError> {
        let base = settings.base()?;
        let credentials = Credentials::of(settings)?;
        let tenant_header =
            settings.tenant_header.trim().parse().map_err(|_| SettingsError::HeaderName("tenant_header"))?;
        // No redirect: the secret would follow it to wherever the answer says. No proxy: it would be found in the
        // environment, which only the outermost room reads.
        let http = tls::apply(Client::builder(), settings)?
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(settings.max_in_flight)
            .tcp_nodelay(true)
            .build()
            .map_err(SettingsError::Client)?;
        Ok(Self { http, base, credentials, tenant_header, attempt_timeout: settings.attempt_timeout() })
    }

    /// The headers of a call.
    pub fn headers(&self, tenant: Option<&Tenant>, request_id: &str, trace: Option<&TraceContext>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let tenant = tenant.map(|tenant| (self.tenant_header.clone(), tenant.as_str()));
        let trace = trace.into_iter().flat_map(TraceContext::headers);
        let texts = std::iter::once(("x-request-id", request_id)).chain(trace);
        let texts = texts.map(|(name, text)| (HeaderName::from_static(name), text));
        for (name, text) in tenant.into_iter().chain(texts) {
            // None of them holds a control character, which is all that a header cannot carry.
            if let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) {
                headers.insert(name, value);
            }
        }
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers
    }

    /// Sends the request once and reads the whole answer, by `deadline` and within the attempt's own limit.
    pub async fn attempt(&self, request: &Request, deadline: Instant) -> Result<Answer, Lost> {
        let limit = deadline.min(Instant::now() + self.attempt_timeout);
        let sending = async {
            let answer = self.send(request).await?;
            // Refused because the secret has changed? Then the new one is tried at once.
            if answer.status == 401 && self.credentials.refresh().await { self.send(request).await } else { Ok(answer) }
        };
        tokio::time::timeout_at(limit, sending).await.unwrap_or(Err(Lost::TimedOut)).map_err(|lost| match lost {
            Lost::Transport(reason) => Lost::Transport(self.scrubbed(&reason)),
            Lost::TimedOut => Lost::TimedOut,
        })
    }

    async fn send(&self, request: &Request) -> Result<Answer, Lost> {
        let target = request.target.as_deref().unwrap_or(request.endpoint.path());
        let url = format!("{}{target}", self.base);
        let method = match request.endpoint.method() {
            "GET" => Method::GET,
            "PUT" => Method::PUT,
            "DELETE" => Method::DELETE,
            _ => Method::POST,
        };
        let mut builder = self.http.request(method, url).headers(request.headers.clone());
        if let Some((name, value)) = self.credentials.header() {
            builder = builder.header(name, value);
        }
        if let Some(body) = &request.body {
            builder = builder.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        let response = builder.send().await.map_err(|error| transport(&error))?;
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers());
        let etag = response.headers().get(ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
        let mut body = bounded::body(response, MAX_BODY_BYTES).await.map_err(|unread| match unread {
            Unread::TooLong(_) => Lost::Transport(unread.to_string()),
            Unread::Lost(error) => transport(&error),
        })?;
        // Some servers repeat the key they refuse.
        if status >= 400 {
            body = self.scrubbed(&String::from_utf8_lossy(&body)).into_bytes();
        }
        Ok(Answer { status, retry_after, etag, body })
    }

    /// The text with the secret blotted out.
    pub fn scrubbed(&self, text: &str) -> String {
        self.credentials.scrubbed(text)
    }

    /// Takes a new secret if there is one.
    pub async fn refresh(&self) {
        self.credentials.refresh().await;
    }
}

/// Reads `Retry-After`; a date in it is seen from the answer's own `Date`, so that the two clocks need not agree.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    // A server that sends no `Date` has no clock (RFC 9110 §6.6.1); a date it names is then as good as never.
    let now = text(DATE).and_then(retry::http_date).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    retry::retry_after(text(RETRY_AFTER)?, now).map(|asked| asked.min(MAX_RETRY_AFTER))
}

/// What became of the connection, in words: the innermost cause, which names what the system said. Never the URL.
fn transport(error: &reqwest::Error) -> Lost {
    let what = if error.is_connect() { "cannot connect" } else { "connection lost" };
    Lost::Transport(format!("{what}: {}", root_cause(error)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "a failed expectation ends the test")]

    use super::*;
    use crate::loopback::{Play, Server};

    const CANARY: &str = "sk-canary-0451";

    fn settings(server: &Server) -> BrainSettings {
        BrainSettings { base_url: server.url.clone(), api_key: Some(CANARY.into()), ..BrainSettings::default() }
    }

    async fn attempt(settings: &BrainSettings, within: Duration) -> Result<Answer, Lost> {
        let connection = Connection::new(settings).unwrap();
        let tenant = Tenant::new("acme").unwrap();
        let trace = TraceContext::new("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Some("a=1"));
        let headers = connection.headers(Some(&tenant), "r-1", trace.as_ref());
        let request = Request { endpoint: Endpoint::Recall, target: None, headers, body: Some(b"{}".to_vec()) };
        connection.attempt(&request, Instant::now() + within).await
    }

    const SOON: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn a_call_carries_key_tenant_request_id_and_trace() {
        let server = Server::start(|_| Play::json(200, "{}")).await;
        attempt(&settings(&server), SOON).await.unwrap();
        let seen = server.last();
        assert!(seen.starts_with("POST /memory/recall HTTP/1.1"), "{seen}");
        for line in [
            "authorization: Bearer sk-canary-0451",
            "x-tenant-id: acme",
            "x-request-id: r-1",
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "tracestate: a=1",
            "content-type: application/json",
        ] {
            assert!(seen.lines().any(|seen| seen == line), "{line} is missing in {seen}");
        }
    }

    #[tokio::test]
    async fn another_header_carries_the_bare_key() {
        let server = Server::start(|_| Play::json(200, "{}")).await;
        let (auth_header, tenant_header) = ("X-API-Key".into(), "X-Org".into());
        attempt(&BrainSettings { auth_header, tenant_header, ..settings(&server) }, SOON).await.unwrap();
        let seen = server.last();
        assert!(seen.contains("x-api-key: sk-canary-0451") && !seen.contains("authorization"), "{seen}");
        assert!(seen.contains("x-org: acme"), "{seen}");
    }

    #[tokio::test]
    async fn the_key_shows_nowhere_even_if_the_server_repeats_it() {
        let server = Server::start(|_| Play::json(401, r#"{"detail": "bad key sk-canary-0451"}"#)).await;
        let answer = attempt(&settings(&server), SOON).await.unwrap();
        assert_eq!(answer.body, br#"{"detail": "bad key [redacted]"}"#);
        let connection = Connection::new(&settings(&server)).unwrap();
        assert!(!format!("{connection:?}").contains(CANARY));
        let unusable = BrainSettings { api_key: Some("sk-canary\n".into()), ..settings(&server) };
        let error = Connection::new(&unusable).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"));
    }

    #[tokio::test]
    async fn a_key_that_was_exchanged_is_tried_at_once_when_the_old_one_is_refused() {
        let server = Server::start(|request| {
            Play::json(if request.contains("Bearer sk-new") { 200 } else { 401 }, r#"{"detail": "no sk-old"}"#)
        })
        .await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "sk-old").unwrap();
        let settings = BrainSettings { api_key_file: Some(file.clone()), ..settings(&server) };
        let connection = Connection::new(&settings).unwrap();
        let headers = connection.headers(None, "r", None);
        let request = Request { endpoint: Endpoint::Recall, target: None, headers, body: None };
        let attempt = async || connection.attempt(&request, Instant::now() + SOON).await.unwrap();
        let refused = attempt().await;
        assert_eq!((refused.status, refused.body), (401, br#"{"detail": "no [redacted]"}"#.to_vec()));
        assert_eq!(server.seen().len(), 1, "no second try with the same key");
        std::fs::write(&file, "sk-new\n").unwrap();
        assert_eq!(attempt().await.status, 200);
        assert_eq!(server.seen().len(), 3);
    }

    #[tokio::test]
    async fn an_attempt_ends_with_what_became_of_the_connection() {
        let transport = |lost| matches!(lost, Err(Lost::Transport(_)));
        let server = Server::start(|_| Play::Cut(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}".to_vec())).await;
        assert!(transport(attempt(&settings(&server), SOON).await), "cut inside the body");
        let server = Server::start(|_| Play::Cut(Vec::new())).await;
        assert!(transport(attempt(&settings(&server), SOON).await), "cut before the answer");
        let server = Server::start(|_| Play::Cut(b"rubbish\r\n\r\n".to_vec())).await;
        assert!(transport(attempt(&settings(&server), SOON).await), "no HTTP");
        let closed = BrainSettings { base_url: "http://127.0.0.1:1".into(), ..BrainSettings::default() };
        let Err(Lost::Transport(reason)) = attempt(&closed, SOON).await else { panic!("somebody listens on port 1") };
        assert!(reason.starts_with("cannot connect: "), "{reason}");
        let server = Server::start(|_| Play::Hang).await;
        assert_eq!(attempt(&settings(&server), Duration::from_millis(30)).await, Err(Lost::TimedOut));
        let impatient = BrainSettings { timeout_seconds: 0.03, ..settings(&server) };
        assert_eq!(attempt(&impatient, SOON).await, Err(Lost::TimedOut));
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let server = Server::start(|_| Play::raw(302, "location: http://127.0.0.1:1/\r\n", "")).await;
        assert_eq!(attempt(&settings(&server), SOON).await.unwrap().status, 302);
    }

    #[test]
    fn retry_after_as_a_date_is_seen_from_the_answers_own_clock() {
        let mut headers = HeaderMap::new();
        headers.insert(DATE, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("Sun, 06 Nov 1994 08:50:07 GMT"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(30)));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(7)));
        headers.insert(RETRY_AFTER, HeaderValue::from_static("86400"));
        assert_eq!(retry_after(&headers), Some(MAX_RETRY_AFTER), "a day is no wait between two attempts");
    }
}
