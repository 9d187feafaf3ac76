//! Files that are elsewhere: fetched by the server itself, from where that is allowed, and held to what files are held to.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use somaagent_test_services::clamd::{Clamd, eicar};
use somaagent_test_services::client::{Answer, Client, Post};
use somaagent_test_services::model::Script;
use somaagent_test_services::wait::eventually;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::archives::nested;
use super::{bytes_of, counts, noise, sum};
use crate::audit::token;
use crate::stack::{Setup, Stack, new_session};

const PATH: &str = "/v1/uploads/external";

/// A server of files, some of which it does not send as it should. Ends with this value.
pub struct Elsewhere {
    address: SocketAddr,
    sent: Arc<AtomicU64>,
    go_on: Arc<Notify>,
    _running: JoinSet<()>,
}

impl Elsewhere {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, sent) = (listener.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
        let go_on = Arc::new(Notify::new());
        let (mut running, count, wait) = (JoinSet::new(), Arc::clone(&sent), Arc::clone(&go_on));
        running.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (count, wait) = (Arc::clone(&count), Arc::clone(&wait));
                connections.spawn(async move { drop(serve(stream, address.port(), &count, &wait).await) });
            }
        });
        Self { address, sent, go_on, _running: running }
    }

    /// Has the rest of `/halves.bin` sent.
    pub fn go_on(&self) {
        self.go_on.notify_one();
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// Answers one request. Paths say what is sent.
async fn serve(mut stream: TcpStream, port: u16, sent: &AtomicU64, wait: &Notify) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().split('?').next().unwrap_or_default().to_owned();
    let answer = |status: &str, headers: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    let text = "content-type: text/plain\r\n";
    let bytes = match path.as_str() {
        "/small.txt" => answer("200 OK", text, b"words"),
        "/named" => answer("200 OK", "content-disposition: attachment; filename=\"../t.md\"\r\n", b"# words"),
        "/halves.bin" => {
            let mut first = answer("200 OK", "", &noise(2_000_000, 8));
            let second = first.split_off(1_000_000);
            stream.write_all(&first).await?;
            wait.notified().await;
            second
        }
        "/large.bin" => answer("200 OK", "content-type: application/x-noise\r\n", &noise(2_500_000, 7)),
        "/infected.txt" => answer("200 OK", text, &eicar()),
        // Deeper than any clamd looks.
        "/deep.zip" => answer("200 OK", "content-type: application/zip\r\n", &nested(40, b"tea")),
        "/gzip" => answer("200 OK", "content-encoding: gzip\r\ncontent-type: text/plain\r\n", b"\x1f\x8b\x08\0bomb"),
        "/page" => answer("200 OK", "content-type: text/html\r\n", b"<html>"),
        "/there" => answer("302 Found", "location: /small.txt\r\n", b""),
        "/metadata" => answer("302 Found", "location: http://169.254.169.254/latest/\r\n", b""),
        "/ten" => answer("307 X", "location: http://10.0.0.1/\r\n", b""),
        "/loop" => answer("302 Found", &format!("location: http://127.0.0.1:{port}/loop\r\n"), b""),
        "/short" => {
            let bytes = answer("200 OK", text, &noise(100_000, 3));
            bytes[..50_000].to_vec()
        }
        "/announced" => b"HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\n".to_vec(),
        "/endless" => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec(),
        _ => answer("404 Not Found", "", b"none"),
    };
    stream.write_all(&bytes).await?;
    if ["/announced", "/endless"].contains(&path.as_str()) {
        let (piece, is_chunked) = (noise(65_536, 5), path == "/endless");
        loop {
            if is_chunked {
                stream.write_all(b"10000\r\n").await?;
            }
            stream.write_all(&piece).await?;
            if is_chunked {
                stream.write_all(b"\r\n").await?;
            }
            sent.fetch_add(65_536, Ordering::SeqCst);
        }
    }
    stream.shutdown().await
}

/// A system that fetches from this machine, and keeps files of 1 MiB itself.
fn fetching() -> Setup {
    Setup::default()
        .set("SA01_UPLOADS__ALLOW_EXTERNAL_REF", true)
        .set("SA01_UPLOADS__EXTERNAL_REF_ALLOWLIST", "127.0.0.1,169.254.169.254,files.example")
        .set("SA01_UPLOADS__EXTERNAL_REF_NETWORKS", "127.0.0.0/8")
        .set("SA01_UPLOADS__INLINE_MAX_MB", 1)
        .set("GATEWAY_UPLOAD_MAX_MB", 4)
}

async fn fetch(client: &Client, body: &Value) -> Answer {
    client.post(PATH, body).await.unwrap()
}

async fn kept(stack: &Stack, body: Value) -> Value {
    let answer = fetch(&stack.client, &body).await;
    assert_eq!(answer.status, 200, "{body}: {}", answer.text);
    answer.json()
}

