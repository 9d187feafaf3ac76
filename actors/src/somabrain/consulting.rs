//! Every call but recalls and writes, by one path: a [`Question`] says what is sent and how the answer is read.

use actix::Message;
use serde::de::DeserializeOwned;
use serde_json::Value;
use somaagent_supervision::Reply;
use tokio::time::Instant;

use super::{
    caller::{Call, Caller},
    endpoint::Endpoint,
    lane::{Ask, Kind},
    messages::{Asker, BrainError},
};
use crate::retry::RetryPolicy;

/// Asks the server a question. May be sent by anyone; safe to repeat where the question is.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Consult<Q: Question> {
    /// The question.
    pub question: Q,
    /// On whose behalf, and until when.
    pub asker: Asker,
    /// Where the answer goes.
    pub reply: Reply<Result<Q::Answer, BrainError>>,
}

/// A call of the server with a typed answer. Only this room has any.
pub trait Question: 'static {
    /// What the server's answer is made into.
    type Answer: Send + 'static;
    /// The call.
    const ENDPOINT: Endpoint;
    /// Statuses above 399 that are an answer, not a refusal.
    const ACCEPTS: &'static [u16] = &[];

    /// What is sent.
    ///
    /// # Errors
    /// It cannot be asked in words a server understands.
    fn plea(&self, asker: &Asker) -> Result<Plea, BrainError>;

    /// Makes the answer of the server's.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    fn read(said: Said) -> Result<Self::Answer, String>;
}

/// What a question sends. Made by [`Plea::default`] and the fields that differ.
#[derive(Debug, Default)]
pub struct Plea {
    /// Path and query, where they are not the endpoint's own.
    pub(super) target: Option<String>,
    /// The version of the document that the asker knows.
    pub(super) if_match: Option<String>,
    /// The JSON body.
    pub(super) body: Option<Value>,
    /// Sent once and never again: doing it twice is not the same as doing it once.
    pub(super) once: bool,
}

/// What the server says to a question.
#[derive(Debug)]
pub struct Said {
    /// The status; an accepted one.
    pub(super) status: u16,
    /// The version of the document that is the answer.
    pub(super) etag: Option<String>,
    /// The body; null where an answer above 399 has none in JSON.
    pub(super) body: Value,
}

impl Said {
    /// The body as `T`.
    pub(super) fn parse<T: DeserializeOwned>(self) -> Result<T, String> {
        serde_json::from_value(self.body).map_err(|error| error.to_string())
    }
}

impl<Q: Question> Ask for Consult<Q> {
    type Answer = Q::Answer;
    const KIND: Kind = Kind::Question;

    async fn answer(&self, caller: &Caller, _: Instant) -> Result<Q::Answer, BrainError> {
        answered(caller, &self.question, &self.asker).await
    }

    fn reply(&self) -> &Reply<Result<Q::Answer, BrainError>> {
        &self.reply
    }

    fn into_reply(self) -> Reply<Result<Q::Answer, BrainError>> {
        self.reply
    }
}

async fn answered<Q: Question>(caller: &Caller, question: &Q, asker: &Asker) -> Result<Q::Answer, BrainError> {
    let endpoint = Q::ENDPOINT;
    let Plea { target, if_match, body, once } = question.plea(asker)?;
    let retry = if once { RetryPolicy { max_retries: 0, ..caller.deps.retry } } else { caller.deps.retry };
    let call = match body {
        Some(body) => Call::of(endpoint, &body, retry)?,
        None => Call::bare(endpoint, retry),
    };
    let answer = caller.call(asker, Call { target, if_match, accepts: Q::ACCEPTS, ..call }).await?;
    // What cannot be read is quoted in the reason, and a server may say anything.
    let broken = |reason: String| BrainError::Broken { endpoint, reason: caller.deps.connection.scrubbed(&reason) };
    let body = match serde_json::from_slice(&answer.body) {
        Ok(body) => body,
        Err(_) if answer.status >= 400 => Value::Null,
        Err(error) => return Err(broken(format!("the answer is no JSON: {error}"))),
    };
    if (300..400).contains(&answer.status) {
        return Err(broken(format!("status {} is no answer", answer.status)));
    }
    Q::read(Said { status: answer.status, etag: answer.etag, body }).map_err(broken)
}

/// A path or the value of a parameter, safe inside a URL.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(byte.into());
        } else {
            escaped.push('%');
            escaped.extend([byte >> 4, byte & 15].map(|half| char::from(b"0123456789ABCDEF"[usize::from(half)])));
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
