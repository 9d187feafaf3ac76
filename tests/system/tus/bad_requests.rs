//! Requests that are not as they should be. Each gets its exact status and code, and changes nothing.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use somaagent_test_services::client::Answer;

use super::{PATH, TYPE, add, begin, begin_with, metadata, offset};
use crate::stack::{Setup, Stack, new_session};
use crate::uploads::{counts, sum as digits};

/// A request and what it is answered.
struct Bad {
    name: &'static str,
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    expected: (u16, &'static str),
}

impl Bad {
    fn new(name: &'static str, method: Method, path: &str, expected: (u16, &'static str)) -> Self {
        let headers = vec![("Tus-Resumable", "1.0.0".to_owned())];
        Self { name, method, path: path.to_owned(), headers, body: Vec::new(), expected }
    }

    #[expect(clippy::needless_pass_by_value, reason = "numbers and texts are written as they are")]
    fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    fn but(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.retain(|(given, _)| *given != name);
        self.with(name, value)
    }

    fn without(mut self, name: &'static str) -> Self {
        self.headers.retain(|(given, _)| *given != name);
        self
    }

    fn body(self, body: &[u8]) -> Self {
        Self { body: body.to_vec(), ..self }
    }

    async fn send(&self, stack: &Stack) -> Answer {
        let request = stack.client.request(self.method.clone(), &self.path);
        let request = self.headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        stack.client.send(request.body(self.body.clone())).await.unwrap()
    }
}

const HEADER: (u16, &str) = (422, "invalid-header");

/// An upload that is to begin with `metadata`.
fn said(name: &'static str, metadata: &str) -> Bad {
    Bad::new(name, Method::POST, PATH, HEADER).with("Upload-Length", 5).with("Upload-Metadata", metadata)
}

fn beginnings() -> Vec<Bad> {
    let post = |name, expected| Bad::new(name, Method::POST, PATH, expected);
    let length = |name, length: &str| post(name, HEADER).with("Upload-Length", length);
    let large = |name, length: &str, code| post(name, (413, code)).with("Upload-Length", length);
    vec![
        post("another version", (412, "tus-version-unsupported"))
            .but("Tus-Resumable", "0.2.2")
            .with("Upload-Length", 5),
        post("two versions", HEADER).with("Tus-Resumable", "1.0.0").with("Upload-Length", 5),
        post("no length", HEADER),
        post("a length that comes later", HEADER).with("Upload-Defer-Length", 1),
        length("a length below nothing", "-1"),
        length("a length with a point", "5.0"),
        length("a length in other digits", "0x5"),
        length("a length that is too long to be one", "99999999999999999999999"),
        length("two lengths in one", "5, 5"),
        length("two lengths", "5").with("Upload-Length", 6),
        large("more than any file has", "2097153", "file-too-large"),
        large("more than is kept here", "1048577", "inline-cap-exceeded"),
        large("much more", "9223372036854775807", "file-too-large"),
        post("a type that is denied", (415, "mime-not-allowed"))
            .with("Upload-Length", 5)
            .with("Upload-Metadata", metadata(&[("filetype", "text/html")])),
        post("a session that is another's word", HEADER)
            .with("Upload-Length", 5)
            .with("Upload-Metadata", metadata(&[("session_id", "mine")])),
        said("a value that is not in base64", "filename !!!"),
        said("a value without its end", "filename YQ"),
        said("a name twice", "a YQ==,a YQ=="),
        said("a pair without a name", "filename YQ==,,filetype YQ=="),
        said("three words in a pair", "filename YQ== YQ=="),
        said("a name that is no text", &format!("filename {}", STANDARD.encode([0xff, 0xfe]))),
        said("a type with a line break", &format!("filetype {}", STANDARD.encode("a/b\r\nc: d"))),
        said("too much of it", &format!("note {}", STANDARD.encode("x".repeat(4_000)))),
        post("a part of something else", HEADER).with("Upload-Length", 5).with("Upload-Concat", "half"),
        post("a whole of nothing", HEADER).with("Upload-Concat", "final;"),
        post("a whole with a length", HEADER)
            .with("Upload-Length", 5)
            .with("Upload-Concat", format!("final;{PATH}/{}", new_session())),
        post("a whole of parts elsewhere", HEADER).with("Upload-Concat", "final;https://soma.example/files/1"),
        post("a whole of parts that there are not", (404, "upload-not-found"))
            .with("Upload-Concat", format!("final;{PATH}/{}", new_session())),
    ]
}

