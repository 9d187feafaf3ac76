//! What a check found.

use std::cell::RefCell;

use serde::Serialize;

/// How bad something is. The order is that of badness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    /// As it should be.
    Ok,
    /// There was nothing to check.
    Skipped,
    /// Worth knowing; nothing needs to be done.
    Note,
    /// It works, and something will go wrong one day.
    Warning,
    /// It does not work, or not safely.
    Fault,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was looked at, such as `database`.
    pub(crate) subject: &'static str,
    /// What of it, such as `reachable`; several findings of a subject may have one.
    pub(crate) check: &'static str,
    /// How bad it is.
    pub(crate) severity: Severity,
    /// What was seen.
    pub(crate) seen: String,
    /// What to do; always there with a warning and a fault.
    pub(crate) advice: Option<String>,
}

/// Where the checks of a subject leave what they find. What was left stays if they come to no end.
#[derive(Debug)]
pub(crate) struct Notes {
    subject: &'static str,
    found: RefCell<Vec<Finding>>,
}

impl Notes {
    pub(crate) fn of(subject: &'static str) -> Self {
        Self { subject, found: RefCell::default() }
    }

    pub(crate) fn ok(&self, check: &'static str, seen: impl Into<String>) {
        self.add(check, Severity::Ok, seen.into(), None);
    }

    pub(crate) fn skipped(&self, check: &'static str, why: impl Into<String>) {
        self.add(check, Severity::Skipped, why.into(), None);
    }

    pub(crate) fn note(&self, check: &'static str, seen: impl Into<String>, advice: Option<&str>) {
        self.add(check, Severity::Note, seen.into(), advice.map(str::to_owned));
    }

    pub(crate) fn warning(&self, check: &'static str, seen: impl Into<String>, advice: impl Into<String>) {
        self.add(check, Severity::Warning, seen.into(), Some(advice.into()));
    }

    pub(crate) fn fault(&self, check: &'static str, seen: impl Into<String>, advice: impl Into<String>) {
        self.add(check, Severity::Fault, seen.into(), Some(advice.into()));
    }

    /// A warning where that is `serious`, else a note.
    pub(crate) fn warning_if(
        &self,
        serious: bool,
        check: &'static str,
        seen: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let severity = if serious { Severity::Warning } else { Severity::Note };
        self.add(check, severity, seen.into(), Some(advice.into()));
    }

    pub(crate) fn into_findings(self) -> Vec<Finding> {
        self.found.into_inner()
    }

    fn add(&self, check: &'static str, severity: Severity, seen: String, advice: Option<String>) {
        self.found.borrow_mut().push(Finding { subject: self.subject, check, severity, seen, advice });
    }
}

/// So many things, in words: `1 key`, `2 keys`.
pub(crate) fn counted(count: usize, one: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") }
}
