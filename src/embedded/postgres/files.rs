//! The files of the database: all of them in the data folder, and never half of them.
//!
//! Left alone, `pglite-oxide` lays the folder over a template in the user's cache and copies a file from there when it
//! is first written to. A process killed during such a copy leaves a file that is cut short and hides the whole
//! one: a database that is broken for good. So the template is unpacked beside the place of the cluster and renamed
//! when it is whole; from then on only PostgreSQL writes to it, and its own recovery does after a kill.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use pglite_oxide::{PgDataTemplateManifest, PglitePaths, build_pgdata_template};
use serde_json::Value;

/// Where the template is unpacked. What a start finds there was left by one that was killed.
const STAGING: &str = "unpacking";

/// The note of `pglite-oxide` that a cluster lies over the template, and over which.
const OVERLAY: &str = ".pglite-oxide-pgdata-overlay.json";

/// Another note of `pglite-oxide`, which it writes anew at each start.
const LAYOUT: &str = ".pglite-oxide-runtime-layout.json";

/// What the name of a file of the template begins with once the file was removed from a cluster that lies over it.
const REMOVED: &str = ".wh.";

/// Whether the folder below `root` has a cluster that is whole.
pub(super) fn has_cluster(root: &Path) -> bool {
    is_whole(&PglitePaths::with_root(root).pgdata)
}

/// Sees to it that the cluster below `root` is there and whole: a new one, the one that is there, or, if an earlier
/// version laid it over a template, that one with what it lacks.
///
/// # Errors
/// If files cannot be written, or something is there that is neither a cluster nor the beginning of one.
pub(super) fn make_whole(root: &Path) -> io::Result<()> {
    let paths = PglitePaths::with_root(root);
    let (cluster, staging) = (paths.pgdata, root.join(STAGING));
    if_there(fs::remove_dir_all(&staging))?;
    // Its writing may have been cut short, which would be an error from then on; that it is missing is none.
    if_there(fs::remove_file(paths.pgroot.join("pglite").join(LAYOUT)))?;
    let overlay = cluster.join(OVERLAY);
    if overlay.try_exists()? {
        let template = Template::unpack(&staging)?;
        // Only its own template completes it; over another one it is refused when it is opened.
        if template.is_under(&overlay)? {
            fill(&template.cluster, &cluster)?;
            fs::remove_file(&overlay)?;
        }
    } else if !is_whole(&cluster) {
        let template = Template::unpack(&staging)?;
        remove_beginning(&cluster)?;
        if let Some(parent) = cluster.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::rename(&template.cluster, &cluster)?;
    }
    if_there(fs::remove_dir_all(&staging))
}

/// The cluster every other one begins as, unpacked.
struct Template {
    cluster: PathBuf,
    sha256: String,
}

impl Template {
    fn unpack(staging: &Path) -> io::Result<Self> {
        crate::data_dir::make_private(staging)?;
        let packed = build_pgdata_template(staging).map_err(io::Error::other)?;
        let manifest: PgDataTemplateManifest = serde_json::from_slice(&fs::read(&packed.manifest_path)?)?;
        let cluster = staging.join("base");
        let unpacked = zstd::Decoder::new(File::open(&packed.archive_path)?)?;
        tar::Archive::new(unpacked).unpack(&cluster)?;
        Ok(Self { cluster, sha256: manifest.archive_sha256 })
    }

    /// Whether `overlay` names this template, or nothing any more: it was written at each start, and a kill may have
    /// cut it short.
    fn is_under(&self, overlay: &Path) -> io::Result<bool> {
        let Ok(note) = serde_json::from_slice::<Value>(&fs::read(overlay)?) else { return Ok(true) };
        Ok(note["templateArchiveSha256"] == self.sha256.as_str())
    }
}

fn is_whole(cluster: &Path) -> bool {
    cluster.join("PG_VERSION").is_file()
        && (cluster.join("global/pg_control").is_file() || cluster.join(OVERLAY).is_file())
}

/// Moves to `cluster` what only `template` has, each file at one stroke; not what was removed from the cluster. Done
/// again after a kill it does the rest.
fn fill(template: &Path, cluster: &Path) -> io::Result<()> {
    for entry in fs::read_dir(template)? {
        let entry = entry?;
        let (name, target) = (entry.file_name(), cluster.join(entry.file_name()));
        if !target.try_exists()? {
            if !is_removed(cluster, &name)? {
                fs::rename(entry.path(), target)?;
            }
        } else if target.is_dir() {
            fill(&entry.path(), &target)?;
        }
    }
    Ok(())
}

fn is_removed(folder: &Path, name: &OsStr) -> io::Result<bool> {
    let mut mark = REMOVED.to_owned();
    mark.push_str(&name.to_string_lossy());
    folder.join(mark).try_exists()
}

/// Removes what an earlier version left that was killed before it had made more than the folder and the note of its
/// version. Anything more may be somebody's data, which nobody removes but its owner.
fn remove_beginning(cluster: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(cluster) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        if entry?.file_name() != "PG_VERSION" {
            let message = format!(
                "{} has files but is no database (global/pg_control is missing): \
                 restore it, or move it away to begin with a new one",
                cluster.display()
            );
            return Err(io::Error::new(ErrorKind::InvalidData, message));
        }
    }
    fs::remove_dir_all(cluster)
}

/// No error if what was to be removed is not there.
fn if_there(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;
