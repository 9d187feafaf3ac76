//! Why there is no answer, by what the caller can tell the person.

use std::time::Duration;

use serde_json::Value;

/// What of the provider's own words is kept, in characters.
const DETAIL_CHARS: usize = 240;

/// Words by which endpoints say that the conversation is larger than the model's window; they share no code for it.
const TOO_LONG_WORDS: [&str; 7] = [
    "context_length_exceeded",
    "exceed_context_size",
    "context length",
    "context window",
    "context size",
    "prompt is too long",
    "too many tokens",
];

/// An answer failed. The variants are the stable codes that a turn's `assistant.error` carries.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// No connection, a connection lost before the answer, or an endpoint that is out of order (5xx).
    #[error("model cannot be reached: {detail}")]
    Unreachable {
        /// What went wrong, or what the endpoint said.
        detail: String,
        /// How long it wants to be left alone, if it said so.
        retry_after: Option<Duration>,
    },
    /// The endpoint wants fewer requests, or the account has no quota left.
    #[error("model limits the rate of requests: {detail}")]
    RateLimited {
        /// What the endpoint said.
        detail: String,
        /// How long it wants to be left alone, if it said so.
        retry_after: Option<Duration>,
        /// Whether waiting helps; a spent quota does not come back by itself.
        passing: bool,
    },
    /// The endpoint understood and says no: wrong key, unknown model, a parameter it does not take, refused content.
    #[error("model refused the request: {0}")]
    Refused(String),
    /// Nothing came in time; the text says what was waited for.
    #[error("model took too long: {0}")]
    Timeout(&'static str),
    /// The answer broke off or cannot be understood.
    #[error("model broke off its answer: {0}")]
    BrokenStream(String),
    /// The conversation does not fit the model's context window.
    #[error("conversation is too long for the model: {0}")]
    ContextTooLong(String),
    /// The answer reached its limit; what was yielded before is its beginning.
    #[error("answer is too long: {0}")]
    AnswerTooLong(String),
}

impl ModelError {
    pub(super) fn unreachable(detail: impl Into<String>) -> Self {
        Self::Unreachable { detail: detail.into(), retry_after: None }
    }

    /// Every code there is.
    pub(super) const CODES: [&str; 7] = [
        "model-unreachable",
        "model-rate-limited",
        "model-refused",
        "model-timeout",
        "model-broken-stream",
        "model-context-too-long",
        "model-answer-too-long",
    ];

    /// The stable code: `metadata.error_code` of the terminal event, and a label of `llm_failures_total`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "model-unreachable",
            Self::RateLimited { .. } => "model-rate-limited",
            Self::Refused(_) => "model-refused",
            Self::Timeout(_) => "model-timeout",
            Self::BrokenStream(_) => "model-broken-stream",
            Self::ContextTooLong(_) => "model-context-too-long",
            Self::AnswerTooLong(_) => "model-answer-too-long",
        }
    }

    /// Whether the same request may succeed a moment later. Timeouts are not among them: asking again would double
    /// the wait that the person already had.
    pub(super) const fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::BrokenStream(_) => true,
            Self::RateLimited { passing, .. } => *passing,
            Self::Refused(_) | Self::Timeout(_) | Self::ContextTooLong(_) | Self::AnswerTooLong(_) => false,
        }
    }

    /// How long the endpoint wants to be left alone.
    pub(super) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after, .. } | Self::Unreachable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The same error with every occurrence of `secret` blotted out of what the endpoint said (some repeat the key
    /// they refuse).
    pub(super) fn without(mut self, secret: &str) -> Self {
        if let Self::Unreachable { detail: text, .. }
        | Self::RateLimited { detail: text, .. }
        | Self::Refused(text)
        | Self::BrokenStream(text)
        | Self::ContextTooLong(text)
        | Self::AnswerTooLong(text) = &mut self
            && !secret.is_empty()
            && text.contains(secret)
        {
            *text = text.replace(secret, "[redacted]");
        }
        self
    }
}

/// The error that an HTTP answer with this status and body stands for.
pub(super) fn of_status(status: u16, retry_after: Option<Duration>, body: &[u8]) -> ModelError {
    let said = serde_json::from_slice(body).ok().map_or_else(String::new, |body| words(&body));
    let detail = if said.is_empty() { format!("status {status}") } else { format!("status {status}, {said}") };
    match status {
        413 => ModelError::ContextTooLong(detail),
        400 | 422 if speaks_of_length(&said) => ModelError::ContextTooLong(detail),
        408 => ModelError::Timeout("the endpoint gave up waiting"),
        429 => ModelError::RateLimited { passing: !said.contains("insufficient_quota"), detail, retry_after },
        500.. => ModelError::Unreachable { detail, retry_after },
        _ => ModelError::Refused(detail),
    }
}

