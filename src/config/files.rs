//! The files that secrets and keys are in: who else may read or change them.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::environment::Environment;
use super::faults::Faults;

/// Bit of a file's mode that lets everybody change it.
const CHANGED_BY_ALL: u32 = 0o002;

/// What others than its owner may do with a file, by the bit of its mode; the worst comes first.
const OPEN: &[(u32, &str)] = &[
    (CHANGED_BY_ALL, "everybody on this machine may change it"),
    (0o004, "everybody on this machine may read it"),
    (0o020, "others may change it"),
];

/// What others may do with a file of this mode that they should not if it holds a secret. A group may read it: that is how a
/// service is given one.
#[must_use]
pub fn open_to_others(mode: u32) -> Option<&'static str> {
    OPEN.iter().find(|(bit, _)| mode & bit != 0).map(|(_, what)| *what)
}

/// The rights that its mode gives. What is no file of its own, such as a pipe or a terminal, gives none: nobody but this process
/// has it by its name.
///
/// # Errors
/// It is not there, or may not be looked at.
pub fn mode_of(path: &Path) -> std::io::Result<u32> {
    let found = std::fs::metadata(path)?;
    Ok(if found.is_file() { found.mode() & 0o777 } else { 0 })
}

/// Whoever may change such a file says what the secret is, or whose signatures are believed.
pub(super) fn check(environment: &Environment, faults: &mut Faults) {
    for (variable, path) in [environment.secret_files(), environment.public_key_files()].concat() {
        // One that is not there is a fault of the setting.
        if mode_of(&path).is_ok_and(|mode| mode & CHANGED_BY_ALL != 0) {
            faults.add(&variable, format!("names {0}, which everybody may change: chmod 600 {0}", path.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_that_others_may_do_with_a_file_is_told() {
        for (mode, told) in [
            (0o600, None),
            (0o440, None),
            (0o644, Some("read")),
            (0o620, Some("others may change")),
            (0o666, Some("everybody on this machine may change")),
        ] {
            let what = open_to_others(mode);
            assert_eq!(what.is_some(), told.is_some(), "{mode:o}");
            assert!(what.unwrap_or_default().contains(told.unwrap_or_default()), "{mode:o}: {what:?}");
        }
        assert!(mode_of(Path::new("/dev/null")).is_ok_and(|mode| mode == 0), "it is nobody's");
    }
}
