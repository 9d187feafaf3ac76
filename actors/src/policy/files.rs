//! The policy's text.

use std::{ffi::OsStr, fs, io, path::Path};

use super::rego::PolicyError;

/// The files that make a policy, in the order of their names.
#[derive(Debug, Clone)]
pub struct PolicyFiles(Vec<(String, String)>);

impl PolicyFiles {
    /// Takes files as pairs of name and text.
    #[must_use]
    pub const fn new(files: Vec<(String, String)>) -> Self {
        Self(files)
    }

    /// The policy that comes with the program.
    #[must_use]
    pub fn shipped() -> Self {
        Self(vec![("soma.rego".to_owned(), include_str!("../../../config/policy/soma.rego").to_owned())])
    }

    /// Reads `*.rego` of a folder, without its tests (`*_test.rego`) and without its subfolders. It blocks, so it is for the start.
    ///
    /// # Errors
    /// [`PolicyError::Unreadable`] or [`PolicyError::NoFile`].
    pub fn read(dir: &Path) -> Result<Self, PolicyError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            |source: io::Error| PolicyError::Unreadable { path, source }
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).map_err(unreadable(dir))? {
            let path = entry.map_err(unreadable(dir))?.path();
            let text_of = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
            let (stem, end) = (text_of(path.file_stem()), text_of(path.extension()));
            if end == "rego" && !stem.ends_with("_test") && !stem.starts_with('.') {
                let text = fs::read_to_string(&path).map_err(unreadable(&path))?;
                files.push((format!("{stem}.rego"), text));
            }
        }
        if files.is_empty() {
            return Err(PolicyError::NoFile { path: dir.to_owned() });
        }
        files.sort();
        Ok(Self(files))
    }

    /// Names and texts.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(String, String)> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use super::*;

    #[test]
    fn a_folder_gives_its_policies_without_their_tests() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(PolicyFiles::read(dir.path()), Err(PolicyError::NoFile { .. })));
        for name in ["b.rego", "a.rego", "a_test.rego", ".hidden.rego", "notes.txt"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        fs::create_dir(dir.path().join("more")).unwrap();
        let files = PolicyFiles::read(dir.path()).unwrap();
        let names: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!(names, [("a.rego", "a.rego"), ("b.rego", "b.rego")]);
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a.rego"), b"\xff").unwrap();
        let error = PolicyFiles::read(dir.path()).unwrap_err();
        assert!(matches!(&error, PolicyError::Unreadable { path, .. } if path.ends_with("a.rego")), "{error}");
        let error = PolicyFiles::read(&dir.path().join("nowhere")).unwrap_err();
        assert!(error.to_string().contains("nowhere"), "{error}");
    }
}
