//! Links to attachments: who may make them, what they lead to, and when they end.

use reqwest::Method;
use serde_json::json;
use somaagent_test_services::client::Client;
use somaagent_test_services::tokens::SECRET;
use somaagent_test_services::wait::eventually;
use uuid::Uuid;

use crate::downloads::{Planted, breaks_off};
use crate::identity::token;
use crate::stack::{Setup, Stack};

/// Where callers must prove who they are, and links are good for so many seconds.
async fn linking(seconds: u32) -> Stack {
    let setup = Setup::default().set("GATEWAY_JWT_SECRET", SECRET).set("GATEWAY_OPERATOR_TENANTS", "acme");
    setup.set("SA01_UPLOADS__DOWNLOAD_TOKEN_TTL_SECONDS", seconds).start().await
}

fn path(id: Uuid) -> String {
    format!("/v1/attachments/{id}/links")
}

/// Status and problem code of what `client` is answered.
async fn fetched(client: &Client, path: &str) -> (u16, String) {
    let answer = client.get(path).await.unwrap();
    (answer.status, answer.code())
}

fn nowhere() -> (u16, String) {
    (404, "link-not-found".to_owned())
}

#[tokio::test]
async fn whoever_has_a_link_fetches_the_file_until_it_is_taken_back() {
    let stack = linking(3600).await;
    let pool = stack.database.pool().await.unwrap();
    let [ada, bob] = ["ada", "bob"].map(|who| stack.client.showing(&token("acme", who, "chat")).unwrap());
    let stranger = stack.client.showing(&token("umbrella", "eve", "admin")).unwrap();
    let id = Planted::of("acme", "plan.txt").by("ada").plant(&pool, &[b"te", b"a for two"]).await;

    for other in [&bob, &stranger] {
        let refused = other.post(&path(id), &json!({})).await.unwrap();
        assert_eq!((refused.status, refused.code().as_str()), (404, "attachment-unknown"));
    }
    let made = ada.post(&path(id), &json!({})).await.unwrap();
    assert_eq!((made.status, made.header("cache-control")), (200, "no-store"), "{}", made.text);
    let body = made.json();
    let life = body["expires_at"].as_f64().unwrap() - body["created_at"].as_f64().unwrap();
    assert!((life - 3600.0).abs() < 0.01 && body["created_by"] == "ada", "{body}");

    let link = made.text_of("path");
    let file = stack.client.get(&link).await.unwrap();
    assert_eq!((file.status, file.text.as_str()), (200, "tea for two"));
    assert!(file.header("content-disposition").starts_with("attachment; filename=\"plan.txt\""));
    assert!(file.header("content-security-policy").starts_with("sandbox"));
    let part = stack.client.send(stack.client.request(Method::GET, &link).header("Range", "bytes=4-6")).await.unwrap();
    assert_eq!((part.status, part.text.as_str()), (206, "for"));
    let head = stack.client.send(stack.client.request(Method::HEAD, &link)).await.unwrap();
    assert_eq!((head.status, head.header("content-length")), (200, "11"));

    // No list shows what opens it, and nothing stored does.
    let listed = ada.get(&path(id)).await.unwrap();
    assert_eq!(listed.json()[0]["link_id"], body["link_id"]);
    let secret = link.rsplit('/').next().unwrap();
    assert!(!listed.text.contains(secret), "{}", listed.text);
    let stored: String =
        sqlx::query_scalar("SELECT string_agg(l::text, '') FROM attachment_links AS l").fetch_one(&pool).await.unwrap();
    assert!(!stored.contains(secret));

    let link_id = made.text_of("link_id");
    let gone = bob.delete(&format!("{}/{link_id}", path(id))).await.unwrap();
    assert_eq!((gone.status, gone.code().as_str()), (404, "attachment-unknown"));
    let gone = ada.delete(&format!("{}/{link_id}", path(id))).await.unwrap();
    assert_eq!(gone.status, 204, "{}", gone.text);
    assert_eq!(fetched(&stack.client, &link).await, nowhere());
    assert_eq!(ada.get(&path(id)).await.unwrap().json(), json!([]));
    for known in [link_id.as_str(), "no-link", &Uuid::new_v4().to_string()] {
        let gone = ada.delete(&format!("{}/{known}", path(id))).await.unwrap();
        assert_eq!((gone.status, gone.code().as_str()), (404, "link-not-found"), "{known}");
    }
}

