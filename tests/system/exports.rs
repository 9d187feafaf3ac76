//! Exports that go on by themselves: to their end whatever dies, and no further than they are wanted.

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use somaagent_test_services::client::Answer;
use somaagent_test_services::port;
use somaagent_test_services::wait::eventually;
use sqlx::PgPool;

use crate::memory_admin::planted;
use crate::stack::{Setup, Stack};

const JOBS: &str = "/v1/memory/export/jobs";

fn quick() -> Setup {
    Setup::default().set("EXPORT_JOBS_POLL_SECONDS", "0.05").set("SA01_EXPORT_JOBS__LEASE_MS", 1_000)
}

/// Orders an export and returns where its job is.
async fn ordered(stack: &Stack, order: &Value) -> String {
    let answer = stack.client.post(JOBS, order).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text);
    let place = answer.header("location").to_owned();
    assert_eq!(answer.json()["status"], "queued");
    assert_eq!(place, format!("{JOBS}/{}", answer.json()["job_id"]));
    place
}

/// Waits until the job has this status and returns it.
async fn until(stack: &Stack, place: &str, status: &str) -> Value {
    eventually(&format!("a job that is {status}"), async || {
        let job = stack.get(place).await;
        (job["status"] == status).then_some(job)
    })
    .await
}

/// Waits until the job is in its middle and returns how many rows it has.
async fn under_way(stack: &Stack, place: &str, rows: i64) {
    let done =
        eventually("a job under way", async || stack.get(place).await["row_count"].as_i64().filter(|done| *done > 0))
            .await;
    assert!(done < rows, "all was done before anything could happen to it");
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

fn refused(answer: &Answer) -> (u16, String) {
    (answer.status, answer.code())
}

async fn download(stack: &Stack, place: &str) -> Answer {
    stack.client.get(&format!("{place}/download")).await.unwrap()
}

async fn chunks(pool: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM export_chunks").fetch_one(pool).await.unwrap()
}

#[tokio::test]
async fn a_job_has_the_bytes_of_the_stream_and_is_counted() {
    let metrics = port::free();
    let stack = quick().set("GATEWAY_METRICS_PORT", metrics).set("MEMORY_EXPORT_PAGE_SIZE", 700).start().await;
    planted(&stack.database.pool().await.unwrap(), 2_500).await;
    for (order, query, total) in [
        (json!({}), "", json!(2_500)),
        (
            json!({"q": "planted-1", "min_ts": 7.0, "max_ts": 1900, "role": "user", "persona_id": ""}),
            "?q=planted-1&min_ts=7&max_ts=1900&role=user",
            Value::Null,
        ),
        (json!({"after": 1_200, "limit_total": 800}), "?after=1200&limit_total=800", json!(800)),
        (json!({"session_id": "nobody's"}), "?session_id=nobody's", json!(0)),
    ] {
        let place = ordered(&stack, &order).await;
        let job = until(&stack, &place, "completed").await;
        let streamed = stack.client.get(&format!("/v1/memory/export{query}")).await.unwrap().text;
        let result = download(&stack, &place).await;
        assert_eq!(result.status, 200, "{}", result.text);
        assert!(result.text == streamed, "{query}: the job's bytes are others than the stream's");
        assert_eq!(job["sha256"], sha256(&streamed));
        assert_eq!(job["byte_size"], streamed.len());
        assert_eq!(result.header("content-length"), streamed.len().to_string());
        assert_eq!(result.header("etag"), format!("\"{}\"", sha256(&streamed)));
        assert_eq!(result.header("content-type"), "application/x-ndjson");
        let name = format!("attachment; filename=\"export_{}.ndjson\"", job["id"]);
        assert_eq!(result.header("content-disposition"), name);
        let trailer: Value = serde_json::from_str(streamed.lines().last().unwrap()).unwrap();
        assert_eq!((&job["row_count"], &job["cursor"]), (&trailer["rows"], &trailer["cursor"]));
        assert!(total.is_null() || job["total"] == total, "{job}");
        assert_eq!(job["download_url"], format!("{place}/download"));
    }
    let listed = stack.get(&format!("{JOBS}?limit=3")).await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(3));
    let rest = stack.get(&format!("{JOBS}?after={}", listed["next_cursor"])).await;
    assert_eq!(rest["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(rest["items"][0], stack.get(&format!("{JOBS}/{}", rest["items"][0]["id"])).await);

    let counted = reqwest::get(format!("http://127.0.0.1:{metrics}/metrics")).await.unwrap().text().await.unwrap();
    for line in ["gateway_export_jobs_total{result=\"ok\"} 4", "gateway_export_job_seconds_count 4"] {
        assert!(counted.lines().any(|found| found == line), "{line} is not in {counted}");
    }
}

#[tokio::test]
async fn a_job_goes_on_after_a_kill_with_the_same_bytes() {
    let mut stack = quick().set("EXPORT_JOBS_PAGE_SIZE", 1).start().await;
    planted(&stack.database.pool().await.unwrap(), 600).await;
    let place = ordered(&stack, &json!({})).await;
    let streamed = stack.client.get("/v1/memory/export").await.unwrap().text;
    for _ in 0..2 {
        under_way(&stack, &place, 600).await;
        stack.app.kill().await.unwrap();
        stack.restart().await;
    }
    assert_ne!(stack.get(&place).await["status"], "completed", "the kills came too late");
    let job = until(&stack, &place, "completed").await;
    assert_eq!((&job["row_count"], &job["sha256"]), (&json!(600), &json!(sha256(&streamed))));
    let result = download(&stack, &place).await.text;
    assert!(result == streamed, "the job's bytes are others than the stream's");
    // The result outlives the process that made it.
    stack.app.kill().await.unwrap();
    stack.restart().await;
    assert!(download(&stack, &place).await.text == streamed);
}

#[tokio::test]
async fn a_cancelled_job_stops_and_leaves_nothing() {
    let stack = quick().set("EXPORT_JOBS_PAGE_SIZE", 1).start().await;
    let pool = stack.database.pool().await.unwrap();
    planted(&pool, 5_000).await;
    let place = ordered(&stack, &json!({})).await;
    under_way(&stack, &place, 5_000).await;
    assert_eq!(refused(&download(&stack, &place).await), (409, "job-not-completed".into()));
    let cancelled = stack.client.delete(&place).await.unwrap();
    assert_eq!((cancelled.status, &cancelled.json()["status"]), (200, &json!("cancelled")));
    eventually("its chunks to go", async || (chunks(&pool).await == 0).then_some(())).await;
    // Another job is carried out now; the cancelled one is as it was.
    let next = ordered(&stack, &json!({"limit_total": 3})).await;
    until(&stack, &next, "completed").await;
    assert_eq!(stack.get(&place).await, cancelled.json());
    assert_eq!(stack.client.delete(&place).await.unwrap().json(), cancelled.json());
    assert_eq!(refused(&download(&stack, &place).await), (409, "job-not-completed".into()));
}

#[tokio::test]
async fn a_result_expires_and_its_job_is_forgotten_later() {
    let stack =
        quick().set("SA01_EXPORT_JOBS__EXPIRE_MS", 1_500).set("SA01_EXPORT_JOBS__RETENTION_MS", 6_000).start().await;
    let pool = stack.database.pool().await.unwrap();
    planted(&pool, 10).await;
    let place = ordered(&stack, &json!({})).await;
    let job = until(&stack, &place, "expired").await;
    assert_eq!((&job["download_url"], &job["row_count"]), (&Value::Null, &json!(10)));
    assert_eq!(refused(&download(&stack, &place).await), (410, "export-gone".into()));
    eventually("its chunks to go", async || (chunks(&pool).await == 0).then_some(())).await;
    eventually("the job to go", async || (stack.client.get(&place).await.unwrap().status == 404).then_some(())).await;
}

#[tokio::test]
async fn a_result_can_be_let_go_before_its_time() {
    let stack = quick().set("SA01_EXPORT_JOBS__MAX_KEPT", 1).start().await;
    planted(&stack.database.pool().await.unwrap(), 10).await;
    let place = ordered(&stack, &json!({})).await;
    until(&stack, &place, "completed").await;
    let refusal = stack.client.post(JOBS, &json!({})).await.unwrap();
    assert_eq!(refused(&refusal), (409, "too-many-exports".into()));
    assert_eq!(stack.client.delete(&place).await.unwrap().json()["status"], "expired");
    assert_eq!(refused(&download(&stack, &place).await), (410, "export-gone".into()));
    ordered(&stack, &json!({})).await;
}

#[tokio::test]
async fn a_job_of_another_tenant_does_not_exist() {
    let stack = quick().start().await;
    planted(&stack.database.pool().await.unwrap(), 10).await;
    let place = ordered(&stack, &json!({})).await;
    let job = until(&stack, &place, "completed").await;
    let foreign = async |method: Method, path: &str| {
        let request = stack.client.request(method, path).header("x-tenant-id", "other");
        stack.client.send(request).await.unwrap()
    };
    for (method, path) in
        [(Method::GET, place.clone()), (Method::DELETE, place.clone()), (Method::GET, format!("{place}/download"))]
    {
        assert_eq!(refused(&foreign(method, &path).await), (404, "job-not-found".into()), "{path}");
    }
    assert_eq!(foreign(Method::GET, JOBS).await.json(), json!({"items": [], "next_cursor": null}));
    assert_eq!(stack.get(&place).await, job);
    // An order that names another tenant is that tenant's, and there is nothing for it here.
    let theirs = stack.client.post(JOBS, &json!({"tenant": "other"})).await.unwrap().header("location").to_owned();
    assert_eq!(stack.client.get(&theirs).await.unwrap().status, 404);
    let done = eventually("their job to be done", async || {
        let job = foreign(Method::GET, &theirs).await.json();
        (job["status"] == "completed").then_some(job)
    })
    .await;
    assert_eq!(done["row_count"], 0);
}

#[tokio::test]
async fn a_result_that_would_be_too_large_fails_and_says_so() {
    let stack =
        quick().set("SA01_EXPORT_JOBS__MAX_BYTES", 20_000).set("GATEWAY_EXPORT_REQUIRE_TENANT", true).start().await;
    planted(&stack.database.pool().await.unwrap(), 100).await;
    let refusal = stack.client.post(JOBS, &json!({})).await.unwrap();
    assert_eq!(refused(&refusal), (400, "tenant-required".into()));
    let place = ordered(&stack, &json!({"tenant": "public"})).await;
    let job = until(&stack, &place, "failed").await;
    assert_eq!(job["error_code"], "result-too-large");
    assert!(job["error"].as_str().unwrap().contains("20000 bytes"), "{job}");
    assert_eq!(refused(&download(&stack, &place).await), (409, "job-not-completed".into()));
    let place = ordered(&stack, &json!({"tenant": "public", "limit_total": 5})).await;
    until(&stack, &place, "completed").await;
}
