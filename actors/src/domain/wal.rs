//! The record that tells the log what was remembered.

use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use time::OffsetDateTime;

use super::ids::Tenant;

/// The topic of these records.
pub const MEMORY_WAL: &str = "memory.wal";

/// The type of these records.
const MEMORY_WRITE: &str = "memory.write";

/// The type of records that take a memory back.
const MEMORY_DELETE: &str = "memory.delete";

/// The record that takes the memory `id` of `session_id` back, as its `revision`: whoever keeps an earlier copy removes it.
#[must_use]
pub fn tombstone(tenant: &str, session_id: &str, id: &str, revision: i64, at: OffsetDateTime) -> Value {
    json!({
        "type": MEMORY_DELETE,
        "session_id": session_id,
        "tenant": tenant,
        "payload": {"id": id},
        "revision": revision,
        "timestamp": seconds(at),
    })
}

/// A memory that was taken back.
#[derive(Clone, Debug, PartialEq)]
pub struct TakenBack {
    /// Whose it was.
    pub tenant: String,
    /// Its id.
    pub event_id: String,
    /// Which writing or deletion of the memory it is: higher ones are later. Other writers tell none.
    pub revision: Option<i64>,
    /// When that was published, in seconds since 1970.
    pub timestamp: Option<f64>,
}

/// Reads the bytes of a record that takes a memory back; `None` if they are something else.
#[must_use]
pub fn read_tombstone(bytes: &[u8]) -> Option<TakenBack> {
    let record: Value = serde_json::from_slice(bytes).ok()?;
    (record["type"] == MEMORY_DELETE).then_some(())?;
    Some(TakenBack {
        tenant: tenant(&record["tenant"])?,
        event_id: given(&record["payload"]["id"])?,
        revision: record["revision"].as_i64(),
        timestamp: record["timestamp"].as_f64(),
    })
}

/// The record of the memory `payload`, in its `revision`. `result` is what the memory service said of it, null if it never took
/// it.
#[must_use]
pub fn record(
    tenant: &str,
    session_id: &str,
    payload: &Value,
    result: &Value,
    revision: i64,
    at: OffsetDateTime,
) -> Value {
    json!({
        "type": MEMORY_WRITE,
        "role": payload["role"],
        "session_id": session_id,
        "persona_id": payload["persona_id"],
        "tenant": tenant,
        "payload": payload,
        "result": result,
        "revision": revision,
        "timestamp": seconds(at),
    })
}

/// Makes the record of a memory that is published anew its latest one; others are left as they are.
pub fn publish(record: &mut Value, revision: i64, at: OffsetDateTime) {
    if record["type"] == MEMORY_WRITE {
        record["revision"] = revision.into();
        record["timestamp"] = seconds(at).into();
    }
}

/// A moment as records tell it, in seconds since 1970.
#[must_use]
pub fn seconds(at: OffsetDateTime) -> f64 {
    (at - OffsetDateTime::UNIX_EPOCH).as_seconds_f64()
}

/// What a record says.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Whose memory it is.
    pub tenant: String,
    /// The memory's id.
    pub event_id: String,
    /// The session it comes from.
    pub session_id: Option<String>,
    /// The persona it was said to or by.
    pub persona_id: Option<String>,
    /// Who said it.
    pub role: Option<String>,
    /// Where the memory service put it: `x,y,z`.
    pub coord: Option<String>,
    /// The memory service's name of the request.
    pub request_id: Option<String>,
    /// The memory service's name of the trace.
    pub trace_id: Option<String>,
    /// The memory, the JSON text as it was published.
    pub payload: String,
    /// Which writing or deletion of the memory it is: higher ones are later. Other writers tell none.
    pub revision: Option<i64>,
    /// When it was published, in seconds since 1970.
    pub timestamp: Option<f64>,
}

/// Why the bytes of a record tell of no memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableRecord {
    /// They are not JSON, or not as it should be.
    #[error("it is no record of a memory: {0}")]
    Malformed(String),
    /// Its type is another one.
    #[error("its type is not {MEMORY_WRITE}")]
    OtherType,
    /// It does not say whose it is, or a name that nobody can have.
    #[error("it has no tenant")]
    NoTenant,
    /// Its memory has no id.
    #[error("its memory has no id")]
    NoId,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(default)]
    r#type: Value,
    #[serde(default)]
    tenant: Value,
    #[serde(default)]
    session_id: Value,
    #[serde(default)]
    persona_id: Value,
    #[serde(default)]
    role: Value,
    #[serde(borrow)]
    payload: &'a RawValue,
    #[serde(default)]
    result: Value,
    #[serde(default)]
    revision: Value,
    timestamp: Option<f64>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    id: Value,
}

/// Reads the bytes of a record.
///
/// # Errors
/// If they tell of no memory.
pub fn read(bytes: &[u8]) -> Result<Told, UnreadableRecord> {
    let malformed = |error: serde_json::Error| UnreadableRecord::Malformed(error.to_string());
    // A list of the right length would do for a struct.
    let object = |text: &[u8]| match text.trim_ascii_start().first() {
        Some(b'{') => Ok(()),
        _ => Err(UnreadableRecord::Malformed("it is no object".into())),
    };
    object(bytes)?;
    let record: Wire<'_> = serde_json::from_slice(bytes).map_err(malformed)?;
    if record.r#type != MEMORY_WRITE {
        return Err(UnreadableRecord::OtherType);
    }
    object(record.payload.get().as_bytes())?;
    let memory: Named = serde_json::from_str(record.payload.get()).map_err(malformed)?;
    Ok(Told {
        tenant: tenant(&record.tenant).ok_or(UnreadableRecord::NoTenant)?,
        event_id: given(&memory.id).ok_or(UnreadableRecord::NoId)?,
        session_id: text(&record.session_id),
        persona_id: text(&record.persona_id),
        role: text(&record.role),
        coord: text(&record.result["coord"]),
        request_id: text(&record.result["request_id"]),
        trace_id: text(&record.result["trace_id"]),
        payload: record.payload.get().to_owned(),
        revision: record.revision.as_i64(),
        timestamp: record.timestamp,
    })
}

