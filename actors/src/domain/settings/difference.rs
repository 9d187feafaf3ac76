//! What differs between two stored documents, whether or not they can be read.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Section;

/// Stands for a value that nobody here knows: it may be a secret.
pub const MASK: &str = "************";

/// Something that is not the same in two documents.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The section.
    pub section: String,
    /// The field of it; `None`: the whole section, which has no fields.
    pub field: Option<String>,
    /// What it was; `None`: as configured.
    pub before: Option<Value>,
    /// What it is; `None`: as configured.
    pub after: Option<Value>,
}

impl Difference {
    /// Its name, `section.field`.
    #[must_use]
    pub fn name(&self) -> String {
        self.field.as_ref().map_or_else(|| self.section.clone(), |field| format!("{}.{field}", self.section))
    }
}

/// What is not the same in `before` and `after`, by section and field in the order of their names. Values of what is not known
/// here, or that cannot be read, are masked.
#[must_use]
pub fn differences(before: &Value, after: &Value) -> Vec<Difference> {
    let nothing = Map::new();
    let (before, after) = (before.as_object().unwrap_or(&nothing), after.as_object().unwrap_or(&nothing));
    let mut found = Vec::new();
    for section in names(before, after) {
        let (old, new) = (before.get(section), after.get(section));
        let fields = |part: Option<&Value>| part.map_or(Some(Map::new()), |part| part.as_object().cloned());
        if let (Some(old), Some(new)) = (fields(old), fields(new)) {
            for field in names(&old, &new) {
                found.extend(difference(section, Some(field), old.get(field), new.get(field)));
            }
        } else {
            found.extend(difference(section, None, old, new));
        }
    }
    found
}

fn names<'a>(before: &'a Map<String, Value>, after: &'a Map<String, Value>) -> BTreeSet<&'a str> {
    before.keys().chain(after.keys()).map(String::as_str).collect()
}

fn difference(section: &str, field: Option<&str>, before: Option<&Value>, after: Option<&Value>) -> Option<Difference> {
    if before == after {
        return None;
    }
    let known = field.and_then(|field| Section::named(section)?.field(field));
    let shown = |value: &Value| {
        let is_shown = known.is_some_and(|field| field.is_saved() && field.read(value).is_ok());
        if is_shown { value.clone() } else { MASK.into() }
    };
    Some(Difference {
        section: section.to_owned(),
        field: field.map(str::to_owned),
        before: before.map(shown),
        after: after.map(shown),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_compared_one_by_one() {
        let before = json!({"uploads": {"uploads_max_mb": 25, "uploads_ttl_days": 7}, "antivirus": {"av_port": 1}});
        let after = json!({"uploads": {"uploads_max_mb": 50, "uploads_ttl_days": 7, "uploads_enabled": false}});
        let found: Vec<_> = differences(&before, &after)
            .into_iter()
            .map(|found| (found.name(), found.before.clone(), found.after.clone()))
            .collect();
        assert_eq!(
            found,
            [
                ("antivirus.av_port".to_owned(), Some(json!(1)), None),
                ("uploads.uploads_enabled".to_owned(), None, Some(json!(false))),
                ("uploads.uploads_max_mb".to_owned(), Some(json!(25)), Some(json!(50))),
            ]
        );
        assert_eq!(differences(&after, &after), []);
    }

    #[test]
    fn what_is_not_known_is_masked() {
        let before = json!({"api_keys": {"api_key_x": "canary"}, "uploads": {"new": "canary"}, "token": "canary"});
        let after = json!({"uploads": {"uploads_max_mb": "canary"}, "antivirus": "canary"});
        let found = differences(&before, &after);
        assert_eq!(found.len(), 5, "{found:?}");
        for difference in found {
            let values: Vec<Value> = [difference.before, difference.after].into_iter().flatten().collect();
            assert_eq!(values, [json!(MASK)]);
        }
        assert_eq!(differences(&json!(null), &json!([])), []);
    }
}
