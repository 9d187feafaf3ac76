//! What is written down of a record that was given up, and what goes onto its dead-letter topic.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// What is added to a topic's name to make the name of its dead letters.
pub const SUFFIX: &str = ".dlq";

/// The header in which a record that is sent again carries what it went through: the JSON text of its history.
pub const HISTORY_HEADER: &str = "dlq.history";

/// Longest text that an index of the store is sure to hold, in bytes; it holds about three of them.
const INDEXED_BYTES: usize = 800;
/// Longest name of a topic, in bytes, as in Kafka.
const TOPIC_BYTES: usize = 249;
/// Times of giving up that a history keeps; of more the newest.
const HISTORY_MAX: usize = 20;
/// Longest text of an error in a history and in a header, in characters.
const ERROR_CHARS: usize = 500;
/// Longest record that is repeated on the dead-letter topic, in bytes: with what is said about it, it must fit where the
/// record itself may not have fitted.
const REPEATED_BYTES: usize = 512 << 10;

/// The dead-letter topic of `source`.
#[must_use]
pub fn topic_of(source: &str) -> String {
    format!("{source}{SUFFIX}")
}

/// Whether `topic` is a topic of dead letters. Its records are never buried themselves.
#[must_use]
pub fn is_dead(topic: &str) -> bool {
    topic.ends_with(SUFFIX)
}

/// Whether `name` can be the name of a topic of dead letters.
#[must_use]
pub fn is_topic(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    is_dead(name) && name.len() > SUFFIX.len() && name.len() <= TOPIC_BYTES && name.bytes().all(legal)
}

/// What gave a record up, which is also where it goes back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The relay: the log refused it.
    Outbox,
    /// The memory sync: the memory service refused it.
    Memory,
    /// The replicator: it could not be applied.
    Replicator,
}

impl Origin {
    const ALL: [Self; 3] = [Self::Outbox, Self::Memory, Self::Replicator];

    /// The name it has in the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Outbox => "outbox",
            Self::Memory => "memory",
            Self::Replicator => "replicator",
        }
    }

    /// The origin of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|origin| origin.as_str() == name)
    }

    /// The actor that gives up, as `__connect.errors.connector.name` says it.
    #[must_use]
    pub const fn actor(self) -> &'static str {
        match self {
            Self::Outbox => "outbox-relay",
            Self::Memory => "memory-sync",
            Self::Replicator => "wal-replicator",
        }
    }
}

/// Why a record was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In words, without secrets.
    pub error: String,
    /// Its kind, a fixed name such as `log-refused`.
    pub class: &'static str,
    /// What the other side called it, such as an HTTP status or an SQLSTATE.
    pub code: Option<String>,
    /// How often it was tried this time.
    pub tries: i32,
}

/// The history that `headers` carry, which they no longer do afterwards: what is kept are the record's own.
pub fn take_history(headers: &mut Value) -> Value {
    let text = headers.as_object_mut().and_then(|headers| headers.remove(HISTORY_HEADER));
    let history = text.as_ref().and_then(Value::as_str).and_then(|text| serde_json::from_str::<Value>(text).ok());
    history.filter(Value::is_array).unwrap_or_else(|| json!([]))
}

/// The history after one more time of giving up.
#[must_use]
pub fn history(before: &Value, failure: &Failure, at: OffsetDateTime) -> Value {
    let mut entries = before.as_array().cloned().unwrap_or_default();
    entries.push(json!({
        "at": at.format(&Rfc3339).unwrap_or_default(),
        "error": cut(&failure.error),
        "attempts": failure.tries,
    }));
    let more = entries.len().saturating_sub(HISTORY_MAX);
    Value::Array(entries.split_off(more))
}

/// How often a record with this history was tried in all.
#[must_use]
pub fn attempts(history: &Value) -> i32 {
    let of = |entry: &Value| i32::try_from(entry["attempts"].as_i64().unwrap_or(1)).unwrap_or(i32::MAX);
    history.as_array().into_iter().flatten().map(of).fold(0, i32::saturating_add)
}

