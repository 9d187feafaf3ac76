//! Files that come in pieces: what goes on where it stopped, and what does not.

mod bad_requests;
mod breaking_off;
mod finishing;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use somaagent_test_services::client::{Answer, Client};
use somaagent_test_services::tokens::SECRET;

use crate::audit::{token, token_of};
use crate::stack::{Setup, Stack, new_session};
use crate::uploads::{counts, noise, sum};

const PATH: &str = "/v1/uploads/tus";
const TYPE: &str = "application/offset+octet-stream";

/// A request in the words of tus.
fn tus(client: &Client, method: Method, path: &str) -> RequestBuilder {
    client.request(method, path).header("Tus-Resumable", "1.0.0")
}

/// Metadata of an upload.
fn metadata(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name} {}", STANDARD.encode(value))).collect();
    pairs.join(",")
}

async fn begin_with(client: &Client, headers: &[(&str, &str)]) -> Answer {
    let request =
        headers.iter().fold(tus(client, Method::POST, PATH), |request, (name, value)| request.header(*name, *value));
    client.send(request).await.unwrap()
}

/// Begins an upload of so many bytes, and returns where it is.
pub async fn begin(client: &Client, length: usize) -> String {
    let begun = begin_with(client, &[("Upload-Length", &length.to_string())]).await;
    assert_eq!(begun.status, 201, "{}", begun.text);
    begun.header("location").to_owned()
}

fn piece(client: &Client, path: &str, offset: usize, bytes: &[u8]) -> RequestBuilder {
    let request = tus(client, Method::PATCH, path).header("Content-Type", TYPE);
    request.header("Upload-Offset", offset).body(bytes.to_vec())
}

pub async fn add(client: &Client, path: &str, offset: usize, bytes: &[u8]) -> Answer {
    client.send(piece(client, path, offset, bytes)).await.unwrap()
}

async fn head(client: &Client, path: &str) -> Answer {
    client.send(tus(client, Method::HEAD, path)).await.unwrap()
}

/// How many bytes of an upload are here.
async fn offset(client: &Client, path: &str) -> usize {
    let answer = head(client, path).await;
    assert_eq!(answer.status, 200);
    answer.header("upload-offset").parse().unwrap()
}

/// What an upload has become.
async fn record(client: &Client, path: &str) -> Value {
    client.get(path).await.unwrap().json()
}

#[tokio::test]
async fn an_upload_goes_on_where_it_is_and_becomes_an_attachment() {
    let stack = Stack::start().await;
    let (client, bytes) = (&stack.client, noise(1_500_000, 3));
    let session = new_session();
    let said = metadata(&[
        ("filename", "../größe.bin"),
        ("filetype", "application/x-noise"),
        ("session_id", &session),
        ("mine", "1"),
    ]);
    let begun = begin_with(client, &[("Upload-Length", "1500000"), ("Upload-Metadata", &said)]).await;
    assert_eq!((begun.status, begun.header("tus-resumable")), (201, "1.0.0"), "{}", begun.text);
    let path = begun.header("location").to_owned();
    let answer = head(client, &path).await;
    for (name, value) in [
        ("upload-offset", "0"),
        ("upload-length", "1500000"),
        ("upload-metadata", &said),
        ("cache-control", "no-store"),
        ("tus-resumable", "1.0.0"),
        ("upload-attachment", ""),
    ] {
        assert_eq!(answer.header(name), value, "{name}");
    }
    assert!(answer.header("upload-expires").ends_with(" GMT"));
    let first = add(client, &path, 0, &bytes[..700_000]).await;
    assert_eq!((first.status, first.header("upload-offset"), first.header("upload-attachment")), (204, "700000", ""));
    assert_eq!(record(client, &path).await["status"], "arriving");
    let last = add(client, &path, 700_000, &bytes[700_000..]).await;
    assert_eq!((last.status, last.header("upload-offset")), (204, "1500000"), "{}", last.text);
    assert_eq!(last.header("upload-attachment-status"), "clean");
    let place = last.header("upload-attachment").to_owned();
    assert_eq!(head(client, &path).await.header("upload-attachment"), place);
    let told = record(client, &path).await;
    assert_eq!((&told["filename"], &told["mime_type"]), (&json!("größe.bin"), &json!("application/x-noise")));
    assert_eq!((&told["size"], &told["sha256"]), (&json!(1_500_000), &json!(sum(&bytes))));
    assert_eq!((&told["session_id"], &told["download_url"]), (&json!(session), &json!(place)));
    let fetched = client.send(client.request(Method::GET, &place)).await.unwrap();
    assert_eq!((fetched.status, fetched.header("etag")), (200, &*format!("\"{}\"", sum(&bytes))));
    // To say the same again changes nothing, and what it was sent by may go.
    assert_eq!(add(client, &path, 1_500_000, b"").await.status, 204);
    assert_eq!(client.send(tus(client, Method::DELETE, &path)).await.unwrap().status, 204);
    assert_eq!(head(client, &path).await.status, 404);
    assert_eq!(counts(&stack.database.pool().await.unwrap()).await, (1, 1, 0));
}

