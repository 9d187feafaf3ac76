//! `tests/asvs.md` says of each requirement of the OWASP ASVS what the system does and which tests prove it. Here the table is
//! held against the list of the requirements, and what it names as a proof against the sources: a row without a proof or a
//! reason, a proof that does not exist and a wrong total are found.

mod planted;
mod proofs;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::reading::{Finding, assert_none, root};
use proofs::Proofs;

const PAGE: &str = "tests/asvs.md";
const REQUIREMENTS: &str = include_str!("asvs/requirements.txt");

/// What a row may say of its requirement.
const STATES: [&str; 4] = ["met", "partly", "open", "n/a"];
/// How the words of a row begin that say what there is not.
const MISSING: &str = "missing: ";
/// The heading below which every open row is named.
const OPEN: &str = "## Open";

/// A requirement of the standard.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Requirement<'a> {
    number: &'a str,
    level: &'a str,
}

impl Requirement<'_> {
    /// Whether it asks for documentation alone: the first section of most chapters does.
    fn is_of_documentation(&self) -> bool {
        let mut parts = self.number.split('.');
        let chapter = parts.next();
        parts.next() == Some("1") && !["V1", "V4", "V9", "V10"].map(Some).contains(&chapter)
    }
}

/// The list of the requirements, one a line.
fn requirements(list: &str) -> Vec<Requirement<'_>> {
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(' ')).map(|(number, level)| Requirement { number, level }).collect()
}

/// A row of the table.
struct Row<'a> {
    line: usize,
    requirement: Requirement<'a>,
    state: &'a str,
    /// What the system does, or why the requirement does not apply.
    words: &'a str,
    proofs: Vec<&'a str>,
}

impl<'a> Row<'a> {
    /// The row that `text` is; `None` if it has not the five cells of one.
    fn read(line: usize, text: &'a str) -> Option<Self> {
        let inner = text.trim().strip_prefix('|')?.strip_suffix('|')?;
        let cells: Vec<&str> = inner.split('|').map(str::trim).collect();
        let [number, level, state, words, proofs] = cells[..] else { return None };
        // What stands between marks of code; an odd one has no end, and its proof does not exist.
        let proofs = proofs.split('`').skip(1).step_by(2).collect();
        Some(Self { line, requirement: Requirement { number, level }, state, words, proofs })
    }

    /// What is wrong with the row by itself.
    fn faults(&self, known: &Proofs) -> Vec<String> {
        let mut found = Vec::new();
        let number = self.requirement.number;
        if !STATES.contains(&self.state) {
            found.push(format!("{number}: `{}` is none of {STATES:?}", self.state));
        }
        if self.words.len() < 8 {
            found.push(format!("{number} does not say what is done, or why nothing is"));
        }
        if ["partly", "open"].contains(&self.state) != self.words.contains(MISSING) {
            found.push(format!(
                "{number}: what is not there follows `{MISSING}` in partly and open rows, and there only"
            ));
        }
        if ["met", "partly"].contains(&self.state) == self.proofs.is_empty() {
            found.push(format!("{number}: what is met or partly met has proofs, and what is not has none"));
        }
        for proof in &self.proofs {
            let fault = known.fault(proof, self.requirement.is_of_documentation());
            found.extend(fault.map(|fault| format!("{number}: `{proof}` {fault}")));
        }
        found
    }
}

/// Everything that is wrong with the page.
fn faults(page: &str, list: &str, known: &Proofs) -> Vec<Finding> {
    let mut found = Vec::new();
    let at = |line, what| Finding { file: PathBuf::from(PAGE), line, what };
    let mut rows = Vec::new();
    for (line, text) in page.lines().enumerate().filter(|(_, text)| text.starts_with("| V")) {
        match Row::read(line + 1, text) {
            Some(row) => rows.push(row),
            None => found.push(at(line + 1, "a row has five cells: number, level, state, words, proofs".to_owned())),
        }
    }
    for row in &rows {
        found.extend(row.faults(known).into_iter().map(|what| at(row.line, what)));
    }
    found.extend(misplaced(&rows, &requirements(list)).into_iter().map(|(line, what)| at(line, what)));
    found.extend(unlisted(page, &rows).into_iter().map(|what| at(1, what)));
    found.extend(
        totals(&rows)
            .into_iter()
            .filter(|total| !page.lines().any(|line| line == total))
            .map(|total| at(1, format!("the totals are wrong: `{total}` is no line of the page"))),
    );
    found
}

/// Rows that the list does not have, have another level there, are there twice or in another order, and those that are not there.
fn misplaced(rows: &[Row<'_>], list: &[Requirement<'_>]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    let mut reached = None;
    for Row { line, requirement: Requirement { number, level }, .. } in rows {
        let place = list.iter().position(|known| known.number == *number);
        match place.map(|place| list[place].level) {
            None => found.push((*line, format!("{number} is no requirement of these chapters and levels"))),
            Some(right) if right != *level => found.push((*line, format!("{number} is of level {right}"))),
            Some(_) => {}
        }
        if !seen.insert(*number) {
            found.push((*line, format!("{number} has a row already")));
        } else if place < reached {
            found.push((*line, format!("{number} is not in the order of the standard")));
        }
        reached = place.max(reached);
    }
    let missing = list.iter().filter(|known| !seen.contains(known.number));
    found.extend(missing.map(|known| (1, format!("{} has no row", known.number))));
    found
}

/// Open rows that the head of the page does not name, and names there that are of no open row.
fn unlisted(page: &str, rows: &[Row<'_>]) -> Vec<String> {
    let section = page.split(OPEN).nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let words = section.split(|c: char| !c.is_ascii_alphanumeric() && c != '.').map(|word| word.trim_end_matches('.'));
    let named: BTreeSet<&str> = words.filter(|word| word.starts_with('V') && word.contains('.')).collect();
    let open = rows.iter().filter(|row| row.state == "open").map(|row| row.requirement.number);
    let open: BTreeSet<&str> = open.collect();
    let missing = open.difference(&named).map(|number| format!("{number} is open, and the head does not say so"));
    missing.chain(named.difference(&open).map(|number| format!("the head calls {number} open"))).collect()
}

/// The lines that tell how many rows there are: of each state, and of each level.
fn totals(rows: &[Row<'_>]) -> Vec<String> {
    let count = |state: Option<&str>, level: Option<&str>| {
        let of = |row: &&Row<'_>| {
            state.is_none_or(|state| row.state == state) && level.is_none_or(|level| row.requirement.level == level)
        };
        rows.iter().filter(of).count()
    };
    let line = |name: &str, state: Option<&str>| {
        format!("| {name} | {} | {} | {} |", count(state, Some("1")), count(state, Some("2")), count(state, None))
    };
    STATES.iter().map(|state| line(state, Some(state))).chain([line("all", None)]).collect()
}

#[test]
fn every_requirement_has_a_row_and_every_proof_exists() {
    let page = fs::read_to_string(root().join(PAGE)).unwrap();
    assert_none(faults(&page, REQUIREMENTS, &Proofs::of_workspace()));
}

#[test]
fn the_list_of_requirements_is_the_standards() {
    let all = requirements(REQUIREMENTS);
    let numbers: BTreeSet<_> = all.iter().map(|requirement| requirement.number).collect();
    assert_eq!(numbers.len(), all.len(), "a number is there twice");
    let of = |level: &str| all.iter().filter(|requirement| requirement.level == level).count();
    assert_eq!((of("1"), of("2"), all.len()), (70 - 3, 183 - 13, 237));
}