fn in_json() -> Vec<Bad> {
    let post = |name, expected, body: &str| {
        let bad = Bad::new(name, Method::POST, PATH, expected).without("Tus-Resumable");
        bad.with("Content-Type", "application/json").body(body.as_bytes())
    };
    vec![
        post("nothing", (400, "bad-json"), ""),
        post("no object", (422, "invalid-body"), "[]"),
        post("no size", (422, "invalid-body"), r#"{"filename":"a"}"#),
        post("no name", (422, "invalid-body"), r#"{"size":5}"#),
        post("a size in words", (422, "invalid-body"), r#"{"filename":"a","size":"5"}"#),
        post("no bytes", (413, "file-too-large"), r#"{"filename":"a","size":0}"#),
        post("fewer bytes than none", (413, "file-too-large"), r#"{"filename":"a","size":-5}"#),
        post("too many bytes", (413, "file-too-large"), r#"{"filename":"a","size":2097153}"#),
        post("a name with a NUL", (422, "invalid-body"), r#"{"filename":"a\u0000","size":5}"#),
        post(
            "a name of 5000 letters",
            (422, "invalid-body"),
            &json!({"filename": "x".repeat(5_000), "size": 5}).to_string(),
        ),
        post(
            "a type that is denied",
            (415, "mime-not-allowed"),
            r#"{"filename":"a","size":5,"mime_type":"text/html"}"#,
        ),
        post("a type that is none", (422, "invalid-body"), r#"{"filename":"a","size":5,"mime_type":"a\nb"}"#),
        post("a form", (415, "unsupported-media-type"), "size=5")
            .but("Content-Type", "application/x-www-form-urlencoded"),
    ]
}

/// Pieces for the upload at `upload`, of which 5 bytes of 10 are here.
fn pieces(upload: &str) -> Vec<Bad> {
    let patch = |name, status, code| {
        let bad = Bad::new(name, Method::PATCH, upload, (status, code));
        bad.with("Content-Type", TYPE).with("Upload-Offset", 5).body(b"world")
    };
    let sum = |algorithm: &str, sum: &[u8]| format!("{algorithm} {}", STANDARD.encode(sum));
    let right = Sha256::digest(b"world");
    let hex = digits(b"world");
    let plain = |bad: Bad| bad.without("Tus-Resumable").without("Content-Type");
    vec![
        patch("another version", 412, "tus-version-unsupported").but("Tus-Resumable", "2.0.0"),
        patch("another type", 415, "unsupported-media-type").but("Content-Type", "application/octet-stream"),
        patch("no type", 415, "unsupported-media-type").without("Content-Type"),
        patch("compressed", 415, "unsupported-media-type").with("Content-Encoding", "gzip"),
        patch("no offset", 422, "invalid-header").without("Upload-Offset"),
        patch("an offset below nothing", 422, "invalid-header").but("Upload-Offset", "-5"),
        patch("an offset in words", 422, "invalid-header").but("Upload-Offset", "five"),
        patch("two offsets", 422, "invalid-header").with("Upload-Offset", 5),
        patch("what is here already", 409, "upload-conflict").but("Upload-Offset", 0),
        patch("what comes later", 409, "upload-conflict").but("Upload-Offset", 6),
        patch("far behind the end", 409, "upload-conflict").but("Upload-Offset", u64::MAX),
        patch("more than there is", 409, "upload-conflict").body(b"worlds"),
        patch("other bytes than were summed up", 460, "checksum-mismatch")
            .with("Upload-Checksum", sum("sha256", &Sha256::digest(b"words"))),
        patch("other bytes than were summed up, by SHA-1", 460, "checksum-mismatch")
            .with("Upload-Checksum", sum("sha1", &[7; 20])),
        patch("a sum by something else", 400, "checksum-algorithm-unsupported")
            .with("Upload-Checksum", sum("crc32", &[1; 4])),
        patch("a sum that is too short", 422, "invalid-header").with("Upload-Checksum", sum("sha256", &right[..20])),
        patch("a sum without its algorithm", 422, "invalid-header").with("Upload-Checksum", STANDARD.encode(right)),
        patch("a sum in other digits", 422, "invalid-header").with("Upload-Checksum", format!("sha256 {hex}")),
        patch("two sums", 422, "invalid-header")
            .with("Upload-Checksum", sum("sha256", &right))
            .with("Upload-Checksum", sum("sha256", &right)),
        plain(patch("in JSON: a sum in base64", 422, "invalid-header")).with("Upload-Checksum", sum("sha256", &right)),
        plain(patch("in JSON: other bytes", 409, "upload-conflict"))
            .with("Upload-Checksum", hex.replace('a', "b").replace('4', "5")),
        plain(patch("in JSON: another place", 409, "upload-conflict")).but("Upload-Offset", 4),
        Bad {
            path: format!("{PATH}/{}", new_session()),
            ..patch("an upload that there is not", 404, "upload-not-found")
        },
        Bad { path: format!("{PATH}/x"), ..patch("what is no upload", 404, "upload-not-found") },
        plain(Bad { path: format!("{PATH}/x"), ..patch("in JSON: what is no upload", 409, "upload-conflict") }),
    ]
}

fn others(path: &str) -> Vec<Bad> {
    let finalize = format!("{path}/finalize");
    let bad = |name, method, path: &str, status, code| Bad::new(name, method, path, (status, code));
    vec![
        bad("a look in another version", Method::GET, path, 412, "tus-version-unsupported").but("Tus-Resumable", "x"),
        bad("a look at what there is not", Method::GET, &format!("{PATH}/{}", new_session()), 404, "upload-not-found"),
        bad("to take away what there is not", Method::DELETE, &format!("{PATH}/x"), 404, "upload-not-found"),
        bad("to take away in another version", Method::DELETE, path, 412, "tus-version-unsupported")
            .but("Tus-Resumable", "1.1.0"),
        bad("to finish half of one", Method::POST, &finalize, 400, "upload-incomplete"),
        bad("to finish half of one, in JSON", Method::POST, &finalize, 400, "upload-incomplete")
            .without("Tus-Resumable"),
        bad("to finish what there is not", Method::POST, &format!("{PATH}/x/finalize"), 404, "upload-not-found"),
        bad("a whole of half a part", Method::POST, PATH, 400, "upload-incomplete")
            .with("Upload-Concat", format!("final;{path}")),
        bad("a method that there is not", Method::PUT, path, 405, "method-not-allowed"),
        bad("a piece where uploads begin", Method::PATCH, PATH, 405, "method-not-allowed"),
    ]
}

#[tokio::test]
async fn bad_pieces_and_beginnings_are_refused_exactly_and_change_nothing() {
    let setup = Setup::default()
        .set("GATEWAY_UPLOAD_MAX_MB", 2)
        .set("SA01_UPLOADS__INLINE_MAX_MB", 1)
        .set("GATEWAY_UPLOAD_DENIED_MIME", "text/html");
    let stack = setup.start().await;
    let path = begin(&stack.client, 10).await;
    assert_eq!(add(&stack.client, &path, 0, b"hello").await.status, 204);
    let pool = stack.database.pool().await.unwrap();
    let rows = async || {
        let sql = "SELECT (SELECT count(*) FROM tus_uploads), (SELECT count(*) FROM attachment_blobs),
                          (SELECT count(*) FROM attachment_chunks), (SELECT count(*) FROM audit_event)";
        sqlx::query_as::<_, (i64, i64, i64, i64)>(sql).fetch_one(&pool).await.unwrap()
    };
    let before = rows().await;
    let table: Vec<Bad> = [beginnings(), in_json(), pieces(&path), others(&path)].into_iter().flatten().collect();
    assert!(table.len() >= 70, "only {} requests", table.len());
    let mut wrong = Vec::new();
    for bad in &table {
        let answer = bad.send(&stack).await;
        let found = (answer.status, answer.code());
        if found != (bad.expected.0, bad.expected.1.to_owned()) {
            wrong.push(format!("{}: {found:?} {}", bad.name, answer.text));
        }
        if answer.header("tus-resumable") != "1.0.0"
            || (answer.status == 412 && answer.header("tus-version") != "1.0.0")
        {
            wrong.push(format!("{}: no version of tus", bad.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(rows().await, before);
    assert_eq!(offset(&stack.client, &path).await, 5);
    assert_eq!(add(&stack.client, &path, 5, b"world").await.status, 204);
    assert_eq!(counts(&pool).await, (1, 1, 0));
}

#[tokio::test]
async fn where_uploads_are_off_none_begins() {
    let stack = Setup::default().set("SA01_UPLOADS__ENABLED", "false").start().await;
    let refused = begin_with(&stack.client, &[("Upload-Length", "5")]).await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "uploads-disabled"), "{}", refused.text);
    let refused = stack.client.post(PATH, &json!({"filename": "a", "size": 5})).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (403, "uploads-disabled"), "{}", refused.text);
}

#[tokio::test]
async fn nobody_has_more_than_a_hundred_uploads_open() {
    let stack = Stack::start().await;
    for _ in 0..100 {
        begin(&stack.client, 5).await;
    }
    let refused = begin_with(&stack.client, &[("Upload-Length", "5")]).await;
    assert_eq!((refused.status, refused.code().as_str()), (429, "too-many-uploads"), "{}", refused.text);
}
