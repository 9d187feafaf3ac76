//! What a bench found: figures beside their references and budgets, as a table for people and as JSON lines.

use std::fmt::Write as _;

use serde_json::{Value, json};

/// What a bench found.
#[derive(Debug)]
pub struct Report {
    bench: &'static str,
    figures: Vec<Figure>,
    notes: Vec<String>,
}

/// One measured figure.
#[derive(Debug)]
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    reference: Option<f64>,
    budget: Option<Budget>,
}

/// What a figure should reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// The value may be this at most.
    AtMost(f64),
    /// The value must be this at least.
    AtLeast(f64),
    /// The value must be the first at least, or divided by its reference the second.
    AtLeastOrRatio(f64, f64),
    /// The value may exceed its reference by this at most.
    AddsAtMost(f64),
    /// The value divided by its reference must be this at least.
    RatioAtLeast(f64),
}

impl Budget {
    fn text(self) -> String {
        match self {
            Self::AtMost(limit) => format!("<= {limit}"),
            Self::AtLeast(limit) => format!(">= {limit}"),
            Self::AtLeastOrRatio(value, ratio) => format!(">= {value} or ratio >= {ratio}"),
            Self::AddsAtMost(limit) => format!("adds <= {limit}"),
            Self::RatioAtLeast(limit) => format!("ratio >= {limit}"),
        }
    }
}

impl Figure {
    /// A figure with neither a reference nor a budget.
    #[must_use]
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self { name: name.into(), value, unit, reference: None, budget: None }
    }

    /// The same beside what a reference reached in the same run, in the same unit.
    #[must_use]
    pub fn against(self, reference: f64) -> Self {
        Self { reference: Some(reference), ..self }
    }

    /// The same with a budget.
    #[must_use]
    pub fn within(self, budget: Budget) -> Self {
        Self { budget: Some(budget), ..self }
    }

    fn ratio(&self) -> Option<f64> {
        self.reference.map(|reference| self.value / reference)
    }

    fn added(&self) -> Option<f64> {
        self.reference.map(|reference| self.value - reference)
    }

    /// Whether the budget is met; a figure that could not be measured meets none.
    fn met(&self) -> Option<bool> {
        Some(match self.budget? {
            Budget::AtMost(limit) => self.value <= limit,
            Budget::AtLeast(limit) => self.value >= limit,
            Budget::AtLeastOrRatio(value, ratio) => self.value >= value || self.ratio().is_some_and(|own| own >= ratio),
            Budget::AddsAtMost(limit) => self.added().is_some_and(|added| added <= limit),
            Budget::RatioAtLeast(limit) => self.ratio().is_some_and(|ratio| ratio >= limit),
        })
    }

    fn cells(&self) -> [String; 8] {
        let number = |value: Option<f64>| value.map(shown).unwrap_or_default();
        let met = match self.met() {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        [
            self.name.clone(),
            shown(self.value),
            self.unit.to_owned(),
            number(self.reference),
            number(self.ratio()),
            number(self.added()),
            self.budget.map(Budget::text).unwrap_or_default(),
            met.to_owned(),
        ]
    }

    fn json(&self, bench: &str) -> Value {
        json!({
            "bench": bench,
            "figure": self.name,
            "value": rounded(self.value),
            "unit": self.unit,
            "reference": self.reference.map(rounded),
            "ratio": self.ratio().map(rounded),
            "added": self.added().map(rounded),
            "budget": self.budget.map(Budget::text),
            "met": self.met(),
        })
    }
}

impl Report {
    /// A report of the bench of that name.
    #[must_use]
    pub const fn new(bench: &'static str) -> Self {
        Self { bench, figures: Vec::new(), notes: Vec::new() }
    }

