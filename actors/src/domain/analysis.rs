//! A quick reading of what a message is about, carried in event metadata for dashboards and routing.

use serde::Serialize;

/// Intent, sentiment and topic tags of one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Analysis {
    /// `empty`, `question`, `action_request`, `problem_report` or `statement`.
    pub intent: &'static str,
    /// `negative`, `positive` or `neutral`.
    pub sentiment: &'static str,
    /// Topics by keyword: `code`, `infrastructure`, `testing`.
    pub tags: Vec<&'static str>,
}

const QUESTION_STARTS: [&str; 6] = ["how", "what", "why", "when", "where", "who"];
const ACTIONS: [&str; 4] = ["create", "build", "implement", "write"];
const PROBLEMS: [&str; 4] = ["fix", "bug", "issue", "error"];
const NEGATIVE: [&str; 5] = ["fail", "broken", "crash", "error", "issue"];
const POSITIVE: [&str; 4] = ["great", "thanks", "awesome", "good"];
const TAGS: [(&str, &[&str]); 3] = [
    ("code", &["code", "python", "function", "class"]),
    ("infrastructure", &["deploy", "docker", "kubernetes", "infra"]),
    ("testing", &["test", "validate", "qa"]),
];

/// Reads `message`. Keywords match as substrings of the lower-cased, trimmed text, as the original gateway did.
#[must_use]
pub fn analyse(message: &str) -> Analysis {
    let text = message.trim().to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    let intent = if text.is_empty() {
        "empty"
    } else if text.ends_with('?') || QUESTION_STARTS.iter().any(|start| text.starts_with(start)) {
        "question"
    } else if has(&ACTIONS) {
        "action_request"
    } else if has(&PROBLEMS) {
        "problem_report"
    } else {
        "statement"
    };
    let sentiment = if has(&NEGATIVE) {
        "negative"
    } else if has(&POSITIVE) {
        "positive"
    } else {
        "neutral"
    };
    let tags = TAGS.iter().filter(|(_, words)| has(words)).map(|(tag, _)| *tag).collect();
    Analysis { intent, sentiment, tags }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_by_keyword() {
        for (message, intent, sentiment, tags) in [
            ("", "empty", "neutral", vec![]),
            ("Is it late?", "question", "neutral", vec![]),
            ("Write a Python function", "action_request", "neutral", vec!["code"]),
            ("There is a bug in the deploy test", "problem_report", "neutral", vec!["infrastructure", "testing"]),
            ("The build is broken", "action_request", "negative", vec![]),
            ("thanks a lot", "statement", "positive", vec![]),
        ] {
            assert_eq!(analyse(message), Analysis { intent, sentiment, tags }, "{message:?}");
        }
    }
}
