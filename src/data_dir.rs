//! The folder of the embedded parts, and the lock that keeps a second process out of it.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use thiserror::Error;

use crate::config::DataSettings;

const LOCK: &str = "lock";

/// The folder of the embedded parts, held by this process until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// Why the folder cannot be used.
#[derive(Debug, Error)]
pub enum DataDirError {
    /// The platform has no folder for the data of programs.
    #[error("no home folder is known; set SA01_DATA_DIR")]
    NoHome,
    /// The folder or its lock cannot be made or opened.
    #[error("data folder {} cannot be used", .path.display())]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("data folder {} is used by another somaagent{owner}; stop that one or set SA01_DATA_DIR", .path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// ` (process 4711)`, or nothing if the owner could not be read.
        owner: String,
    },
}

impl DataDir {
    /// Makes the folder if it is missing, for this user alone, and locks it.
    ///
    /// # Errors
    /// If it cannot be made, or another process has it.
    pub fn open(settings: &DataSettings) -> Result<Self, DataDirError> {
        let path = settings.folder().ok_or(DataDirError::NoHome)?;
        let unusable = |source| DataDirError::Unusable { path: path.clone(), source };
        make_private(&path).map_err(unusable)?;
        // Absolute, so that a later change of the working folder cannot move it.
        let path = path.canonicalize().map_err(unusable)?;
        let unusable = |source| DataDirError::Unusable { path: path.clone(), source };
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join(LOCK))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataDirError::InUse { owner: owner(&mut lock), path }),
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        sign(&mut lock).map_err(unusable)?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The process that has the folder, as far as it left its number there; nothing if nobody has it. Takes nothing: a process that
/// starts at the same moment is not held up, for the number of its predecessor is that of no process any more.
///
/// # Errors
/// The lock cannot be looked at.
pub(crate) fn user_of(folder: &Path) -> io::Result<Option<String>> {
    let mut lock = match File::open(folder.join(LOCK)) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    lock.read_to_string(&mut text)?;
    let process = text.trim().parse().ok().and_then(Pid::from_raw);
    // A process of somebody else is alive too, though it may not be told so.
    let is_alive = process.is_some_and(|process| test_kill_process(process) != Err(Errno::SRCH));
    if !is_alive {
        return Ok(None);
    }
    // The number may be that of another program by now: only the lock tells.
    match lock.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(text.trim().to_owned())),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Makes a folder and its parents, readable by this user alone. One that is there keeps its rights.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    builder.mode(0o700);
    builder.create(path)
}

/// Leaves the process number in the lock file, for the message a second process shows.
fn sign(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.seek(SeekFrom::Start(0))?;
    write!(lock, "{}", std::process::id())
}

fn owner(lock: &mut File) -> String {
    let mut text = String::new();
    match lock.read_to_string(&mut text) {
        Ok(_) if !text.is_empty() => format!(" (process {text})"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    #[test]
    fn a_folder_has_one_user_at_a_time_and_the_second_is_told_who() {
        let dir = tempfile::tempdir().unwrap();
        let settings = DataSettings { dir: Some(dir.path().join("a/b")) };
        let first = DataDir::open(&settings).unwrap();
        let refused = DataDir::open(&settings).unwrap_err().to_string();
        assert!(refused.contains(&format!("(process {})", std::process::id())), "{refused}");
        assert!(refused.contains("SA01_DATA_DIR"));
        let folder = first.path().to_owned();
        assert_eq!(user_of(&folder).unwrap(), Some(std::process::id().to_string()));
        drop(first);
        assert_eq!(user_of(&folder).unwrap(), None, "its number is still there");
        DataDir::open(&settings).unwrap();
    }

    #[test]
    fn a_new_folder_is_closed_to_other_users() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(&DataSettings { dir: Some(dir.path().join("data")) }).unwrap();
        assert_eq!(data.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refused = DataDir::open(&DataSettings { dir: Some(file.path().join("x")) }).unwrap_err();
        assert!(refused.to_string().contains(file.path().to_str().unwrap()));
    }
}
