//! Asks a judge outside of this process: one question, one answer in JSON, no second try.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use prometheus::Histogram;
use reqwest::{
    Client, Response, Url,
    header::{ACCEPT, CONTENT_TYPE},
    redirect,
};
use tokio::time::Instant;

use crate::{
    base_url::root_cause,
    bounded::{self, Unread},
    breaker::{Breaker, BreakerRules, BreakerState, Ticket, Verdict},
};

/// Longest answer that is read, in bytes; a decision has a few hundred.
const MAX_BYTES: usize = 64 * 1024;
/// How long a connection is kept that nobody uses: less than servers commonly do.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// Why there is no answer. No text of it holds the address, the question or the answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum RemoteError {
    /// It did not answer lately and is left alone.
    #[error("it is left alone for {} ms, because it failed", retry_after.as_millis())]
    LeftAlone { retry_after: Duration },
    /// There was no connection, or no whole answer in time.
    #[error("{0}")]
    Lost(String),
    /// It answered with another status than 200.
    #[error("it answered with status {0}")]
    Status(u16),
    /// The answer goes on and on.
    #[error("its answer is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// The answer is none of a judge.
    #[error("its answer cannot be read")]
    Unreadable,
}

/// The way to one judge.
#[derive(Debug)]
pub(super) struct Remote {
    name: &'static str,
    http: Client,
    url: Url,
    breaker: Mutex<Breaker>,
    answers: AtomicBool,
}

/// How to ask.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manners {
    /// Longest time from a question to the end of its answer.
    pub(super) timeout: Duration,
    /// When it is left alone.
    pub(super) breaker: BreakerRules,
}

impl Remote {
    /// Makes ready to ask at `url`; nothing is sent yet. `name` is for the log.
    ///
    /// # Errors
    /// The client of the network cannot be made.
    pub(super) fn new(name: &'static str, url: Url, manners: Manners) -> Result<Self, reqwest::Error> {
        // No redirect: who decides is in the settings. No proxy: it would be found in the environment, which only the outermost
        // room reads.
        let http = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .timeout(manners.timeout)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .tcp_nodelay(true)
            .build()?;
        Ok(Self {
            name,
            http,
            url,
            breaker: Mutex::new(Breaker::new(manners.breaker)),
            answers: AtomicBool::new(false),
        })
    }

    /// Asks once; `read` tells an answer of a judge from others. Whoever stops waiting for the answer has found out nothing about
    /// the judge: a trial that nobody ends is another's after a while.
    pub(super) async fn ask<T>(
        &self,
        question: Vec<u8>,
        seconds: Option<&Histogram>,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, RemoteError> {
        let ticket = self.admit()?;
        let begun = Instant::now();
        let answer = self.exchange(question).await;
        if let Some(seconds) = seconds {
            seconds.observe(begun.elapsed().as_secs_f64());
        }
        let lost = matches!(&answer, Err(RemoteError::Lost(_) | RemoteError::Status(500..)));
        self.answers.store(!lost, Ordering::Relaxed);
        let answer = answer.and_then(|answer| read(&answer).ok_or(RemoteError::Unreadable));
        self.settle(ticket, verdict(&answer));
        answer
    }

    /// How long it is left alone from now on, if it is.
    pub(super) fn left_alone_for(&self) -> Option<Duration> {
        self.breaker.lock().refuses(Instant::now()).map(|refusal| refusal.retry_after)
    }

    /// How it was when it was last asked.
    pub(super) fn state(&self) -> BreakerState {
        self.breaker.lock().state()
    }

    /// Whether something answered when it was last asked, be it a judge or not, that had no trouble of its own.
    pub(super) fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    fn admit(&self) -> Result<Ticket, RemoteError> {
        let admitted = self.breaker.lock().admit(Instant::now());
        admitted.map_err(|refusal| RemoteError::LeftAlone { retry_after: refusal.retry_after })
    }

    async fn exchange(&self, question: Vec<u8>) -> Result<Vec<u8>, RemoteError> {
        let asked = self.http.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        let asked = asked.header(ACCEPT, "application/json").body(question);
        let reply = asked.send().await.map_err(|error| lost(&error))?;
        read(reply).await
    }

    /// Reads the document at `path` of the judge, past the breaker.
    pub(super) async fn look(&self, path: &str) -> Result<Vec<u8>, RemoteError> {
        let mut url = self.url.clone();
        url.set_path(path);
        let reply = self.http.get(url).header(ACCEPT, "application/json").send().await.map_err(|error| lost(&error))?;
        read(reply).await
    }

    fn settle(&self, ticket: Ticket, verdict: Verdict) {
        let mut breaker = self.breaker.lock();
        let before = breaker.state();
        breaker.settle(ticket, verdict, Instant::now());
        let after = breaker.state();
        drop(breaker);
        match (before, after) {
            (BreakerState::Closed | BreakerState::HalfOpen, BreakerState::Open) => {
                tracing::warn!(judge = self.name, "it does not answer and is left alone for a while");
            }
            (BreakerState::HalfOpen, BreakerState::Closed) => tracing::info!(judge = self.name, "it is asked again"),
            _ => {}
        }
    }
}

/// A refusal of the question says nothing about the judge's health: nobody may shut out others by a question of theirs. Whatever
/// else is no answer of a judge says that there is none: at a wrong address, without a right to ask, behind a door of its own.
const fn verdict<T>(answer: &Result<T, RemoteError>) -> Verdict {
    match answer {
        Ok(_) => Verdict::Succeeded,
        Err(RemoteError::Status(400 | 413 | 414 | 422 | 429 | 431)) => Verdict::Neutral,
        Err(_) => Verdict::Failed,
    }
}

/// The whole answer, if it is one.
async fn read(reply: Response) -> Result<Vec<u8>, RemoteError> {
    if reply.status().as_u16() != 200 {
        return Err(RemoteError::Status(reply.status().as_u16()));
    }
    bounded::body(reply, MAX_BYTES).await.map_err(|unread| match unread {
        Unread::TooLong(_) => RemoteError::TooLong,
        Unread::Lost(error) => lost(&error),
    })
}

/// What became of the connection: the innermost cause, which names what the system said. Never the address.
fn lost(error: &reqwest::Error) -> RemoteError {
    if error.is_timeout() {
        return RemoteError::Lost("no answer in time".to_owned());
    }
    RemoteError::Lost(root_cause(error))
}
