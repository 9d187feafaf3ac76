//! What somebody wants to save.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Field, Section, Values};

/// Most faults that are named at a time.
const MAX_FAULTS: usize = 100;
const TWICE: &str = "is given twice";

/// A section that somebody sent.
#[derive(Debug, Clone)]
pub struct Given {
    /// Its name.
    pub section: String,
    /// Fields of it, not necessarily all.
    pub fields: Vec<GivenField>,
}

/// A field that somebody sent.
#[derive(Debug, Clone)]
pub struct GivenField {
    /// Its name.
    pub id: String,
    /// What it is to be; null or an empty text: as configured.
    pub value: Value,
}

/// What is to be changed: fields by name, `None` for those that are to be as configured again.
pub type Changes = BTreeMap<&'static str, Option<Value>>;

/// Something that is wrong with what was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// What, without repeating what was sent.
    pub what: String,
}

/// A place in what was sent, by the numbers of section and field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The name of a section.
    Section(usize),
    /// The name of a field.
    Field(usize, usize),
    /// The value of a field.
    Value(usize, usize),
}

/// The changes that somebody wants. What is `shown` to them and comes back as it is changes nothing: pages send all that they
/// show.
///
/// # Errors
/// Everything that is wrong, up to a hundred things.
pub fn check(given: &[Given], shown: &Values) -> Result<Changes, Vec<Fault>> {
    let (mut changes, mut faults) = (Changes::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for (at, Given { section, fields }) in given.iter().enumerate() {
        let known = match Section::named(section) {
            Some(known) if seen.insert(known.id) => known,
            Some(_) => {
                faults.push(Fault { place: Place::Section(at), what: TWICE.to_owned() });
                continue;
            }
            None => {
                faults.push(Fault { place: Place::Section(at), what: "is no section of settings".to_owned() });
                continue;
            }
        };
        for (number, given) in fields.iter().enumerate() {
            let (place, taken) = match known.field(&given.id) {
                Some(field) if seen.insert(field.id) => {
                    (Place::Value(at, number), change(field, &given.value, shown, &mut changes))
                }
                Some(_) => (Place::Field(at, number), Err(TWICE.to_owned())),
                None => (Place::Field(at, number), Err("is no field of this section".to_owned())),
            };
            faults.extend(taken.err().map(|what| Fault { place, what }));
        }
    }
    faults.truncate(MAX_FAULTS);
    if faults.is_empty() { Ok(changes) } else { Err(faults) }
}

/// Notes what a field is to be, if that is not what is shown.
fn change(field: &Field, given: &Value, shown: &Values, changes: &mut Changes) -> Result<(), String> {
    let shown = shown.get(field.id);
    // What is configured may be beyond the limits of what can be saved.
    if shown == Some(given) {
        return Ok(());
    }
    let value = field.read(given)?;
    if field.is_saved() && (value.is_none() || value.as_ref() != shown) {
        changes.insert(field.id, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn given(section: &str, fields: &[(&str, Value)]) -> Given {
        let fields = fields.iter().map(|(id, value)| GivenField { id: (*id).to_owned(), value: value.clone() });
        Given { section: section.to_owned(), fields: fields.collect() }
    }

    #[test]
    fn only_what_differs_from_what_is_shown_is_a_change() {
        let shown = Values::from([
            ("uploads_max_mb", json!(99_999)),
            ("av_host", json!("clamav")),
            ("av_enabled", json!(true)),
        ]);
        let wanted = [
            given("uploads", &[("uploads_max_mb", json!(99_999)), ("uploads_dir", json!("postgres"))]),
            given(
                "antivirus",
                &[
                    ("av_host", json!(" CLAMAV ")),
                    ("av_enabled", json!(null)),
                    ("av_port", json!(3311)),
                    ("av_test", json!("")),
                ],
            ),
        ];
        let changes = check(&wanted, &shown);
        assert_eq!(changes, Ok(Changes::from([("av_enabled", None), ("av_port", Some(json!(3311)))])));
    }

    #[test]
    fn every_fault_is_named_with_its_place() {
        let wanted = [
            given("uploads", &[("uploads_max_mb", json!(0)), ("colour", json!(1)), ("uploads_enabled", json!(false))]),
            given("voices", &[("uploads_max_mb", json!("x"))]),
            given("uploads", &[]),
            given("antivirus", &[("av_port", json!(1)), ("av_port", json!(2)), ("uploads_max_mb", json!(1))]),
        ];
        let places: Vec<Place> =
            check(&wanted, &Values::new()).err().into_iter().flatten().map(|fault| fault.place).collect();
        let expected = [
            Place::Value(0, 0),
            Place::Field(0, 1),
            Place::Section(1),
            Place::Section(2),
            Place::Field(3, 1),
            Place::Field(3, 2),
        ];
        assert_eq!(places, expected);
    }

    #[test]
    fn a_flood_of_faults_is_cut() {
        let flood: Vec<Given> = (0..10_000).map(|number| given(&format!("s{number}"), &[])).collect();
        assert_eq!(check(&flood, &Values::new()).map_err(|faults| faults.len()), Err(MAX_FAULTS));
    }
}
