//! The files that secrets are in: who else may read or change them.

use super::finding::Notes;
use crate::config::{Environment, mode_of, open_to_others};

pub(super) fn check(environment: &Environment, notes: &Notes) {
    let files = environment.secret_files();
    if files.is_empty() {
        notes.skipped("modes", "no secret comes from a file");
    }
    for (variable, path) in files {
        let shown = path.display();
        let mode = match mode_of(&path) {
            Ok(mode) => mode,
            Err(error) => {
                let advice = format!("{variable} must name a file that this user may read");
                notes.fault("modes", format!("{shown} cannot be read: {error}"), advice);
                continue;
            }
        };
        let seen = format!("{shown} ({variable}) has the mode {mode:04o}");
        match open_to_others(mode) {
            Some(what) => notes.warning("modes", format!("{seen}: {what}"), format!("chmod 600 {shown}")),
            None => notes.ok("modes", seen),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::doctor::finding::Severity;

    #[test]
    fn a_secret_that_others_may_read_or_change_is_a_warning() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_str().unwrap();
        for (mode, severity) in
            [(0o600, Severity::Ok), (0o440, Severity::Ok), (0o644, Severity::Warning), (0o620, Severity::Warning)]
        {
            set_permissions(path, Permissions::from_mode(mode)).unwrap();
            let notes = Notes::of("secret files");
            check(&Environment::of([("SOMA_API_KEY_FILE", path)]), &notes);
            let found = notes.into_findings();
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].severity, severity, "{found:?}");
        }
        let notes = Notes::of("secret files");
        check(&Environment::of([("SOMA_API_KEY_FILE", "/nowhere/key")]), &notes);
        assert_eq!(notes.into_findings()[0].severity, Severity::Fault);
    }
}
