//! What is remembered of an event: the memory record and the key that makes writing it twice harmless.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, macros::format_description};

use super::{
    ids::Tenant,
    trace_context::{TRACE_CONTEXT, TraceContext},
};

/// Where memories of a deployment live. The two are never mixed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemorySpace {
    /// The knowledge base, if the deployment names one.
    pub universe: Option<String>,
    /// The sub-space of a memory.
    pub namespace: String,
}

/// The memory record of the stored event `event`, made at `at`.
#[must_use]
pub fn record(event: &Value, space: &MemorySpace, tenant: &Tenant, at: OffsetDateTime) -> Value {
    let mut metadata = event["metadata"].clone();
    if let Value::Object(fields) = &mut metadata {
        let named = fields.get("universe_id").is_some_and(|value| !value.is_null());
        if let (false, Some(universe)) = (named, &space.universe) {
            fields.insert("universe_id".into(), universe.as_str().into());
        }
        fields.entry("agent_profile_id").or_insert(Value::Null);
        if let Some(trace) = TraceContext::within(event) {
            fields.insert(TRACE_CONTEXT.into(), TraceContext::json(Some(&trace)));
        }
    }
    json!({
        "id": event["event_id"],
        "type": "conversation_event",
        "role": event["role"],
        "content": event["message"],
        "attachments": event["attachments"],
        "session_id": event["session_id"],
        "persona_id": event["persona_id"],
        "metadata": metadata,
        "idempotency_key": idempotency_key(event, space, tenant, at),
    })
}

/// `<tenant>/<namespace>/<session_id>/<role>/<UTC time>Z/<16 hex>`, the hex being the first of SHA-256 of the event's id.
#[must_use]
pub fn idempotency_key(event: &Value, space: &MemorySpace, tenant: &Tenant, at: OffsetDateTime) -> String {
    let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
    let digest = Sha256::digest(text("event_id").as_bytes());
    let first = digest.iter().take(8).fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let hex = format!("{first:016x}");
    let clock = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    let time = at.to_offset(time::UtcOffset::UTC).format(clock).unwrap_or_default();
    let (session, role) = (text("session_id"), text("role"));
    format!("{tenant}/{}/{session}/{role}/{time}Z/{hex}", space.namespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_has_the_shape_of_the_original() {
        let event = json!({"event_id": "e", "session_id": "s", "role": "user", "message": "hi", "metadata": {}});
        let space = MemorySpace { universe: Some("u".into()), namespace: "wm".into() };
        let tenant = Tenant::new("public").unwrap_or_else(|| unreachable!());
        let at = OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(1_500);
        let memory = record(&event, &space, &tenant, at);
        assert_eq!(memory["idempotency_key"], "public/wm/s/user/1970-01-01T00:00:01Z/3f79bb7b435b0532");
        assert_eq!((&memory["content"], &memory["metadata"]["universe_id"]), (&json!("hi"), &json!("u")));
    }
}
