//! Arguments of tools as the policy may see them: without what looks like a secret.

use regorus::Value;
use serde_json::{Map, Value as Json};

/// What stands in place of a secret.
const MASK: &str = "************";

/// Parts of names whose values are secret, without case, hyphens and underscores.
const SECRET: [&str; 6] = ["apikey", "authorization", "cookie", "password", "secret", "token"];

/// The arguments with every secret masked, however deep inside.
pub(super) fn arguments(given: &Map<String, Json>) -> Value {
    let masked = given.iter().map(|(name, value)| {
        let value = if is_secret(name) { Value::from(MASK) } else { value_of(value) };
        (Value::from(name.as_str()), value)
    });
    Value::from(masked.collect::<regorus::value::Object>())
}

fn value_of(given: &Json) -> Value {
    match given {
        Json::Null => Value::Null,
        Json::Bool(given) => Value::from(*given),
        // Numbers are read like those of any other input.
        Json::Number(_) => Value::from(given.clone()),
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(list) => Value::from(list.iter().map(value_of).collect::<Vec<_>>()),
        Json::Object(members) => arguments(members),
    }
}

fn is_secret(name: &str) -> bool {
    let plain: String = name.chars().filter(|c| !"-_".contains(*c)).flat_map(char::to_lowercase).collect();
    SECRET.iter().any(|part| plain.contains(part))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_masked_wherever_they_are() {
        let given = json!({
            "format": "iso",
            "count": 3,
            "ratio": 0.5,
            "none": null,
            "deep": [{"API-Key": "canary", "rows": [1, true]}],
            "access_token": {"value": "canary"},
            "X-Internal-Token": "canary",
            "clientSecret": ["canary"],
            "password2": "canary",
            "Set-Cookie": "canary",
        });
        let masked = serde_json::to_value(arguments(given.as_object().unwrap())).unwrap();
        let expected = json!({
            "format": "iso",
            "count": 3,
            "ratio": 0.5,
            "none": null,
            "deep": [{"API-Key": MASK, "rows": [1, true]}],
            "access_token": MASK,
            "X-Internal-Token": MASK,
            "clientSecret": MASK,
            "password2": MASK,
            "Set-Cookie": MASK,
        });
        assert_eq!(masked, expected);
    }
}
