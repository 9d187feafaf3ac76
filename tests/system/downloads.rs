//! Attachments as they are fetched: whole, in parts, or not at all. They lie in the database in pieces of odd lengths.

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::json;
use sha2::{Digest, Sha256};
use somaagent_test_services::client::Client;
use somaagent_test_services::tokens::SECRET;
use somaagent_test_services::wait::eventually;
use sqlx::PgPool;
use uuid::Uuid;

use crate::identity::{guarded, token};
use crate::stack::{Setup, Stack, new_session};

const INTERNAL: &str = "internal-91c2a7e0f4";

/// An attachment that is put into the database as it is.
#[derive(Clone, Copy)]
pub struct Planted<'a> {
    tenant: &'a str,
    filename: &'a str,
    mime: &'a str,
    subject: Option<&'a str>,
    session: Option<Uuid>,
    quarantined: Option<&'a str>,
    dropped: bool,
}

impl<'a> Planted<'a> {
    pub fn of(tenant: &'a str, filename: &'a str) -> Self {
        let mime = "text/plain";
        Self { tenant, filename, mime, subject: None, session: None, quarantined: None, dropped: false }
    }

    /// Sent by `subject`.
    pub fn by(self, subject: &'a str) -> Self {
        Self { subject: Some(subject), ..self }
    }

    /// Sent to this session.
    pub fn to(self, session: &str) -> Self {
        Self { session: Some(session.parse().unwrap()), ..self }
    }

    /// Of this type.
    pub fn typed(self, mime: &'a str) -> Self {
        Self { mime, ..self }
    }

    /// Quarantined, for this reason.
    pub fn quarantined(self, why: &'a str) -> Self {
        Self { quarantined: Some(why), ..self }
    }

