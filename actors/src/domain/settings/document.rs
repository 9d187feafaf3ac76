//! What was saved, as it is stored.

use std::fmt;

use serde_json::{Map, Value};

use super::{Changes, SECTIONS, Section, Values};

/// Longest name of something unknown that is repeated, in characters.
const MAX_NAME: usize = 64;

/// What was saved: values of fields, and sections that this version of the program does not know, which stay as they are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document {
    saved: Values,
    unknown: Map<String, Value>,
}

/// Why a stored document cannot be read: everything that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Unreadable(Vec<String>);

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl Document {
    /// Reads a document. Of a section that is known every field must be: what one of a newer version means, nobody here
    /// knows, and to go by the rest could be to ignore what somebody forbade.
    ///
    /// # Errors
    /// What does not fit, without values.
    pub fn read(stored: &Value) -> Result<Self, Unreadable> {
        let Some(stored) = stored.as_object() else { return Err(Unreadable(vec!["is no object".to_owned()])) };
        let (mut document, mut faults) = (Self::default(), Vec::new());
        for (name, fields) in stored {
            match (Section::named(name), fields) {
                (Some(section), Value::Object(fields)) => document.read_section(section, fields, &mut faults),
                (Some(_), _) => faults.push(format!("{name} is no object")),
                (None, _) => drop(document.unknown.insert(name.clone(), fields.clone())),
            }
        }
        if faults.is_empty() { Ok(document) } else { Err(Unreadable(faults)) }
    }

    fn read_section(&mut self, section: &Section, fields: &Map<String, Value>, faults: &mut Vec<String>) {
        for (name, value) in fields {
            let Some(field) = section.field(name) else {
                let name: String = name.escape_default().take(MAX_NAME).collect();
                faults.push(format!("{}.{name} is not known", section.id));
                continue;
            };
            // Other programs also store what is only shown.
            if !field.is_saved() {
                continue;
            }
            match field.read(value) {
                Ok(value) => self.saved.extend(value.map(|value| (field.id, value))),
                Err(what) => faults.push(format!("{}.{name} {what}", section.id)),
            }
        }
    }

    /// The values that were saved.
    #[must_use]
    pub const fn values(&self) -> &Values {
        &self.saved
    }

    /// The document with these changes.
    #[must_use]
    pub fn after(mut self, changes: Changes) -> Self {
        for (id, value) in changes {
            match value {
                Some(value) => drop(self.saved.insert(id, value)),
                None => drop(self.saved.remove(id)),
            }
        }
        self
    }

    /// The document as it is stored.
    #[must_use]
    pub fn to_stored(&self) -> Value {
        let mut stored = self.unknown.clone();
        for section in SECTIONS {
            let saved = section.fields.iter().filter_map(|field| {
                let value = self.saved.get(field.id)?;
                Some((field.id.to_owned(), value.clone()))
            });
            let saved: Map<String, Value> = saved.collect();
            if !saved.is_empty() {
                stored.insert(section.id.to_owned(), saved.into());
            }
        }
        stored.into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_stored_as_it_was_read() {
        for stored in [
            json!({}),
            json!({"uploads": {"uploads_max_mb": 50}, "antivirus": {"av_enabled": true}}),
            json!({"speech": {"stt_language": "en"}, "agent_profile": "agent0", "uploads": {"uploads_enabled": false}}),
        ] {
            assert_eq!(Document::read(&stored).map(|document| document.to_stored()), Ok(stored));
        }
    }

    #[test]
    fn what_is_only_shown_and_what_is_empty_is_left_out() {
        let stored = json!({"uploads": {"uploads_dir": "x", "uploads_ttl_days": null}, "antivirus": {"av_test": 1}});
        assert_eq!(Document::read(&stored), Ok(Document::default()));
    }

    #[test]
    fn a_document_with_something_that_is_not_understood_cannot_be_read() {
        for (stored, why) in [
            (json!(null), "is no object"),
            (json!([]), "is no object"),
            (json!("x"), "is no object"),
            (json!({"uploads": 7}), "uploads is no object"),
            (json!({"uploads": {"uploads_colour": "red"}}), "uploads.uploads_colour is not known"),
            (json!({"uploads": {"a\u{1b}": 1}}), "uploads.a\\u{1b} is not known"),
            (
                json!({"uploads": {"uploads_max_mb": -1}, "antivirus": {"av_enabled": "canary"}}),
                "antivirus.av_enabled must be true or false; uploads.uploads_max_mb must be a whole number from 1 to 16384",
            ),
        ] {
            assert_eq!(Document::read(&stored).map_err(|fault| fault.to_string()), Err(why.to_owned()), "{stored}");
        }
    }

    #[test]
    fn a_change_keeps_everything_else() {
        let stored = json!({"uploads": {"uploads_max_mb": 50, "uploads_ttl_days": 3}, "speech": {"x": 1}});
        let changes = Changes::from([("uploads_max_mb", None), ("av_port", Some(json!(3311)))]);
        let after = Document::read(&stored).map(|document| document.after(changes).to_stored());
        assert_eq!(
            after,
            Ok(json!({"uploads": {"uploads_ttl_days": 3}, "antivirus": {"av_port": 3311}, "speech": {"x": 1}}))
        );
    }
}
