//! Files that begin to exist together, and bytes that several of them have.

use futures_util::future::join_all;
use serde_json::Value;
use somaagent_test_services::client::Client;
use somaagent_test_services::tokens::SECRET;
use somaagent_test_services::wait::eventually;

use super::{Form, counts, noise, upload, upload_to};
use crate::audit::{token, token_of};
use crate::stack::{Setup, Stack};

/// Who waits for the lock that the trigger takes.
const WAITS: &str = "SELECT count(*) FROM pg_locks
    WHERE locktype = 'advisory' AND NOT granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

fn form() -> Form {
    Form::default().file("a.bin", "a/b", &noise(400_000, 1)).file("b.bin", "a/b", b"bad").file("c.bin", "a/b", b"good")
}

#[tokio::test]
async fn a_database_that_refuses_the_second_file_keeps_none() {
    let stack = Stack::start().await;
    let pool = stack.database.pool().await.unwrap();
    let refuses = "CREATE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS
                   $$ BEGIN IF NEW.filename = 'b.bin' THEN RAISE 'no' USING ERRCODE = '55000'; END IF; RETURN NEW; END $$;
                   CREATE TRIGGER refuses BEFORE INSERT ON attachments FOR EACH ROW EXECUTE FUNCTION refuses()";
    sqlx::raw_sql(refuses).execute(&pool).await.unwrap();
    for path in ["/v1/uploads", "/v1/uploads?per_file=true"] {
        let answer = upload_to(&stack.client, path, form()).await;
        assert!(answer.status >= 500, "{} {}", answer.status, answer.text);
    }
    let sql = "SELECT count(*) FROM audit_event WHERE action = 'attachments.upload'";
    assert_eq!(sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap(), 0);
    let (attachments, whole, _) = counts(&pool).await;
    assert_eq!((attachments, whole), (0, 0));
    sqlx::raw_sql("DROP TRIGGER refuses ON attachments").execute(&pool).await.unwrap();
    assert_eq!(upload(&stack.client, form()).await.status, 200);
    assert_eq!(counts(&pool).await.0, 3);
}

#[tokio::test]
async fn a_process_that_is_killed_between_two_files_keeps_none() {
    let mut stack = Stack::start().await;
    let pool = stack.database.pool().await.unwrap();
    let waits = "CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN IF NEW.filename = 'b.bin' THEN PERFORM pg_advisory_xact_lock(7); END IF; RETURN NEW; END $$;
                 CREATE TRIGGER waits BEFORE INSERT ON attachments FOR EACH ROW EXECUTE FUNCTION waits()";
    sqlx::raw_sql(waits).execute(&pool).await.unwrap();
    let mut held = pool.begin().await.unwrap();
    sqlx::raw_sql("SELECT pg_advisory_xact_lock(7)").execute(&mut *held).await.unwrap();
    let client = Client::new(stack.app.url()).unwrap();
    let sending = tokio::spawn(async move {
        let request = client.request(reqwest::Method::POST, "/v1/uploads");
        client.send(request.header("Content-Type", super::content_type()).body(form().end())).await.is_ok()
    });
    eventually("the first file is written", async || {
        (sqlx::query_scalar::<_, i64>(WAITS).fetch_one(&pool).await.unwrap() == 1).then_some(())
    })
    .await;
    stack.app.kill().await.unwrap();
    assert!(!sending.await.unwrap(), "nobody was told that it is kept");
    held.rollback().await.unwrap();
    eventually("nobody writes any more", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity
                   WHERE datname = current_database() AND state <> 'idle' AND pid <> pg_backend_pid()";
        (sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap() == 0).then_some(())
    })
    .await;
    assert_eq!(counts(&pool).await.0, 0);
}

#[tokio::test]
async fn the_same_bytes_are_kept_once_a_tenant_as_long_as_anybody_has_them() {
    let setup = Setup::default().set("GATEWAY_JWT_SECRET", SECRET).set("SA01_UPLOADS__DEDUP_SHA256", "true");
    let setup = setup.set("SA01_UPLOADS__QUOTA_TENANT_MB", 100);
    let stack = setup.set("GATEWAY_MAX_BODIES_EACH", 0).start().await;
    let pool = stack.database.pool().await.unwrap();
    let bytes = noise(600_000, 3);
    let ann = stack.client.showing(&token("ann", "chat")).unwrap();
    let other = stack.client.showing(&token_of("umbrella", "ann", "chat")).unwrap();
    let twice = || Form::default().file("a.bin", "a/b", &bytes).file("b.bin", "a/b", &bytes);
    let mut paths = Vec::new();
    for answer in join_all((0..6).map(|_| upload(&ann, twice()))).await {
        assert_eq!(answer.status, 200, "{}", answer.text);
        paths.extend([0, 1].map(|place| answer.json()[place]["path"].as_str().unwrap().to_owned()));
    }
    assert_eq!((counts(&pool).await.0, counts(&pool).await.1), (12, 1));
    let used = ann.get("/v1/uploads/quota").await.unwrap().json()["tenant"]["used"].clone();
    assert_eq!(used, 12 * 600_000, "each takes its room");
    let theirs = upload(&other, twice()).await;
    assert_eq!((theirs.status, counts(&pool).await.1), (200, 2));
    let shared = "SELECT count(*) FROM attachments AS a JOIN attachment_blobs AS b ON b.id = a.blob_id WHERE a.tenant <> b.tenant";
    assert_eq!(sqlx::query_scalar::<_, i64>(shared).fetch_one(&pool).await.unwrap(), 0);
    let last = paths.pop().unwrap();
    for path in &paths {
        assert_eq!(ann.delete(path).await.unwrap().status, 204);
    }
    assert_eq!(ann.get(&last).await.unwrap().status, 200);
    assert_eq!(ann.delete(&last).await.unwrap().status, 204);
    eventually("nobody of the tenant has them", async || {
        let sql = "SELECT count(*) FROM attachment_blobs WHERE state = 'whole' AND tenant <> 'umbrella'";
        (sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap() == 0).then_some(())
    })
    .await;
    let theirs: Value = theirs.json();
    assert_eq!(other.get(theirs[0]["path"].as_str().unwrap()).await.unwrap().status, 200);
}