    /// Puts it there, in these pieces.
    pub async fn plant(self, pool: &PgPool, pieces: &[&[u8]]) -> Uuid {
        let (id, blob, all) = (Uuid::new_v4(), Uuid::new_v4(), pieces.concat());
        let (sum, size) = (sha256(&all), i64::try_from(all.len()).unwrap());
        sqlx::query(
            "INSERT INTO attachment_blobs (id, tenant, state, sha256, size, created_at, touched_at)
             VALUES ($1, $2, 'whole', $3, $4, now(), now())",
        )
        .bind(blob)
        .bind(self.tenant)
        .bind(&sum)
        .bind(size)
        .execute(pool)
        .await
        .unwrap();
        let mut at = 0_i64;
        for piece in pieces {
            let chunk =
                sqlx::query("INSERT INTO attachment_chunks (blob_id, at, tenant, bytes) VALUES ($1, $2, $3, $4)");
            chunk.bind(blob).bind(at).bind(self.tenant).bind(*piece).execute(pool).await.unwrap();
            at += i64::try_from(piece.len()).unwrap();
        }
        sqlx::query(
            "INSERT INTO attachments
                 (id, tenant, session_id, subject, filename, mime, size, sha256, status, quarantine_reason, blob_id, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, to_timestamp(1000000000.7))",
        )
        .bind(id)
        .bind(self.tenant)
        .bind(self.session)
        .bind(self.subject)
        .bind(self.filename)
        .bind(self.mime)
        .bind(size)
        .bind(&sum)
        .bind(if self.quarantined.is_some() { "quarantined" } else { "clean" })
        .bind(self.quarantined)
        .bind((!self.dropped).then_some(blob))
        .execute(pool)
        .await
        .unwrap();
        id
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// An answer whose body is no text.
struct Fetched {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Fetched {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(HeaderValue::to_str).transpose().unwrap().unwrap_or_default()
    }

    /// Status and problem code.
    fn problem(&self) -> (u16, String) {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        (self.status, body["code"].as_str().unwrap_or_default().to_owned())
    }
}

async fn send(request: RequestBuilder) -> Fetched {
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    Fetched { status, headers, body: answer.bytes().await.unwrap().to_vec() }
}

async fn get(client: &Client, id: Uuid, headers: &[(&str, &str)]) -> Fetched {
    let request = client.request(Method::GET, &format!("/v1/attachments/{id}"));
    send(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

/// As many bytes, none like its neighbours.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|n| u8::try_from(n * 31 % 251).unwrap()).collect()
}

#[tokio::test]
async fn a_file_comes_as_it_was_sent_and_nothing_in_it_is_run() {
    let stack = Stack::start().await;
    let pool = stack.database.pool().await.unwrap();
    let file = bytes(700_001);
    let pieces = [&file[..262_144], &file[262_144..262_145], &file[262_145..500_000], &file[500_000..]];
    let page = Planted { mime: "text/html", ..Planted::of("public", "Grüße an \"Soma\".html") };
    let id = page.plant(&pool, &pieces).await;
    let all = get(&stack.client, id, &[]).await;
    assert_eq!((all.status, all.body == file), (200, true));
    for (name, value) in [
        ("content-type", "text/html"),
        ("content-length", "700001"),
        ("etag", &format!("\"{}\"", sha256(&file))),
        ("last-modified", "Sun, 09 Sep 2001 01:46:40 GMT"),
        ("accept-ranges", "bytes"),
        ("cache-control", "private, no-cache"),
        ("x-content-type-options", "nosniff"),
        ("cross-origin-resource-policy", "same-origin"),
        (
            "content-disposition",
            "attachment; filename=\"Gr__e an _Soma_.html\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe%20an%20%22Soma%22.html",
        ),
    ] {
        assert_eq!(all.header(name), value, "{name}");
    }
    assert!(all.header("content-security-policy").starts_with("sandbox; default-src 'none'"));

    let head = send(stack.client.request(Method::HEAD, &format!("/v1/attachments/{id}"))).await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, "700001", 0));
    let nothing = Planted::of("public", "empty.txt").plant(&pool, &[]).await;
    let nothing = get(&stack.client, nothing, &[]).await;
    assert_eq!((nothing.status, nothing.header("content-length"), nothing.body.len()), (200, "0", 0));
}

#[tokio::test]
async fn parts_are_sent_across_all_pieces() {
    let stack = Stack::start().await;
    let pool = stack.database.pool().await.unwrap();
    let file = bytes(1_000);
    let id =
        Planted::of("public", "a.txt").plant(&pool, &[&file[..10], &file[10..11], &file[11..900], &file[900..]]).await;
    for (range, from, to) in [
        ("0-0", 0, 1),
        ("9-11", 9, 12),
        ("5-", 5, 1_000),
        ("-1", 999, 1_000),
        ("890-5000", 890, 1_000),
        ("0-", 0, 1_000),
    ] {
        let part = get(&stack.client, id, &[("Range", &format!("bytes={range}"))]).await;
        assert_eq!((part.status, &part.body[..]), (206, &file[from..to]), "{range}");
        assert_eq!(part.header("content-range"), format!("bytes {from}-{}/1000", to - 1), "{range}");
        assert_eq!(part.header("content-length"), (to - from).to_string(), "{range}");
    }

    let several = get(&stack.client, id, &[("Range", "bytes=995-, 0-1,8-12")]).await;
    assert_eq!(several.status, 206);
    assert_eq!(several.header("content-length"), several.body.len().to_string());
    let boundary = several.header("content-type").strip_prefix("multipart/byteranges; boundary=").unwrap().to_owned();
    let mut expected = Vec::new();
    for (number, (from, to)) in [(995, 1_000), (0, 2), (8, 13)].into_iter().enumerate() {
        let before = if number == 0 { "" } else { "\r\n" };
        let last = to - 1;
        let head = format!(
            "{before}--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {from}-{last}/1000\r\n\r\n"
        );
        expected.extend([head.as_bytes(), &file[from..to]].concat());
    }
    expected.extend(format!("\r\n--{boundary}--\r\n").bytes());
    assert_eq!(String::from_utf8_lossy(&several.body), String::from_utf8_lossy(&expected));

    let beyond = get(&stack.client, id, &[("Range", "bytes=1000-")]).await;
    assert_eq!(beyond.problem(), (416, "range-not-satisfiable".to_owned()));
    assert_eq!(beyond.header("content-range"), "bytes */1000");
    let overlapping = get(&stack.client, id, &[("Range", "bytes=0-5,3-9")]).await;
    assert_eq!((overlapping.status, overlapping.body.len()), (200, 1_000));
}

#[tokio::test]
async fn who_has_the_file_is_told_so_and_who_has_another_one_too() {
    let stack = Stack::start().await;
    let pool = stack.database.pool().await.unwrap();
    let id = Planted::of("public", "a.txt").plant(&pool, &[b"tea"]).await;
    let tag = format!("\"{}\"", sha256(b"tea"));
    let same = get(&stack.client, id, &[("If-None-Match", &tag)]).await;
    assert_eq!((same.status, same.header("etag"), same.body.len()), (304, &*tag, 0));
    let since = get(&stack.client, id, &[("If-Modified-Since", "Sun, 09 Sep 2001 01:46:40 GMT")]).await;
    assert_eq!(since.status, 304, "the fraction of a second does not count");
    let other = get(&stack.client, id, &[("If-Match", "\"other\"")]).await;
    assert_eq!(other.problem(), (412, "precondition-failed".to_owned()));
    let moved = get(&stack.client, id, &[("Range", "bytes=1-"), ("If-Range", "\"other\"")]).await;
    assert_eq!((moved.status, &moved.body[..]), (200, &b"tea"[..]));
    let right = get(&stack.client, id, &[("Range", "bytes=1-"), ("If-Range", &tag)]).await;
    assert_eq!((right.status, &right.body[..]), (206, &b"ea"[..]));
}

#[tokio::test]
async fn what_is_quarantined_gone_or_no_attachment_is_not_sent() {
    let stack = Stack::start().await;
    let pool = stack.database.pool().await.unwrap();
    let file = Planted::of("public", "a.txt");
    let (quarantined, dropped) = (file.quarantined("infected"), Planted { dropped: true, ..file });
    let deleted = file.plant(&pool, &[b"tea"]).await;
    let delete = "UPDATE attachments SET deleted_at = now(), blob_id = NULL WHERE id = $1";
    sqlx::query(delete).bind(deleted).execute(&pool).await.unwrap();
    for (name, id, status, code) in [
        ("quarantined", quarantined.plant(&pool, &[b"tea"]).await, 403, "attachment-quarantined"),
        ("dropped", dropped.plant(&pool, &[b"tea"]).await, 410, "attachment-gone"),
        ("deleted", deleted, 410, "attachment-gone"),
        ("unknown", Uuid::new_v4(), 404, "attachment-unknown"),
        ("another tenant's", Planted::of("acme", "a.txt").plant(&pool, &[b"tea"]).await, 404, "attachment-unknown"),
    ] {
        let answer = get(&stack.client, id, &[("Range", "bytes=0-0")]).await;
        assert_eq!(answer.problem(), (status, code.to_owned()), "{name}");
        assert!(!answer.body.windows(3).any(|bytes| bytes == b"tea"), "{name}");
    }
    let answer = stack.client.get("/v1/attachments/..%2f..%2fetc%2fpasswd").await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (400, "attachment-id-invalid"), "{}", answer.text);
}