    /// Adds a figure.
    pub fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Adds a sentence that says what was compared, or under which conditions.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// The table, with its notes below.
    #[must_use]
    pub fn table(&self) -> String {
        const HEAD: [&str; 8] = ["figure", "value", "unit", "reference", "ratio", "added", "budget", "met"];
        let rows: Vec<[String; 8]> =
            std::iter::once(HEAD.map(str::to_owned)).chain(self.figures.iter().map(Figure::cells)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 8] = std::array::from_fn(width);
        let mut text = format!("\n{}\n", self.bench);
        for row in &rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
                // Numbers end in one line below each other.
                let is_number = matches!(column, 1 | 3 | 4 | 5);
                let _ = if is_number { write!(line, "  {cell:>width$}") } else { write!(line, "  {cell:<width$}") };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(text, "  - {note}");
        }
        text
    }

    /// One line of JSON a figure, then one with the notes.
    #[must_use]
    pub fn json_lines(&self) -> String {
        let notes = json!({"bench": self.bench, "notes": self.notes});
        let mut lines = String::new();
        for line in self.figures.iter().map(|figure| figure.json(self.bench)).chain([notes]) {
            let _ = writeln!(lines, "{line}");
        }
        lines
    }

    /// How many budgets there are, and the figures that miss theirs.
    #[must_use]
    pub fn verdict(&self) -> (usize, Vec<String>) {
        let budgets = self.figures.iter().filter(|figure| figure.budget.is_some()).count();
        let missed = self.figures.iter().filter(|figure| figure.met() == Some(false));
        (budgets, missed.map(|figure| format!("{}: {}", self.bench, figure.name)).collect())
    }
}

/// A number with as many decimals as it takes to tell three digits.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_budget_looks_at_its_own_number() {
        let figure = |value| Figure::new("f", value, "ms").against(4.0);
        for (value, budget, met) in [
            (5.0, Budget::AtMost(5.0), true),
            (5.1, Budget::AtMost(5.0), false),
            (5.0, Budget::AtLeast(5.0), true),
            (4.9, Budget::AtLeast(5.0), false),
            (5.0, Budget::AddsAtMost(1.0), true),
            (5.1, Budget::AddsAtMost(1.0), false),
            (4.0, Budget::RatioAtLeast(1.0), true),
            (3.9, Budget::RatioAtLeast(1.0), false),
            (9.0, Budget::AtLeastOrRatio(9.0, 3.0), true),
            (8.0, Budget::AtLeastOrRatio(9.0, 2.0), true),
            (7.9, Budget::AtLeastOrRatio(9.0, 2.0), false),
            (f64::NAN, Budget::AtMost(5.0), false),
        ] {
            assert_eq!(figure(value).within(budget).met(), Some(met), "{value} {budget:?}");
        }
        assert_eq!(figure(1.0).met(), None);
        assert_eq!(Figure::new("f", 1.0, "ms").within(Budget::AddsAtMost(9.0)).met(), Some(false), "no reference");
    }

    #[test]
    fn a_figure_is_one_line_of_json() {
        let mut report = Report::new("turn");
        report.add(Figure::new("first delta p50", 1.5, "ms").against(0.5).within(Budget::AddsAtMost(1.0)));
        report.note("alternating");
        let lines: Vec<Value> =
            report.json_lines().lines().map(|line| serde_json::from_str(line).unwrap_or_default()).collect();
        assert_eq!(
            lines[0],
            json!({
                "bench": "turn", "figure": "first delta p50", "value": 1.5, "unit": "ms", "reference": 0.5, "ratio": 3.0,
                "added": 1.0, "budget": "adds <= 1", "met": true,
            })
        );
        assert_eq!(lines[1], json!({"bench": "turn", "notes": ["alternating"]}));
    }

    #[test]
    fn the_table_lines_its_columns_up_and_shows_what_is_missed() {
        let mut report = Report::new("idle");
        report.add(Figure::new("short", 2.0, "ms"));
        report.add(Figure::new("a longer name", 1234.5, "MiB").within(Budget::AtMost(400.0)));
        let table = report.table();
        let lines: Vec<&str> = table.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines[0], "idle");
        assert_eq!(lines[2].find("ms"), lines[3].find("MiB"));
        assert!(lines[3].ends_with("NO"), "{table}");
        assert_eq!(report.verdict(), (1, vec!["idle: a longer name".to_owned()]));
    }

    #[test]
    fn numbers_show_three_digits() {
        for (value, text) in
            [(0.01234, "0.012"), (1.234, "1.23"), (12.34, "12.3"), (12345.6, "12346"), (-0.5, "-0.500")]
        {
            assert_eq!(shown(value), text);
        }
    }
}
