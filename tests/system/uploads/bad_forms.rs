//! Forms that are not as they should be. Each gets its exact status and code, and leaves nothing.

use reqwest::Method;
use somaagent_test_services::client::Answer;

use super::{BOUNDARY, Form, content_type, counts, noise};
use crate::stack::{Setup, Stack};

/// A form, its type, where it is sent to, and the answer.
struct Bad {
    name: &'static str,
    path: &'static str,
    content_type: String,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
    expected: (u16, &'static str),
}

fn bad(name: &'static str, body: impl Into<Vec<u8>>, status: u16, code: &'static str) -> Bad {
    let (path, headers) = ("/v1/uploads", Vec::new());
    Bad { name, path, content_type: content_type(), headers, body: body.into(), expected: (status, code) }
}

impl Bad {
    fn typed(self, content_type: &str) -> Self {
        Self { content_type: content_type.to_owned(), ..self }
    }

    fn at(self, path: &'static str) -> Self {
        Self { path, ..self }
    }

    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    async fn send(&self, stack: &Stack) -> Answer {
        let mut request = stack.client.request(Method::POST, self.path).header("Content-Type", &self.content_type);
        for (name, value) in &self.headers {
            request = request.header(*name, *value);
        }
        stack.client.send(request.body(self.body.clone())).await.unwrap()
    }
}

fn good() -> Form {
    Form::default().file("a.txt", "text/plain", b"words")
}

fn types() -> Vec<Bad> {
    let form = |name| bad(name, good().end(), 415, "unsupported-media-type");
    let broken = |name| bad(name, good().end(), 400, "bad-multipart");
    vec![
        form("no type").typed(""),
        form("json").typed("application/json"),
        form("urlencoded").typed("application/x-www-form-urlencoded"),
        form("another multipart").typed("multipart/mixed; boundary=x"),
        form("half a type").typed("multipart/"),
        form("compressed").header("Content-Encoding", "gzip"),
        form("compressed twice").header("Content-Encoding", "gzip, br"),
        broken("no boundary").typed("multipart/form-data"),
        broken("an empty boundary").typed("multipart/form-data; boundary="),
        broken("an empty boundary in quotes").typed("multipart/form-data; boundary=\"\""),
        broken("another boundary").typed("multipart/form-data; boundary=other"),
        broken("a boundary that never ends").typed("multipart/form-data; boundary=\"x"),
    ]
}

fn framing() -> Vec<Bad> {
    let whole = good().end();
    let cut = |at: usize| whole[..whole.len() - at].to_vec();
    let raw = |name, text: &str| bad(name, text.replace("BB", BOUNDARY), 400, "bad-multipart");
    let long = format!("--BB\r\nContent-Disposition: form-data; name=\"{}", "x".repeat(200_000));
    let many = format!("--BB\r\n{}\r\nx\r\n--BB--\r\n", "X-A: b\r\n".repeat(100));
    vec![
        bad("nothing", "", 400, "bad-multipart"),
        bad("no part", format!("--{BOUNDARY}--\r\n"), 400, "no-files"),
        bad("cut in the file", cut(BOUNDARY.len() + 12), 400, "bad-multipart"),
        bad("cut in the last boundary", cut(BOUNDARY.len()), 400, "bad-multipart"),
        raw("no boundary at all", "words"),
        raw("a boundary without an end of line", "--BB"),
        raw("a head without an end", "--BB\r\nContent-Disposition: form-data; name=\"files\""),
        raw("a head that is none", "--BB\r\nnothing\r\n\r\nx\r\n--BB--\r\n"),
        raw("a name of a header with a space", "--BB\r\nContent Disposition: x\r\n\r\nx\r\n--BB--\r\n"),
        raw("a header with a NUL", "--BB\r\nContent-Disposition: form-data; name=\"fi\0les\"\r\n\r\nx\r\n--BB--\r\n"),
        raw("a part without a disposition", "--BB\r\nContent-Type: text/plain\r\n\r\nx\r\n--BB--\r\n"),
        raw("a part of another disposition", "--BB\r\nContent-Disposition: attachment; name=\"files\"\r\n\r\nx\r\n--BB--\r\n"),
        raw("a part without a name", "--BB\r\nContent-Disposition: form-data\r\n\r\nx\r\n--BB--\r\n"),
        raw("a head that is too long", &long),
        raw("too many headers", &many),
        raw(
            "a form in a form",
            "--BB\r\nContent-Disposition: form-data; name=\"files\"\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y--\r\n--BB--\r\n",
        ),
        raw(
            "a part whose length is no number",
            "--BB\r\nContent-Disposition: form-data; name=\"files\"; filename=\"a\"\r\nContent-Length: x\r\n\r\nx\r\n--BB--\r\n",
        ),
        raw(
            "a part shorter than it says",
            "--BB\r\nContent-Disposition: form-data; name=\"files\"; filename=\"a\"\r\nContent-Length: 900000\r\n\r\nx\r\n--BB--\r\n",
        ),
        bad(
            "a part in base64",
            Form::default()
                .part(
                    "Content-Disposition: form-data; name=\"files\"; filename=\"a\"\r\nContent-Transfer-Encoding: base64",
                    b"d29yZHM=",
                )
                .end(),
            400,
            "bad-multipart",
        ),
    ]
}

fn fields() -> Vec<Bad> {
    let eleven = (0..11).fold(Form::default(), |form, _| form.file("a", "a/b", b"x"));
    let id = "7f2c1a90-3a4e-4a53-9c1e-3f3c8d7a5b10";
    vec![
        bad("no file", Form::default().field("session_id", id).end(), 400, "no-files"),
        bad(
            "a form in which no file was chosen",
            Form::default().file("", "application/octet-stream", b"").end(),
            400,
            "no-files",
        ),
        bad("too many files", eleven.end(), 400, "too-many-files"),
        bad(
            "a file in another field",
            Form::default().part("Content-Disposition: form-data; name=\"file\"; filename=\"a\"", b"x").end(),
            422,
            "invalid-body",
        ),
        bad("a session that is none", good().field("session_id", "mine").end(), 422, "invalid-body"),
        bad("a session with a NUL", good().field("session_id", "a\0").end(), 422, "invalid-body"),
        bad(
            "a session that is no text",
            good().part("Content-Disposition: form-data; name=\"session_id\"", b"\xff\xfe").end(),
            422,
            "invalid-body",
        ),
        bad("a session that is too long", good().field("session_id", &"x".repeat(5_000)).end(), 422, "invalid-body"),
        bad("a session twice", good().field("session_id", id).field("session_id", id).end(), 422, "invalid-body"),
        bad(
            "two sessions",
            good().field("session_id", id).field("session_id", &id.replace('7', "8")).end(),
            422,
            "invalid-body",
        ),
        bad("a field that is too long", good().field("note", &"x".repeat(5_000)).end(), 422, "invalid-body"),
        bad(
            "too many fields",
            (0..33).fold(good(), |form, number| form.field(&format!("note-{number}"), "x")).end(),
            400,
            "bad-multipart",
        ),
        bad("a session in the query that is none", good().end(), 422, "invalid-query")
            .at("/v1/uploads?session_id=mine"),
        bad("two sessions in the query", good().end(), 422, "invalid-query")
            .at("/v1/uploads?session_id=a&session_id=b"),
        bad("a wish that is none", good().end(), 422, "invalid-query").at("/v1/uploads?per_file=perhaps"),
        bad("a tenant that is none", good().end(), 422, "invalid-header").header("X-Tenant-Id", " a\tb"),
        bad("two personas", good().end(), 422, "invalid-header")
            .header("X-Persona-Id", "a")
            .header("X-Persona-Id", "b"),
    ]
}

fn files() -> Vec<Bad> {
    let file = |mime, bytes: &[u8]| Form::default().file("a", mime, bytes).end();
    vec![
        bad("a type that is denied", file("text/html", b"words"), 415, "mime-not-allowed"),
        bad("a type that is denied, in capitals", file("TEXT/HTML; charset=utf-8", b"words"), 415, "mime-not-allowed"),
        bad("a page that is called an image", file("image/png", b"<html><body>"), 415, "mime-not-allowed"),
        bad(
            "a page that is called nothing",
            file("application/octet-stream", b"<!doctype html >"),
            415,
            "mime-not-allowed",
        ),
        bad("a program that is called a text", file("text/plain", b"MZ\x90\0\x03\0"), 415, "mime-not-allowed"),
        bad("one that is too large", file("a/b", &noise(2_100_000, 1)), 413, "file-too-large"),
        bad("one that is too large to be kept here", file("a/b", &noise(1_100_000, 1)), 413, "inline-cap-exceeded"),
    ]
}

#[tokio::test]
async fn bad_forms_are_refused_exactly_and_leave_nothing() {
    let setup = Setup::default()
        .set("GATEWAY_UPLOAD_MAX_MB", 2)
        .set("SA01_UPLOADS__INLINE_MAX_MB", 1)
        .set("GATEWAY_UPLOAD_DENIED_MIME", "text/html,application/vnd.microsoft.portable-executable");
    let stack = setup.start().await;
    let pool = stack.database.pool().await.unwrap();
    let table: Vec<Bad> = [types(), framing(), fields(), files()].into_iter().flatten().collect();
    assert!(table.len() >= 50, "only {} forms", table.len());
    let mut wrong = Vec::new();
    for form in &table {
        let answer = form.send(&stack).await;
        let found = (answer.status, answer.code());
        if found != (form.expected.0, form.expected.1.to_owned()) {
            wrong.push(format!("{}: {found:?} {}", form.name, answer.text));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let sql = "SELECT (SELECT count(*) FROM attachments) + (SELECT count(*) FROM audit_event WHERE action LIKE 'attachments.%')";
    assert_eq!(sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap(), 0);
    assert_eq!(super::upload(&stack.client, good()).await.status, 200);
    assert_eq!(counts(&pool).await.0, 1);
}

#[tokio::test]
async fn where_uploads_are_off_nothing_else_is_looked_at() {
    let stack = Setup::default().set("SA01_UPLOADS__ENABLED", "false").start().await;
    for form in [bad("good", good().end(), 403, ""), bad("json", "{}", 403, "").typed("application/json")] {
        let answer = form.send(&stack).await;
        assert_eq!((answer.status, answer.code().as_str()), (403, "uploads-disabled"), "{}", form.name);
        assert_eq!(answer.json()["detail"], "Uploads are disabled by administrator");
    }
    assert_eq!(stack.get("/ui/config.json").await["uploads_enabled"], false);
}