#[tokio::test]
async fn a_file_is_for_its_sender_and_for_whom_its_session_exists() {
    let stack = guarded().await;
    let pool = stack.database.pool().await.unwrap();
    let [ann, bob, head] = [("ann", "chat"), ("bob", "chat"), ("head", "admin")]
        .map(|(subject, scope)| stack.client.showing(&token("acme", subject, scope)).unwrap());
    let session = new_session();
    let posted = ann.message(&somaagent_test_services::client::Post::new("tea").to(&session)).await.unwrap();
    assert_eq!(posted.status, 200, "{}", posted.text);
    let file = Planted::of("acme", "a.txt").by("head");
    let loose = file.plant(&pool, &[b"tea"]).await;
    let of_session = Planted { session: Some(session.parse().unwrap()), ..file }.plant(&pool, &[b"tea"]).await;
    for (name, client, id, status) in [
        ("their own", &head, loose, 200),
        ("another's", &ann, loose, 404),
        ("their session's", &ann, of_session, 200),
        ("another's session's", &bob, of_session, 404),
    ] {
        assert_eq!(get(client, id, &[]).await.status, status, "{name}");
    }
    assert_eq!(get(&stack.client, loose, &[]).await.problem(), (401, "authorization-missing".to_owned()));
    // Its files go with a session.
    let deleted = ann.send(ann.request(Method::DELETE, &format!("/v1/sessions/{session}"))).await.unwrap();
    assert_eq!(deleted.status, 200, "{}", deleted.text);
    for (client, status) in [(&ann, 410), (&head, 410), (&bob, 404)] {
        assert_eq!(get(client, of_session, &[]).await.status, status);
    }
}

#[tokio::test]
async fn a_message_refers_to_what_exists_for_its_sender_and_is_clean() {
    let stack = guarded().await;
    let pool = stack.database.pool().await.unwrap();
    let [ann, bob] = ["ann", "bob"].map(|name| stack.client.showing(&token("acme", name, "chat")).unwrap());
    let file = Planted::of("acme", "a.txt").by("ann");
    let (one, other) = (file.plant(&pool, &[b"tea"]).await, file.plant(&pool, &[b"coffee"]).await);
    let session = new_session();
    let refer = async |client: &Client, references: &[String]| {
        let body = json!({"session_id": session, "message": "look", "attachments": references});
        client.post("/v1/session/message", &body).await.unwrap()
    };
    let quarantined = file.quarantined("infected").plant(&pool, &[b"tea"]).await;
    let dropped = Planted { dropped: true, ..file }.plant(&pool, &[b"tea"]).await;
    let foreign = Planted::of("umbrella", "a.txt").by("ann").plant(&pool, &[b"tea"]).await;
    for (client, id, why) in [
        (&ann, Uuid::new_v4(), "does not exist"),
        (&ann, foreign, "does not exist"),
        (&bob, one, "does not exist"),
        (&ann, quarantined, "is quarantined"),
        (&ann, dropped, "is gone"),
    ] {
        let answer = refer(client, &[id.to_string()]).await;
        assert_eq!((answer.status, answer.code().as_str()), (422, "attachment-not-found"), "{}", answer.text);
        assert_eq!(answer.json()["errors"], json!([{"loc": ["body", "attachments", 0], "msg": why}]));
    }
    let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM session_events").fetch_one(&pool).await.unwrap();
    assert_eq!(stored, 0, "a refused message was stored");

    let references = [one.to_string(), format!("/v1/attachments/{other}"), format!("att://{one}")];
    let answer = refer(&ann, &references).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let events = ann.get(&format!("/v1/sessions/{session}/events")).await.unwrap().json();
    assert_eq!(
        events["events"][0]["payload"]["attachments"],
        json!([format!("att://{one}"), format!("att://{other}")])
    );
}

