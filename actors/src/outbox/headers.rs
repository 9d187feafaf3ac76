//! The headers of a record of the log, so that who reads it can tell whose it is and what it holds without its payload.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    domain::{event::VERSION, text::storable},
    store::message_outbox::ClaimedMessage,
};

/// What headers are made from: an event, or a record that carries a memory.
#[derive(Deserialize)]
struct Said {
    #[serde(rename = "type")]
    type_name: Option<String>,
    event_id: Option<String>,
    session_id: Option<String>,
    persona_id: Option<String>,
    version: Option<String>,
    metadata: Option<Metadata>,
    payload: Option<Carried>,
}

#[derive(Deserialize)]
struct Carried {
    id: Option<String>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    correlation_id: Option<String>,
}

/// The headers that the row has, as a record has that came from elsewhere, and where they are not among them `tenant_id`,
/// `timestamp_ms` (when the record was made, since 1970) and what the payload says of `session_id`, `persona_id`, `event_type`,
/// `event_id`, `schema` and `correlation_id`: as far as a database can hold it, for the log may be a table.
pub fn headers(row: &ClaimedMessage) -> Value {
    let mut all = row.headers.as_object().cloned().unwrap_or_else(Map::new);
    let mut add = |name: &str, text: Option<String>| {
        if let Some(text) = text {
            all.entry(name).or_insert_with(|| storable(&text).into());
        }
    };
    add("tenant_id", Some(row.tenant.clone()));
    add("timestamp_ms", Some((row.created_at.unix_timestamp_nanos() / 1_000_000).to_string()));
    // A record that came from elsewhere may say anything.
    if let Ok(said) = serde_json::from_slice::<Said>(&row.payload) {
        let (id, metadata) = said.payload.map_or((None, None), |carried| (carried.id, carried.metadata));
        add("session_id", said.session_id);
        add("persona_id", said.persona_id);
        add("event_type", said.type_name);
        add("event_id", said.event_id.or(id));
        add("schema", Some(said.version.unwrap_or_else(|| VERSION.to_owned())));
        add("correlation_id", said.metadata.or(metadata).and_then(|metadata| metadata.correlation_id));
    }
    Value::Object(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::{Duration, OffsetDateTime};

    use super::*;

    fn of(payload: &[u8], headers: Value) -> Value {
        super::headers(&ClaimedMessage {
            id: 1,
            tenant: "acme".into(),
            session_id: None,
            seq: None,
            topic: "t".into(),
            key: "k".into(),
            payload: payload.to_vec(),
            headers,
            retry_count: 0,
            created_at: OffsetDateTime::UNIX_EPOCH + Duration::milliseconds(1_234),
        })
    }

    #[test]
    fn what_no_database_can_hold_is_no_part_of_a_header() {
        let all = of(br#"{"type": "a\u0000b", "payload": {"id": "e\u0000"}}"#, json!({}));
        assert_eq!((&all["event_type"], &all["event_id"]), (&json!("a\u{fffd}b"), &json!("e\u{fffd}")));
    }

    #[test]
    fn an_event_and_a_memory_say_the_same_of_themselves() {
        let metadata = json!({"correlation_id": "c", "status": "x"});
        let event = json!({"type": "user", "event_id": "e", "session_id": "s", "persona_id": "p", "version": "v", "metadata": metadata});
        let record = json!({"type": "memory.write", "session_id": "s", "persona_id": null, "payload": {"id": "e", "metadata": metadata}});
        let told = of(event.to_string().as_bytes(), json!({}));
        let expected = json!({
            "tenant_id": "acme", "timestamp_ms": "1234", "session_id": "s", "persona_id": "p", "event_type": "user", "event_id": "e",
            "schema": "v", "correlation_id": "c",
        });
        assert_eq!(told, expected);
        let told = of(record.to_string().as_bytes(), json!({}));
        assert_eq!(
            (&told["event_type"], &told["event_id"], &told["correlation_id"]),
            (&json!("memory.write"), &json!("e"), &json!("c"))
        );
        assert_eq!((told.get("persona_id"), &told["schema"]), (None, &json!(VERSION)));
    }

    #[test]
    fn what_came_from_elsewhere_keeps_its_own_headers() {
        for payload in [&b"\xff"[..], b"[]", b"{\"type\": 3}"] {
            let told = of(payload, json!({"timestamp_ms": "1", "mine": "1"}));
            assert_eq!(told, json!({"tenant_id": "acme", "timestamp_ms": "1", "mine": "1"}));
        }
    }
}
