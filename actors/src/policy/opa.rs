//! Decides by an OPA on the network, which has the same files.
//!
//! It is given the same input as the policy inside the process, as `{"input": …}`, and answers with the same decision, as
//! `{"result": …}`. Whatever else it does is no decision.

use std::time::Duration;

use prometheus::Histogram;
use regorus::Value;
use reqwest::Url;
use serde::Deserialize;
use tokio::time::Instant;

use super::{
    decision::Decision,
    fault::Fault,
    kept::Kept,
    remote::{Manners, Remote},
    request::Written,
};
use crate::breaker::BreakerState;

/// See the module.
#[derive(Debug)]
pub(super) struct Opa {
    remote: Remote,
    kept: Kept<String, Decision>,
}

/// What it answers. It may say more than the result, such as how the decision is called in its log.
#[derive(Deserialize)]
struct Answer {
    result: Option<Value>,
}

impl Opa {
    /// Makes ready to ask for the document at `url`. Decisions hold for `ttl`.
    ///
    /// # Errors
    /// The client of the network cannot be made.
    pub(super) fn new(url: Url, manners: Manners, ttl: Duration) -> Result<Self, reqwest::Error> {
        Ok(Self { remote: Remote::new("opa", url, manners)?, kept: Kept::new(ttl) })
    }

    /// Decides. A fault is never kept: the next one asks anew.
    pub(super) async fn decide(&self, input: Written, seconds: Option<&Histogram>) -> Result<Decision, Fault> {
        let Written { text, digest } = input;
        if let Some(decision) = self.kept.get(&digest) {
            return Ok(decision);
        }
        let asked_at = Instant::now();
        let question = [br#"{"input":"#, &*text, b"}"].concat();
        let read = |answer: &[u8]| serde_json::from_slice::<Answer>(answer).ok();
        let answer = self.remote.ask(question, seconds, read).await?;
        // That there is no decision may be for what was asked.
        let decision = answer.result.and_then(|result| Decision::read(&result, &digest)).ok_or(Fault::Odd)?;
        self.kept.put(digest, asked_at, decision.clone());
        Ok(decision)
    }

    /// How long it is left alone from now on, if it is.
    pub(super) fn left_alone_for(&self) -> Option<Duration> {
        self.remote.left_alone_for()
    }

    /// Whether something answers there.
    pub(super) fn answers(&self) -> bool {
        self.remote.answers()
    }

    /// How it was when it was last asked.
    pub(super) fn state(&self) -> BreakerState {
        self.remote.state()
    }
}

#[cfg(test)]
mod tests;
