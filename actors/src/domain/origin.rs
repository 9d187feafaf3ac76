//! Where a recalled memory comes from, as far as it says so.

use serde_json::Value;
use uuid::Uuid;

/// Where a memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A session.
    Session(Uuid),
    /// Somebody brought it for the whole tenant: it was said in no session.
    Tenant,
    /// It is not known: the memory service gave the text alone.
    Unknown,
}

impl Origin {
    /// Reads an item of a recall: what was remembered is its `payload`, its `content`, or the item itself.
    #[must_use]
    pub fn of(item: &Value) -> Self {
        let records = [&item["payload"], &item["content"], item];
        let Some(record) = records.into_iter().find(|record| record.get("id").is_some_and(Value::is_string)) else {
            return Self::Unknown;
        };
        let named = [&record["session_id"], &record["metadata"]["session_id"]].into_iter().find_map(Value::as_str);
        // What is no UUID names no session that anybody could own here.
        named.and_then(|text| Uuid::try_parse(text).ok()).map_or(Self::Tenant, Self::Session)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_memory_says_where_it_comes_from_or_it_is_not_known() {
        let id = Uuid::from_u128(7);
        for (item, origin) in [
            (json!({"payload": {"id": "m", "session_id": id}, "score": 1}), Origin::Session(id)),
            (json!({"content": {"id": "m", "session_id": id}}), Origin::Session(id)),
            (json!({"id": "m", "session_id": id, "content": "tea"}), Origin::Session(id)),
            (json!({"payload": {"id": "m", "metadata": {"session_id": id}}}), Origin::Session(id)),
            (json!({"payload": {"id": "m", "session_id": null}}), Origin::Tenant),
            (json!({"payload": {"id": "m", "session_id": "crawler"}}), Origin::Tenant),
            (json!({"payload": {"content": "tea"}}), Origin::Unknown),
            (json!({"content": "tea", "layer": "wm", "score": 1}), Origin::Unknown),
            (json!({"id": 7, "content": "tea"}), Origin::Unknown),
            (json!("tea"), Origin::Unknown),
        ] {
            assert_eq!(Origin::of(&item), origin, "{item}");
        }
    }
}
