//! Where the server's socket is: in a folder that only this user can enter, because whoever reaches it is served.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// Clients look for the socket under this name; the number stands for a port.
const NAME: &str = ".s.PGSQL.5432";

/// Longest path of a socket that every Unix takes (104 bytes with the closing zero; Linux takes 108).
const PATH_MAX: usize = 103;

/// A folder of rights 0700 with the socket in it.
#[derive(Debug)]
pub(super) struct SocketFolder {
    folder: PathBuf,
    /// Made for this process alone, and removed with it.
    temporary: bool,
}

impl SocketFolder {
    /// `run` inside `data`; if the path would be too long for a socket, a new folder in the system's one for temporary
    /// files.
    pub(super) fn make(data: &Path) -> io::Result<Self> {
        let near = Self { folder: data.join("run"), temporary: false };
        if near.fits() {
            crate::data_dir::make_private(&near.folder)?;
            close_to_others(&near.folder)?;
            return Ok(near);
        }
        // A name nobody can guess and so nobody can have prepared; the folder must be new.
        let name = format!("somaagent-{}", Uuid::new_v4().simple());
        let far = Self { folder: std::env::temp_dir().join(name), temporary: true };
        if !far.fits() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidFilename,
                format!("{} and {} are too long for a socket", near.socket().display(), far.socket().display()),
            ));
        }
        fs::create_dir(&far.folder)?;
        close_to_others(&far.folder)?;
        Ok(far)
    }

    /// The folder: what clients call the host.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    fn fits(&self) -> bool {
        self.socket().as_os_str().len() <= PATH_MAX
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        // Nothing hangs on either: what stays behind is an empty socket that nobody serves.
        drop(fs::remove_file(self.socket()));
        if self.temporary {
            drop(fs::remove_dir(&self.folder));
        }
    }
}

fn close_to_others(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    #[test]
    fn the_folder_is_closed_to_other_users_even_if_it_was_open_before() {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir(data.path().join("run")).unwrap();
        fs::set_permissions(data.path().join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        let made = SocketFolder::make(data.path()).unwrap();
        assert_eq!(made.folder(), data.path().join("run"));
        assert_eq!(made.folder().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_data_folder_too_deep_for_a_socket_gets_one_elsewhere_that_is_removed_again() {
        let data = tempfile::tempdir().unwrap();
        let deep = data.path().join("d".repeat(120));
        let made = SocketFolder::make(&deep).unwrap();
        let folder = made.folder().to_owned();
        assert!(!folder.starts_with(data.path()) && made.fits());
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        std::os::unix::net::UnixListener::bind(made.socket()).unwrap();
        drop(made);
        assert!(!folder.exists());
    }
}
