//! A memory that somebody brings: what it must be, and what is filled in.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use time::{OffsetDateTime, UtcOffset, macros::format_description};
use uuid::Uuid;

use super::{dead_letter::fits_index, hex::hex, ids::Tenant, memory::MemorySpace};

/// The namespace of the lanes of memories without a session; a fixed random UUID.
const LANES: Uuid = Uuid::from_u128(0x0b5e_91d3_7c42_4f0a_8a1d_2f6e_c3b4_7785);

/// A memory that can be put into its queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Brought {
    /// Its id.
    pub id: String,
    /// What keeps it in order with others: its session, else something of its own.
    pub lane: Uuid,
    /// The memory, with id and key.
    pub payload: Value,
    /// What makes writing it twice harmless.
    pub idempotency_key: String,
}

/// Checks a memory that `tenant` brings at `at`, and fills in what it does not say: its id and its key.
///
/// # Errors
/// Why it can be no memory, in words for whoever brought it.
pub fn brought(item: Value, tenant: &Tenant, space: &MemorySpace, at: OffsetDateTime) -> Result<Brought, &'static str> {
    let Value::Object(mut payload) = item else { return Err("it is no object") };
    let whole = Value::Object(payload.clone());
    let foreign = |value: &Value| !value.is_null() && value.as_str().map(str::trim) != Some(tenant.as_str());
    if foreign(&whole["tenant"]) || foreign(&whole["metadata"]["tenant"]) {
        return Err("it names another tenant");
    }
    if !whole["metadata"].is_null() && !whole["metadata"].is_object() {
        return Err("its metadata is no object");
    }
    if [&whole["session_id"], &whole["persona_id"]].into_iter().filter_map(Value::as_str).any(|name| !fits_index(name))
    {
        return Err("its session_id or persona_id is too long");
    }
    let id = match &whole["id"] {
        Value::Null => derived_id(&whole),
        Value::String(id) if !id.trim().is_empty() => id.clone(),
        Value::Number(id) => id.to_string(),
        _ => return Err("its id is no text"),
    };
    if !fits_index(&id) {
        return Err("its id is too long");
    }
    let lane = lane(tenant, said(&whole["session_id"]), &id);
    let given = said(&whole["idempotency_key"]).or_else(|| said(&whole["metadata"]["idempotency_key"]));
    let idempotency_key = given.map_or_else(|| key(&whole, &id, tenant, space, at), str::to_owned);
    payload.insert("id".into(), id.as_str().into());
    payload.insert("idempotency_key".into(), idempotency_key.as_str().into());
    Ok(Brought { id, lane, payload: payload.into(), idempotency_key })
}

/// What keeps the memory `id` in order with others: its session, or what stands for one.
#[must_use]
pub fn lane(tenant: &Tenant, session_id: Option<&str>, id: &str) -> Uuid {
    session_id.and_then(|id| Uuid::try_parse(id).ok()).unwrap_or_else(|| {
        let name = Value::from(vec![tenant.as_str(), session_id.unwrap_or(id)]);
        Uuid::new_v5(&LANES, name.to_string().as_bytes())
    })
}

/// A text that says something.
fn said(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.trim().is_empty())
}

/// The id of a memory without one: its key, else what it says, so that it is the same when it is brought again.
fn derived_id(whole: &Value) -> String {
    if let Some(key) = said(&whole["idempotency_key"]).or_else(|| said(&whole["metadata"]["idempotency_key"])) {
        return key.to_owned();
    }
    let digest = sha256_digits(sorted(whole).to_string().as_bytes(), 24);
    match said(&whole["session_id"]) {
        Some(session) => format!("{session}:{}", digest.get(..16).unwrap_or_default()),
        None => digest,
    }
}

/// The same value with its members in order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().map(|(name, value)| (name.clone(), sorted(value))).collect();
            members.sort_by(|one, other| one.0.cmp(&other.0));
            Value::Object(members.into_iter().collect::<Map<_, _>>())
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