#[tokio::test]
async fn a_file_is_fetched_and_kept_like_one_that_is_sent() {
    let (stack, there) = (fetching().start().await, Elsewhere::start().await);
    let (pool, session) = (stack.database.pool().await.unwrap(), new_session());
    let file = kept(&stack, json!({"url": there.url("/small.txt?key=canary"), "session_id": session})).await;
    for (name, value) in [
        ("filename", json!("small.txt")),
        ("mime", json!("text/plain")),
        ("size", json!(5)),
        ("sha256", json!(sum(b"words"))),
        ("status", json!("clean")),
        ("session_id", json!(session)),
        ("external_host", Value::Null),
    ] {
        assert_eq!(file[name], value, "{name}: {file:#}");
    }
    assert_eq!(bytes_of(&pool, file["id"].as_str().unwrap()).await, b"words");
    assert_eq!(stack.client.get(file["path"].as_str().unwrap()).await.unwrap().text, "words");
    let named = kept(&stack, json!({"url": there.url("/named")})).await;
    assert_eq!((&named["filename"], &named["session_id"]), (&json!("t.md"), &json!("unspecified")));
    let asked = json!({"url": there.url("/named"), "filename": "C:\\x\\mine.md", "mime": "text/markdown"});
    let asked = kept(&stack, asked).await;
    assert_eq!((&asked["filename"], &asked["mime"]), (&json!("mine.md"), &json!("text/markdown")));
    // What does not look like the name of a file may be a secret.
    assert_eq!(kept(&stack, json!({"url": there.url("/there")})).await["filename"], "file");
    let packed = kept(&stack, json!({"url": there.url("/gzip")})).await;
    assert_eq!((&packed["size"], &packed["mime"]), (&json!(8), &json!("application/gzip")), "nothing is unpacked");
    assert_eq!(counts(&pool).await, (5, 5, 0));
}

