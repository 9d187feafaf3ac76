//! How a request that is sent twice is known to be one.

use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::ids::Tenant;

/// A key chosen by a client for one logical request, with the fingerprint of what it asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The client's key, at most [`Idempotency::MAX_KEY_BYTES`] bytes.
    pub key: String,
    /// [`body_hash`] of the request.
    pub body_hash: [u8; 32],
}

impl Idempotency {
    /// Longest accepted key, in bytes.
    pub const MAX_KEY_BYTES: usize = 255;

    /// Whether `key` may be used: not empty, not too long, printable ASCII (it travels in a header).
    #[must_use]
    pub fn is_usable(key: &str) -> bool {
        !key.is_empty() && key.len() <= Self::MAX_KEY_BYTES && key.bytes().all(|byte| (0x20..0x7f).contains(&byte))
    }
}

/// SHA-256 of a JSON value. Object keys are hashed in sorted order, so the same content has the same hash however it
/// was written. Two bodies with one key and different hashes are a misuse of the key.
#[must_use]
pub fn body_hash(body: &Value) -> [u8; 32] {
    let mut hasher = Sha256::new();
    feed(body, &mut hasher);
    hasher.finalize().into()
}

fn feed(value: &Value, hasher: &mut Sha256) {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(name, _)| *name);
            hasher.update(b"{");
            for (name, inner) in entries {
                feed_bytes(b's', name.as_bytes(), hasher);
                feed(inner, hasher);
            }
            hasher.update(b"}");
        }
        Value::Array(items) => {
            hasher.update(b"[");
            for inner in items {
                feed(inner, hasher);
            }
            hasher.update(b"]");
        }
        Value::String(text) => feed_bytes(b's', text.as_bytes(), hasher),
        scalar => feed_bytes(b'v', scalar.to_string().as_bytes(), hasher),
    }
}

/// Length first, so that neighbouring values cannot be read as one another.
fn feed_bytes(tag: u8, bytes: &[u8], hasher: &mut Sha256) {
    hasher.update([tag]);
    hasher.update(bytes.len().to_le_bytes());
    hasher.update(bytes);
}

/// The id of a session whose first message named none but carried a key: UUID version 5 (RFC 9562 §5.5) of tenant,
/// subject and key. A retried first message therefore finds the session that it made. Where that id is somebody else's, the
/// next `n` gives another one.
#[must_use]
pub fn derived_session_id(tenant: &Tenant, subject: Option<&str>, key: &str, n: u32) -> Uuid {
    let name = match n {
        0 => serde_json::json!([tenant.as_str(), subject, key]),
        n => serde_json::json!([tenant.as_str(), subject, key, n]),
    };
    Uuid::new_v5(&NAMESPACE, name.to_string().as_bytes())
}

/// The namespace of derived session ids; a fixed random UUID.
const NAMESPACE: Uuid = Uuid::from_u128(0x5d0c_55a7_3f1e_4c6b_9b57_6a1f_0e2d_84c3);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_order_of_object_keys_does_not_matter_and_everything_else_does() {
        let one = body_hash(&json!({"message": "hi", "metadata": {"a": "1", "b": "2"}}));
        let same: Value = serde_json::from_str(r#"{"metadata":{"b":"2","a":"1"},"message":"hi"}"#).unwrap_or_default();
        assert_eq!(one, body_hash(&same));
        for other in [json!({"message": "hi"}), json!({"message": "hi", "metadata": {"a": "12", "b": ""}}), json!([])] {
            assert_ne!(one, body_hash(&other));
        }
        assert_ne!(body_hash(&json!(["ab", "c"])), body_hash(&json!(["a", "bc"])));
        assert_ne!(body_hash(&json!("1")), body_hash(&json!(1)));
    }

    #[test]
    fn a_derived_id_is_stable_and_belongs_to_tenant_subject_and_key() {
        let (a, b) =
            (Tenant::new("a").unwrap_or_else(|| unreachable!()), Tenant::new("b").unwrap_or_else(|| unreachable!()));
        let id = derived_session_id(&a, Some("ann"), "k", 0);
        assert_eq!(id, derived_session_id(&a, Some("ann"), "k", 0));
        assert_ne!(id, derived_session_id(&b, Some("ann"), "k", 0));
        assert_ne!(id, derived_session_id(&a, None, "k", 0));
        assert_ne!(id, derived_session_id(&a, Some("ann"), "l", 0));
        assert_ne!(id, derived_session_id(&a, Some("ann"), "k", 1));
        assert_eq!(id.get_version_num(), 5);
    }

    #[test]
    fn keys_are_short_printable_ascii() {
        assert!(Idempotency::is_usable("1f0c-22"));
        for bad in ["", "ü", "a\nb", &"k".repeat(256)] {
            assert!(!Idempotency::is_usable(bad), "{bad:?} was taken");
        }
    }
}
