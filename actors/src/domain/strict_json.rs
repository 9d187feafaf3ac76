//! JSON in which every member of an object is named once.
//!
//! Readers that differ about a name given twice read different documents (RFC 8259 §4), so what a decision rests on must not
//! have one.

use std::fmt;

use serde::{
    Deserializer, Serialize,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};

/// Reads an object.
///
/// # Errors
/// The text is no JSON, not an object, or names a member twice, however deep inside.
pub fn object(text: &[u8]) -> Result<Map<String, Value>, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Strict.deserialize(&mut reader)?;
    reader.end()?;
    match value {
        Value::Object(members) => Ok(members),
        _ => Err(de::Error::custom("not an object")),
    }
}

/// Reads any value; also the visitor of one.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

fn plain<T: Serialize, E: de::Error>(value: T) -> Result<Value, E> {
    serde_json::to_value(value).map_err(E::custom)
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        plain(value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        plain(value)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number that is none"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut given: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = given.next_element_seed(Strict)? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut given: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = given.next_key::<String>()? {
            let value = given.next_value_seed(Strict)?;
            if members.insert(name, value).is_some() {
                return Err(de::Error::custom("a member is named twice"));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_as_the_library_reads_it() {
        for text in [
            "{}",
            r#" {"a": null, "b": [1, -2, 3.5, 1e300, true, "\u00e9\ud83d\ude00"], "c": {"a": {"a": 18446744073709551615}}} "#,
        ] {
            let ours = object(text.as_bytes()).map(Value::Object);
            assert_eq!(ours.ok(), serde_json::from_str(text).ok(), "{text}");
        }
    }

    #[test]
    fn a_member_that_is_named_twice_is_refused_wherever_it_is() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"{"a":[{"b":{"c":1,"c":2}}]}"#, r#"{"":1,"":2}"#] {
            assert!(object(text.as_bytes()).is_err(), "{text}");
        }
        assert!(object(r#"{"a":{"a":1},"b":{"a":1}}"#.as_bytes()).is_ok());
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let deep = format!(r#"{{"a":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
        for text in ["", "null", "1", "[]", r#""a""#, "{}{}", "{} x", "{a:1}", r#"{"a":1,}"#, r#"{"a":1e999}"#, &deep] {
            assert!(object(text.as_bytes()).is_err(), "{text}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_err());
    }
}
