//! Pieces that do not come to their end, and several at a time.

use futures_util::future::join_all;
use serde_json::json;
use somaagent_test_services::client::Raw;
use somaagent_test_services::wait::eventually;

use super::{TYPE, add, begin, head, offset, record, tus};
use crate::stack::{Setup, Stack};
use crate::uploads::{counts, noise, sum};

/// Sends the head of a piece of `bytes`, and so many of them, and waits until some are in the database.
async fn half(stack: &Stack, path: &str, (from, bytes): (usize, &[u8]), sent: usize) -> Raw {
    let mut raw = Raw::connect(stack.app.url(), None).await.unwrap();
    let head = format!(
        "PATCH {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nTus-Resumable: 1.0.0\r\nContent-Type: {TYPE}\r\n\
         Upload-Offset: {from}\r\nContent-Length: {}\r\n\r\n",
        bytes.len()
    );
    raw.send(head.as_bytes()).await.unwrap();
    raw.send(&bytes[..sent]).await.unwrap();
    eventually("a part of the piece is here", async || (offset(&stack.client, path).await > from).then_some(())).await;
    raw
}

/// Goes on with an upload of `bytes` until all of it is here.
async fn go_on(stack: &Stack, path: &str, bytes: &[u8]) {
    eventually("the rest is taken", async || {
        let from = offset(&stack.client, path).await;
        let answer = add(&stack.client, path, from, &bytes[from..]).await;
        // What the one before had in hand may come in between.
        assert!([204, 409].contains(&answer.status), "{}", answer.text);
        (answer.status == 204).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_came_before_a_connection_broke_is_kept_and_the_rest_goes_on_there() {
    let stack = Stack::start().await;
    let bytes = noise(3_000_000, 9);
    let path = begin(&stack.client, bytes.len()).await;
    let raw = half(&stack, &path, (0, &bytes), 1_700_000).await;
    let told = offset(&stack.client, &path).await;
    drop(raw);
    assert!(offset(&stack.client, &path).await >= told);
    go_on(&stack, &path, &bytes).await;
    assert_eq!(record(&stack.client, &path).await["sha256"], sum(&bytes));
}

#[tokio::test]
async fn of_a_piece_that_stops_coming_every_byte_is_kept() {
    let stack = Setup::default().set("SA01_HTTP__BODY_TIMEOUT_MS", 3_000).start().await;
    let bytes = noise(3_000_000, 9);
    let path = begin(&stack.client, bytes.len()).await;
    let mut raw = half(&stack, &path, (0, &bytes), 1_700_000).await;
    let told = String::from_utf8_lossy(&raw.read_to_end().await).into_owned();
    assert!(told.starts_with("HTTP/1.1 408 ") && told.contains("request-timeout"), "{told}");
    // The last of them too, which were not many enough to be written before.
    assert_eq!(offset(&stack.client, &path).await, 1_700_000);
    go_on(&stack, &path, &bytes).await;
    assert_eq!(record(&stack.client, &path).await["sha256"], sum(&bytes));
}

#[tokio::test]
async fn after_the_process_was_killed_an_upload_goes_on_where_it_stopped() {
    let mut stack = Stack::start().await;
    let bytes = noise(3_000_000, 11);
    let path = begin(&stack.client, bytes.len()).await;
    let _raw = half(&stack, &path, (0, &bytes), 2_000_000).await;
    stack.app.kill().await.unwrap();
    let pool = stack.database.pool().await.unwrap();
    // Nobody sweeps what is waited for.
    sqlx::query("UPDATE attachment_blobs SET touched_at = now() - interval '1 hour'").execute(&pool).await.unwrap();
    stack.restart().await;
    let from = offset(&stack.client, &path).await;
    assert!(from > 0 && from <= 2_000_000, "{from}");
    assert_eq!(counts(&pool).await, (0, 0, 1));
    assert_eq!(add(&stack.client, &path, from, &bytes[from..]).await.status, 204);
    assert_eq!(record(&stack.client, &path).await["sha256"], sum(&bytes));
    assert_eq!(counts(&pool).await, (1, 1, 0));
}

#[tokio::test]
async fn of_two_writers_the_later_one_goes_on_and_the_other_is_told() {
    let stack = Stack::start().await;
    let bytes = noise(3_000_000, 13);
    let path = begin(&stack.client, bytes.len()).await;
    let mut first = half(&stack, &path, (0, &bytes), 1_000_000).await;
    // What the first one had in hand may come in between.
    eventually("the later one goes on", async || {
        let from = offset(&stack.client, &path).await;
        let second = add(&stack.client, &path, from, &bytes[from..2_000_000]).await;
        if second.status == 409 {
            assert_eq!(second.json()["detail"], "offset_mismatch", "{}", second.text);
        }
        (second.status == 204).then_some(())
    })
    .await;
    first.send(&noise(2_000_000, 99)).await.unwrap_or_default();
    let told = String::from_utf8_lossy(&first.read_to_end().await).into_owned();
    assert!(told.starts_with("HTTP/1.1 409 ") && told.contains("another request went on"), "{told}");
    assert_eq!(offset(&stack.client, &path).await, 2_000_000);
    assert_eq!(add(&stack.client, &path, 2_000_000, &bytes[2_000_000..]).await.status, 204);
    assert_eq!(record(&stack.client, &path).await["sha256"], sum(&bytes));
}

#[tokio::test]
async fn of_many_at_the_same_place_the_bytes_of_one_are_kept() {
    let stack = Stack::start().await;
    let files: Vec<Vec<u8>> = (0..8).map(|seed| noise(600_000, 20 + seed)).collect();
    let path = begin(&stack.client, 600_000).await;
    let answers = join_all(files.iter().map(|bytes| add(&stack.client, &path, 0, bytes))).await;
    let taken = answers.iter().filter(|answer| answer.status == 204).count();
    assert!(answers.iter().all(|answer| [204, 409, 423].contains(&answer.status)), "{answers:?}");
    assert!(taken <= 1, "{taken}");
    if taken == 0 {
        // Each overtook the one before it; whoever comes last finds out where it stopped and goes on.
        let from = offset(&stack.client, &path).await;
        assert_eq!(add(&stack.client, &path, from, &files[0][from..]).await.status, 204);
    } else {
        let sums: Vec<_> = files.iter().map(|bytes| json!(sum(bytes))).collect();
        assert!(sums.contains(&record(&stack.client, &path).await["sha256"]));
    }
    assert_eq!(counts(&stack.database.pool().await.unwrap()).await.0, 1);
}

#[tokio::test]
async fn an_upload_that_does_not_go_on_is_over_in_a_day() {
    let mut stack = Stack::start().await;
    let path = begin(&stack.client, 10).await;
    assert_eq!(add(&stack.client, &path, 0, b"hello").await.status, 204);
    let pool = stack.database.pool().await.unwrap();
    let waits =
        "SELECT expires_at BETWEEN now() + interval '23 hours' AND now() + interval '25 hours' FROM tus_uploads";
    assert!(sqlx::query_scalar::<_, bool>(waits).fetch_one(&pool).await.unwrap());
    sqlx::query("UPDATE tus_uploads SET expires_at = now()").execute(&pool).await.unwrap();
    assert_eq!(head(&stack.client, &path).await.status, 404);
    assert_eq!(add(&stack.client, &path, 5, b"world").await.status, 404);
    assert_eq!(stack.app.terminate().await.unwrap(), Some(0));
    stack.restart().await;
    eventually("its bytes are gone", async || (counts(&pool).await == (0, 0, 0)).then_some(())).await;
    let told = "SELECT count(*) FROM audit_event WHERE action = 'attachments.upload.expire'";
    assert_eq!(sqlx::query_scalar::<_, i64>(told).fetch_one(&pool).await.unwrap(), 1);
    assert_eq!(stack.client.send(tus(&stack.client, reqwest::Method::DELETE, &path)).await.unwrap().status, 404);
}

#[tokio::test]
async fn the_embedded_database_takes_uploads_side_by_side() {
    let app = crate::stack::binary().start().await.unwrap();
    let client = somaagent_test_services::client::Client::new(app.url()).unwrap();
    let files = [noise(1_500_000, 1), noise(1_500_000, 2)];
    join_all(files.iter().map(async |bytes| {
        let path = begin(&client, bytes.len()).await;
        for (index, piece) in bytes.chunks(600_000).enumerate() {
            let answer = add(&client, &path, 600_000 * index, piece).await;
            assert_eq!(answer.status, 204, "{}", answer.text);
        }
        assert_eq!(record(&client, &path).await["sha256"], sum(bytes));
    }))
    .await;
}
