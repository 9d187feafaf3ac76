//! By what the process works.

use std::sync::Arc;

use tokio::sync::watch;

use super::{SettingsMetrics, uploads};
use crate::{
    domain::settings::{Document, Values},
    store::ui_settings::StoredSettings,
    uploads::rules::{InForce, Rules},
};

/// What is saved, and by what this process works.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// The version that is saved.
    pub version: i64,
    /// By what the process works: the value of each field.
    pub values: Values,
    /// The version by which it works; `None`: by none, because none could be read.
    pub in_force: Option<i64>,
    /// Why that is not the one that is saved.
    pub fault: Option<String>,
}

/// How it stands with the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The process works by what is saved.
    Current,
    /// The database does not say what is saved: what was in force goes on.
    Unknown,
    /// What is saved cannot be read: what was in force goes on.
    Unreadable,
    /// Nothing that is saved could be read since the start: no uploads are taken.
    Closed,
}

/// By what the process works, and what it has found saved.
pub(super) struct Board {
    configured: Rules,
    rules: watch::Sender<Arc<Rules>>,
    metrics: SettingsMetrics,
    /// The number of the last look that began, and of the one that was learnt from.
    begun: u64,
    learnt: u64,
    /// What is saved, and why it cannot be read.
    saved: i64,
    fault: Option<String>,
    /// The version in force.
    version: Option<i64>,
    answered: bool,
}

/// A look at the database that began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look(u64);

impl Board {
    /// As long as nothing was found no uploads are taken.
    pub(super) fn new(configured: Rules, metrics: SettingsMetrics) -> Self {
        let closed = Rules { enabled: false, ..configured.clone() };
        let rules = watch::Sender::new(Arc::new(closed));
        Self { configured, rules, metrics, begun: 0, learnt: 0, saved: 0, fault: None, version: None, answered: false }
    }

    pub(super) fn rules(&self) -> InForce {
        self.rules.subscribe()
    }

    pub(super) fn configured(&self) -> &Rules {
        &self.configured
    }

    pub(super) const fn begin(&mut self) -> Look {
        self.begun += 1;
        Look(self.begun)
    }

    /// A look has failed.
    pub(super) const fn failed(&mut self, Look(number): Look) {
        if number > self.learnt {
            self.answered = false;
        }
    }

    /// Takes what a look found, unless one that began later has found something already: that is newer.
    pub(super) fn learn(&mut self, Look(number): Look, found: &StoredSettings) {
        if number > self.learnt {
            self.learnt = number;
            self.answered = true;
            self.take(found);
        }
    }

    /// Takes what this process has just saved, unless something newer was found meanwhile. What is found by looks that began
    /// before may be older.
    pub(super) fn keep(&mut self, saved: &StoredSettings) {
        self.learnt = self.begun;
        if saved.version >= self.saved {
            self.answered = true;
            self.take(saved);
        }
    }

    fn take(&mut self, found: &StoredSettings) {
        let read = Document::read(&found.document);
        let fault = read.as_ref().err().map(ToString::to_string);
        if let (Some(why), true) = (&fault, fault != self.fault || found.version != self.saved) {
            tracing::error!(
                version = found.version,
                why,
                in_force = self.version,
                "the saved settings cannot be read: what was in force goes on, and without that no uploads are taken"
            );
        }
        self.metrics.readable.set(i64::from(fault.is_none()));
        (self.saved, self.fault) = (found.version, fault);
        let Ok(document) = read else { return };
        let rules = uploads::over(&self.configured, document.values());
        let changed = self.rules.send_if_modified(|now| {
            let differs = **now != rules;
            if differs {
                *now = Arc::new(rules);
            }
            differs
        });
        if changed || self.version != Some(found.version) {
            tracing::info!(version = found.version, changed, "settings are in force");
        }
        self.version = Some(found.version);
        self.metrics.version.set(found.version);
    }

    pub(super) fn view(&self) -> View {
        View {
            version: self.saved,
            values: uploads::shown(&self.rules.borrow()),
            in_force: self.version,
            fault: self.fault.clone(),
        }
    }

