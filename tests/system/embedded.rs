//! Nothing configured: the database, the model and the memory inside the process.

use std::io::Write as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use reqwest::Method;
use serde_json::json;
use somaagent_test_services::client::{Client, Mode, Post};
use somaagent_test_services::port;
use somaagent_test_services::process::{ProcessSignal, Running};
use somaagent_test_services::wait::{PATIENCE, eventually};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use crate::history::{check_ids, kinds};
use crate::stack::{binary, ended_turns, new_session};

async fn start() -> (Running, Client) {
    let app = binary()
        .set("SA01_RESPONDER__TOKEN_DELAY_MS", "1")
        // A busy machine is no fault of the memory.
        .set("SA01_TURNS__RECALL_DEADLINE_MS", "20000")
        .start()
        .await
        .unwrap();
    let client = Client::new(app.url()).unwrap();
    (app, client)
}

#[tokio::test]
async fn a_bare_start_answers_and_says_that_it_is_no_model() {
    let (_app, client) = start().await;
    let session = new_session();
    let mut stream = client.events(&session).mode(Mode::Delta).open().await.unwrap();
    let accepted = client.message(&Post::new("hello, who are you?").to(&session)).await.unwrap();
    assert_eq!(accepted.status, 200, "{}", accepted.text);
    let end = stream.until_terminal().await.unwrap();
    assert_eq!(
        kinds(stream.frames()),
        ["user", "assistant.started", "assistant.thinking", "assistant.stream", "assistant.final"]
    );
    check_ids(stream.frames());
    let text = end.data["message"].as_str().unwrap();
    assert!(text.contains("SA01_LLM_BASE_URL"), "it does not tell how to connect a model: {text}");
    assert_eq!(end.data["metadata"]["recall"]["state"], "ok");
    assert_eq!(client.get("/ui/config.json").await.unwrap().json()["responder"], "offline");
    assert_eq!(client.get("/readyz").await.unwrap().status, 200);
    let health = client.get("/v1/health").await.unwrap().json();
    assert_eq!(health["components"]["tenant_wall"], json!({"status": "ok"}), "its database keeps tenants apart, too");
}

#[tokio::test]
async fn an_outage_of_the_stand_in_is_seen_in_the_queue_and_over_once_it_is_back() {
    let port = port::free();
    let app = binary().set("GATEWAY_METRICS_PORT", &port.to_string()).set("MEMORY_SYNC_MAX_RETRIES", "0");
    let app = app.start().await.unwrap();
    let (client, metrics) =
        (Client::new(app.url()).unwrap(), Client::new(&format!("http://127.0.0.1:{port}")).unwrap());
    let log = app.output();
    let line = log.lines().find(|line| line.contains("memory-stand-in")).unwrap();
    let address = line.split('"').find(|word| word.starts_with("127.0.0.1:")).unwrap();
    let stand_in = Client::new(&format!("http://{address}")).unwrap();
    let switch = async |mode: &str| {
        let request = stand_in.request(Method::PUT, "/stand-in/fault").json(&json!({ "mode": mode }));
        assert_eq!(stand_in.send(request).await.unwrap().status, 200);
    };
    let queue = async |what: &str, is_so: fn(f64) -> bool| {
        eventually(what, async || {
            let page = metrics.get("/metrics").await.ok()?.text;
            let line = page.lines().find_map(|line| line.strip_prefix("memory_write_outbox_pending "))?;
            is_so(line.parse().unwrap()).then_some(())
        })
        .await;
    };
    switch("off").await;
    assert_eq!(client.message(&Post::new("The parrot is green.")).await.unwrap().status, 200);
    queue("memories that wait", |rows| rows > 0.0).await;
    switch("none").await;
    queue("an empty queue", |rows| rows == 0.0).await;
    switch("refuse").await;
    assert_eq!(client.message(&Post::new("The parrot is blue.")).await.unwrap().status, 200);
    let letter = eventually("a dead letter", async || {
        let letters = client.get("/v1/admin/dlq/memory.wal.dlq").await.unwrap().json();
        letters[0]["id"].as_i64()
    })
    .await;
    switch("none").await;
    let again = format!("/v1/admin/dlq/memory.wal.dlq/{letter}/reprocess");
    assert_eq!(client.post(&again, &json!({})).await.unwrap().status, 200);
    // The switch is the stand-in's alone.
    let request = client.request(Method::PUT, "/stand-in/fault").json(&json!({"mode": "off"}));
    assert_eq!(client.send(request).await.unwrap().status, 404);
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let (mut app, client) = start().await;
    let session = new_session();
    let first = client.message(&Post::new("remember the number 4711").to(&session)).await.unwrap();
    assert_eq!(first.status, 200);
    ended_turns(&client, &session, 1).await;
    let second = client.message(&Post::new("and this one").to(&session)).await.unwrap();
    assert_eq!(second.status, 200);
    app.kill().await.unwrap();
    app.restart().await.unwrap();
    let turns = ended_turns(&client, &session, 2).await;
    assert_eq!((turns[0].said(), turns[1].said()), ("remember the number 4711", "and this one"));
    assert_eq!(turns[1].kind(), "assistant.final");
}

/// Files in the data folder, and in that of the cluster, at which a first start is killed: when nothing is unpacked yet,
/// twice within that, when all is, and three times while the tables are made.
const MOMENTS: [(usize, usize); 7] = [(1, 0), (30, 0), (600, 0), (0, 969), (0, 985), (0, 1040), (0, 1120)];

