//! The section `model` of the configuration.

use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;

use crate::{base_url, retry::RetryPolicy, secret::Secret};

/// Where the model is, how it is called, and how long anything may take.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct ModelSettings {
    /// Address of an OpenAI-compatible API, with or without `/v1` or `/v1/chat/completions`. Empty: none is
    /// configured, and boot puts the offline responder's address here.
    pub base_url: String,
    /// Sent as a bearer token; none for endpoints that want none.
    pub api_key: Option<Secret>,
    /// Name of the model as the endpoint knows it.
    pub model: String,
    /// Sampling temperature; without it the endpoint's own default holds (some models refuse the parameter).
    pub temperature: Option<f64>,
    /// Further members of the request, for what differs between endpoints (`max_tokens`, `top_p`, …). They cannot
    /// replace `messages` or `stream`.
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// Whether to ask for token counts (`stream_options.include_usage`); a few endpoints refuse that.
    pub include_usage: bool,
    /// Size of the model's context window in tokens: everything it reads and writes for one answer.
    pub context_tokens: usize,
    /// The part of the window kept free for the answer. It only bounds what is sent.
    pub answer_tokens: usize,
    /// Whether the model sees: then pictures go with messages as `image_url` parts.
    pub sees_images: bool,
    /// Most pictures of one request.
    pub max_images: usize,
    /// Longest answer, reasoning included, in bytes of UTF-8.
    pub max_answer_bytes: usize,
    /// Longest time to open a connection (name lookup, TCP, TLS).
    pub connect_timeout_ms: u64,
    /// Longest time from the request to the first byte of the answer's body.
    pub first_byte_timeout_ms: u64,
    /// Longest silence inside an answer.
    pub idle_timeout_ms: u64,
    /// Longest time for one answer with all its attempts and waits.
    pub total_deadline_ms: u64,
    /// Attempts after the first; only made while nothing of an answer was yielded.
    pub max_retries: u32,
    /// Upper bound of the wait before the first retry; it doubles with each.
    pub retry_first_wait_ms: u64,
    /// Upper bound of every wait before a retry.
    pub retry_max_wait_ms: u64,
    /// The longest `Retry-After` that is waited for; above it the answer fails at once.
    pub max_retry_after_ms: u64,
}

impl Default for ModelSettings {
    fn default() -> Self {
        let retry = RetryPolicy::default();
        Self {
            base_url: String::new(),
            api_key: None,
            model: String::new(),
            temperature: None,
            extra: serde_json::Map::new(),
            include_usage: true,
            context_tokens: 16_384,
            answer_tokens: 2_048,
            sees_images: false,
            max_images: 4,
            max_answer_bytes: 1024 * 1024,
            connect_timeout_ms: 5_000,
            first_byte_timeout_ms: 60_000,
            idle_timeout_ms: 30_000,
            total_deadline_ms: 600_000,
            max_retries: retry.max_retries,
            retry_first_wait_ms: retry.first_wait_ms,
            retry_max_wait_ms: retry.max_wait_ms,
            max_retry_after_ms: retry.max_retry_after_ms,
        }
    }
}

