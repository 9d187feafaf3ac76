//! The folder of the database inside the process: whose it is, who else gets in, and how much room it has.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Access, access, statvfs};
use rustix::process::geteuid;

use super::{Look, finding::Notes};
use crate::data_dir::user_of;

/// Room that should be left, and room without which a start makes no sense, in mebibytes.
const SCARCE_MIB: u64 = 1_024;
const TOO_LITTLE_MIB: u64 = 64;

pub(super) fn check(look: Look<'_>, notes: &Notes) {
    if look.config.database.dsn.is_some() {
        return notes.skipped("folder", "nothing is kept on this machine: a database is configured");
    }
    let Some(folder) = look.config.data.folder() else {
        return notes.fault("folder", "no home folder is known", "set SA01_DATA_DIR");
    };
    match std::fs::metadata(&folder) {
        Ok(found) if found.is_dir() => there(&folder, &found, notes),
        Ok(_) => notes.fault(
            "folder",
            format!("{} is no folder", folder.display()),
            "set SA01_DATA_DIR to one, or move what is there",
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => missing(&folder, notes),
        Err(error) => {
            notes.fault("folder", format!("{}: {error}", folder.display()), "let this user in, or set SA01_DATA_DIR");
        }
    }
}

/// The first start makes it, if it can.
fn missing(folder: &Path, notes: &Notes) {
    let above = folder.ancestors().skip(1).find(|above| above.is_dir());
    let above = above.unwrap_or_else(|| Path::new("/"));
    if access(above, Access::WRITE_OK | Access::EXEC_OK).is_ok() {
        notes.ok("folder", format!("{} will be made by the first start", folder.display()));
        room(above, notes);
    } else {
        let seen = format!("{} is not there, and this user may not make it in {}", folder.display(), above.display());
        notes.fault("folder", seen, "make it for this user, or set SA01_DATA_DIR");
    }
}

fn there(folder: &Path, found: &Metadata, notes: &Notes) {
    let shown = folder.display();
    let (owner, us) = (found.uid(), geteuid().as_raw());
    let mode = found.mode() & 0o777;
    if owner != us {
        let seen = format!("{shown} belongs to the user {owner}, and this is the user {us}");
        notes.fault("folder", seen, format!("chown -R {us} {shown}, or look as the user that runs somaagent"));
    } else if mode & 0o077 != 0 {
        let seen = format!("{shown} has the mode {mode:04o}: others get at everything that was said");
        notes.warning("folder", seen, format!("chmod 700 {shown}"));
    } else {
        notes.ok("folder", format!("{shown} is this user's alone"));
    }
    match user_of(folder) {
        Ok(None) => notes.ok("in use", "no process has it"),
        Ok(Some(process)) => {
            let advice = "to look into its database, end it first (`somaagent audit verify`)";
            notes.note("in use", format!("the process {process} has it"), Some(advice));
        }
        Err(error) => notes.warning(
            "in use",
            format!("it is not known whether a process has it: {error}"),
            "let this user read the file `lock` in it",
        ),
    }
    room(folder, notes);
}

fn room(folder: &Path, notes: &Notes) {
    let left = match statvfs(folder) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize) >> 20,
        Err(error) => {
            return notes.warning(
                "room",
                format!("it is not known how much is left: {error}"),
                "look at the file system",
            );
        }
    };
    let seen = format!("{left} MiB are left");
    if left < TOO_LITTLE_MIB {
        notes.fault("room", seen, "make room, or set SA01_DATA_DIR to a folder elsewhere");
    } else if left < SCARCE_MIB {
        notes.warning("room", seen, "make room before the disk is full: then nothing more is accepted");
    } else {
        notes.ok("room", seen);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use std::fs::{Permissions, create_dir, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use super::*;
    use crate::config::{Config, DataSettings, Environment};
    use crate::data_dir::DataDir;
    use crate::doctor::finding::{Finding, Severity};

    fn found(folder: &Path) -> Vec<Finding> {
        let environment = Environment::of([("SA01_DATA_DIR", folder.to_str().unwrap())]);
        let config = Config::load(&environment).unwrap();
        let notes = Notes::of("data folder");
        check(Look { config: &config, environment: &environment, within: Duration::from_secs(1) }, &notes);
        notes.into_findings()
    }

    fn of<'a>(found: &'a [Finding], check: &str) -> &'a Finding {
        found.iter().find(|found| found.check == check).unwrap()
    }

    #[test]
    fn a_folder_is_looked_at_and_never_made() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("a/data");
        assert_eq!(of(&found(&folder), "folder").severity, Severity::Ok);
        assert!(!dir.path().join("a").exists());
        let data = DataDir::open(&DataSettings { dir: Some(folder.clone()) }).unwrap();
        let used = found(&folder);
        assert_eq!(of(&used, "folder").severity, Severity::Ok, "{used:?}");
        assert!(of(&used, "in use").seen.contains(&std::process::id().to_string()), "{used:?}");
        drop(data);
        assert_eq!(of(&found(&folder), "in use").severity, Severity::Ok);
        set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(of(&found(&folder), "folder").severity, Severity::Warning);
        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(of(&found(&file), "folder").severity, Severity::Fault);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_a_fault() {
        if geteuid().is_root() {
            eprintln!("not tried: root may make folders everywhere");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let closed = dir.path().join("closed");
        create_dir(&closed).unwrap();
        set_permissions(&closed, Permissions::from_mode(0o500)).unwrap();
        assert_eq!(of(&found(&closed.join("data")), "folder").severity, Severity::Fault);
    }
}
