//! The record that tells the log what was remembered.

use serde_json::{Value, json};
use time::OffsetDateTime;

/// The topic of these records.
pub const MEMORY_WAL: &str = "memory.wal";

/// The record of the memory `payload`. `result` is what the memory service said of it, null if it never took it.
#[must_use]
pub fn record(tenant: &str, session_id: &str, payload: &Value, result: &Value, at: OffsetDateTime) -> Value {
    json!({
        "type": "memory.write",
        "role": payload["role"],
        "session_id": session_id,
        "persona_id": payload["persona_id"],
        "tenant": tenant,
        "payload": payload,
        "result": result,
        "timestamp": (at - OffsetDateTime::UNIX_EPOCH).as_seconds_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_the_members_of_the_original() {
        let payload = json!({"id": "e", "role": "user", "persona_id": null, "content": "hi"});
        let at = OffsetDateTime::UNIX_EPOCH + time::Duration::milliseconds(1_500);
        let record = record("t", "s", &payload, &json!({"coord": "1,2,3"}), at);
        let expected = json!({
            "type": "memory.write", "role": "user", "session_id": "s", "persona_id": null, "tenant": "t",
            "payload": payload, "result": {"coord": "1,2,3"}, "timestamp": 1.5,
        });
        assert_eq!(record, expected);
    }
}
