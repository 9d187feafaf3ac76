//! Variables that look like settings and are none.

use super::finding::Notes;
use crate::config::Environment;

pub(super) fn check(environment: &Environment, notes: &Notes) {
    let strangers = environment.strangers();
    if strangers.is_empty() {
        notes.ok("names", "every variable that looks like one of ours is one");
    }
    for stranger in strangers {
        let seen = format!("{} is set, is no setting, and has no effect", stranger.name);
        match stranger.meant {
            Some(meant) => notes.warning("names", seen, format!("if {meant} is meant, rename it")),
            None => notes.note("names", seen, Some("config/default.toml lists every setting with its variables")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Severity;

    #[test]
    fn a_mistaken_name_is_a_warning_and_a_strange_one_a_note() {
        let notes = Notes::of("environment");
        check(&Environment::of([("GATEWAY_JWT_SECERT", "canary"), ("SOMA_SOMETHING_OF_OLD", "1")]), &notes);
        let found = notes.into_findings();
        assert_eq!(found.iter().map(|found| found.severity).collect::<Vec<_>>(), [Severity::Warning, Severity::Note]);
        assert!(found[0].advice.as_deref().is_some_and(|advice| advice.contains("GATEWAY_JWT_SECRET")));
        assert!(!format!("{found:?}").contains("canary"));
    }
}