#[tokio::test]
async fn who_can_only_post_says_in_the_head_what_is_meant() {
    let stack = Stack::start().await;
    let client = &stack.client;
    let path = begin(client, 5).await;
    let meant = |method: &str| tus(client, Method::POST, &path).header("X-HTTP-Method-Override", method);
    let added = meant("PATCH").header("Content-Type", TYPE).header("Upload-Offset", 0).body(b"tea".to_vec());
    let added = client.send(added).await.unwrap();
    assert_eq!((added.status, added.header("upload-offset")), (204, "3"), "{}", added.text);
    let looked = client.send(meant("HEAD")).await.unwrap();
    assert_eq!((looked.status, looked.header("upload-offset")), (200, "3"));
    for (method, status) in [("PUT", 405), ("P T", 405)] {
        assert_eq!(client.send(meant(method)).await.unwrap().status, status, "{method}");
    }
    let plain = client.request(Method::POST, &path).header("X-HTTP-Method-Override", "DELETE");
    assert_eq!(client.send(plain).await.unwrap().status, 405, "the others do not know it");
    assert_eq!(client.send(meant("DELETE")).await.unwrap().status, 204);
    assert_eq!(head(client, &path).await.status, 404);
}

#[tokio::test]
async fn what_is_spoken_is_told_to_whoever_asks() {
    let stack = Setup::default().set("GATEWAY_JWT_SECRET", SECRET).set("GATEWAY_UPLOAD_MAX_MB", 3).start().await;
    for path in [PATH.to_owned(), format!("{PATH}/{}", new_session())] {
        let answer = stack.client.send(stack.client.request(Method::OPTIONS, &path)).await.unwrap();
        for (name, value) in [
            ("tus-version", "1.0.0"),
            ("tus-resumable", "1.0.0"),
            ("tus-extension", "creation,checksum,expiration,termination,concatenation"),
            ("tus-checksum-algorithm", "sha1,sha256"),
            ("tus-max-size", "3145728"),
        ] {
            assert_eq!((answer.status, answer.header(name)), (204, value), "{name}");
        }
    }
    let ann = stack.client.showing(&token("ann", "chat")).unwrap();
    let health = ann.get("/v1/uploads/health").await.unwrap();
    let expected = json!({
        "status": "ok", "clamav": "disabled", "clamav_error": null, "max_upload_bytes": 3_145_728, "session_backend": "postgres",
    });
    assert_eq!((health.status, health.json()), (200, expected));
}

#[tokio::test]
async fn a_file_is_made_of_parts_that_were_sent_side_by_side() {
    let stack = Stack::start().await;
    let (client, bytes) = (&stack.client, noise(900_000, 5));
    let mut parts = Vec::new();
    for piece in bytes.chunks(400_000) {
        let length = piece.len().to_string();
        let begun = begin_with(client, &[("Upload-Length", &length), ("Upload-Concat", "partial")]).await;
        let path = begun.header("location").to_owned();
        let early = begin_with(client, &[("Upload-Concat", &format!("final;{path}"))]).await;
        assert_eq!((early.status, early.code().as_str()), (400, "upload-incomplete"), "{}", early.text);
        let added = add(client, &path, 0, piece).await;
        assert_eq!((added.status, added.header("upload-attachment")), (204, ""));
        assert_eq!(head(client, &path).await.header("upload-concat"), "partial");
        parts.push(path);
    }
    let pool = stack.database.pool().await.unwrap();
    assert_eq!(counts(&pool).await.0, 0);
    // A proxy may show uploads elsewhere.
    let places = format!("final;{} https://soma.example{} {}", parts[0], parts[1], parts[2]);
    let said = metadata(&[("filename", "whole.bin")]);
    let made = begin_with(client, &[("Upload-Concat", &places), ("Upload-Metadata", &said)]).await;
    assert_eq!((made.status, made.header("upload-offset")), (201, "900000"), "{}", made.text);
    let path = made.header("location").to_owned();
    let told = record(client, &path).await;
    assert_eq!((&told["sha256"], &told["filename"]), (&json!(sum(&bytes)), &json!("whole.bin")));
    let answer = head(client, &path).await;
    assert_eq!(answer.header("upload-concat"), places, "as it was received");
    let refused = add(client, &path, 900_000, b"").await;
    assert_eq!((refused.status, refused.code().as_str()), (403, "upload-final"));
    for part in &parts {
        assert_eq!(client.send(tus(client, Method::DELETE, part)).await.unwrap().status, 204);
    }
    assert_eq!(counts(&pool).await.0, 1);
}

