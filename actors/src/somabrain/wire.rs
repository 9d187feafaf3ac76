//! The shapes of a recall on the wire, in all versions of the server, and what a failed call's body says.

use serde::Serialize;
use serde_json::{Map, Value};

use super::messages::Memory;

/// Score of a memory the server gave none.
const DEFAULT_SCORE: f64 = 0.5;

/// Body of `POST /memory/recall`.
#[derive(Debug, Serialize)]
pub(super) struct RecallBody<'a> {
    pub tenant: &'a str,
    pub namespace: &'a str,
    pub query: &'a str,
    pub top_k: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub universe: Option<&'a str>,
    pub session_id: String,
}

/// Body of `POST /recall`: the old server knows tenant and namespace from elsewhere.
#[derive(Debug, Serialize)]
pub(super) struct OldRecallBody<'a> {
    pub query: &'a str,
    pub top_k: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub universe: Option<&'a str>,
}

/// What an answer to a recall says.
#[derive(Debug, PartialEq)]
pub(super) struct RecallAnswer {
    pub memories: Vec<Memory>,
    pub skipped: usize,
    pub degraded: bool,
    pub rest: Map<String, Value>,
}

impl RecallAnswer {
    /// Reads any of the known shapes: `results`, else the old server's `wm` and `memory`.
    ///
    /// # Errors
    /// What is wrong, in words, when it is none of them.
    pub fn read(answer: Value) -> Result<Self, &'static str> {
        let Value::Object(mut rest) = answer else { return Err("the answer is no JSON object") };
        let degraded = rest.get("degraded").and_then(Value::as_bool).unwrap_or(false);
        let lists = match rest.remove("results") {
            Some(Value::Array(results)) => vec![(results, None)],
            // The old server adds `results: null` where it has no ranking of its own.
            None | Some(Value::Null) => {
                let lists: Vec<_> = ["wm", "memory"]
                    .into_iter()
                    .filter_map(|layer| match rest.get_mut(layer).map(Value::take) {
                        Some(Value::Array(items)) => Some((items, Some(layer))),
                        _ => None,
                    })
                    .collect();
                rest.retain(|name, value| !(value.is_null() && matches!(name.as_str(), "wm" | "memory")));
                lists
            }
            Some(_) => return Err("`results` is no list"),
        };
        if lists.is_empty() {
            return Err("neither `results` nor `wm` nor `memory` is a list");
        }
        let total: usize = lists.iter().map(|(items, _)| items.len()).sum();
        let memories: Vec<_> = lists
            .into_iter()
            .flat_map(|(items, layer)| items.into_iter().filter_map(move |item| memory(item, layer)))
            .collect();
        Ok(Self { skipped: total - memories.len(), memories, degraded, rest })
    }
}

/// Reads one item; `None` if it has no text.
fn memory(item: Value, list: Option<&str>) -> Option<Memory> {
    let text = text_of(&item)?.to_owned();
    let score = item["score"].as_f64().unwrap_or(DEFAULT_SCORE);
    let source = item["source"].as_str().or(item["layer"].as_str()).or(list).map(str::to_owned);
    let coordinate = item["coordinate"].as_array().map(|list| list.iter().filter_map(Value::as_f64).collect());
    Some(Memory { text, score, source, coordinate, item })
}

/// The text of an item: of its payload, else of its content, else (old server, whose items are payloads) its own.
fn text_of(item: &Value) -> Option<&str> {
    [&item["payload"]["content"], &item["payload"]["task"], &item["content"]["content"], &item["content"]]
        .into_iter()
        .chain([&item["content"]["task"], &item["task"], item])
        .filter_map(Value::as_str)
        .find(|text| !text.trim().is_empty())
}

/// What a failed call's body says: its `detail`, else the body itself, on one line and shortened.
pub(super) fn detail(body: &[u8]) -> String {
    let parsed = serde_json::from_slice::<Value>(body).ok();
    let said = match parsed.as_ref().map(|body| &body["detail"]) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::from_utf8_lossy(body).into_owned(),
        Some(other) => other.to_string(),
    };
    shortened(&said)
}