fn given(value: &Value) -> Option<String> {
    text(value).filter(|text| !text.is_empty())
}

fn tenant(value: &Value) -> Option<String> {
    given(value).filter(|name| Tenant::new(name).is_some())
}

/// A text as it is, a list such as a coordinate as its members between commas, and anything else as JSON.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Array(members) => {
            Some(members.iter().map(|member| text(member).unwrap_or_default()).collect::<Vec<_>>().join(","))
        }
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_the_members_of_the_original_and_its_revision() {
        let payload = json!({"id": "e", "role": "user", "persona_id": null, "content": "hi"});
        let at = OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(1_500);
        let record = record("t", "s", &payload, &json!({"coord": "1,2,3"}), 7, at);
        let expected = json!({
            "type": "memory.write", "role": "user", "session_id": "s", "persona_id": null, "tenant": "t",
            "payload": payload, "result": {"coord": "1,2,3"}, "revision": 7, "timestamp": 1.5,
        });
        assert_eq!(record, expected);
    }

    #[test]
    fn what_a_record_says_is_read_back() {
        let payload = json!({"id": "e", "role": "user", "persona_id": "p", "content": "hi"});
        let result = json!({"coord": "1,2,3", "request_id": "r", "trace_id": null});
        let bytes = record("t", "s", &payload, &result, 7, OffsetDateTime::UNIX_EPOCH).to_string();
        let expected = Told {
            tenant: "t".into(),
            event_id: "e".into(),
            session_id: Some("s".into()),
            persona_id: Some("p".into()),
            role: Some("user".into()),
            coord: Some("1,2,3".into()),
            request_id: Some("r".into()),
            trace_id: None,
            payload: payload.to_string(),
            revision: Some(7),
            timestamp: Some(0.0),
        };
        assert_eq!(read(bytes.as_bytes()), Ok(expected));
    }

    #[test]
    fn a_record_that_takes_a_memory_back_is_told_from_others() {
        let bytes = tombstone("t", "s", "e", 7, OffsetDateTime::UNIX_EPOCH).to_string();
        let expected = TakenBack { tenant: "t".into(), event_id: "e".into(), revision: Some(7), timestamp: Some(0.0) };
        assert_eq!(read_tombstone(bytes.as_bytes()), Some(expected));
        assert_eq!(read(bytes.as_bytes()), Err(UnreadableRecord::OtherType));
        for bytes in
            [&b"{"[..], br#"{"type":"memory.write","tenant":"t","payload":{"id":"e"}}"#, br#"{"type":"memory.delete"}"#]
        {
            assert_eq!(read_tombstone(bytes), None);
        }
    }

    #[test]
    fn records_of_others_are_read_as_far_as_they_make_sense() {
        let told = |record: &str| read(record.as_bytes());
        let least = told(r#"{"type":"memory.write","tenant":"t","payload":{"id":"e","n": 1.10}}"#);
        let least = least.unwrap_or_else(|error| unreachable!("{error}"));
        assert_eq!((least.session_id, least.coord, least.revision, least.timestamp), (None, None, None, None));
        assert_eq!(least.payload, r#"{"id":"e","n": 1.10}"#, "the memory is kept letter by letter");
        let list = told(r#"{"type":"memory.write","tenant":"t","payload":{"id":"e"},"result":{"coord":[1,2.5,-3]}}"#);
        assert_eq!(list.map(|told| told.coord), Ok(Some("1,2.5,-3".into())));
    }

    #[test]
    fn what_tells_of_no_memory_is_refused_with_its_reason() {
        use UnreadableRecord::{Malformed, NoId, NoTenant, OtherType};
        for (bytes, reason) in [
            (&br#"{"tenant":"t","payload":{"id":"e"}}"#[..], OtherType),
            (br#"{"type":"task","tenant":"t","payload":{"id":"e"}}"#, OtherType),
            (br#"{"type":"memory.write","tenant":null,"payload":{"id":"e"}}"#, NoTenant),
            (br#"{"type":"memory.write","tenant":"","payload":{"id":"e"}}"#, NoTenant),
            (br#"{"type":"memory.write","tenant":"a\nb","payload":{"id":"e"}}"#, NoTenant),
            (br#"{"type":"memory.write","tenant":"t","payload":{}}"#, NoId),
        ] {
            assert_eq!(read(bytes), Err(reason));
        }
        for bytes in [
            &b""[..],
            b"\xff\xfe",
            b"{",
            b"7",
            br#"{"type":"memory.write","tenant":"t"}"#,
            br#"{"type":"memory.write","tenant":"t","payload":["e"]}"#,
        ] {
            assert!(matches!(read(bytes), Err(Malformed(_))), "{bytes:?}");
        }
    }
}
