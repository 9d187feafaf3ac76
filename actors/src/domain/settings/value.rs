//! What the value of a field must be.

use serde_json::Value;

use super::{Entry, Field, Kind};
use crate::domain::{host::is_host_name, media_type::is_media_type};

/// Most entries of a list.
const MAX_ENTRIES: usize = 200;
/// Longest name of a host (RFC 1035 §2.3.4), with room for the brackets of an address.
const MAX_HOST: usize = 255;

impl Field {
    /// The value as it is kept, or what it must be. `None` if it is empty: then what is configured counts.
    ///
    /// # Errors
    /// What is wrong, in words that do not repeat the value.
    pub(super) fn read(&self, given: &Value) -> Result<Option<Value>, String> {
        if given.is_null() || given.as_str().is_some_and(|text| text.trim().is_empty()) {
            return Ok(None);
        }
        match self.kind {
            Kind::Switch if given.is_boolean() => Ok(Some(given.clone())),
            Kind::Switch => Err("must be true or false".to_owned()),
            Kind::Number { min, max } => {
                let number = given.as_u64().filter(|number| (min..=max).contains(number));
                number
                    .map(|number| Some(number.into()))
                    .ok_or_else(|| format!("must be a whole number from {min} to {max}"))
            }
            Kind::Select(options) => {
                let option = options.iter().find(|option| given.as_str() == Some(option));
                option
                    .map(|option| Some((*option).into()))
                    .ok_or_else(|| format!("must be one of {}", options.join(", ")))
            }
            Kind::Text(entry) => {
                let text = given.as_str().ok_or("must be a text")?;
                entry.read(text).map(|text| Some(text.into())).ok_or_else(|| format!("must be {}", entry.expected()))
            }
            Kind::List(entry) => list(given.as_str().ok_or("must be a text with one entry a line")?, entry),
            Kind::Shown(shown) if given.as_str() == Some(shown) => Ok(None),
            Kind::Shown(_) => Err("cannot be changed".to_owned()),
            Kind::Button => Err("has no value".to_owned()),
        }
    }
}

/// The entries of a list, each once and on a line of its own.
fn list(text: &str, entry: Entry) -> Result<Option<Value>, String> {
    let mut entries: Vec<String> = Vec::new();
    let given = text.split([',', '\n', '\r']).map(str::trim).filter(|text| !text.is_empty());
    for (at, text) in given.enumerate() {
        if at == MAX_ENTRIES {
            return Err(format!("must have at most {MAX_ENTRIES} entries"));
        }
        let text = entry.read(text).ok_or_else(|| format!("entry {} must be {}", at + 1, entry.expected()))?;
        if !entries.contains(&text) {
            entries.push(text);
        }
    }
    Ok((!entries.is_empty()).then(|| entries.join("\n").into()))
}

impl Entry {
    const fn expected(self) -> &'static str {
        match self {
            Self::Host => "the name of a host, or its address, without a port",
            Self::MediaType => "a media type such as image/png",
        }
    }

    fn read(self, text: &str) -> Option<String> {
        let text = text.trim().to_ascii_lowercase();
        let fits = match self {
            Self::Host => text.len() <= MAX_HOST && is_host_name(&text),
            Self::MediaType => is_media_type(&text),
        };
        fits.then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(kind: Kind, given: &Value) -> Result<Option<Value>, String> {
        Field { id: "a", title: "A", description: "", kind }.read(given)
    }

    #[test]
    fn a_value_of_its_kind_is_kept_in_one_form() {
        let media = Kind::List(Entry::MediaType);
        for (kind, given, kept) in [
            (Kind::Switch, json!(false), json!(false)),
            (Kind::Number { min: 1, max: 9 }, json!(9), json!(9)),
            (Kind::Number { min: 0, max: 9 }, json!(0), json!(0)),
            (Kind::Select(&["a", "b"]), json!("b"), json!("b")),
            (Kind::Text(Entry::Host), json!(" ClamAV.example "), json!("clamav.example")),
            (Kind::Text(Entry::Host), json!("[::1]"), json!("[::1]")),
            (media, json!("Image/PNG, text/plain\r\n\nimage/png,"), json!("image/png\ntext/plain")),
            (media, json!("application/vnd.api+json"), json!("application/vnd.api+json")),
        ] {
            assert_eq!(read(kind, &given), Ok(Some(kept)), "{given}");
        }
    }

    #[test]
    fn what_is_empty_is_what_is_configured() {
        for kind in [Kind::Switch, Kind::Number { min: 1, max: 9 }, Kind::Text(Entry::Host), Kind::List(Entry::Host)] {
            for given in [json!(null), json!(""), json!(" \n ")] {
                assert_eq!(read(kind, &given), Ok(None), "{given}");
            }
        }
        assert_eq!(read(Kind::List(Entry::Host), &json!(",\n,")), Ok(None));
        assert_eq!(read(Kind::Button, &json!("")), Ok(None));
        assert_eq!(read(Kind::Shown("x"), &json!("x")), Ok(None));
    }

    #[test]
    fn another_value_is_refused_without_repeating_it() {
        let number = Kind::Number { min: 1, max: 9 };
        let many = "a/b,".repeat(MAX_ENTRIES + 1);
        let long = "canary".repeat(50);
        for (kind, given) in [
            (Kind::Switch, json!("canary")),
            (Kind::Switch, json!(1)),
            (number, json!(0)),
            (number, json!(10)),
            (number, json!(-1)),
            (number, json!(1.5)),
            (number, json!("canary")),
            (number, json!(true)),
            (Kind::Select(&["a"]), json!("canary")),
            (Kind::Select(&["a"]), json!(["a"])),
            (Kind::Text(Entry::Host), json!("canary:3310")),
            (Kind::Text(Entry::Host), json!("can ary")),
            (Kind::Text(Entry::Host), json!("canary\u{1b}")),
            (Kind::Text(Entry::Host), json!("[canary]")),
            (Kind::Text(Entry::Host), json!(long)),
            (Kind::Text(Entry::Host), json!({})),
            (Kind::List(Entry::MediaType), json!("text/plain, canary")),
            (Kind::List(Entry::MediaType), json!("canary/")),
            (Kind::List(Entry::MediaType), json!("/canary")),
            (Kind::List(Entry::MediaType), json!("canary/*")),
            (Kind::List(Entry::MediaType), json!("canary/a;b=c")),
            (Kind::List(Entry::MediaType), json!("canary/\u{7}")),
            (Kind::List(Entry::MediaType), json!(many)),
            (Kind::List(Entry::MediaType), json!(["text/plain"])),
            (Kind::Shown("x"), json!("canary")),
            (Kind::Button, json!("canary")),
        ] {
            let fault = read(kind, &given);
            assert!(fault.as_ref().is_err_and(|fault| !fault.contains("canary")), "{given}: {fault:?}");
        }
    }
}