/// One line of at most 300 characters.
pub(super) fn shortened(text: &str) -> String {
    const LONGEST: usize = 300;
    let mut characters = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = characters.by_ref().take(LONGEST).collect();
    if characters.next().is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;
    use serde_json::json;

    /// Text, score and source of what was read.
    fn read(answer: Value) -> Vec<(String, f64, Option<String>)> {
        let answer = RecallAnswer::read(answer).unwrap();
        answer.memories.into_iter().map(|memory| (memory.text, memory.score, memory.source)).collect()
    }

    fn found(text: &str, score: f64, source: Option<&str>) -> (String, f64, Option<String>) {
        (text.into(), score, source.map(str::to_owned))
    }

    #[test]
    fn recall_reads_the_full_model() {
        let answer = json!({
            "tenant": "public", "namespace": "wm", "wm_hits": 1, "ltm_hits": 0, "degraded": true,
            "results": [
                {"layer": "ltm", "score": 0.9, "payload": {"content": "tea"}, "source": "vector", "coordinate": [1, 2, 3]},
                {"layer": "wm", "score": null, "payload": {"task": "milk"}, "novelty": 0.1},
            ],
        });
        let read = RecallAnswer::read(answer).unwrap();
        assert!(read.degraded);
        assert_eq!(read.rest["wm_hits"], 1, "members without a field are kept");
        assert_eq!(read.memories[0].coordinate, Some(vec![1.0, 2.0, 3.0]));
        assert_eq!(read.memories[1].item["novelty"], 0.1);
        let texts: Vec<_> = read.memories.into_iter().map(|m| (m.text, m.score, m.source)).collect();
        assert_eq!(texts, [found("tea", 0.9, Some("vector")), found("milk", 0.5, Some("wm"))]);
    }

    #[test]
    fn recall_reads_the_december_shape() {
        let answer = json!({"results": [{"content": "tea", "layer": "wm", "score": 1.0}], "wm_hits": 1, "ltm_hits": 0});
        assert_eq!(read(answer), [found("tea", 1.0, Some("wm"))]);
    }

    #[test]
    fn recall_reads_the_shape_of_now() {
        let answer = json!({"results": [
            {"content": {"content": "tea", "role": "user"}, "layer": "ltm", "score": 0.7, "coordinate": [0.1, 0.2, 0.3]},
            {"content": "milk", "layer": "wm", "score": 0.2},
            {"content": {"task": "sugar"}, "layer": "wm"},
        ]});
        let expected =
            [found("tea", 0.7, Some("ltm")), found("milk", 0.2, Some("wm")), found("sugar", 0.5, Some("wm"))];
        assert_eq!(read(answer), expected);
    }

    #[test]
    fn recall_reads_the_old_shape() {
        let answer = json!({
            "wm": [{"score": 0.8, "payload": {"task": "tea"}}], "memory": [{"task": "milk"}, "sugar"],
            "namespace": "wm", "trace_id": "t", "results": null,
        });
        let read = RecallAnswer::read(answer).unwrap();
        assert_eq!(read.rest, json!({"namespace": "wm", "trace_id": "t"}).as_object().unwrap().clone());
        let texts: Vec<_> = read.memories.into_iter().map(|m| (m.text, m.score, m.source)).collect();
        let expected =
            [found("tea", 0.8, Some("wm")), found("milk", 0.5, Some("memory")), found("sugar", 0.5, Some("memory"))];
        assert_eq!(texts, expected);
    }

    #[test]
    fn a_text_is_taken_from_the_first_place_that_has_one() {
        let cases = [
            (json!({"payload": {"content": "a", "task": "b"}, "content": "c"}), Some("a")),
            (json!({"payload": {"content": "", "task": "b"}, "content": {"content": "c"}}), Some("b")),
            (json!({"payload": {}, "content": {"content": "c"}}), Some("c")),
            (json!({"payload": {"content": 7}, "content": "d"}), Some("d")),
            (json!({"payload": {}, "content": "  "}), None),
            (json!({}), None),
            (json!(null), None),
        ];
        for (item, text) in cases {
            assert_eq!(text_of(&item), text, "{item}");
        }
    }

    #[test]
    fn items_without_a_text_are_counted() {
        let read = RecallAnswer::read(json!({"results": [{"score": 1}, {"content": "tea"}, null]})).unwrap();
        assert_eq!((read.memories.len(), read.skipped), (1, 2));
    }

    #[test]
    fn an_answer_of_no_known_shape_is_refused() {
        for answer in [json!([]), json!("x"), json!({}), json!({"results": {}}), json!({"wm": 1})] {
            assert!(RecallAnswer::read(answer.clone()).is_err(), "{answer}");
        }
    }

    #[test]
    fn an_absent_universe_is_not_sent_and_the_namespace_never_replaces_it() {
        let mut body = RecallBody {
            tenant: "public",
            namespace: "wm",
            query: "tea",
            top_k: 3,
            universe: None,
            session_id: "s".into(),
        };
        assert_eq!(serde_json::to_value(&body).unwrap().get("universe"), None);
        body.universe = Some("somabrain_ns:public");
        let sent = serde_json::to_value(&body).unwrap();
        assert_eq!((&sent["universe"], &sent["namespace"]), (&json!("somabrain_ns:public"), &json!("wm")));
    }

    #[test]
    fn a_failed_calls_detail_is_one_short_line() {
        assert_eq!(detail(br#"{"detail": "no\nsuch tenant"}"#), "no such tenant");
        assert_eq!(detail(br#"{"detail": [{"loc": ["body"]}]}"#), r#"[{"loc":["body"]}]"#);
        assert_eq!(detail(b"<h1>Bad Gateway</h1>\n"), "<h1>Bad Gateway</h1>");
        assert_eq!(detail("é".repeat(400).as_bytes()).chars().count(), 301);
    }
}
