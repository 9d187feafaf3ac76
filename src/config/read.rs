//! Turns a section of the merged table into its type, reporting every fault in it rather than the first.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::faults::Faults;

/// Reads the sections of `merged`, each once. What is faulty is replaced by its default so that reading goes on; the
/// result is only used when no fault was found.
pub(super) struct Sections {
    merged: Table,
    defaults: Table,
}

impl Sections {
    pub(super) const fn new(merged: Table, defaults: Table) -> Self {
        Self { merged, defaults }
    }

    /// Takes one section. `None` only if it cannot be read even with all faulty keys at their defaults.
    pub(super) fn take<S: DeserializeOwned>(&mut self, name: &str, faults: &mut Faults) -> Option<S> {
        let defaults = self.defaults.get(name).and_then(Value::as_table).cloned().unwrap_or_default();
        let mut section = match self.merged.remove(name) {
            Some(Value::Table(section)) => section,
            None => Table::new(),
            Some(_) => {
                faults.add(name, "is not a section");
                defaults.clone()
            }
        };
        loop {
            let mut unknown = Vec::new();
            let mut track = serde_path_to_error::Track::new();
            let tracked = serde_path_to_error::Deserializer::new(Value::Table(section.clone()), &mut track);
            let read = serde_ignored::deserialize(tracked, |path| unknown.push(path.to_string()));
            match read {
                Ok(read) => {
                    for key in unknown {
                        faults.add(&format!("{name}.{key}"), "is unknown");
                    }
                    return Some(read);
                }
                Err(error) => {
                    let key = track.path().iter().next().map(ToString::to_string).unwrap_or_default();
                    if retyped(&mut section, &key) {
                        continue;
                    }
                    // The message of a type error repeats the value; a secret is always text, so it is never one.
                    faults.add(&format!("{name}.{key}"), first_line(&error));
                    reset(&mut section, &defaults, &key)?;
                }
            }
        }
    }

    /// Reports what nobody took.
    pub(super) fn finish(self, faults: &mut Faults) {
        for section in self.merged.keys() {
            faults.add(section, "is unknown");
        }
    }
}

fn first_line(error: &toml::de::Error) -> String {
    error.message().lines().next().unwrap_or_default().to_owned()
}

/// A setting without a default has no type by which a variable's text could be read, and so came as text. Where text
/// is wrong, what it says may be right: tries it as a TOML value. `false` if that changes nothing.
fn retyped(section: &mut Table, key: &str) -> bool {
    let Some(text) = section.get(key).and_then(Value::as_str) else { return false };
    match format!("value = {text}").parse::<Table>().ok().and_then(|mut table| table.remove("value")) {
        Some(typed) if !typed.is_str() => section.insert(key.to_owned(), typed).is_some(),
        _ => false,
    }
}

/// Puts a key back to its default. `None` if that changes nothing, which would try for ever.
fn reset(section: &mut Table, defaults: &Table, key: &str) -> Option<()> {
    let before = section.remove(key)?;
    if let Some(default) = defaults.get(key) {
        section.insert(key.to_owned(), default.clone());
    }
    (section.get(key) != Some(&before)).then_some(())
}
