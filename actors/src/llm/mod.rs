//! Calls a model: one request, one stream of pieces.
//!
//! [`ModelClient`] speaks the OpenAI-compatible `chat/completions` stream over HTTP/1.1. It keeps every promise the
//! conversation relies on: each wait has a bound, an answer is asked for again only while nothing of it was yielded (two
//! answers are never spliced), failures have stable codes, text never holds U+0000 and ends at a limit, and
//! dropping the stream closes the endpoint's socket at once.
//!
//! `settings` is the section `model` of the configuration; `client` owns the HTTP client, `run` one answer's requests,
//! waits and retries, `body` the bytes of one response; `sse` and `chunk` read the wire, `answer` decides what it
//! means, all three without I/O; `error` has the codes, `metrics` the counters; `probe` looks whether an endpoint is there,
//! and `looking` reads its list of models by it, for whoever sets one up. No actor lives here: a conversation polls the
//! stream itself, so that its end is the stream's end. Nothing here knows sessions, events or the store.

mod answer;
mod body;
mod chunk;
mod client;
mod error;
mod looking;
mod metrics;
mod probe;
mod run;
mod settings;
mod sse;

pub use client::{ChatRequest, ModelClient, check_key};
pub use error::ModelError;
pub use looking::{CatalogueLook, LookError};
pub use metrics::LlmMetrics;
pub use probe::{Found, ModelProbe};
pub use settings::{ModelSettings, SettingsError, normalize_base_url};

use serde::ser::{Serialize, SerializeMap as _, Serializer};

use crate::domain::context::ChatMessage;
use crate::domain::tokens;

/// A part of an answer, in the order it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// More text; never empty, never with U+0000.
    Text(String),
    /// More of the model's reasoning, which is not part of the answer; never with U+0000.
    Thinking(String),
    /// Tokens of this answer so far, tool round included; a later one replaces it. At least one comes before
    /// [`Piece::Finished`], estimated if the endpoint does not count.
    Usage(Usage),
    /// The answer is whole. Always last; a stream that ends with an error has none.
    Finished(FinishReason),
}

/// Tokens of an answer. Its JSON has `total_tokens` too, and `estimated` only where it is true.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens the model read.
    pub input_tokens: u64,
    /// Tokens the model wrote, reasoning included.
    pub output_tokens: u64,
    /// The counts are this process' estimate, because the endpoint gave none.
    pub estimated: bool,
}

impl Usage {
    /// An estimate for an answer to these messages, for endpoints that do not count and for stopped answers.
    #[must_use]
    pub fn estimate(asked: &[ChatMessage], answer: &str) -> Self {
        let input: usize = asked.iter().map(ChatMessage::tokens).sum();
        let output = if answer.is_empty() { 0 } else { tokens::of_text(answer) };
        Self { input_tokens: input as u64, output_tokens: output as u64, estimated: true }
    }

    /// Input and output together. The counts are the endpoint's: they may be anything.
    #[must_use]
    pub const fn total_tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    const fn plus(self, other: Self) -> Self {
        Self {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            estimated: self.estimated || other.estimated,
        }
    }
}

impl Serialize for Usage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("input_tokens", &self.input_tokens)?;
        map.serialize_entry("output_tokens", &self.output_tokens)?;
        map.serialize_entry("total_tokens", &self.total_tokens())?;
        if self.estimated {
            map.serialize_entry("estimated", &true)?;
        }
        map.end()
    }
}

/// How a whole answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model said all it wanted.
    Stop,
    /// The model's own limit of tokens was reached; the text is its beginning.
    Length,
    /// The endpoint's content filter ended the answer.
    ContentFilter,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn usage_as_json_has_the_total_and_says_when_it_is_an_estimate() {
        let counted = Usage { input_tokens: 3, output_tokens: 2, estimated: false };
        assert_eq!(json!(counted), json!({"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}));
        assert_eq!(json!(Usage { estimated: true, ..counted })["estimated"], json!(true));
    }
}
