//! What all checks found, as one document for programs and as text for people.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::finding::{Finding, Severity, counted};
use crate::CONFIG_REFUSED;

/// Something will go wrong one day.
const WARNINGS: u8 = 1;
/// Something does not work.
const FAULTS: u8 = 2;

/// The document of `--json`. Members are only ever added.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// The version of the program.
    version: &'static str,
    /// `SA01_ENV`; nothing if the configuration is refused.
    environment: Option<&'static str>,
    /// When it was looked, in RFC 3339.
    checked_at: String,
    /// How long that took.
    took_ms: u64,
    /// `fine`, `warnings`, `faults` or `refused`.
    verdict: Verdict,
    /// The exit code of the process.
    exit_code: u8,
    /// How many findings there are of each severity.
    counts: BTreeMap<&'static str, usize>,
    /// What was found, in the order of the subjects.
    findings: Vec<Finding>,
}

/// What it all comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Fine,
    Warnings,
    Faults,
    Refused,
}

impl Verdict {
    fn of(findings: &[Finding], refused: bool) -> Self {
        match findings.iter().map(|finding| finding.severity).max() {
            _ if refused => Self::Refused,
            Some(Severity::Fault) => Self::Faults,
            Some(Severity::Warning) => Self::Warnings,
            _ => Self::Fine,
        }
    }

    const fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Warnings => WARNINGS,
            Self::Faults => FAULTS,
            Self::Refused => CONFIG_REFUSED,
        }
    }
}

impl Report {
    /// `environment` is that of a configuration that could be read.
    pub(crate) fn new(
        findings: Vec<Finding>,
        environment: Option<&'static str>,
        is_refused: bool,
        checked_at: OffsetDateTime,
        took: Duration,
    ) -> Self {
        let verdict = Verdict::of(&findings, is_refused);
        let mut counts: BTreeMap<_, _> = SEVERITIES.map(|(_, name)| (name, 0)).into();
        for finding in &findings {
            *counts.entry(name_of(finding.severity)).or_default() += 1;
        }
        Self {
            version: env!("CARGO_PKG_VERSION"),
            environment,
            checked_at: checked_at.format(&Rfc3339).unwrap_or_default(),
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            verdict,
            exit_code: verdict.code(),
            counts,
            findings,
        }
    }

    pub(crate) const fn exit_code(&self) -> u8 {
        self.exit_code
    }

    /// As text for people, coloured or not.
    pub(crate) fn text(&self, colours: bool) -> String {
        let mut text = String::new();
        // Nothing fails that writes into a text.
        let _ = self.write(&mut text, Paint(colours));
        text
    }

    fn write(&self, text: &mut String, paint: Paint) -> fmt::Result {
        let surroundings = self.environment.map(|name| format!(", SA01_ENV={name}")).unwrap_or_default();
        writeln!(text, "somaagent {}{surroundings}", self.version)?;
        let width = self.findings.iter().map(|finding| finding.check.len()).max().unwrap_or_default();
        for of_subject in self.findings.chunk_by(|one, next| one.subject == next.subject) {
            let Some(first) = of_subject.first() else { continue };
            writeln!(text, "\n{}", paint.bold(&title(first.subject)))?;
            for finding in of_subject {
                let Finding { check, severity, seen, advice, .. } = finding;
                writeln!(text, "  {} {check:width$}  {}", paint.mark(*severity), indented(seen, width + 6))?;
                if let Some(advice) = advice {
                    let arrow = paint.dim("→");
                    writeln!(text, "{:indent$}{arrow} {}", "", indented(advice, width + 8), indent = width + 6)?;
                }
            }
        }
        write!(text, "\n{}", self.summary(paint))
    }

    fn summary(&self, paint: Paint) -> String {
        let count = |severity| self.counts.get(name_of(severity)).copied().unwrap_or_default();
        let told = [(Severity::Fault, "fault"), (Severity::Warning, "warning"), (Severity::Note, "note")];
        let told = told.into_iter().filter(|(severity, _)| count(*severity) > 0);
        let told: Vec<String> = told.map(|(severity, word)| counted(count(severity), word)).collect();
        let fine = format!("{} of {} as they should be", count(Severity::Ok), counted(self.findings.len(), "finding"));
        let line = if told.is_empty() { fine } else { format!("{}; {fine}", told.join(", ")) };
        let verdict = match self.verdict {
            Verdict::Refused => "the configuration is refused: ",
            _ => "",
        };
        paint.bold(&format!("{verdict}{line}"))
    }
}

