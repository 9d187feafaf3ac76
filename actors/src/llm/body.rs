//! The response to one request, as bytes and as events, with a bound on every wait.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, DATE, RETRY_AFTER};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout, timeout_at};

use super::error::{self, ModelError};
use super::sse::SseParser;
use crate::base_url::root_cause;
use crate::retry;

/// Longest error body that is read, and the longest time for it.
const MAX_ERROR_BYTES: usize = 16 * 1024;
const ERROR_BODY_WITHIN: Duration = Duration::from_secs(2);

/// Longest body of an endpoint that answers in one piece although a stream was asked for.
const MAX_WHOLE_BYTES: usize = 8 * 1024 * 1024;

/// How long an ended answer's connection is read on, so that it can serve the next request.
const DRAIN_WITHIN: Duration = Duration::from_millis(20);

/// A response that is being read.
#[derive(Debug)]
pub(super) struct Body {
    response: Response,
    framing: Framing,
    /// Set until the first byte came.
    first_byte_by: Option<Instant>,
}

#[derive(Debug)]
enum Framing {
    /// A stream of events.
    Events(SseParser),
    /// One JSON document; the whole of it is one event.
    Whole(Vec<u8>),
    /// Nothing follows.
    Ended,
}

impl Body {
    /// Waits for the head of a response. Any status but success is the error it stands for.
    pub(super) async fn open(request: reqwest::RequestBuilder, first_byte_by: Instant) -> Result<Self, ModelError> {
        let response = match timeout_at(first_byte_by, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(fault)) => return Err(of_transport(&fault)),
            Err(_) => return Err(ModelError::Timeout("the first byte of the answer")),
        };
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let whole = media_type.is_some_and(|value| value.trim_start().starts_with("application/json"));
        let framing = if whole { Framing::Whole(Vec::new()) } else { Framing::Events(SseParser::default()) };
        Ok(Self { response, framing, first_byte_by: Some(first_byte_by) })
    }

    /// Waits for the next portion and gives the events it completes, often none; `None` at the end.
    ///
    /// # Errors
    /// Silence for longer than `idle` or beyond `deadline`, and a connection that broke.
    pub(super) async fn next(&mut self, idle: Duration, deadline: Instant) -> Result<Option<Vec<String>>, ModelError> {
        if matches!(self.framing, Framing::Ended) {
            return Ok(None);
        }
        let silent_at = self.first_byte_by.unwrap_or_else(|| Instant::now() + idle);
        let portion = match timeout_at(silent_at.min(deadline), self.response.chunk()).await {
            Ok(Ok(portion)) => portion,
            Ok(Err(fault)) => return Err(ModelError::BrokenStream(root_cause(&fault))),
            Err(_) if deadline <= silent_at => return Err(ModelError::Timeout("the whole answer")),
            Err(_) if self.first_byte_by.is_some() => {
                return Err(ModelError::Timeout("the first byte of the answer"));
            }
            Err(_) => return Err(ModelError::Timeout("the next piece of the answer")),
        };
        self.first_byte_by = None;
        let mut events = Vec::new();
        match portion {
            Some(bytes) => self.framing.push(&bytes, &mut events)?,
            None => events.extend(std::mem::replace(&mut self.framing, Framing::Ended).finish()),
        }
        Ok(Some(events))
    }

    /// Reads the end of the transfer if it is there already, so that the connection can be used again.
    pub(super) async fn drain(mut self) {
        // More data after the end, an error or silence: the connection is closed by dropping the response.
        let _ = timeout(DRAIN_WITHIN, self.response.chunk()).await;
    }
}

impl Framing {
    fn push(&mut self, bytes: &[u8], events: &mut Vec<String>) -> Result<(), ModelError> {
        let overlong = || ModelError::BrokenStream("it has an event without end".into());
        match self {
            Self::Events(parser) => parser.push(bytes, events).map_err(|_| overlong()),
            Self::Whole(document) if document.len() + bytes.len() <= MAX_WHOLE_BYTES => {
                document.extend_from_slice(bytes);
                Ok(())
            }
            Self::Whole(_) => Err(overlong()),
            Self::Ended => Ok(()),
        }
    }

    fn finish(self) -> Option<String> {
        match self {
            Self::Events(parser) => parser.finish(),
            Self::Whole(document) => Some(String::from_utf8_lossy(&document).into_owned()),
            Self::Ended => None,
        }
    }
}

/// Reads what an endpoint says beside a status that is no success.
async fn refusal(mut response: Response) -> ModelError {
    let status = response.status().as_u16();
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    // An endpoint that sends no `Date` has no clock (RFC 9110 §6.6.1); a date it names is then as good as never.
    let now = header(DATE).and_then(retry::http_date).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let retry_after = header(RETRY_AFTER).and_then(|value| retry::retry_after(value, now));
    let mut body = Vec::new();
    let by = Instant::now() + ERROR_BODY_WITHIN;
    while let Ok(Ok(Some(bytes))) = timeout_at(by, response.chunk()).await {
        body.extend_from_slice(&bytes);
        if body.len() > MAX_ERROR_BYTES {
            break;
        }
    }
    error::of_status(status, retry_after, &body)
}

/// The error of a request that got no response.
fn of_transport(fault: &reqwest::Error) -> ModelError {
    if fault.is_connect() && fault.is_timeout() {
        return ModelError::unreachable("no connection in time");
    }
    ModelError::unreachable(root_cause(fault))
}