/// `<tenant>/<namespace>/<session_id>/<role>/<UTC time>Z/<16 hex>`.
fn key(whole: &Value, id: &str, tenant: &Tenant, space: &MemorySpace, at: OffsetDateTime) -> String {
    let metadata = &whole["metadata"];
    let namespace =
        said(&whole["namespace"]).or_else(|| said(&metadata["namespace"])).unwrap_or(space.namespace.as_str());
    let told = metadata["timestamp"].as_f64().filter(|seconds| seconds.is_finite());
    #[expect(clippy::cast_possible_truncation, reason = "the key has whole seconds; others saturate and are refused")]
    let told = told.and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds as i64).ok());
    let clock = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");
    let time = told.unwrap_or(at).to_offset(UtcOffset::UTC).format(clock).unwrap_or_default();
    let (session, role) = (said(&whole["session_id"]).unwrap_or_default(), said(&whole["role"]).unwrap_or("event"));
    let base = if whole["id"].is_null() { said(&whole["message_id"]).unwrap_or(id) } else { id };
    format!("{tenant}/{namespace}/{session}/{role}/{time}Z/{}", sha256_digits(base.as_bytes(), 16))
}

/// The first `digits` of SHA-256.
fn sha256_digits(bytes: &[u8], digits: usize) -> String {
    let mut text = hex(&Sha256::digest(bytes));
    text.truncate(digits);
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn take(item: Value) -> Result<Brought, &'static str> {
        let space = MemorySpace { universe: None, namespace: "wm".into() };
        let tenant = Tenant::new("t").unwrap_or_else(|| unreachable!());
        brought(item, &tenant, &space, OffsetDateTime::UNIX_EPOCH)
    }

    #[test]
    fn a_memory_keeps_what_it_says_and_gets_the_rest() {
        let session = "00000000-0000-0000-0000-000000000007";
        let item =
            json!({"id": "e", "session_id": session, "role": "user", "content": "hi", "metadata": {"timestamp": 60}});
        let Ok(taken) = take(item.clone()) else { unreachable!() };
        assert_eq!((taken.id.as_str(), taken.lane), ("e", Uuid::from_u128(7)));
        assert_eq!(taken.idempotency_key, format!("t/wm/{session}/user/1970-01-01T00:01:00Z/3f79bb7b435b0532"));
        assert_eq!((&taken.payload["content"], &taken.payload["id"]), (&item["content"], &json!("e")));
        assert_eq!(taken.payload["idempotency_key"], taken.idempotency_key);
        assert_eq!(take(json!({"id": 7, "idempotency_key": "k"})).map(|taken| taken.idempotency_key), Ok("k".into()));
    }

    #[test]
    fn a_memory_without_an_id_has_the_same_one_each_time() {
        let ids = |item: Value| take(item).map(|taken| taken.id);
        assert_eq!(ids(json!({"metadata": {"idempotency_key": "k"}})), Ok("k".into()));
        let (one, other) = (ids(json!({"a": 1, "b": {"c": 2, "d": 3}})), ids(json!({"b": {"d": 3, "c": 2}, "a": 1})));
        assert_eq!((&one, one.as_ref().map(String::len)), (&other, Ok(24)));
        assert!(ids(json!({"session_id": "s", "a": 1})).is_ok_and(|id| id.starts_with("s:") && id.len() == 18));
    }

    #[test]
    fn what_can_be_no_memory_is_refused_in_words() {
        for (item, why) in [
            (json!("text"), "it is no object"),
            (json!({"tenant": "other"}), "it names another tenant"),
            (json!({"metadata": {"tenant": "other"}}), "it names another tenant"),
            (json!({"metadata": []}), "its metadata is no object"),
            (json!({"id": ""}), "its id is no text"),
            (json!({"id": {}}), "its id is no text"),
            (json!({"id": "x".repeat(3_000)}), "its id is too long"),
            (json!({"session_id": "x".repeat(3_000)}), "its session_id or persona_id is too long"),
            (json!({"persona_id": "x".repeat(3_000)}), "its session_id or persona_id is too long"),
        ] {
            assert_eq!(take(item), Err(why));
        }
        assert!(take(json!({"tenant": "t", "metadata": {"tenant": "t"}})).is_ok());
    }
}