/// A model client cannot be made from these settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The base URL is not usable; the text never holds the URL, which could carry a secret.
    #[error("model.base_url {0}")]
    BaseUrl(&'static str),
    /// No model is named.
    #[error("model.model is empty")]
    NoModel,
    /// The key has characters that no HTTP header can carry.
    #[error("model.api_key has characters that a header cannot carry")]
    ApiKey,
    /// The window leaves nothing for what is sent.
    #[error("model.answer_tokens must be below model.context_tokens")]
    Window,
    /// The HTTP client could not be built (certificates of the system unreadable, for example).
    #[error("HTTP client of the model cannot be built")]
    Client(#[source] reqwest::Error),
}

impl ModelSettings {
    /// Tokens there are for everything that is sent: the window without the answer's part.
    #[must_use]
    pub const fn context_budget(&self) -> usize {
        self.context_tokens.saturating_sub(self.answer_tokens)
    }

    /// Checks what can be checked without a connection.
    ///
    /// # Errors
    /// The first fault, naming its key.
    pub fn validate(&self) -> Result<(), SettingsError> {
        call_url(&self.base_url)?;
        if self.model.trim().is_empty() {
            return Err(SettingsError::NoModel);
        }
        if self.context_budget() == 0 {
            return Err(SettingsError::Window);
        }
        Ok(())
    }

    pub(super) fn retry_policy(&self) -> RetryPolicy {
        RetryPolicy {
            max_retries: self.max_retries,
            first_wait_ms: self.retry_first_wait_ms,
            max_wait_ms: self.retry_max_wait_ms,
            max_retry_after_ms: self.max_retry_after_ms,
        }
    }

    pub(super) const fn first_byte_timeout(&self) -> Duration {
        Duration::from_millis(self.first_byte_timeout_ms)
    }

    pub(super) const fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    pub(super) const fn total_deadline(&self) -> Duration {
        Duration::from_millis(self.total_deadline_ms)
    }
}

/// The base URL without what people copy along with it: surrounding blanks, query and fragment, trailing slashes, one
/// `/chat/completions` and then one `/v1`.
///
/// # Errors
/// [`SettingsError::BaseUrl`] if it is empty, no URL, not http(s), or holds a user name or password (those would end
/// up in logs; `model.api_key` is the place for a secret).
pub fn normalize_base_url(given: &str) -> Result<String, SettingsError> {
    let url = base_url::read(given).map_err(SettingsError::BaseUrl)?;
    let mut base = url.as_str().trim_end_matches('/');
    for ending in ["/chat/completions", "/v1"] {
        base = base.strip_suffix(ending).unwrap_or(base).trim_end_matches('/');
    }
    Ok(base.to_owned())
}

/// The URL that is called for an answer.
pub(super) fn call_url(base_url: &str) -> Result<Url, SettingsError> {
    let base = normalize_base_url(base_url)?;
    Url::parse(&format!("{base}/v1/chat/completions")).map_err(|_| SettingsError::BaseUrl("is not a URL"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    #[test]
    fn every_common_form_of_a_base_url_gives_the_same_call() {
        let forms = [
            "https://api.example.com",
            " https://api.example.com/ ",
            "https://api.example.com/v1",
            "https://api.example.com/v1//",
            "https://api.example.com/v1/chat/completions",
            "https://api.example.com/v1/chat/completions/?beta=1#top",
            "https://api.example.com/chat/completions",
        ];
        for form in forms {
            let url = call_url(form).unwrap();
            assert_eq!(url.as_str(), "https://api.example.com/v1/chat/completions", "{form}");
        }
    }

    #[test]
    fn a_path_of_the_endpoint_is_kept_and_only_one_ending_is_dropped() {
        assert_eq!(normalize_base_url("https://openrouter.ai/api/v1").unwrap(), "https://openrouter.ai/api");
        assert_eq!(normalize_base_url("http://h:1/v1/v1/").unwrap(), "http://h:1/v1");
    }

    #[test]
    fn unusable_base_urls_are_refused_without_being_repeated() {
        for url in ["", "  ", "api.example.com/v1", "ftp://h/", "https://me:hidden@h/"] {
            let refused = normalize_base_url(url).unwrap_err().to_string();
            assert!(refused.starts_with("model.base_url "), "{url}: {refused}");
            assert!(!refused.contains("hidden"));
        }
    }

    #[test]
    fn the_key_is_read_and_never_shown() {
        let read: ModelSettings = serde_json::from_str(r#"{"api_key":"sk-hidden","model":"m"}"#).unwrap();
        assert!(read.api_key.is_some());
        assert!(!format!("{read:?}").contains("hidden"));
        assert_eq!(read.idle_timeout_ms, ModelSettings::default().idle_timeout_ms);
    }

    #[test]
    fn validation_names_the_key_at_fault() {
        let sound = ModelSettings { base_url: "http://h".into(), model: "m".into(), ..ModelSettings::default() };
        sound.validate().unwrap();
        let fault = |settings: ModelSettings| settings.validate().unwrap_err().to_string();
        assert!(fault(ModelSettings { model: " ".into(), ..sound.clone() }).contains("model.model"));
        assert!(fault(ModelSettings { base_url: String::new(), ..sound.clone() }).contains("model.base_url"));
        assert!(fault(ModelSettings { answer_tokens: 16_384, ..sound }).contains("model.answer_tokens"));
    }
}