/// The error that an `error` member inside a stream stands for.
pub(super) fn of_stream(error: &Value) -> ModelError {
    let said = words(error);
    let status = error.get("code").or_else(|| error.get("status")).and_then(Value::as_u64);
    if speaks_of_length(&said) {
        ModelError::ContextTooLong(said)
    } else if status == Some(429) || said.contains("rate_limit") || said.contains("insufficient_quota") {
        ModelError::RateLimited { passing: !said.contains("insufficient_quota"), detail: said, retry_after: None }
    } else if matches!(status, Some(400..=499)) {
        ModelError::Refused(said)
    } else {
        ModelError::BrokenStream(said)
    }
}

/// What a JSON error says for machines and for people, in one short line. Endpoints nest it as `{"error": {…}}`, as
/// `{"error": "…"}` or not at all.
fn words(body: &Value) -> String {
    let error = body.get("error").unwrap_or(body);
    if let Some(text) = error.as_str() {
        return shorten(text);
    }
    let parts: Vec<String> = ["code", "type", "message", "detail"]
        .iter()
        .filter_map(|name| match error.get(*name)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
        .collect();
    shorten(&parts.join(", "))
}

fn shorten(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(DETAIL_CHARS).collect()
}

fn speaks_of_length(said: &str) -> bool {
    let said = said.to_lowercase();
    TOO_LONG_WORDS.iter().any(|words| said.contains(words))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_list_of_codes_is_that_of_the_errors() {
        let errors = [
            ModelError::unreachable(""),
            ModelError::RateLimited { detail: String::new(), retry_after: None, passing: true },
            ModelError::Refused(String::new()),
            ModelError::Timeout(""),
            ModelError::BrokenStream(String::new()),
            ModelError::ContextTooLong(String::new()),
            ModelError::AnswerTooLong(String::new()),
        ];
        assert_eq!(errors.map(|error| error.code()), ModelError::CODES);
    }

    #[test]
    fn each_status_has_its_code() {
        let cases: &[(u16, Value, &str)] = &[
            (301, json!(null), "model-refused"),
            (400, json!({"error": {"message": "unknown parameter"}}), "model-refused"),
            (400, json!({"error": {"code": "context_length_exceeded"}}), "model-context-too-long"),
            (400, json!({"error": "This model's maximum context length is 4096 tokens"}), "model-context-too-long"),
            (401, json!({"error": {"message": "wrong key"}}), "model-refused"),
            (402, json!(null), "model-refused"),
            (403, json!(null), "model-refused"),
            (404, json!({"detail": "no such model"}), "model-refused"),
            (408, json!(null), "model-timeout"),
            (413, json!(null), "model-context-too-long"),
            (422, json!({"detail": [{"loc": []}]}), "model-refused"),
            (429, json!(null), "model-rate-limited"),
            (500, json!("<html>"), "model-unreachable"),
            (503, json!(null), "model-unreachable"),
            (529, json!(null), "model-unreachable"),
        ];
        for (status, body, code) in cases {
            assert_eq!(of_status(*status, None, body.to_string().as_bytes()).code(), *code, "{status} {body}");
        }
    }

    #[test]
    fn each_error_inside_a_stream_has_its_code() {
        let cases = [
            (json!({"code": 429, "message": "slow down"}), "model-rate-limited"),
            (json!({"type": "rate_limit_exceeded"}), "model-rate-limited"),
            (json!({"code": 403, "message": "moderated"}), "model-refused"),
            (json!({"message": "prompt is too long"}), "model-context-too-long"),
            (json!({"code": 502, "message": "upstream"}), "model-broken-stream"),
            (json!("worker died"), "model-broken-stream"),
        ];
        for (error, code) in cases {
            assert_eq!(of_stream(&error).code(), code, "{error}");
        }
    }

    #[test]
    fn a_spent_quota_is_not_waited_for() {
        let spent = of_status(429, None, br#"{"error":{"code":"insufficient_quota"}}"#);
        assert!(!spent.may_pass());
        assert!(of_status(429, None, b"").may_pass());
    }

    #[test]
    fn the_key_is_blotted_out_of_what_the_endpoint_said() {
        let said = of_status(401, None, br#"{"error":{"message":"key sk-hidden is wrong"}}"#).without("sk-hidden");
        assert_eq!(said.to_string(), "model refused the request: status 401, key [redacted] is wrong");
    }

    #[test]
    fn what_the_endpoint_said_is_one_short_line() {
        let long = json!({"error": {"message": format!("a\r\nb {}", "x".repeat(5_000))}}).to_string();
        let said = of_status(400, None, long.as_bytes()).to_string();
        assert!(said.contains("a b xxx") && said.chars().count() < 320, "{said}");
    }
}