#[tokio::test]
async fn a_first_start_that_is_killed_at_any_point_leaves_a_folder_that_starts() {
    for (number, (any, own)) in MOMENTS.into_iter().enumerate() {
        let binary = binary();
        let data = binary.data();
        let cluster = data.join("postgres/tmp/pglite/base");
        let moment = async {
            eventually("a start that has come that far", async || {
                (files(&data) >= any && files(&cluster) >= own).then_some(())
            })
            .await;
        };
        let signal = if number % 2 == 0 { ProcessSignal::KILL } else { ProcessSignal::TERM };
        let ended = binary.run_until(moment, signal).await.unwrap();
        assert!(!ended.output.contains("is ready"), "the start was over at {any}, {own}:\n{}", ended.output);
        let app = binary.start().await.unwrap();
        let client = Client::new(app.url()).unwrap();
        let session = new_session();
        assert_eq!(client.message(&Post::new("hello").to(&session)).await.unwrap().status, 200);
        ended_turns(&client, &session, 1).await;
        let health = client.get("/healthz").await.unwrap().json();
        assert_eq!(health["components"]["postgres"]["status"], "ok", "after a kill at {any}, {own}: {health:#}");
    }
}

/// How many files there are below a folder, which may change meanwhile.
fn files(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let count = |entry: std::fs::DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files(&entry.path()),
        Ok(_) => 1,
        Err(_) => 0,
    };
    entries.flatten().map(count).sum()
}

#[tokio::test]
async fn what_was_said_is_exported_by_a_job_on_the_only_connection() {
    let (_app, client) = start().await;
    let session = new_session();
    client.message(&Post::new("remember the number 4711").to(&session)).await.unwrap();
    ended_turns(&client, &session, 1).await;
    let list = format!("/v1/admin/memory?session_id={session}");
    eventually("both memories in the replica", async || {
        (client.get(&list).await.ok()?.json()["items"].as_array()?.len() == 2).then_some(())
    })
    .await;
    let order = client.post("/v1/memory/export/jobs", &json!({"session_id": session})).await.unwrap();
    let download = format!("{}/download", order.header("location"));
    let result = eventually("the result", async || {
        let answer = client.get(&download).await.ok()?;
        (answer.status == 200).then_some(answer.text)
    })
    .await;
    assert!(result.contains("4711") && result.contains("\"rows\":2"), "{result}");
}

#[tokio::test]
async fn rubbish_on_the_embedded_database_disturbs_nobody() {
    let (mut app, client) = start().await;
    let session = new_session();
    client.message(&Post::new("before").to(&session)).await.unwrap();
    ended_turns(&client, &session, 1).await;
    let socket = find_socket(&app.binary().data()).expect("no socket of the embedded database in the data folder");
    let mut strangers = Vec::new();
    for round in 0..3 {
        // It waits behind the one connection that the process has, and is read should that one ever end.
        let mut rubbish = UnixStream::connect(&socket).await.unwrap();
        rubbish.write_all(&[0xff; 256]).await.unwrap();
        strangers.push(rubbish);
        let post = Post::new(&format!("after {round}")).to(&session).key(&format!("after-{round}"));
        let answer = client.message(&post).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    assert!(app.is_running());
    let turns = ended_turns(&client, &session, 4).await;
    assert_eq!(turns.len(), 4);
    eventually("a healthy database", async || {
        let health = client.get("/healthz").await.unwrap().json();
        (health["components"]["postgres"]["status"] == json!("ok")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn rubbish_that_comes_before_the_first_connection_does_not_stop_the_start() {
    let (mut app, client) = start().await;
    let socket = find_socket(&app.binary().data()).unwrap();
    for round in 0..5 {
        app.terminate().await.unwrap();
        // Whoever is first on the socket is served first: now and then that is the rubbish, and the server ends by it.
        let path = socket.clone();
        let rubbish = tokio::task::spawn_blocking(move || {
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline {
                if let Ok(mut stream) = std::os::unix::net::UnixStream::connect(&path) {
                    let _ = stream.write_all(&[0xff; 256]);
                    return Some(stream);
                }
            }
            None
        });
        app.restart().await.unwrap();
        assert!(rubbish.await.unwrap().is_some(), "the socket never appeared");
        let session = new_session();
        let answer = client.message(&Post::new(&format!("round {round}")).to(&session)).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
        ended_turns(&client, &session, 1).await;
    }
}

/// The socket of the embedded database below a folder.
fn find_socket(folder: &Path) -> Option<PathBuf> {
    for entry in std::fs::read_dir(folder).ok()?.flatten() {
        let kind = entry.file_type().ok()?;
        let path = entry.path();
        if kind.is_socket() && entry.file_name().to_string_lossy().starts_with(".s.PGSQL") {
            return Some(path);
        }
        if kind.is_dir()
            && let Some(found) = find_socket(&path)
        {
            return Some(found);
        }
    }
    None
}

#[tokio::test]
async fn the_embedded_parts_are_closed_to_other_users() {
    let (app, _client) = start().await;
    let socket = find_socket(&app.binary().data()).unwrap();
    let folder = std::fs::metadata(socket.parent().unwrap()).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&folder.permissions());
    assert_eq!(mode & 0o777, 0o700, "others may reach the database's socket");
}

#[tokio::test]
async fn the_embedded_memory_answers_recalls() {
    let (_app, client) = start().await;
    let session = new_session();
    client.message(&Post::new("which colour has the garden gate?").to(&session)).await.unwrap();
    let turns = ended_turns(&client, &session, 1).await;
    assert_eq!(turns[0].meta("recall")["state"], "ok");
    let health = client.get("/healthz").await.unwrap().json();
    assert_eq!(health["components"]["somabrain_http"]["status"], "ok", "{health:#}");
}
