//! What a real clamd finds in uploads that have come whole, and what happens if nobody looks through one to its end.

use serde_json::json;
use somaagent_test_services::clamd::{Clamd, eicar};
use somaagent_test_services::wait::eventually;

use super::{add, begin, head, piece, record};
use crate::stack::{Setup, Stack};
use crate::uploads::{counts, noise, sum};

async fn scanned(clamd: &Clamd, strict: bool) -> Stack {
    let (host, port) = clamd.place();
    let setup = Setup::default().set("CLAMAV_ENABLED", true).set("CLAMAV_HOST", host).set("CLAMAV_PORT", port);
    setup.set("SA01_ANTIVIRUS__STRICT", strict).set("SA01_ANTIVIRUS__CONNECT_TIMEOUT_MS", 15_000).start().await
}

#[tokio::test]
async fn an_infected_upload_is_quarantined() {
    let stack = scanned(Clamd::shared().unwrap(), false).await;
    let infected = eicar();
    let path = begin(&stack.client, infected.len()).await;
    let (first, last) = infected.split_at(infected.len() / 2);
    assert_eq!(add(&stack.client, &path, 0, first).await.status, 204);
    let answer = add(&stack.client, &path, first.len(), last).await;
    assert_eq!((answer.status, answer.header("upload-attachment-status")), (204, "quarantined"), "{}", answer.text);
    assert_eq!(record(&stack.client, &path).await["quarantine_reason"], "infected");
    assert_eq!(stack.client.get(answer.header("upload-attachment")).await.unwrap().status, 403);
    let health = stack.get("/v1/uploads/health").await;
    assert_eq!((&health["status"], &health["clamav"]), (&json!("ok"), &json!("ok")));
}

#[tokio::test]
async fn an_upload_that_cannot_be_looked_through_waits_until_it_can() {
    let clamd = Clamd::start(&[]).unwrap();
    let stack = scanned(&clamd, true).await;
    let bytes = noise(700_000, 3);
    let path = begin(&stack.client, bytes.len()).await;
    clamd.kill().unwrap();
    let refused = add(&stack.client, &path, 0, &bytes).await;
    assert_eq!((refused.status, refused.code().as_str()), (502, "antivirus-error"), "{}", refused.text);
    assert_eq!(stack.get("/v1/uploads/health").await["clamav"], "error");
    // Clients of tus take any other refusal for the end of the upload.
    assert_eq!(head(&stack.client, &path).await.status, 423);
    let pool = stack.database.pool().await.unwrap();
    assert_eq!(counts(&pool).await, (0, 0, 1));
    clamd.restart().unwrap();
    let answer = eventually("it is looked through", async || {
        let answer = head(&stack.client, &path).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!((answer.header("upload-offset"), answer.header("upload-attachment-status")), ("700000", "clean"));
    assert_eq!(record(&stack.client, &path).await["sha256"], sum(&bytes));
}

#[tokio::test]
async fn an_upload_that_was_being_looked_through_when_the_process_was_killed_is_looked_through_again() {
    let clamd = Clamd::start(&[]).unwrap();
    let mut stack = scanned(&clamd, true).await;
    let bytes = noise(700_000, 3);
    let path = begin(&stack.client, bytes.len()).await;
    clamd.freeze().unwrap();
    let pool = stack.database.pool().await.unwrap();
    let client = stack.client.clone();
    let last = tokio::spawn(piece(&client, &path, 0, &bytes).send());
    eventually("it is being looked through", async || {
        let sql = "SELECT finishing_until IS NOT NULL FROM tus_uploads";
        sqlx::query_scalar::<_, bool>(sql).fetch_one(&pool).await.unwrap().then_some(())
    })
    .await;
    let locked = head(&stack.client, &path).await;
    assert_eq!((locked.status, locked.header("retry-after")), (423, "1"));
    stack.app.kill().await.unwrap();
    assert!(last.await.unwrap().is_err());
    assert_eq!(counts(&pool).await, (0, 0, 1), "nothing is seen of it");
    clamd.thaw().unwrap();
    stack.restart().await;
    let answer = eventually("it is looked through again", async || {
        let answer = head(&stack.client, &path).await;
        assert!([200, 423].contains(&answer.status), "{}", answer.status);
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(answer.header("upload-attachment-status"), "clean");
    assert_eq!(record(&stack.client, &path).await["sha256"], sum(&bytes));
    assert_eq!(counts(&pool).await, (1, 1, 0));
}

#[tokio::test]
async fn what_is_refused_in_the_end_is_gone() {
    let stack = Setup::default().set("GATEWAY_UPLOAD_DENIED_MIME", "text/html").start().await;
    let page = b"<!doctype html><p>hello";
    let path = begin(&stack.client, page.len()).await;
    let refused = add(&stack.client, &path, 0, page).await;
    assert_eq!((refused.status, refused.code().as_str()), (415, "mime-not-allowed"), "{}", refused.text);
    assert_eq!(head(&stack.client, &path).await.status, 404);
    let pool = stack.database.pool().await.unwrap();
    eventually("its bytes are gone", async || {
        let sql = "SELECT count(*) FROM attachment_blobs WHERE state <> 'going'";
        (sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_file_without_bytes_is_whole_when_it_begins() {
    let stack = Stack::start().await;
    let begun = super::begin_with(&stack.client, &[("Upload-Length", "0")]).await;
    assert_eq!((begun.status, begun.header("upload-attachment-status")), (201, "clean"), "{}", begun.text);
    assert_eq!(record(&stack.client, begun.header("location")).await["size"], 0);
}
