//! One answer from the first request to the last piece: requests, waits, retries, the tool round.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::answer::{Answer, Next, Step};
use super::body::Body;
use super::client::{ChatRequest, Endpoint};
use super::metrics::Meter;
use super::{ModelError, Piece};
use crate::retry::Retries;

/// How long the usage and `[DONE]` are waited for once the finish reason came; some endpoints send neither and keep the
/// connection open.
const AFTER_FINISH: Duration = Duration::from_secs(2);

/// The state behind a stream.
#[derive(Debug)]
pub(super) struct Run {
    endpoint: Arc<Endpoint>,
    request: ChatRequest,
    body: Bytes,
    state: State,
    answer: Answer,
    retries: Retries,
    deadline: Instant,
    meter: Meter,
}

#[derive(Debug, Default)]
enum State {
    /// Send the request, after this wait.
    Ask(Duration),
    /// Read the response.
    Read(Box<Body>),
    /// The answer is whole; leave its connection in order.
    Drain(Box<Body>),
    /// Yield this error, once the pieces before it are out.
    Fail(ModelError),
    /// Nothing follows.
    #[default]
    Ended,
}

impl Run {
    pub(super) fn new(endpoint: Arc<Endpoint>, request: ChatRequest) -> Self {
        let settings = &endpoint.settings;
        Self {
            body: endpoint.body_of(&request),
            request,
            state: State::Ask(Duration::ZERO),
            answer: Answer::new(settings.max_answer_bytes),
            retries: Retries::new(settings.retry_policy()),
            deadline: Instant::now() + settings.total_deadline(),
            meter: Meter::start(endpoint.metrics.clone()),
            endpoint,
        }
    }

    /// The next piece, or the error that ends the answer.
    pub(super) async fn next(&mut self) -> Option<Result<Piece, ModelError>> {
        loop {
            if let Some(piece) = self.answer.pop() {
                self.meter.note(&piece);
                return Some(Ok(piece));
            }
            match std::mem::take(&mut self.state) {
                State::Ask(wait) => self.ask(wait).await,
                State::Read(body) => self.read(body).await,
                State::Drain(body) => body.drain().await,
                State::Fail(error) => {
                    self.meter.failed(&error);
                    return Some(Err(self.endpoint.without_key(error)));
                }
                State::Ended => return None,
            }
        }
    }

    async fn ask(&mut self, wait: Duration) {
        if !wait.is_zero() {
            sleep(wait).await;
        }
        let first_byte_by = Instant::now() + self.endpoint.settings.first_byte_timeout();
        let request = self.endpoint.request(self.body.clone());
        match Body::open(request, first_byte_by.min(self.deadline)).await {
            Ok(body) => self.state = State::Read(Box::new(body)),
            Err(error) => self.failed(error),
        }
    }

    async fn read(&mut self, mut body: Box<Body>) {
        let idle = self.endpoint.settings.idle_timeout();
        let idle = if self.answer.finish_seen() { idle.min(AFTER_FINISH) } else { idle };
        match body.next(idle, self.deadline).await {
            Ok(Some(events)) => match self.take(&events) {
                Ok(Step::More) => self.state = State::Read(body),
                Ok(Step::Over) => self.end_round(Some(body)),
                Err(error) => self.failed(error),
            },
            Ok(None) => self.end_round(None),
            // The answer is whole; what is missing is only its trimming.
            Err(_) if self.answer.finish_seen() => self.end_round(None),
            Err(error) => self.failed(error),
        }
    }

    fn take(&mut self, events: &[String]) -> Result<Step, ModelError> {
        for event in events {
            if self.answer.take(event)? == Step::Over {
                return Ok(Step::Over);
            }
        }
        Ok(Step::More)
    }

    fn end_round(&mut self, body: Option<Box<Body>>) {
        match self.answer.end_round(&self.request.messages) {
            Ok(Next::Done) => self.state = body.map_or(State::Ended, State::Drain),
            Ok(Next::Ask(added)) => {
                self.request.messages.extend(added);
                self.body = self.endpoint.body_of(&self.request);
                self.state = State::Ask(Duration::ZERO);
            }
            Err(error) => self.failed(error),
        }
    }

    /// Asks again if nothing was yielded yet and it may help in time, else ends with the error.
    fn failed(&mut self, error: ModelError) {
        let wait = (!self.answer.produced() && error.may_pass())
            .then(|| self.retries.next_wait(error.retry_after()))
            .flatten()
            .filter(|wait| Instant::now() + *wait < self.deadline);
        let Some(wait) = wait else {
            self.state = State::Fail(error);
            return;
        };
        self.meter.retried();
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(code = error.code(), wait_ms, "model is asked again");
        self.answer.start_over();
        self.state = State::Ask(wait);
    }
}