    pub(super) const fn condition(&self) -> Condition {
        match (self.version, self.fault.is_some(), self.answered) {
            (None, ..) => Condition::Closed,
            (Some(_), true, _) => Condition::Unreadable,
            (Some(_), false, false) => Condition::Unknown,
            (Some(_), false, true) => Condition::Current,
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;
    use serde_json::{Value, json};

    use super::*;
    use crate::settings::tests::configured;

    fn board() -> Board {
        let metrics = SettingsMetrics::register(&Registry::new()).unwrap_or_else(|_| unreachable!());
        Board::new(configured(), metrics)
    }

    fn row(version: i64, document: Value) -> StoredSettings {
        StoredSettings { version, document }
    }

    fn files(version: i64, number: u32) -> StoredSettings {
        row(version, json!({"uploads": {"uploads_max_files": number}}))
    }

    impl Board {
        fn found(&mut self, found: &StoredSettings) {
            let look = self.begin();
            self.learn(look, found);
        }

        fn max_files(&self) -> u32 {
            self.rules.borrow().max_files
        }
    }

    #[test]
    fn nothing_is_taken_before_it_is_known_what_is_saved() {
        let mut board = board();
        let rules = board.rules();
        assert_eq!((board.condition(), rules.borrow().enabled), (Condition::Closed, false));
        board.found(&row(4, json!({"uploads": {"colour": "red"}})));
        assert_eq!((board.condition(), rules.borrow().enabled), (Condition::Closed, false));
        let view = board.view();
        assert_eq!((view.version, view.in_force), (4, None));
        assert!(view.fault.is_some_and(|fault| fault.contains("uploads.colour")));
        assert_eq!((board.metrics.version.get(), board.metrics.readable.get()), (-1, 0));

        board.found(&StoredSettings::nothing());
        assert_eq!((board.condition(), **rules.borrow() == configured()), (Condition::Current, true));
        assert_eq!((board.metrics.version.get(), board.metrics.readable.get()), (0, 1));
    }

    #[test]
    fn what_was_in_force_goes_on_while_the_document_cannot_be_read() {
        let mut board = board();
        board.found(&files(1, 3));
        for rubbish in [json!(7), json!({"uploads": []}), json!({"uploads": {"uploads_max_files": "many"}})] {
            board.found(&row(2, rubbish));
            assert_eq!((board.condition(), board.max_files()), (Condition::Unreadable, 3));
            assert_eq!((board.view().version, board.view().in_force), (2, Some(1)));
        }
        board.found(&files(3, 5));
        assert_eq!((board.condition(), board.max_files(), board.view().fault), (Condition::Current, 5, None));
    }

    #[test]
    fn a_database_that_does_not_answer_changes_nothing() {
        let mut board = board();
        board.found(&files(1, 3));
        let look = board.begin();
        board.failed(look);
        assert_eq!((board.condition(), board.max_files()), (Condition::Unknown, 3));
        board.found(&files(1, 3));
        assert_eq!(board.condition(), Condition::Current);
    }

    #[test]
    fn a_look_that_began_earlier_takes_nothing_back() {
        let mut board = board();
        let (early, late) = (board.begin(), board.begin());
        board.learn(late, &files(2, 5));
        board.learn(early, &files(1, 3));
        board.failed(early);
        assert_eq!((board.max_files(), board.condition()), (5, Condition::Current));

        let under_way = board.begin();
        board.keep(&files(3, 7));
        board.learn(under_way, &files(2, 5));
        board.keep(&files(2, 5));
        assert_eq!((board.max_files(), board.view().version), (7, 3));
    }

    #[test]
    fn a_database_that_was_set_back_counts_all_the_same() {
        let mut board = board();
        board.found(&files(9, 9));
        board.found(&files(2, 5));
        assert_eq!((board.max_files(), board.view().version), (5, 2));
    }

    #[test]
    fn whoever_goes_by_the_rules_is_woken_only_by_a_change() {
        let mut board = board();
        board.found(&files(1, 3));
        let mut rules = board.rules();
        rules.mark_unchanged();
        board.found(&files(1, 3));
        board.found(&row(2, json!({"uploads": {"uploads_max_files": 3}, "speech": {"x": 1}})));
        assert_eq!(rules.has_changed().ok(), Some(false));
        board.found(&files(3, 4));
        assert_eq!(rules.has_changed().ok(), Some(true));
    }
}
