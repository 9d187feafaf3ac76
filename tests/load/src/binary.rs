//! The binary that is measured: where it is, and how it is started.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use somaagent_test_services::process::Binary;

use crate::model::Model;

/// The variable that names another binary than the one beside the bench.
const VARIABLE: &str = "SOMAAGENT_BIN";

/// The built binary.
#[derive(Clone, Debug)]
pub struct Subject {
    path: PathBuf,
}

impl Subject {
    /// Finds the binary, and builds it if it is not there.
    ///
    /// # Errors
    /// When it is named and not there, or cannot be built.
    pub fn find() -> Result<Self> {
        if let Some(path) = std::env::var_os(VARIABLE) {
            let path = std::path::absolute(path)?;
            ensure!(path.is_file(), "{VARIABLE} names no file: {}", path.display());
            return Ok(Self { path });
        }
        let target = target_of(&std::env::current_exe()?).context("the bench lies in no target folder")?;
        let path = target.join("release/somaagent");
        if !path.is_file() {
            build(&target)?;
        }
        ensure!(path.is_file(), "the build made no {}", path.display());
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its size in bytes.
    pub fn size_bytes(&self) -> Result<u64> {
        Ok(std::fs::metadata(&self.path)?.len())
    }

    /// The binary with a new data folder and nothing configured: every outside part is the one inside the process.
    pub fn alone(&self) -> Result<Binary> {
        Ok(Binary::new(&self.path)?.set("SA01_SESSIONS__NODE", "bench"))
    }

    /// The same with `model`, and without recall.
    pub fn with(&self, model: &Model) -> Result<Binary> {
        Ok(self
            .alone()?
            .set("SA01_LLM_BASE_URL", &model.base_url())
            .set("SA01_LLM_MODEL", "instant")
            .set("SA01_TURNS__RECALL_DEADLINE_MS", "0"))
    }
}

/// The target folder that the program at `path` was built into: it lies in a profile's folder of it, tests one deeper.
fn target_of(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?;
    let profile = if folder.ends_with("deps") { folder.parent()? } else { folder };
    Some(profile.parent()?.to_owned())
}

fn build(target: &Path) -> Result<()> {
    eprintln!("there is no {}: building it, which takes minutes", target.join("release/somaagent").display());
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--package", "somaagent", "--bin", "somaagent", "--target-dir"])
        .arg(target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .env("SQLX_OFFLINE", "true")
        .status()
        .context("cargo does not start")?;
    ensure!(status.success(), "`cargo build --release` failed: build the binary by hand, or name one by {VARIABLE}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_folder_is_above_the_profiles() {
        for path in ["/t/release/somaagent-load", "/t/debug/somaagent-load", "/t/debug/deps/somaagent_load-1"] {
            assert_eq!(target_of(Path::new(path)), Some(PathBuf::from("/t")), "{path}");
        }
    }
}
