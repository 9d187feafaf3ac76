//! What schemathesis says of a run, in its report.

use std::path::Path;

use serde_json::Value;

/// A report.
pub struct Summary(Value);

impl Summary {
    /// The report at `path`.
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read(path).expect("schemathesis writes a report");
        Self(serde_json::from_slice(&text).unwrap())
    }

    /// Nothing failed, and every one of `operations` was tested, and coverage and fuzzing ended well.
    pub fn all_is_well(&self, operations: &[String]) {
        let Self(report) = self;
        let tested = report["operations"]["tested"].as_u64();
        eprintln!("{} cases of {} operations", report["test_cases"]["generated"], report["operations"]["tested"]);
        assert_eq!((&report["exit_code"], &report["complete"]), (&0.into(), &true.into()), "see its findings above");
        assert_eq!(tested, Some(operations.len() as u64), "not every operation was tested");
        for phase in ["coverage", "fuzzing"] {
            assert_eq!(report["phases"][phase]["status"], "success", "{phase}");
        }
    }
}