fn cut(text: &str) -> String {
    text.chars().take(ERROR_CHARS).filter(|c| *c != '\0').collect()
}

/// The record as JSON, if it is JSON that the store can hold.
#[must_use]
pub fn as_json(original: &[u8]) -> Option<Value> {
    serde_json::from_slice(original).ok().filter(|value| !holds_nul(value))
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || holds_nul(value)),
        _ => false,
    }
}

/// Whether an index can hold `text`; a record of somebody else may be keyed by more.
#[must_use]
pub const fn fits_index(text: &str) -> bool {
    text.len() <= INDEXED_BYTES
}

/// A dead letter, as far as its notice tells of it.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    /// Its number in the table.
    pub id: i64,
    /// Where the record was for.
    pub source_topic: &'a str,
    /// What gave it up.
    pub origin: Origin,
    /// Where in the log it was read, partition and offset.
    pub position: Option<(i32, i64)>,
    /// The record's own headers.
    pub headers: &'a Value,
    /// The record.
    pub original: &'a [u8],
    /// The same as JSON, if it is that.
    pub event: Option<&'a Value>,
    /// Why it was given up.
    pub failure: &'a Failure,
    /// How often it was tried in all.
    pub attempts: i32,
    /// When it was given up.
    pub at: OffsetDateTime,
}

impl Notice<'_> {
    /// The headers: the record's own, and Kafka Connect's names for what happened (KIP-298).
    #[must_use]
    pub fn all_headers(&self) -> Value {
        let mut all = self.headers.as_object().cloned().unwrap_or_else(Map::new);
        let mut add = |name: &str, text: String| drop(all.insert(name.to_owned(), text.into()));
        add("__connect.errors.topic", self.source_topic.to_owned());
        if let Some((partition, offset)) = self.position {
            add("__connect.errors.partition", partition.to_string());
            add("__connect.errors.offset", offset.to_string());
        }
        add("__connect.errors.connector.name", self.origin.actor().to_owned());
        add("__connect.errors.exception.class.name", self.failure.class.to_owned());
        add("__connect.errors.exception.message", cut(&self.failure.error));
        add("dlq.attempts", self.attempts.to_string());
        add("dlq.id", self.id.to_string());
        Value::Object(all)
    }

    /// The record. One that is no JSON, or too long to be repeated, is read by its `dead_letter_id`.
    #[must_use]
    pub fn record(&self) -> Value {
        let repeated = self.event.filter(|_| self.original.len() <= REPEATED_BYTES);
        json!({
            "original_event": repeated,
            "original_size_bytes": self.original.len(),
            "source_topic": self.source_topic,
            "error_message": cut(&self.failure.error),
            "error_type": self.failure.class,
            "retry_count": self.attempts,
            "timestamp": (self.at - OffsetDateTime::UNIX_EPOCH).as_seconds_f64(),
            "dead_letter_id": self.id,
        })
    }
}

/// Says which letters of a topic may go: those that were there when somebody was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// Letters with numbers up to this one …
    pub upto: i64,
    /// … of which there were so many.
    pub letters: i64,
}

impl Confirmation {
    /// As a text that holds for one tenant and topic only. No secret: it guards against mistakes, not against people.
    #[must_use]
    pub fn token(&self, tenant: &str, topic: &str) -> String {
        let digest = Sha256::digest(format!("{tenant}\0{topic}\0{}\0{}", self.upto, self.letters));
        let first = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        format!("{}-{}-{first:016x}", self.upto, self.letters)
    }

    /// Reads what [`token`](Self::token) wrote for the same tenant and topic.
    #[must_use]
    pub fn read(text: &str, tenant: &str, topic: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '-');
        let mut number = || parts.next()?.parse().ok();
        let found = Self { upto: number()?, letters: number()? };
        (found.token(tenant, topic) == text).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn failure(error: &str, tries: i32) -> Failure {
        Failure { error: error.to_owned(), class: "log-refused", code: None, tries }
    }

