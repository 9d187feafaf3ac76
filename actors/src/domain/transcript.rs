//! A session as readable Markdown.

use serde_json::{Value, json};

use super::tokens;

/// How many of the last messages a context window shows.
const RECENT_MESSAGES: usize = 50;

/// The tokens of a text as the history endpoint reports them; see [`tokens`].
#[must_use]
pub fn estimated_tokens(text: &str) -> u64 {
    tokens::of_text(text) as u64
}

/// The events of a session as Markdown: a level-three heading per message, then its text. Events that are neither a
/// person's, the assistant's nor a tool's are left out.
#[must_use]
pub fn history(payloads: &[Value]) -> String {
    payloads.iter().filter_map(section).collect::<Vec<_>>().join("\n\n")
}

fn section(payload: &Value) -> Option<String> {
    let text = payload["message"].as_str().unwrap_or_default();
    match role(payload) {
        "user" => Some(format!("### User\n\n{text}")),
        "assistant" => Some(format!("### Assistant\n\n{text}")),
        "tool" => Some(format!("### Tool: {}\n\n{text}", payload["tool_name"].as_str().unwrap_or("unknown"))),
        _ => None,
    }
}

fn role(payload: &Value) -> &str {
    let named = payload["role"].as_str().or_else(|| payload["type"].as_str()).unwrap_or_default();
    named.split('.').next().unwrap_or_default()
}

/// What the model is told about a session: its envelope, its analysis when there is one, and its recent messages.
#[must_use]
pub fn context_window(envelope: &Value, analysis: &Value, payloads: &[Value]) -> String {
    let mut parts = vec![format!("## Envelope\n\n{}", pretty(envelope))];
    if analysis.as_object().is_some_and(|fields| !fields.is_empty()) {
        parts.push(format!("## Analysis\n\n{}", pretty(analysis)));
    }
    let spoken: Vec<_> =
        payloads.iter().filter(|payload| matches!(role(payload), "user" | "assistant")).cloned().collect();
    let recent = &spoken[spoken.len().saturating_sub(RECENT_MESSAGES)..];
    if !recent.is_empty() {
        parts.push(format!("## Recent messages\n\n{}", history(recent)));
    }
    parts.join("\n\n")
}

fn pretty(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).unwrap_or_else(|_| json!(null).to_string());
    format!("```json\n{text}\n```")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_has_a_heading_per_message() {
        let events = [
            json!({"type": "user", "role": "user", "message": "hi"}),
            json!({"type": "assistant.final", "message": "hello"}),
            json!({"role": "tool", "tool_name": "echo", "message": "x"}),
            json!({"role": "system", "message": "hidden"}),
        ];
        assert_eq!(history(&events), "### User\n\nhi\n\n### Assistant\n\nhello\n\n### Tool: echo\n\nx");
        assert_eq!(history(&[]), "");
    }

    #[test]
    fn a_context_window_keeps_the_last_fifty_messages() {
        let events: Vec<_> = (0..60).map(|n| json!({"role": "user", "message": format!("m{n}.")})).collect();
        let text = context_window(&json!({"session_id": "s"}), &json!({}), &events);
        assert!(!text.contains("m9.") && text.contains("m10.") && text.contains("m59.") && !text.contains("Analysis"));
    }

    #[test]
    fn tokens_are_a_rounded_quarter_of_the_characters() {
        assert_eq!([0, 1, 4, 5, 6, 400].map(|n| estimated_tokens(&"ä".repeat(n))), [1, 1, 1, 1, 2, 100]);
    }
}
