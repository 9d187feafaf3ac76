//! What is wrong with a configuration, collected so that one start reports all of it.

use std::fmt;
use std::ops::RangeInclusive;

use super::environment::best_name;

/// Faults found so far, each with the key it belongs to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Faults {
    found: Vec<(String, String)>,
}

impl Faults {
    /// Notes a fault of `key` (`section.key`, or any other name for what is no setting).
    pub fn add(&mut self, key: &str, what: impl Into<String>) {
        self.found.push((key.to_owned(), what.into()));
    }

    /// Notes a fault unless `value` lies in `allowed`.
    pub fn range<N: PartialOrd + Copy + fmt::Display>(&mut self, key: &str, value: N, allowed: RangeInclusive<N>) {
        if !allowed.contains(&value) {
            self.add(key, format!("{value} is not between {} and {}", allowed.start(), allowed.end()));
        }
    }

    /// Whether nothing was found.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Each fault: the name that people know of what it belongs to, and what is wrong with that.
    pub fn iter(&self) -> impl Iterator<Item = (String, &str)> {
        self.found.iter().map(|(key, what)| {
            let name = if key.contains('.') { format!("{key} ({})", best_name(key)) } else { key.clone() };
            (name, what.as_str())
        })
    }

    #[cfg(test)]
    pub(super) const fn count(&self) -> usize {
        self.found.len()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.found.len() == 1 { "fault" } else { "faults" };
        write!(f, "the configuration has {} {plural}:", self.found.len())?;
        self.iter().try_for_each(|(name, what)| write!(f, "\n  {name}: {what}"))
    }
}

impl std::error::Error for Faults {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_shown_with_key_and_variable() {
        let mut faults = Faults::default();
        faults.range("server.port", 5, 10..=20);
        faults.range("server.port", 15, 10..=20);
        faults.add("SA01_ENV", "is odd");
        assert_eq!(
            faults.to_string(),
            "the configuration has 2 faults:\n  server.port (GATEWAY_PORT): 5 is not between 10 and 20\n  SA01_ENV: is odd"
        );
    }
}
