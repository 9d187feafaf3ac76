//! How much may be kept in all: to the last byte, whoever comes at the same time, and again once something goes.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use somaagent_test_services::client::{Answer, Client, Post, Raw};
use somaagent_test_services::tokens::SECRET;
use somaagent_test_services::wait::eventually;

use super::{BOUNDARY, Form, counts, noise, upload, upload_to};
use crate::audit::{token, token_of};
use crate::stack::{Setup, Stack, new_session};

const MIB: usize = 1 << 20;
const TENANT: &str = "SA01_UPLOADS__QUOTA_TENANT_MB";
const SESSION: &str = "SA01_UPLOADS__QUOTA_SESSION_MB";

fn file(length: usize) -> Form {
    Form::default().file("a.bin", "a/b", &noise(length, length as u64))
}

fn problem(answer: &Answer) -> (u16, String) {
    (answer.status, answer.code())
}

fn refused() -> (u16, String) {
    (413, "quota-exceeded".to_owned())
}

/// What is left, as the caller sees it.
async fn room(client: &Client, query: &str) -> Value {
    let answer = client.get(&format!("/v1/uploads/quota{query}")).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

async fn used(client: &Client) -> u64 {
    room(client, "").await["tenant"]["used"].as_u64().unwrap()
}

/// Begins an upload in pieces of so many bytes.
async fn begin(client: &Client, length: usize, more: &[(&str, &str)]) -> Answer {
    let request = client.request(Method::POST, "/v1/uploads/tus").header("Tus-Resumable", "1.0.0");
    let request = more.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    client.send(request.header("Upload-Length", length)).await.unwrap()
}

async fn add(client: &Client, path: &str, bytes: Vec<u8>) -> Answer {
    let request = client.request(Method::PATCH, path).header("Tus-Resumable", "1.0.0").header("Upload-Offset", 0);
    let request = request.header("Content-Type", "application/offset+octet-stream");
    client.send(request.body(bytes)).await.unwrap()
}

async fn save(stack: &Stack, field: &str, value: u64) {
    let body = json!({"sections": [{"id": "uploads", "fields": [{"id": field, "value": value}]}]});
    let answer = stack.client.post("/v1/ui/settings/sections", &body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[tokio::test]
async fn a_tenant_fills_its_room_to_the_last_byte_and_no_other_ones() {
    let stack = Setup::default().set("GATEWAY_JWT_SECRET", SECRET).set(TENANT, 2).start().await;
    let pool = stack.database.pool().await.unwrap();
    let [ann, bob] = ["ann", "bob"].map(|name| stack.client.showing(&token(name, "chat")).unwrap());
    let other = stack.client.showing(&token_of("umbrella", "ann", "chat")).unwrap();
    let first = upload(&ann, file(1_500_000)).await;
    assert_eq!(first.status, 200, "{}", first.text);
    let last = 2 * MIB - 1_500_000;
    let over = upload(&bob, file(last + 1)).await;
    assert_eq!(problem(&over), refused(), "{}", over.text);
    let told = over.json();
    let figures = ["scope", "limit", "used", "left"].map(|name| told[name].clone());
    assert_eq!(figures, [json!("tenant"), json!(2 * MIB), json!(1_500_000), json!(last)]);
    let (attachments, whole, _) = counts(&pool).await;
    assert_eq!((attachments, whole), (1, 1), "nothing of it is kept");
    let exact = upload(&bob, file(last)).await;
    assert_eq!(exact.status, 200, "{}", exact.text);
    assert_eq!(problem(&upload(&ann, file(1)).await), refused());
    assert_eq!(upload(&ann, file(0)).await.status, 200, "it takes no room");
    let full = json!({"tenant": {"limit": 2 * MIB, "used": 2 * MIB, "left": 0}, "session": null});
    assert_eq!(room(&ann, "").await, full);
    assert_eq!(counts(&pool).await.0, 3);
    // Another tenant has room of its own.
    assert_eq!(used(&other).await, 0);
    assert_eq!(upload(&other, file(2 * MIB)).await.status, 200);
    assert_eq!(room(&ann, "").await, full);
    // What is deleted takes none.
    let path = first.json()[0]["path"].as_str().unwrap().to_owned();
    assert_eq!(ann.delete(&path).await.unwrap().status, 204);
    assert_eq!(used(&ann).await, last as u64);
    assert_eq!(upload(&bob, file(1_500_000)).await.status, 200);
}

#[tokio::test]
async fn of_many_at_once_as_many_are_kept_as_there_is_room_for() {
    let stack = Setup::default().set(TENANT, 1).set("GATEWAY_MAX_BODIES_EACH", 0).start().await;
    let answers = join_all((0..10).map(|_| upload(&stack.client, file(300_000)))).await;
    let kept = answers.iter().filter(|answer| answer.status == 200).count();
    assert!(answers.iter().all(|answer| answer.status == 200 || problem(answer) == refused()));
    assert_eq!(kept, 3);
    assert_eq!(used(&stack.client).await, 900_000);
    // Nor do uploads in pieces that begin and files that come take the same room.
    let begun = join_all((0..5).map(|_| begin(&stack.client, 50_000, &[])));
    let (begun, sent) = tokio::join!(begun, join_all((0..5).map(|_| upload(&stack.client, file(50_000)))));
    assert!(begun.iter().chain(&sent).all(|answer| matches!(answer.status, 200 | 201) || problem(answer) == refused()));
    let taken = begun.iter().chain(&sent).filter(|answer| answer.status < 300).count();
    assert_eq!((taken, used(&stack.client).await), (2, 1_000_000));
}

#[tokio::test]
async fn a_session_has_room_of_its_own() {
    let stack = Setup::default().set("GATEWAY_JWT_SECRET", SECRET).set(SESSION, 1).start().await;
    let [ann, bob] = ["ann", "bob"].map(|name| stack.client.showing(&token(name, "chat")).unwrap());
    let [one, two] = [new_session(), new_session()];
    let query = |session: &str| format!("?session_id={session}");
    assert_eq!(ann.message(&Post::new("tea").to(&one)).await.unwrap().status, 200);
    for (length, status) in [(600_000, 200), (MIB - 600_000 + 1, 413), (MIB - 600_000, 200), (1, 413)] {
        // Where the files belong may be said at the end.
        let answer = upload(&ann, file(length).field("session_id", &one)).await;
        assert_eq!(answer.status, status, "{length} {}", answer.text);
        if status == 413 {
            assert_eq!((answer.code(), answer.json()["scope"].clone()), (refused().1, json!("session")));
        }
    }
    let full = json!({"limit": MIB, "used": MIB, "left": 0});
    assert_eq!(room(&ann, &query(&one)).await, json!({"tenant": null, "session": full}));
    assert_eq!(upload(&ann, file(MIB).field("session_id", &two)).await.status, 200);
    assert_eq!(upload(&ann, file(2 * MIB)).await.status, 200, "one of no session");
    assert_eq!(room(&ann, "").await, json!({"tenant": null, "session": null}));
    let hidden = bob.get(&format!("/v1/uploads/quota{}", query(&one))).await.unwrap();
    assert_eq!(problem(&hidden), (404, "session-not-found".to_owned()));
    let reset = ann.post(&format!("/v1/sessions/{one}/reset"), &Value::Null).await.unwrap();
    assert_eq!(reset.status, 200, "{}", reset.text);
    assert_eq!(room(&ann, &query(&one)).await["session"]["used"], 0);
    assert_eq!(upload(&ann, file(MIB).field("session_id", &one)).await.status, 200);
}

#[tokio::test]
async fn a_form_finds_room_as_a_whole_or_each_of_its_files_does() {
    let stack = Setup::default().set(TENANT, 1).start().await;
    let pool = stack.database.pool().await.unwrap();
    let form = || {
        let files = [(600_000, 1), (600_001, 2), (300_000, 3)];
        files.iter().fold(Form::default(), |form, (length, seed)| form.file("a.bin", "a/b", &noise(*length, *seed)))
    };
    let answer = upload(&stack.client, form()).await;
    assert_eq!(problem(&answer), refused(), "{}", answer.text);
    let (attachments, whole, _) = counts(&pool).await;
    assert_eq!((attachments, whole, used(&stack.client).await), (0, 0, 0), "nothing of it is kept");
    let answer = upload_to(&stack.client, "/v1/uploads?per_file=true", form()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let files = answer.json();
    assert_eq!((&files[0]["size"], &files[2]["size"]), (&json!(600_000), &json!(300_000)));
    assert_eq!(
        (&files[1]["error"]["code"], &files[1]["error"]["left"]),
        (&json!("quota-exceeded"), &json!(MIB - 600_000))
    );
    assert_eq!(used(&stack.client).await, 900_000);
}

#[tokio::test]
async fn nobody_reads_twenty_megabytes_for_which_there_is_no_room() {
    let stack = Setup::default().set(TENANT, 1).start().await;
    let mut raw = Raw::connect(stack.app.url(), None).await.unwrap();
    let head = format!(
        "POST /v1/uploads HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n\
         Content-Length: 20000000\r\nConnection: close\r\n\r\n"
    );
    raw.send(head.as_bytes()).await.unwrap();
    let answer = String::from_utf8_lossy(&raw.read_to_end().await).into_owned();
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("quota-exceeded"), "{answer}");
}

#[tokio::test]
async fn an_upload_in_pieces_has_its_room_from_its_beginning_on_until_it_goes() {
    let mut stack = Setup::default().set(TENANT, 1).start().await;
    let pool = stack.database.pool().await.unwrap();
    let begun = begin(&stack.client, 1_000_000, &[]).await;
    assert_eq!(begun.status, 201, "{}", begun.text);
    assert_eq!(used(&stack.client).await, 1_000_000);
    assert_eq!(problem(&begin(&stack.client, 48_577, &[]).await), refused());
    assert_eq!(problem(&upload(&stack.client, file(48_577)).await), refused());
    let exact = begin(&stack.client, 48_576, &[("Upload-Concat", "partial")]).await;
    assert_eq!(exact.status, 201, "{}", exact.text);
    // It becomes an attachment where everything is full, and counts once.
    let path = begun.header("location").to_owned();
    let done = add(&stack.client, &path, noise(1_000_000, 1)).await;
    assert_eq!((done.status, done.header("upload-attachment-status")), (204, "clean"), "{}", done.text);
    assert_eq!(used(&stack.client).await, MIB as u64);
    // What is made of parts needs room beside them.
    let part = exact.header("location").to_owned();
    assert_eq!(add(&stack.client, &part, noise(48_576, 2)).await.status, 204);
    let made = stack.client.request(Method::POST, "/v1/uploads/tus").header("Tus-Resumable", "1.0.0");
    let made = stack.client.send(made.header("Upload-Concat", format!("final;{part}"))).await.unwrap();
    assert_eq!(problem(&made), refused(), "{}", made.text);
    assert_eq!(used(&stack.client).await, MIB as u64);
    let gone = stack.client.request(Method::DELETE, &part).header("Tus-Resumable", "1.0.0");
    assert_eq!(stack.client.send(gone).await.unwrap().status, 204);
    assert_eq!(used(&stack.client).await, 1_000_000);
    assert_eq!(begin(&stack.client, 48_576, &[]).await.status, 201);
    assert_eq!(used(&stack.client).await, MIB as u64);
    // So does what nobody goes on with, and what is too old.
    assert_eq!(stack.app.terminate().await.unwrap(), Some(0));
    sqlx::raw_sql(
        "UPDATE tus_uploads SET expires_at = now() - interval '1 minute';
         UPDATE attachments SET created_at = now() - interval '8 days'",
    )
    .execute(&pool)
    .await
    .unwrap();
    stack.restart().await;
    eventually("all of it is free", async || (used(&stack.client).await == 0).then_some(())).await;
}

#[tokio::test]
async fn what_is_cleared_takes_no_room() {
    let setup = Setup::default().set("CLAMAV_ENABLED", "true").set("CLAMAV_HOST", "127.0.0.1").set("CLAMAV_PORT", 1);
    let stack = setup.set(TENANT, 1).start().await;
    let kept = upload(&stack.client, file(MIB)).await;
    assert_eq!((kept.status, &kept.json()[0]["status"]), (200, &json!("quarantined")), "{}", kept.text);
    assert_eq!(used(&stack.client).await, MIB as u64);
    let clear = format!("{}/clear", kept.json()[0]["path"].as_str().unwrap());
    assert_eq!(stack.client.post(&clear, &Value::Null).await.unwrap().status, 200);
    assert_eq!(used(&stack.client).await, 0);
    assert_eq!(upload(&stack.client, file(MIB)).await.status, 200);
}

#[tokio::test]
async fn what_an_operator_saves_counts_at_once() {
    let stack = Stack::start().await;
    assert_eq!(room(&stack.client, "").await, json!({"tenant": null, "session": null}));
    assert_eq!(upload(&stack.client, file(MIB + 1)).await.status, 200);
    save(&stack, "uploads_quota_tenant_mb", 1).await;
    assert_eq!(problem(&upload(&stack.client, file(1)).await), refused());
    let over = json!({"limit": MIB, "used": MIB + 1, "left": 0});
    assert_eq!(room(&stack.client, "").await["tenant"], over);
    save(&stack, "uploads_quota_tenant_mb", 2).await;
    assert_eq!(upload(&stack.client, file(MIB - 1)).await.status, 200);
    assert_eq!(problem(&upload(&stack.client, file(1)).await), refused());
    save(&stack, "uploads_quota_tenant_mb", 0).await;
    assert_eq!(upload(&stack.client, file(1)).await.status, 200);
}
