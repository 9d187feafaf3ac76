#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::collections::BTreeMap;

use super::*;

/// Every file below a folder with its size.
fn sizes(folder: &Path) -> BTreeMap<PathBuf, u64> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().map(Result::unwrap) {
            let metadata = entry.metadata().unwrap();
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                found.insert(entry.path().strip_prefix(folder).unwrap().to_owned(), metadata.len());
            }
        }
    }
    found
}

/// A folder with a new cluster, the cluster in it, and its files.
fn made() -> (tempfile::TempDir, PathBuf, BTreeMap<PathBuf, u64>) {
    let dir = tempfile::tempdir().unwrap();
    make_whole(dir.path()).unwrap();
    let cluster = PglitePaths::with_root(dir.path()).pgdata;
    let files = sizes(&cluster);
    (dir, cluster, files)
}

/// Makes of a cluster what an earlier version had: some files of its own over the template, and the note of it.
fn lay_over(cluster: &Path, own: &[&str], note: &str) {
    let files = sizes(cluster);
    for file in files.keys().filter(|file| !own.iter().any(|own| file.starts_with(own))) {
        fs::remove_file(cluster.join(file)).unwrap();
    }
    fs::write(cluster.join(OVERLAY), note).unwrap();
}

fn note(sha256: &str) -> String {
    serde_json::json!({ "templateArchiveSha256": sha256, "postgresVersion": "17" }).to_string()
}

fn sha256_of_the_template() -> String {
    let dir = tempfile::tempdir().unwrap();
    Template::unpack(&dir.path().join("t")).unwrap().sha256
}

#[test]
fn a_new_cluster_is_whole_and_nothing_is_left_beside_it() {
    let (dir, cluster, files) = made();
    assert!(has_cluster(dir.path()) && files.len() > 900, "{} files", files.len());
    assert_eq!(files[Path::new("pg_wal/000000010000000000000001")], 16 << 20);
    assert!(cluster.join("pg_notify").is_dir(), "an empty folder is missing");
    assert!(!dir.path().join(STAGING).exists());
}

#[test]
fn what_a_killed_unpacking_left_is_thrown_away() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = PglitePaths::with_root(dir.path()).pgdata;
    let left = dir.path().join(STAGING).join("base/global");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("pg_control"), "half").unwrap();
    // An earlier version made these two first.
    fs::create_dir_all(&cluster).unwrap();
    fs::write(cluster.join("PG_VERSION"), "").unwrap();
    assert!(!has_cluster(dir.path()));
    make_whole(dir.path()).unwrap();
    let (_other, _, files) = made();
    assert_eq!(sizes(&cluster), files);
}

#[test]
fn a_cluster_that_is_there_stays_as_it_is() {
    let (dir, cluster, _) = made();
    fs::write(cluster.join("base/5/2619"), "changed").unwrap();
    fs::remove_file(cluster.join("base/5/1249")).unwrap();
    let before = sizes(&cluster);
    make_whole(dir.path()).unwrap();
    assert_eq!(sizes(&cluster), before);
}

#[test]
fn a_cluster_over_the_template_gets_what_it_lacks_and_keeps_its_own() {
    let sha256 = note(&sha256_of_the_template());
    // The note may have been cut short by a kill.
    for note in [sha256.as_str(), "", &sha256[..9]] {
        let (dir, cluster, mut files) = made();
        fs::write(cluster.join("base/5/2619"), "changed").unwrap();
        fs::write(cluster.join("base/5/77777"), "new").unwrap();
        lay_over(&cluster, &["PG_VERSION", "global", "base/5/2619", "base/5/77777"], note);
        fs::write(cluster.join("base/5/.wh.1249"), "").unwrap();
        assert!(has_cluster(dir.path()));
        make_whole(dir.path()).unwrap();
        files.remove(Path::new("base/5/1249"));
        files.extend(
            [("2619", 7), ("77777", 3), (".wh.1249", 0)].map(|(name, size)| (Path::new("base/5").join(name), size)),
        );
        assert_eq!(sizes(&cluster), files, "with the note {note:?}");
        make_whole(dir.path()).unwrap();
        assert_eq!(sizes(&cluster), files, "a second start changed something");
    }
}

#[test]
fn a_cluster_over_another_template_is_left_alone() {
    let (dir, cluster, _) = made();
    lay_over(&cluster, &["PG_VERSION", "global"], &note("another"));
    let before = sizes(&cluster);
    make_whole(dir.path()).unwrap();
    assert_eq!(sizes(&cluster), before);
}

#[test]
fn files_that_may_be_data_are_never_thrown_away() {
    let (dir, cluster, _) = made();
    fs::remove_file(cluster.join("global/pg_control")).unwrap();
    let before = sizes(&cluster);
    let refused = make_whole(dir.path()).unwrap_err().to_string();
    assert!(refused.contains(cluster.to_str().unwrap()) && refused.contains("pg_control"), "{refused}");
    assert_eq!(sizes(&cluster), before);
}
