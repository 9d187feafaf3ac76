//! Files that people send: what is kept, what is refused, and what is left of what broke off.

mod archives;
mod bad_forms;
mod breaking_off;
mod disks;
mod external;
mod memory;
mod polyglots;
mod quotas;
mod together;
mod verdicts;
mod ways;

use std::fmt::Write as _;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use somaagent_test_services::client::{Answer, Client, Post};
use somaagent_test_services::port;
use somaagent_test_services::wait::eventually;
use sqlx::PgPool;

use crate::audit::token;
use crate::stack::{Setup, Stack, binary, new_session};

const BOUNDARY: &str = "----a7f1c0";

/// A form, part by part.
#[derive(Clone, Default)]
pub struct Form(Vec<u8>);

impl Form {
    /// With a part of these headers.
    pub fn part(mut self, headers: &str, body: &[u8]) -> Self {
        self.0.extend(format!("--{BOUNDARY}\r\n{headers}\r\n\r\n").bytes());
        self.0.extend(body);
        self.0.extend(b"\r\n");
        self
    }

    pub fn field(self, name: &str, value: &str) -> Self {
        self.part(&format!("Content-Disposition: form-data; name=\"{name}\""), value.as_bytes())
    }

    pub fn file(self, filename: &str, mime: &str, body: &[u8]) -> Self {
        let head = format!("Content-Disposition: form-data; name=\"files\"; filename=\"{filename}\"");
        self.part(&format!("{head}\r\nContent-Type: {mime}"), body)
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.extend(format!("--{BOUNDARY}--\r\n").bytes());
        self.0
    }
}

pub fn content_type() -> String {
    format!("multipart/form-data; boundary={BOUNDARY}")
}

pub async fn upload_to(client: &Client, path: &str, form: Form) -> Answer {
    let request = client.request(Method::POST, path).header("Content-Type", content_type()).body(form.end());
    client.send(request).await.unwrap()
}

pub async fn upload(client: &Client, form: Form) -> Answer {
    upload_to(client, "/v1/uploads", form).await
}

/// Bytes that do not repeat.
pub fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut digits, byte| {
        write!(digits, "{byte:02x}").unwrap();
        digits
    })
}

/// The bytes of an attachment, as the database has them.
async fn bytes_of(pool: &PgPool, id: &str) -> Vec<u8> {
    let sql = "SELECT c.bytes FROM attachments AS a JOIN attachment_chunks AS c ON c.blob_id = a.blob_id
               WHERE a.id = $1::uuid ORDER BY c.at";
    let pieces: Vec<Vec<u8>> = sqlx::query_scalar(sql).bind(id).fetch_all(pool).await.unwrap();
    pieces.concat()
}