#[tokio::test]
async fn a_download_by_a_link_that_is_taken_back_breaks_off() {
    let stack = linking(3600).await;
    let pool = stack.database.pool().await.unwrap();
    let ada = stack.client.showing(&token("acme", "ada", "chat")).unwrap();
    // More than lies in the buffers between here and there.
    let piece = vec![7; 262_144];
    let id = Planted::of("acme", "a.bin").by("ada").plant(&pool, &[&piece[..]; 200]).await;
    let made = ada.post(&path(id), &json!({})).await.unwrap();
    let mut answer = stack.client.request(Method::GET, &made.text_of("path")).send().await.unwrap();
    assert!(answer.chunk().await.unwrap().is_some());
    assert_eq!(ada.delete(&format!("{}/{}", path(id), made.text_of("link_id"))).await.unwrap().status, 204);
    assert!(breaks_off(answer).await, "all of it was sent");
}

#[tokio::test]
async fn a_link_leads_nowhere_once_its_file_may_not_be_fetched_or_links_are_off() {
    let stack = linking(3600).await;
    let pool = stack.database.pool().await.unwrap();
    let ada = stack.client.showing(&token("acme", "ada", "admin")).unwrap();
    let [quarantined, deleted, expired, kept] = {
        let mut made = Vec::new();
        for name in ["a.txt", "b.txt", "c.txt", "d.txt"] {
            let id = Planted::of("acme", name).by("ada").plant(&pool, &[b"tea"]).await;
            let link = ada.post(&path(id), &json!({})).await.unwrap().text_of("path");
            assert_eq!(stack.client.get(&link).await.unwrap().status, 200);
            made.push((id, link));
        }
        <[(Uuid, String); 4]>::try_from(made).unwrap()
    };
    let run = async |sql: &'static str, id: Uuid| {
        assert_eq!(sqlx::query(sql).bind(id).execute(&pool).await.unwrap().rows_affected(), 1);
    };
    run("UPDATE attachments SET status = 'quarantined', quarantine_reason = 'infected' WHERE id = $1", quarantined.0)
        .await;
    run("UPDATE attachments SET deleted_at = now(), blob_id = NULL WHERE id = $1", deleted.0).await;
    run("UPDATE attachment_links SET expires_at = now() WHERE attachment_id = $1", expired.0).await;
    for (_, link) in [&quarantined, &deleted, &expired] {
        assert_eq!(fetched(&stack.client, link).await, nowhere());
    }
    for wrong in ["AAAA", &"A".repeat(43), &"A".repeat(5000), "%00", "é"] {
        assert_eq!(fetched(&stack.client, &format!("/v1/downloads/{wrong}")).await, nowhere(), "{wrong}");
    }
    for (id, code) in [(quarantined.0, "attachment-quarantined"), (deleted.0, "attachment-gone")] {
        assert_eq!(ada.post(&path(id), &json!({})).await.unwrap().code(), code);
    }

    let off =
        json!({"sections": [{"id": "uploads", "fields": [{"id": "uploads_download_token_ttl_seconds", "value": 0}]}]});
    let saved = ada.post("/v1/ui/settings/sections", &off).await.unwrap();
    assert_eq!(saved.status, 200, "{}", saved.text);
    eventually("there are no links any more", async || {
        (fetched(&stack.client, &kept.1).await == nowhere()).then_some(())
    })
    .await;
    let refused = ada.post(&path(kept.0), &json!({})).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (403, "links-disabled"));
}

#[tokio::test]
async fn there_are_at_most_a_hundred_links_to_a_file_and_old_ones_are_removed() {
    let mut stack = linking(3600).await;
    let pool = stack.database.pool().await.unwrap();
    let ada = stack.client.showing(&token("acme", "ada", "chat")).unwrap();
    let id = Planted::of("acme", "a.txt").by("ada").plant(&pool, &[b"tea"]).await;
    let sql = "INSERT INTO attachment_links (tenant, id, attachment_id, token_sha256, created_at, expires_at)
               SELECT 'acme', gen_random_uuid(), $1, convert_to(n::text, 'UTF8'), now(), now() + interval '1 hour'
               FROM generate_series(1, 99) AS n";
    sqlx::query(sql).bind(id).execute(&pool).await.unwrap();
    assert_eq!(ada.post(&path(id), &json!({})).await.unwrap().status, 200);
    let refused = ada.post(&path(id), &json!({})).await.unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (409, "too-many-links"));
    let keyed = ada.request(Method::POST, &path(id)).header("Idempotency-Key", "once");
    assert_eq!(ada.send(keyed).await.unwrap().code(), "invalid-header");

    sqlx::query("UPDATE attachments SET created_at = now()").execute(&pool).await.unwrap();
    sqlx::query("UPDATE attachment_links SET expires_at = now() - interval '1 second'").execute(&pool).await.unwrap();
    assert_eq!(ada.post(&path(id), &json!({})).await.unwrap().status, 200, "those that are over do not count");
    assert_eq!(stack.app.terminate().await.unwrap(), Some(0));
    stack.restart().await;
    eventually("those that are over are removed", async || {
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM attachment_links").fetch_one(&pool).await.unwrap();
        (left == 1).then_some(())
    })
    .await;
}
