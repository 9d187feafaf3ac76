//! The JSON of one chunk, as endpoints really send it.
//!
//! Every member may be missing or null, and unknown ones are ignored: endpoints add pings, timings and fields of
//! their own. A whole answer (`message` where a chunk has `delta`) is read too, for endpoints that do not stream.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// One chunk of an answer.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Chunk {
    choices: Option<Vec<Choice>>,
    /// Token counts so far; most endpoints send them once, at the end.
    #[serde(default, deserialize_with = "usable")]
    pub(super) usage: Option<WireUsage>,
    /// The endpoint failed after it had begun to answer.
    pub(super) error: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct Choice {
    #[serde(default)]
    index: u32,
    delta: Option<Delta>,
    message: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct Delta {
    content: Option<Value>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    tool_calls: Option<Vec<WireToolCall>>,
}

/// A piece of a call: the first piece of an index brings the name, the others more of the arguments.
#[derive(Debug, Default, Deserialize)]
pub(super) struct WireToolCall {
    #[serde(default)]
    pub(super) index: u32,
    #[serde(default)]
    pub(super) function: WireFunction,
}

/// The function of a tool call.
#[derive(Debug, Default, Deserialize)]
pub(super) struct WireFunction {
    pub(super) name: Option<String>,
    pub(super) arguments: Option<Value>,
}

/// Token counts.
#[derive(Debug, Default, Deserialize)]
pub(super) struct WireUsage {
    pub(super) prompt_tokens: Option<u64>,
    pub(super) completion_tokens: Option<u64>,
}

/// Counts that make no sense are no reason to lose the answer they come with: they count as none.
fn usable<'de, D: Deserializer<'de>>(from: D) -> Result<Option<WireUsage>, D::Error> {
    let Some(usage) = Option::<Value>::deserialize(from)? else { return Ok(None) };
    match WireUsage::deserialize(&usage) {
        Ok(usage) => Ok(Some(usage)),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the model's token counts cannot be used");
            Ok(None)
        }
    }
}

/// What one chunk says about the answer.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) thinking: String,
    pub(super) tool_calls: Vec<WireToolCall>,
    pub(super) finish_reason: Option<String>,
}

impl Chunk {
    /// What the first choice says; only one is ever asked for.
    pub(super) fn said(self) -> Said {
        let Some(choice) = self.choices.into_iter().flatten().find(|choice| choice.index == 0) else {
            return Said::default();
        };
        let delta = choice.delta.or(choice.message).unwrap_or_default();
        let mut said = Said {
            // Both names are in use, and proxies send both with the same text.
            thinking: delta.reasoning_content.or(delta.reasoning).unwrap_or_default(),
            tool_calls: delta.tool_calls.unwrap_or_default(),
            finish_reason: choice.finish_reason.filter(|reason| !reason.is_empty()),
            ..Said::default()
        };
        said.add_content(delta.content.as_ref());
        said.text.push_str(delta.refusal.as_deref().unwrap_or_default());
        said
    }
}

impl Said {
    /// Content is a text, or a list of parts of which some are text and some reasoning.
    fn add_content(&mut self, content: Option<&Value>) {
        match content {
            Some(Value::String(text)) => self.text.push_str(text),
            Some(Value::Array(parts)) => {
                for part in parts {
                    if let Some(Value::String(text)) = part.get("text") {
                        self.text.push_str(text);
                    }
                    for thought in part.get("thinking").and_then(Value::as_array).into_iter().flatten() {
                        self.thinking.push_str(thought.get("text").and_then(Value::as_str).unwrap_or_default());
                    }
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use serde_json::json;

    use super::*;

    fn said(chunk: &Value) -> (String, String, Option<String>) {
        let said = serde_json::from_value::<Chunk>(chunk.clone()).unwrap().said();
        (said.text, said.thinking, said.finish_reason)
    }

    #[test]
    fn every_form_of_a_chunk_is_read() {
        let cases = [
            (json!({"choices": [{"delta": {"content": "a"}}]}), ("a", "", None)),
            (
                json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": null}, "finish_reason": null}]}),
                ("", "", None),
            ),
            (json!({"choices": [{"delta": {}, "finish_reason": "stop"}]}), ("", "", Some("stop"))),
            (json!({"choices": [{"delta": {"content": ""}, "finish_reason": ""}]}), ("", "", None)),
            (json!({"choices": [{"delta": {"reasoning_content": "hm"}}]}), ("", "hm", None)),
            (json!({"choices": [{"delta": {"reasoning": "hm", "reasoning_content": "hm"}}]}), ("", "hm", None)),
            (json!({"choices": [{"delta": {"refusal": "no"}}]}), ("no", "", None)),
            (
                json!({"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}]}),
                ("whole", "", Some("stop")),
            ),
            (
                json!({"choices": [{"delta": {"content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "a"}]}}]}),
                ("a", "hm", None),
            ),
            (json!({"choices": [{"index": 1, "delta": {"content": "other"}}]}), ("", "", None)),
            (json!({"choices": []}), ("", "", None)),
            (json!({"choices": null}), ("", "", None)),
            (json!({"type": "ping"}), ("", "", None)),
        ];
        for (chunk, (text, thinking, finish)) in cases {
            assert_eq!(said(&chunk), (text.into(), thinking.into(), finish.map(str::to_owned)), "{chunk}");
        }
    }

    #[test]
    fn counts_that_make_no_sense_cost_the_counts_and_not_the_answer() {
        for usage in
            [json!({"prompt_tokens": -1}), json!({"prompt_tokens": "many"}), json!([]), json!("none"), json!(null)]
        {
            let chunk = json!({"choices": [{"delta": {"content": "a"}}], "usage": usage});
            let chunk: Chunk = serde_json::from_value(chunk).unwrap();
            assert!(chunk.usage.is_none_or(|usage| usage.prompt_tokens.is_none()), "{usage}");
            assert_eq!(said(&json!({"choices": [{"delta": {"content": "a"}}], "usage": usage})).0, "a");
        }
    }
}