/// Attachments, blobs that are whole, and others.
pub async fn counts(pool: &PgPool) -> (i64, i64, i64) {
    let sql = "SELECT (SELECT count(*) FROM attachments), count(*) FILTER (WHERE state = 'whole'),
                      count(*) FILTER (WHERE state <> 'whole')
               FROM attachment_blobs";
    sqlx::query_as(sql).fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn several_files_are_kept_as_they_came_and_told_in_their_order() {
    let metrics_port = port::free();
    let stack = Setup::default().set("GATEWAY_METRICS_PORT", metrics_port).start().await;
    let pool = stack.database.pool().await.unwrap();
    let session = new_session();
    let (large, png) = (noise(3_000_000, 7), b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR");
    let form = Form::default()
        .file("C:\\\\fakepath\\\\../no\u{308}te.txt", "text/plain", b"words")
        .file("large.bin", "application/x-noise", &large)
        // Where the files belong may be said at the end.
        .file("photo.jpg", "image/jpeg", png)
        .field("session_id", &session);
    let answer = upload(&stack.client, form).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let files = answer.json();
    let told = |name: &str| files.as_array().unwrap().iter().map(|file| file[name].clone()).collect::<Vec<_>>();
    assert_eq!(told("filename"), ["nöte.txt", "large.bin", "photo.jpg"]);
    assert_eq!(
        told("mime"),
        ["text/plain", "application/x-noise", "image/png"],
        "what they are, not what they are called"
    );
    assert_eq!(told("size"), [5, 3_000_000, png.len()]);
    for (file, bytes) in files.as_array().unwrap().iter().zip([&b"words"[..], &large, png]) {
        assert_eq!(file["sha256"], sum(bytes));
        assert_eq!((&file["session_id"], &file["tenant"]), (&json!(session), &json!("public")));
        assert_eq!((&file["status"], &file["quarantine_reason"]), (&json!("clean"), &Value::Null));
        let id = file["id"].as_str().unwrap();
        assert_eq!(file["path"], format!("/v1/attachments/{id}"));
        assert!(file["created_at"].as_f64().unwrap() > 1.7e9);
        assert!(bytes_of(&pool, id).await == bytes);
    }
    assert_eq!(counts(&pool).await, (3, 3, 0));
    let metrics = Client::new(&format!("http://127.0.0.1:{metrics_port}")).unwrap();
    let shown = metrics.get("/metrics").await.unwrap().text;
    for line in
        ["gateway_uploads_total{result=\"ok\"} 3", "gateway_upload_seconds_count 1", "attachments_quarantined_total 0"]
    {
        assert!(shown.lines().any(|known| known == line), "{line} is missing");
    }
}

#[tokio::test]
async fn a_file_that_is_refused_refuses_the_form_or_has_a_result_of_its_own() {
    let stack = Setup::default().set("GATEWAY_UPLOAD_DENIED_MIME", "text/html").start().await;
    let pool = stack.database.pool().await.unwrap();
    let form = || {
        Form::default().file("a.txt", "text/plain", b"words").file("../b.html", "text/html", &noise(300_000, 3)).file(
            "c.txt",
            "text/plain",
            b"more words",
        )
    };
    let answer = upload(&stack.client, form()).await;
    assert_eq!((answer.status, answer.code().as_str()), (415, "mime-not-allowed"), "{}", answer.text);
    assert_eq!(answer.json()["detail"], "MIME type not allowed: text/html");
    assert_eq!(counts(&pool).await.0, 0, "nothing of the form is kept");
    let answer = upload_to(&stack.client, "/v1/uploads?per_file=true", form()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let files = answer.json();
    assert_eq!((&files[0]["status"], &files[2]["status"]), (&json!("clean"), &json!("clean")));
    assert_eq!((&files[1]["filename"], &files[1]["error"]["code"]), (&json!("b.html"), &json!("mime-not-allowed")));
    assert_eq!(counts(&pool).await.0, 2);
}

#[tokio::test]
async fn files_are_looked_at_or_quarantined_or_refused() {
    let stack = Setup::default()
        .set("CLAMAV_ENABLED", "true")
        .set("CLAMAV_HOST", "127.0.0.1")
        .set("CLAMAV_PORT", 1)
        .start()
        .await;
    let kept = upload(&stack.client, Form::default().file("a.txt", "text/plain", b"words")).await;
    assert_eq!(kept.status, 200, "{}", kept.text);
    assert_eq!(
        (&kept.json()[0]["status"], &kept.json()[0]["quarantine_reason"]),
        (&json!("quarantined"), &json!("av_error"))
    );
    let strict = Setup::default().set("CLAMAV_ENABLED", "true").set("CLAMAV_HOST", "127.0.0.1").set("CLAMAV_PORT", 1);
    let strict = strict.set("SA01_ANTIVIRUS__STRICT", "true").start().await;
    let refused = upload(&strict.client, Form::default().file("a.txt", "text/plain", b"words")).await;
    assert_eq!((refused.status, refused.code().as_str()), (502, "antivirus-error"), "{}", refused.text);
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(counts(&strict.database.pool().await.unwrap()).await, (0, 0, 0));
}

#[tokio::test]
async fn files_of_one_session_are_for_those_who_see_it() {
    let setup = Setup::default().set("GATEWAY_JWT_SECRET", somaagent_test_services::tokens::SECRET);
    let stack = setup.start().await;
    let [ann, bob] = ["ann", "bob"].map(|name| stack.client.showing(&token(name, "chat")).unwrap());
    let session = new_session();
    assert_eq!(ann.message(&Post::new("tea").to(&session)).await.unwrap().status, 200);
    let form = || Form::default().field("session_id", &session).file("a.txt", "text/plain", b"words");
    assert_eq!(upload(&ann, form()).await.status, 200);
    let refused = upload(&bob, form()).await;
    assert_eq!((refused.status, refused.code().as_str()), (404, "session-not-found"), "{}", refused.text);
    assert_eq!(upload(&stack.client, form()).await.status, 401);
    let deleted = ann.delete(&format!("/v1/sessions/{session}")).await.unwrap();
    assert_eq!(deleted.status, 200, "{}", deleted.text);
    let refused = upload(&ann, form()).await;
    assert_eq!((refused.status, refused.code().as_str()), (410, "session-deleted"), "{}", refused.text);
    let (attachments, whole, _) = counts(&stack.database.pool().await.unwrap()).await;
    assert_eq!((attachments, whole), (1, 0), "what was sent went with the session, and nothing else was kept");
}

#[tokio::test]
async fn whoever_reads_the_session_sees_how_far_its_files_have_come() {
    let stack = Stack::start().await;
    let session = new_session();
    let mut stream = stack.client.events(&session).open().await.unwrap();
    let large = noise(2_500_000, 4);
    let form = Form::default().file("a.txt", "text/plain", b"words").file("large.bin", "a/b", &large);
    let answer = upload_to(&stack.client, &format!("/v1/uploads?session_id={session}"), form).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let id = answer.json()[1]["id"].clone();
    let last = stream.until(|frame| frame.data["metadata"]["attachment_id"] == id).await.unwrap();
    assert_eq!((last.kind(), last.id.as_deref()), ("uploads.progress", None));
    assert_eq!((&last.data["role"], &last.data["session_id"]), (&json!("system"), &json!(session)));
    let told =
        |name: &str| stream.frames().iter().map(|frame| frame.data["metadata"][name].clone()).collect::<Vec<_>>();
    assert_eq!(told("status"), ["uploading", "uploading", "uploaded", "uploaded"]);
    assert_eq!(told("file_index"), [1, 1, 0, 1]);
    assert_eq!(told("filename"), ["large.bin", "large.bin", "a.txt", "large.bin"]);
    assert!(told("bytes_uploaded")[0].as_u64().unwrap() >= 1 << 20);
    assert_eq!(told("bytes_total")[3], 2_500_000);
}

#[tokio::test]
async fn the_embedded_database_takes_files_side_by_side_with_talk() {
    let app = binary().set("SA01_RESPONDER__TOKEN_DELAY_MS", "1").start().await.unwrap();
    let client = Client::new(app.url()).unwrap();
    let files = [noise(2_000_000, 1), noise(2_000_000, 2)];
    let uploads = files.iter().map(|file| upload(&client, Form::default().file("a.bin", "a/b", file)));
    let session = new_session();
    let post = Post::new("hello").to(&session);
    let (answers, said) = tokio::join!(join_all(uploads), client.message(&post));
    assert_eq!(said.unwrap().status, 200);
    for (answer, file) in answers.iter().zip(&files) {
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.json()[0]["sha256"], sum(file));
    }
}

/// The most memory that a process has had, or has, in KiB.
fn memory_kib(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test]
async fn old_attachments_go_and_leave_tombstones() {
    let mut stack = Stack::start().await;
    let pool = stack.database.pool().await.unwrap();
    let answer = upload(&stack.client, Form::default().file("a.txt", "text/plain", b"words")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(stack.app.terminate().await.unwrap(), Some(0));
    sqlx::query("UPDATE attachments SET created_at = now() - interval '8 days'").execute(&pool).await.unwrap();
    stack.restart().await;
    eventually("its bytes are gone", async || (counts(&pool).await == (1, 0, 0)).then_some(())).await;
    let sql = "SELECT deleted_at IS NOT NULL FROM attachments";
    assert!(sqlx::query_scalar::<_, bool>(sql).fetch_one(&pool).await.unwrap());
}