#[tokio::test]
async fn a_file_that_is_too_large_to_be_kept_is_referred_to_and_nobody_else_learns_where_it_is() {
    let setup = fetching().set("GATEWAY_JWT_SECRET", somaagent_test_services::tokens::SECRET);
    let (stack, there) =
        (setup.set("SA01_UPLOADS__DOWNLOAD_TOKEN_TTL_SECONDS", 60).start().await, Elsewhere::start().await);
    let (pool, session) = (stack.database.pool().await.unwrap(), new_session());
    let [ann, bob] = ["ann", "bob"].map(|name| stack.client.showing(&token(name, "chat")).unwrap());
    let url = there.url("/large.bin?key=canary");
    let answer = fetch(&ann, &json!({"url": url, "session_id": session})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let file = answer.json();
    assert_eq!((&file["size"], &file["external_host"]), (&json!(2_500_000), &json!("127.0.0.1")), "{file:#}");
    assert_eq!((&file["sha256"], &file["status"]), (&json!(sum(&noise(2_500_000, 7))), &json!("clean")));
    assert!(!answer.text.contains("canary"), "{}", answer.text);
    let (path, id) = (file["path"].as_str().unwrap(), file["id"].as_str().unwrap());
    // What came is given up a moment later.
    eventually("nothing of it is here", async || (counts(&pool).await == (1, 0, 0)).then_some(())).await;
    let gone = ann.get(path).await.unwrap();
    assert_eq!((gone.status, gone.code().as_str()), (410, "attachment-gone"), "{}", gone.text);
    assert_eq!(gone.json()["external_url"], url);
    assert_eq!(ann.get(&format!("{path}/thumbnail")).await.unwrap().status, 410);
    assert_eq!(ann.post(&format!("{path}/links"), &json!({})).await.unwrap().status, 410);
    let hidden = bob.get(path).await.unwrap();
    assert_eq!(hidden.status, 404, "{}", hidden.text);

    // The model is told that it is elsewhere, and not where.
    stack.model.always(Script::words("noted"));
    let post = Post::new("Look").to(&session).with("attachments", json!([id]));
    assert_eq!(ann.message(&post).await.unwrap().status, 200);
    crate::stack::ended_turns(&ann, &session, 1).await;
    let shown = stack.model.exchanges().last().unwrap().body.to_string();
    assert!(shown.contains("it is elsewhere, and only referred to here"), "{shown}");
    let told: Vec<String> =
        sqlx::query_scalar("SELECT to_jsonb(a)::text FROM audit_event AS a").fetch_all(&pool).await.unwrap();
    let told = told.join("\n");
    assert!(!told.contains("canary") && !told.contains("large.bin"), "{told}");
    let hosts: Vec<Option<String>> =
        sqlx::query_scalar("SELECT details->>'host' FROM audit_event WHERE action = 'attachments.upload'")
            .fetch_all(&pool)
            .await
            .unwrap();
    assert!(!hosts.is_empty() && hosts.iter().all(|host| host.as_deref() == Some("127.0.0.1")), "{hosts:?}");
    assert!(!stack.app.output().contains("canary"), "{}", stack.app.output());
    assert!(!shown.contains("canary"), "{shown}");

    // With the file goes what was known of where it is.
    assert_eq!(ann.delete(path).await.unwrap().status, 204);
    let left: Option<String> =
        sqlx::query_scalar("SELECT external_url FROM attachments").fetch_one(&pool).await.unwrap();
    assert_eq!(left, None);
}

#[tokio::test]
async fn what_is_not_to_be_fetched_or_does_not_come_is_refused_and_leaves_nothing() {
    let setup = fetching().set("GATEWAY_UPLOAD_DENIED_MIME", "text/html");
    let (stack, there) = (setup.start().await, Elsewhere::start().await);
    let pool = stack.database.pool().await.unwrap();
    let failed = |reason: &str| (502, "external-reference-failed", Some(reason.to_owned()));
    let (closed, wrong) = ((403, "external-reference-not-allowed", None), (422, "invalid-body", None));
    let large = (413, "file-too-large", None);
    for (url, expected) in [
        (there.url("/announced"), large.clone()),
        (there.url("/endless"), large),
        (there.url("/page"), (415, "mime-not-allowed", None)),
        (there.url("/short"), failed("broken")),
        (there.url("/none?key=canary"), failed("status")),
        (there.url("/loop"), failed("redirected")),
        ("http://127.0.0.1:1/?key=canary".to_owned(), failed("unreachable")),
        (there.url("/metadata"), closed.clone()),
        (there.url("/ten"), closed.clone()),
        (there.url("/small.txt").replace("127.0.0.1", "127.0.0.2"), closed.clone()),
        (there.url("/small.txt").replace("127.0.0.1", "localhost"), closed.clone()),
        ("http://169.254.169.254/latest/meta-data/".to_owned(), closed.clone()),
        ("https://[::ffff:127.0.0.1]/".to_owned(), closed.clone()),
        ("https://elsewhere.example/".to_owned(), closed),
        (there.url("/small.txt").replace("http://", "http://files.example@"), wrong.clone()),
        (there.url("/small.txt").replace("http://", "gopher://"), wrong.clone()),
        ("file:///etc/passwd".to_owned(), wrong.clone()),
        ("http://127.0.0.1\\@files.example/".to_owned(), wrong),
    ] {
        let answer = fetch(&stack.client, &json!({"url": url})).await;
        let reason = answer.json()["reason"].as_str().map(str::to_owned);
        assert_eq!((answer.status, answer.code().as_str(), reason), expected, "{url}: {}", answer.text);
        assert_eq!(!answer.header("retry-after").is_empty(), answer.status == 502, "{url}");
        assert!(!answer.text.contains("canary"), "{url}: {}", answer.text);
    }
    // So much was on its way, and not as much as would have come.
    assert!(there.sent.load(Ordering::SeqCst) < 64 << 20);
    for (body, place) in [
        (json!({}), "url"),
        (json!({"url": 7}), "url"),
        (json!({"url": there.url("/small.txt"), "session_id": "x"}), "session_id"),
        (json!({"url": there.url("/small.txt"), "filename": "x".repeat(1025)}), "filename"),
        (json!({"url": there.url("/small.txt"), "mime": "\u{7}"}), "mime"),
    ] {
        let answer = fetch(&stack.client, &body).await;
        assert_eq!((answer.status, answer.code().as_str()), (422, "invalid-body"), "{body}: {}", answer.text);
        assert!(answer.json()["detail"].as_str().unwrap().contains(place), "{body}: {}", answer.text);
    }
    eventually("nothing is left", async || (counts(&pool).await == (0, 0, 0)).then_some(())).await;
    assert!(!stack.app.output().contains("canary"), "{}", stack.app.output());
    let off = Stack::start().await;
    let answer = fetch(&off.client, &json!({"url": there.url("/small.txt")})).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "external-references-disabled"), "{}", answer.text);
}

#[tokio::test]
async fn what_is_fetched_is_looked_through_like_what_is_sent() {
    let (host, port) = Clamd::shared().unwrap().place();
    let setup = fetching().set("CLAMAV_ENABLED", true).set("CLAMAV_HOST", host).set("CLAMAV_PORT", port);
    let stack = setup.set("SA01_ANTIVIRUS__CONNECT_TIMEOUT_MS", 15_000).start().await;
    let there = Elsewhere::start().await;
    for (path, reason) in [("/infected.txt", "infected"), ("/deep.zip", "limits_exceeded")] {
        let file = kept(&stack, json!({"url": there.url(path)})).await;
        assert_eq!((&file["status"], &file["quarantine_reason"]), (&json!("quarantined"), &json!(reason)), "{path}");
        let refused = stack.client.get(file["path"].as_str().unwrap()).await.unwrap();
        assert_eq!((refused.status, refused.code().as_str()), (403, "attachment-quarantined"), "{}", refused.text);
    }
    let large = kept(&stack, json!({"url": there.url("/large.bin")})).await;
    assert_eq!((&large["status"], &large["external_host"]), (&json!("clean"), &json!("127.0.0.1")));
}