    #[test]
    fn a_history_comes_back_with_its_record_and_grows() {
        let once = history(&json!([]), &failure("too odd", 3), AT);
        let mut headers = json!({"own": "1", HISTORY_HEADER: once.to_string()});
        let carried = take_history(&mut headers);
        assert_eq!((&carried, &headers), (&once, &json!({"own": "1"})));
        let twice = history(&carried, &failure("still odd", 2), AT);
        let expected = json!([
            {"at": "1970-01-01T00:00:00Z", "error": "too odd", "attempts": 3},
            {"at": "1970-01-01T00:00:00Z", "error": "still odd", "attempts": 2},
        ]);
        assert_eq!((&twice, attempts(&twice)), (&expected, 5));
        let long = (0..50).fold(twice, |before, n| history(&before, &failure(&n.to_string(), 1), AT));
        assert_eq!((long.as_array().map(Vec::len), &long[19]["error"]), (Some(HISTORY_MAX), &json!("49")));
    }

    #[test]
    fn topics_of_dead_letters_are_known_by_their_names() {
        assert!(is_topic("memory.wal.dlq") && is_topic(&topic_of("a-b_C")));
        for name in ["", ".dlq", "memory.wal", "a b.dlq", "a/b.dlq", "ä.dlq", "a\0.dlq", &topic_of(&"x".repeat(250))] {
            assert!(!is_topic(name), "{name:?}");
        }
    }

    #[test]
    fn rubbish_in_the_place_of_a_history_is_no_history() {
        for text in ["", "{}", "[", "7"] {
            assert_eq!(take_history(&mut json!({HISTORY_HEADER: text})), json!([]), "{text}");
        }
        assert_eq!(take_history(&mut json!(7)), json!([]));
    }

    #[test]
    fn a_notice_says_what_happened_in_the_words_of_kafka_connect() {
        let (headers, original) = (json!({"own": "1"}), br#"{"n":1}"#);
        let (event, failure) = (as_json(original), failure("too odd", 9));
        let notice = Notice {
            id: 4,
            source_topic: "memory.wal",
            origin: Origin::Replicator,
            position: Some((2, 17)),
            headers: &headers,
            original,
            event: event.as_ref(),
            failure: &failure,
            attempts: 9,
            at: AT,
        };
        let expected = json!({
            "own": "1",
            "__connect.errors.topic": "memory.wal",
            "__connect.errors.partition": "2",
            "__connect.errors.offset": "17",
            "__connect.errors.connector.name": "wal-replicator",
            "__connect.errors.exception.class.name": "log-refused",
            "__connect.errors.exception.message": "too odd",
            "dlq.attempts": "9",
            "dlq.id": "4",
        });
        assert_eq!(notice.all_headers(), expected);
        assert_eq!(notice.record()["original_event"], json!({"n": 1}));
        let large = vec![b' '; REPEATED_BYTES + 1];
        assert_eq!(Notice { original: &large, ..notice }.record()["original_event"], Value::Null);
    }

    #[test]
    fn a_confirmation_holds_for_its_own_topic_and_letters_only() {
        let given = Confirmation { upto: 9, letters: 3 };
        let token = given.token("t", "a.dlq");
        assert_eq!(Confirmation::read(&token, "t", "a.dlq"), Some(given));
        for (text, tenant, topic) in [
            (token.as_str(), "u", "a.dlq"),
            (token.as_str(), "t", "b.dlq"),
            (&token.replacen("9-3", "9-4", 1), "t", "a.dlq"),
            ("", "t", "a.dlq"),
            ("9-3", "t", "a.dlq"),
        ] {
            assert_eq!(Confirmation::read(text, tenant, topic), None, "{text}");
        }
    }

    #[test]
    fn what_the_store_cannot_hold_as_json_is_kept_as_bytes_only() {
        assert_eq!(as_json(br#"{"a":"x"}"#), Some(json!({"a": "x"})));
        for bytes in [&b"\xff"[..], b"{", br#"{"a":"\u0000"}"#, br#"{"\u0000":1}"#] {
            assert_eq!(as_json(bytes), None, "{bytes:?}");
        }
    }
}