#[tokio::test]
async fn clients_of_the_original_say_themselves_when_an_upload_is_whole() {
    let stack = Stack::start().await;
    let (client, bytes) = (&stack.client, noise(600_000, 7));
    let wanted = json!({"filename": "a.bin", "size": bytes.len(), "mime_type": "application/x-noise"});
    let begun = client.post(PATH, &wanted).await.unwrap();
    let (id, path) = (begun.text_of("upload_id"), begun.text_of("upload_url"));
    assert_eq!((begun.status, begun.json()["offset"].clone()), (200, json!(0)), "{}", begun.text);
    assert_eq!(path, format!("{PATH}/{id}"));
    let send = async |offset: usize, bytes: &[u8], checksum: &str| {
        let request = client.request(Method::PATCH, &path).header("Upload-Offset", offset);
        client.send(request.header("Upload-Checksum", checksum).body(bytes.to_vec())).await.unwrap()
    };
    let first = send(0, &bytes[..500_000], &sum(&bytes[..500_000])).await;
    assert_eq!((first.status, first.json()), (200, json!({"upload_id": id, "offset": 500_000})), "{}", first.text);
    for (offset, piece, checksum, detail) in [
        (0, &bytes[..5], sum(&bytes[..5]), "offset_mismatch"),
        (500_000, &bytes[..5], sum(b"other"), "checksum_mismatch"),
        (500_000, &bytes[..100_001], sum(&bytes[..100_001]), "chunk_exceeds_declared_size"),
    ] {
        let refused = send(offset, piece, &checksum).await;
        assert_eq!((refused.status, refused.json()["detail"].clone()), (409, json!(detail)), "{}", refused.text);
    }
    let finalize = format!("{path}/finalize");
    let early = client.post(&finalize, &Value::Null).await.unwrap();
    assert_eq!((early.status, early.json()["detail"].clone()), (400, json!("upload_incomplete")));
    assert_eq!(send(500_000, &bytes[500_000..], &sum(&bytes[500_000..])).await.status, 200);
    let plain = client.send(client.request(Method::HEAD, &path)).await.unwrap();
    assert_eq!((plain.status, plain.header("upload-offset"), plain.header("tus-resumable")), (200, "600000", "1.0.0"));
    let pool = stack.database.pool().await.unwrap();
    assert_eq!(counts(&pool).await.0, 0, "nobody has said that it is whole");
    let kept = client.post(&finalize, &Value::Null).await.unwrap();
    assert_eq!(kept.status, 200, "{}", kept.text);
    let (told, tenant) = (kept.json(), json!("public"));
    assert_eq!((&told["sha256"], &told["status"], &told["tenant_id"]), (&json!(sum(&bytes)), &json!("clean"), &tenant));
    assert_eq!(client.post(&finalize, &Value::Null).await.unwrap().json(), told);
    assert_eq!(counts(&pool).await.0, 1);
    for (path, status, detail) in [(&finalize, 400, "upload_not_found"), (&path, 204, "")] {
        let path = path.replace(&id, &new_session());
        let method = if status == 204 { Method::DELETE } else { Method::POST };
        let answer = client.send(client.request(method, &path)).await.unwrap();
        let found = if detail.is_empty() { json!("") } else { answer.json()["detail"].clone() };
        assert_eq!((answer.status, found), (status, json!(detail)));
    }
}

#[tokio::test]
async fn an_upload_is_for_whoever_began_it() {
    let stack = Setup::default().set("GATEWAY_JWT_SECRET", SECRET).start().await;
    let ann = stack.client.showing(&token("ann", "chat")).unwrap();
    let path = begin(&ann, 10).await;
    assert_eq!(add(&ann, &path, 0, b"hello").await.status, 204);
    let others = [token("bob", "chat"), token("root", "admin"), token_of("umbrella", "ann", "chat")];
    for other in others.map(|token| stack.client.showing(&token).unwrap()) {
        assert_eq!(head(&other, &path).await.status, 404);
        for answer in [
            other.send(tus(&other, Method::GET, &path)).await.unwrap(),
            add(&other, &path, 5, b"world").await,
            other.send(tus(&other, Method::DELETE, &path)).await.unwrap(),
            other.send(tus(&other, Method::POST, &format!("{path}/finalize"))).await.unwrap(),
            begin_with(&other, &[("Upload-Concat", &format!("final;{path}"))]).await,
        ] {
            assert_eq!((answer.status, answer.code().as_str()), (404, "upload-not-found"), "{}", answer.text);
        }
    }
    assert_eq!(head(&stack.client, &path).await.status, 401);
    assert_eq!(add(&ann, &path, 5, b"world").await.status, 204);
    assert_eq!(record(&ann, &path).await["size"], 10);
}