const SEVERITIES: [(Severity, &str); 5] = [
    (Severity::Ok, "ok"),
    (Severity::Skipped, "skipped"),
    (Severity::Note, "note"),
    (Severity::Warning, "warning"),
    (Severity::Fault, "fault"),
];

fn name_of(severity: Severity) -> &'static str {
    SEVERITIES.iter().find(|(known, _)| *known == severity).map_or("", |(_, name)| name)
}

fn title(subject: &str) -> String {
    let mut letters = subject.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Text of several lines, each below the first. What could move the cursor is written out.
fn indented(text: &str, indent: usize) -> String {
    let lines = text.lines().map(|line| {
        let letters = line
            .chars()
            .map(|letter| if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() });
        letters.collect::<String>()
    });
    lines.collect::<Vec<_>>().join(&format!("\n{:indent$}", ""))
}

/// Colours of a terminal, where they are wanted.
#[derive(Debug, Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn mark(self, severity: Severity) -> String {
        let (mark, colour) = match severity {
            Severity::Ok => ("✓", "32"),
            Severity::Skipped => ("-", "2"),
            Severity::Note => ("•", "36"),
            Severity::Warning => ("!", "33"),
            Severity::Fault => ("✗", "31"),
        };
        self.with(colour, mark)
    }

    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    fn with(self, colour: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;
    use crate::doctor::finding::Notes;

    fn report(severities: &[Severity], environment: Option<&'static str>) -> Report {
        let notes = Notes::of("database");
        for severity in severities {
            match severity {
                Severity::Ok => notes.ok("reachable", "it answers"),
                Severity::Skipped => notes.skipped("tls", "nothing to see"),
                Severity::Note => notes.note("roles", "nobody is there", None),
                Severity::Warning => notes.warning("fsync", "off", "switch it on"),
                Severity::Fault => notes.fault("version", "14\nfourteen\u{1b}", "take a newer one"),
            }
        }
        Report::new(
            notes.into_findings(),
            environment,
            environment.is_none(),
            OffsetDateTime::UNIX_EPOCH,
            Duration::from_millis(7),
        )
    }

    #[test]
    fn the_worst_finding_decides_and_a_refused_configuration_over_all() {
        use Severity::{Fault, Note, Ok, Skipped, Warning};
        for (severities, code) in
            [(&[][..], 0), (&[Ok, Note, Skipped][..], 0), (&[Warning, Ok][..], 1), (&[Warning, Fault, Note][..], 2)]
        {
            assert_eq!(report(severities, Some("DEV")).exit_code(), code, "{severities:?}");
            assert_eq!(report(severities, None).exit_code(), 78, "{severities:?}");
        }
    }

    #[test]
    fn the_text_is_aligned_and_ends_with_what_it_comes_to() {
        use Severity::{Fault, Note, Ok, Warning};
        let report = report(&[Ok, Note, Warning, Fault], Some("DEV"));
        let expected = format!(
            "somaagent {}, SA01_ENV=DEV\n\nDatabase\n  ✓ reachable  it answers\n  • roles      nobody is there\n  \
             ! fsync      off\n               → switch it on\n  ✗ version    14\n               fourteen\\u{{1b}}\n               \
             → take a newer one\n\n1 fault, 1 warning, 1 note; 1 of 4 findings as they should be",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(report.text(false), expected);
        assert!(report.text(true).contains("\u{1b}[31m✗\u{1b}[0m"));
    }

    #[test]
    fn the_document_has_every_member() {
        let document = serde_json::to_value(report(&[Severity::Warning], Some("PROD"))).unwrap();
        assert_eq!(
            document,
            serde_json::json!({
                "version": env!("CARGO_PKG_VERSION"), "environment": "PROD", "checked_at": "1970-01-01T00:00:00Z",
                "took_ms": 7, "verdict": "warnings", "exit_code": 1,
                "counts": {"ok": 0, "skipped": 0, "note": 0, "warning": 1, "fault": 0},
                "findings": [{"subject": "database", "check": "fsync", "severity": "warning", "seen": "off",
                    "advice": "switch it on"}],
            })
        );
    }
}