#[tokio::test]
async fn a_worker_gets_what_is_quarantined_and_only_of_the_tenant_it_expects() {
    let setup = Setup::default().set("GATEWAY_JWT_SECRET", SECRET).set("GATEWAY_INTERNAL_TOKEN", INTERNAL);
    let stack = setup.start().await;
    let pool = stack.database.pool().await.unwrap();
    let file = Planted::of("acme", "a.txt").quarantined("infected");
    let id = file.plant(&pool, &[b"t", b"ea"]).await;
    let ask = |method: Method, headers: &[(&str, &str)]| {
        let request = stack.client.request(method, &format!("/internal/attachments/{id}/binary"));
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
    };
    let shown = ("X-Internal-Token", INTERNAL);
    for headers in [&[shown][..], &[shown, ("X-Tenant-Id", "acme")]] {
        let got = send(ask(Method::GET, headers)).await;
        assert_eq!((got.status, &got.body[..]), (200, &b"tea"[..]));
        assert_eq!((got.header("x-attachment-status"), got.header("x-attachment-size")), ("quarantined", "3"));
    }
    let head = send(ask(Method::HEAD, &[shown])).await;
    assert_eq!((head.status, head.header("x-attachment-size"), head.body.len()), (200, "3", 0));
    let part = send(ask(Method::GET, &[shown, ("Range", "bytes=1-1")])).await;
    assert_eq!((part.status, &part.body[..], part.header("x-attachment-size")), (206, &b"e"[..], "3"));
    let other = send(ask(Method::GET, &[shown, ("X-Tenant-Id", "umbrella")])).await;
    assert_eq!(other.problem(), (403, "tenant-denied".to_owned()));
    let admin = format!("Bearer {}", token("acme", "head", "admin"));
    for headers in [&[][..], &[("X-Internal-Token", "wrong")], &[("Authorization", &*admin)]] {
        assert_eq!(send(ask(Method::GET, headers)).await.problem(), (403, "internal-denied".to_owned()), "{headers:?}");
    }
}

#[tokio::test]
async fn a_download_whose_file_goes_or_is_quarantined_meanwhile_breaks_off_and_is_never_taken_for_whole() {
    let stack = Stack::start().await;
    let pool = stack.database.pool().await.unwrap();
    // More than lies in the buffers between here and there.
    let file = bytes(262_144);
    for meanwhile in [
        "UPDATE attachments SET deleted_at = now(), blob_id = NULL; DELETE FROM attachment_chunks",
        "UPDATE attachments SET status = 'quarantined', quarantine_reason = 'infected'",
    ] {
        let id = Planted::of("public", "a.bin").plant(&pool, &[&file[..]; 200]).await;
        let mut answer = stack.client.request(Method::GET, &format!("/v1/attachments/{id}")).send().await.unwrap();
        assert!(answer.chunk().await.unwrap().is_some());
        sqlx::raw_sql(meanwhile).execute(&pool).await.unwrap();
        assert!(breaks_off(answer).await, "a part was taken for all of it: {meanwhile}");
        sqlx::raw_sql("TRUNCATE attachments, attachment_blobs CASCADE").execute(&pool).await.unwrap();
    }
    eventually("the log tells of it", async || {
        (stack.app.output().matches("a download broke off").count() == 2).then_some(())
    })
    .await;
}

/// Whether the rest of an answer does not come.
pub async fn breaks_off(mut answer: Response) -> bool {
    loop {
        match answer.chunk().await {
            Ok(Some(_)) => {}
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}

#[tokio::test]
async fn without_a_database_a_download_is_refused_and_can_be_tried_again() {
    let stack = Stack::start().await;
    let pool = stack.database.pool().await.unwrap();
    let id = Planted::of("public", "a.txt").plant(&pool, &[b"tea"]).await;
    stack.proxy.refuse(true);
    stack.proxy.cut();
    let away = get(&stack.client, id, &[]).await;
    assert_eq!(away.problem(), (503, "unavailable".to_owned()));
    assert!(!away.header("retry-after").is_empty());
    stack.proxy.heal();
    eventually("it is there again", async || (get(&stack.client, id, &[]).await.status == 200).then_some(())).await;
}
