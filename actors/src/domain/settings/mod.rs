//! Settings that operators save while the process runs.
//!
//! | file | holds |
//! | --- | --- |
//! | `sections` | [`SECTIONS`], the table of all of them |
//! | `value` | what the value of a field must be |
//! | `given` | [`check`]: what somebody wants to save, as changes, or everything that is wrong with it |
//! | `document` | [`Document`]: what was saved, as it is stored |
//! | `difference` | what differs between two documents |
//!
//! Each section is a row of the table; nothing else here knows one by name. A document holds only what was saved: a field
//! that is not in it is as the process was configured. There is no kind of field for secrets, because documents and their
//! history are stored as they are.

mod difference;
mod document;
mod given;
pub mod sections;
mod value;

use std::collections::BTreeMap;

use serde_json::Value;

pub use difference::{Difference, MASK, differences};
pub use document::{Document, Unreadable};
pub use given::{Changes, Fault, Given, GivenField, Place, check};
pub use sections::SECTIONS;

/// Fields that belong together.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// Its name, in requests and in the document.
    pub id: &'static str,
    /// Its title for people.
    pub title: &'static str,
    /// What it is about.
    pub description: &'static str,
    /// Where pages show it.
    pub tab: &'static str,
    /// Its fields, in the order in which they are shown.
    pub fields: &'static [Field],
}

/// One setting. Its name is unique among the fields of all sections.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name.
    pub id: &'static str,
    /// Its title for people.
    pub title: &'static str,
    /// What it does.
    pub description: &'static str,
    /// What its value is.
    pub kind: Kind,
}

/// What the value of a field is.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// On or off.
    Switch,
    /// A whole number between these, both included.
    Number {
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// One of these texts.
    Select(&'static [&'static str]),
    /// One entry.
    Text(Entry),
    /// A list of entries, one a line.
    List(Entry),
    /// A text that is always this one.
    Shown(&'static str),
    /// Something to press. It has no value.
    Button,
}

/// What a text, or an entry of a list, must be. It is kept in lower case.
#[derive(Debug, Clone, Copy)]
pub enum Entry {
    /// The name of a host, or its address, without a port.
    Host,
    /// A media type such as `image/png`.
    MediaType,
}

/// Values of fields, by their names.
pub type Values = BTreeMap<&'static str, Value>;

impl Section {
    /// The section with this name.
    #[must_use]
    pub fn named(id: &str) -> Option<&'static Self> {
        SECTIONS.iter().find(|section| section.id == id)
    }

    /// The field of this section with this name.
    #[must_use]
    pub fn field(&self, id: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.id == id)
    }
}

impl Field {
    /// Whether its value can be saved.
    #[must_use]
    pub const fn is_saved(&self) -> bool {
        !matches!(self.kind, Kind::Shown(_) | Kind::Button)
    }
}
