//! Archives that are deeper, have more in them or unpack to more than clamd looks through.

use std::io::{Cursor, Write as _};

use serde_json::{Value, json};
use somaagent_test_services::clamd::{Clamd, eicar};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::verdicts::scanning;
use super::{Form, upload};
use crate::stack::{Setup, Stack};
use crate::tus;

/// What the clamd of these tests looks through. What it knows to be clean it would not count again.
const LIMITS: &[&str] = &["MaxRecursion 4", "MaxFiles 20", "MaxScanSize 4M", "DisableCache yes"];

/// An archive of these files, compressed.
pub fn zip<T: AsRef<[u8]>>(files: impl IntoIterator<Item = T>) -> Vec<u8> {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    for (number, file) in files.into_iter().enumerate() {
        archive.start_file(format!("{number}.bin"), SimpleFileOptions::default()).unwrap();
        archive.write_all(file.as_ref()).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// An archive in an archive and so on, `depth` of them, with a file in the innermost.
pub fn nested(depth: usize, file: &[u8]) -> Vec<u8> {
    (0..depth).fold(file.to_vec(), |inner, _| zip([inner]))
}

/// Small files.
fn words(count: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(|number| format!("words number {number}").into_bytes())
}

/// Files of 1 MiB that compress to almost nothing.
fn vast(count: u8) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(|letter| vec![letter; 1 << 20])
}

/// Archives that clamd looks through, and others.
fn archives() -> Vec<(&'static str, Vec<u8>, Option<&'static str>)> {
    let exceeded = Some("limits_exceeded");
    vec![
        ("three deep", nested(3, b"tea"), None),
        ("four deep", nested(4, b"coffee"), exceeded),
        ("forty deep", nested(40, b"water"), exceeded),
        ("infected, two deep", nested(2, &eicar()), Some("infected")),
        ("infected, six deep", nested(6, &eicar()), exceeded),
        ("19 files", zip(words(19)), None),
        ("20 files", zip(words(20)), exceeded),
        ("3000 files", zip(words(3000)), exceeded),
        ("infected behind 40 files", zip(words(40).chain([eicar()])), exceeded),
        ("40 files that are empty", zip([b""; 40]), exceeded),
        ("20 files in two archives", zip([zip(words(10)), zip(words(10))]), exceeded),
        ("3 MiB", zip(vast(3)), None),
        ("5 MiB", zip(vast(5)), exceeded),
        ("5 MiB in one file", zip([vast(5).collect::<Vec<_>>().concat()]), exceeded),
        ("200 MiB in one file", zip([vec![0; 200 << 20]]), exceeded),
        ("6 MiB in two archives", zip([zip(vast(3)), zip(vast(3))]), exceeded),
        ("infected behind 5 MiB", zip(vast(5).chain([eicar()])), exceeded),
    ]
}

/// A system that waits for a clamd that is late.
fn patiently(clamd: &Clamd) -> Setup {
    scanning(clamd).set("SA01_ANTIVIRUS__CONNECT_TIMEOUT_MS", 15_000)
}

/// Sees that nobody gets what was quarantined.
async fn withheld(stack: &Stack, name: &str, path: &str) {
    for path in [path.to_owned(), format!("{path}/thumbnail")] {
        let refused = stack.client.get(&path).await.unwrap();
        assert_eq!((refused.status, refused.code().as_str()), (403, "attachment-quarantined"), "{name}");
    }
    let message = json!({"message": "look", "attachments": [path]});
    let answer = stack.client.post("/v1/session/message", &message).await.unwrap();
    assert_eq!(answer.status, 422, "{name}: {}", answer.text);
}

#[tokio::test]
async fn an_archive_that_is_too_much_to_be_looked_through_is_quarantined() {
    let clamd = Clamd::start(LIMITS).unwrap();
    let stack = patiently(&clamd).start().await;
    for (name, archive, reason) in archives() {
        assert!(archive.len() < 500_000, "{name}: a bomb is small");
        // It is one to clamd, whatever it is called.
        for (filename, mime) in [("a.zip", "application/zip"), ("a.txt", "text/plain")] {
            let sent = upload(&stack.client, Form::default().file(filename, mime, &archive)).await;
            assert_eq!(sent.status, 200, "{name}: {}", sent.text);
            let file = &sent.json()[0];
            let status = if reason.is_some() { "quarantined" } else { "clean" };
            assert_eq!((&file["status"], &file["quarantine_reason"]), (&json!(status), &json!(reason)), "{name}");
            assert_eq!(file["mime"], "application/zip", "{name}");
            let path = file["path"].as_str().unwrap();
            if reason.is_some() {
                withheld(&stack, name, path).await;
            } else {
                assert_eq!(stack.client.get(path).await.unwrap().status, 200, "{name}");
            }
        }
    }
}

#[tokio::test]
async fn such_an_archive_is_quarantined_that_comes_in_pieces_and_not_kept_where_only_what_it_is_is() {
    let clamd = Clamd::start(LIMITS).unwrap();
    let stack = patiently(&clamd).set("SA01_UPLOADS__QUARANTINE_POLICY", "drop_bytes_keep_meta").start().await;
    let pool = stack.database.pool().await.unwrap();
    let bombs = [nested(5, b"tea"), zip(words(30)), zip(vast(5))];
    for bomb in &bombs {
        let path = tus::begin(&stack.client, bomb.len()).await;
        let half = bomb.len() / 2;
        assert_eq!(tus::add(&stack.client, &path, 0, &bomb[..half]).await.status, 204);
        let last = tus::add(&stack.client, &path, half, &bomb[half..]).await;
        assert_eq!((last.status, last.header("upload-attachment-status")), (204, "quarantined"), "{}", last.text);
        withheld(&stack, "in pieces", last.header("upload-attachment")).await;
    }
    let kept = "SELECT quarantine_reason, blob_id IS NOT NULL FROM attachments";
    let kept: Vec<(Option<String>, bool)> = sqlx::query_as(kept).fetch_all(&pool).await.unwrap();
    assert_eq!(kept, vec![(Some("limits_exceeded".to_owned()), false); bombs.len()]);
    let listed: Value = stack.get("/v1/attachments?quarantine_reason=limits_exceeded").await;
    assert_eq!(listed.as_array().unwrap().len(), bombs.len(), "{listed:#}");
}
