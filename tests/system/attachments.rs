//! What becomes of files after they were sent: admins judge them, they go with their session, what is remembered of them goes with
//! them, and newer signatures find what older ones did not.

use reqwest::Method;
use serde_json::{Value, json};
use somaagent_test_services::clamd::Clamd;
use somaagent_test_services::client::{Client, Post};
use somaagent_test_services::port;
use somaagent_test_services::wait::eventually;
use uuid::Uuid;

use crate::downloads::Planted;
use crate::identity::{guarded, token};
use crate::stack::{Setup, Stack, new_session};
use crate::uploads::{Form, counts, upload};

const INTERNAL: &str = "internal-91c2a7e0f4";

fn path(id: impl std::fmt::Display) -> String {
    format!("/v1/attachments/{id}")
}

/// Status and problem code of a request without a body.
async fn code(client: &Client, method: Method, path: &str) -> (u16, String) {
    let answer = client.send(client.request(method, path)).await.unwrap();
    (answer.status, answer.code())
}

/// Ids in a list, and where the next page is.
async fn listed(client: &Client, path: &str) -> (Vec<String>, Option<String>) {
    let answer = client.get(path).await.unwrap();
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    let next =
        answer.header("link").strip_prefix('<').and_then(|link| link.split_once('>')).map(|link| link.0.to_owned());
    let ids = answer.json().as_array().unwrap().iter().map(|found| found["id"].as_str().unwrap().to_owned()).collect();
    (ids, next)
}

/// Sends a file and tells its id.
async fn sent(stack: &Stack, session: Option<&str>, bytes: &[u8]) -> String {
    let form = Form::default().file("note.txt", "text/plain", bytes);
    let form = session.into_iter().fold(form, |form, session| form.field("session_id", session));
    let answer = upload(&stack.client, form).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()[0]["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn admins_find_what_is_quarantined_and_decide_about_it() {
    let stack = guarded().await;
    let pool = stack.database.pool().await.unwrap();
    let [ann, bob, admin] = [("ann", "chat"), ("bob", "chat"), ("root", "admin")]
        .map(|(subject, scope)| stack.client.showing(&token("acme", subject, scope)).unwrap());
    let file = Planted::of("acme", "a.txt").by("ann");
    let clean = file.plant(&pool, &[b"tea"]).await;
    let [infected, unseen] = [
        file.quarantined("infected").plant(&pool, &[b"tea"]).await,
        file.quarantined("av_error").plant(&pool, &[b"tea"]).await,
    ];
    let others = Planted::of("umbrella", "b.txt").plant(&pool, &[b"tea"]).await;

    assert_eq!(code(&ann, Method::GET, "/v1/attachments").await, (403, "admin-scope-required".to_owned()));
    let (mut all, next) = listed(&admin, "/v1/attachments?limit=2&deleted=false").await;
    let (rest, last) = listed(&admin, &next.unwrap()).await;
    all.extend(rest);
    all.sort();
    let mut expected = [clean, infected, unseen].map(|id| id.to_string());
    expected.sort();
    assert_eq!((all.as_slice(), last), (&expected[..], None));
    let (found, _) = listed(&admin, "/v1/attachments?status=quarantined&quarantine_reason=av_error").await;
    assert_eq!(found, [unseen.to_string()]);

    for verb in ["release", "clear", "scan"] {
        for (id, client, expected) in [
            (infected.to_string(), &ann, (403, "admin-scope-required")),
            (others.to_string(), &admin, (404, "attachment-unknown")),
            (Uuid::new_v4().to_string(), &admin, (404, "attachment-unknown")),
            ("x".to_owned(), &admin, (400, "attachment-id-invalid")),
        ] {
            let said = code(client, Method::POST, &format!("{}/{verb}", path(id))).await;
            assert_eq!((said.0, said.1.as_str()), expected, "{verb}");
        }
    }
    let release = format!("{}/release", path(infected));
    assert_eq!(code(&ann, Method::GET, &path(infected)).await.0, 403);
    let released = admin.post(&release, &json!({})).await.unwrap().json();
    assert_eq!((&released["status"], &released["quarantine_reason"]), (&json!("clean"), &json!("infected")));
    assert!(released["released_by"] == "root" && released["released_at"].is_f64(), "{released:#}");
    assert_eq!(code(&ann, Method::GET, &path(infected)).await.0, 200);
    let answer = |id: Uuid, verb: &'static str| {
        let (admin, path) = (admin.clone(), format!("{}/{verb}", path(id)));
        async move { code(&admin, Method::POST, &path).await }
    };
    assert_eq!(answer(clean, "clear").await, (409, "attachment-not-quarantined".to_owned()));
    assert_eq!(answer(clean, "scan").await, (409, "antivirus-off".to_owned()));
    assert_eq!(answer(unseen, "clear").await.0, 200);
    assert_eq!(answer(unseen, "release").await, (409, "attachment-bytes-dropped".to_owned()));
    assert_eq!(answer(unseen, "scan").await, (409, "attachment-bytes-dropped".to_owned()));

    assert_eq!(code(&bob, Method::DELETE, &path(clean)).await, (404, "attachment-unknown".to_owned()));
    for _ in 0..2 {
        assert_eq!(code(&ann, Method::DELETE, &path(clean)).await.0, 204, "also a second time");
    }
    assert_eq!(code(&ann, Method::GET, &path(clean)).await, (410, "attachment-gone".to_owned()));
    assert_eq!(answer(clean, "release").await, (410, "attachment-gone".to_owned()));
    let (found, _) = listed(&admin, "/v1/attachments?deleted=true").await;
    assert_eq!(found, [clean.to_string()]);
}

#[tokio::test]
async fn a_message_that_is_sent_again_after_its_file_was_deleted_gets_its_first_reply() {
    let stack = Stack::start().await;
    let id = sent(&stack, None, b"words").await;
    let send = async |key: &str| {
        let message = json!({"message": "look", "attachments": [id], "metadata": {"idempotency_key": key}});
        stack.client.post("/v1/session/message", &message).await.unwrap()
    };
    let first = send("one").await;
    assert_eq!(first.status, 200, "{}", first.text);
    assert_eq!(code(&stack.client, Method::DELETE, &path(&id)).await.0, 204);
    let again = send("one").await;
    assert_eq!((again.status, again.json()), (200, first.json()));
    let other = send("two").await;
    assert_eq!((other.status, other.code().as_str()), (422, "attachment-not-found"), "{}", other.text);
    assert_eq!(other.json()["errors"], json!([{"loc": ["body", "attachments", 0], "msg": "is gone"}]));
}

#[tokio::test]
async fn a_file_goes_with_its_session_for_workers_too_and_what_was_said_of_it_can_be_read() {
    let setup = Setup::default().set("GATEWAY_INTERNAL_TOKEN", INTERNAL);
    let stack = setup.start().await;
    let pool = stack.database.pool().await.unwrap();
    for reset in [false, true] {
        let session = new_session();
        let id = sent(&stack, Some(&session), b"words").await;
        let kept = sent(&stack, None, b"words").await;
        let message = json!({"message": "look", "session_id": session, "attachments": [id]});
        let posted = stack.client.post("/v1/session/message", &message).await.unwrap();
        assert_eq!(posted.status, 200, "{}", posted.text);
        stack.ended_turns(&session, 1).await;
        let worker = || async {
            let request = stack.client.request(Method::GET, &format!("/internal/attachments/{id}/binary"));
            stack.client.send(request.header("X-Internal-Token", INTERNAL)).await.unwrap().status
        };
        assert_eq!(worker().await, 200);
        let of_session = format!("/v1/sessions/{session}");
        let gone = if reset {
            stack.client.post(&format!("{of_session}/reset"), &json!({})).await
        } else {
            stack.client.delete(&of_session).await
        };
        assert_eq!(gone.unwrap().status, 200);
        assert_eq!(code(&stack.client, Method::GET, &path(&id)).await, (410, "attachment-gone".to_owned()));
        assert_eq!(worker().await, 410);
        assert_eq!(code(&stack.client, Method::GET, &path(&kept)).await.0, 200, "it belongs to no session");
        assert_eq!(code(&stack.client, Method::DELETE, &path(&kept)).await.0, 204);
    }
    eventually("the bytes are gone", async || {
        let (attachments, whole, other) = counts(&pool).await;
        assert_eq!(attachments, 4, "tombstones stay");
        (whole + other == 0).then_some(())
    })
    .await;

    let session = new_session();
    let id = sent(&stack, Some(&session), b"words").await;
    let message = json!({"message": "look", "session_id": session, "attachments": [id]});
    assert_eq!(stack.client.post("/v1/session/message", &message).await.unwrap().status, 200);
    stack.ended_turns(&session, 1).await;
    assert_eq!(code(&stack.client, Method::DELETE, &path(&id)).await.0, 204);
    let events = stack.get(&format!("/v1/sessions/{session}/events")).await;
    assert_eq!(events["events"][0]["payload"]["attachments"], json!([format!("att://{id}")]), "{events:#}");
}

#[tokio::test]
async fn a_file_is_remembered_and_forgotten_with_it_also_by_a_memory_service_that_was_away() {
    let setup = Setup::default()
        .set("GATEWAY_WRITE_THROUGH", true)
        .set("MEMORY_SYNC_INTERVAL_SECONDS", "0.05")
        .set("OUTBOX_SYNC_INTERVAL_SECONDS", "0.05");
    let stack = setup.start().await;
    stack.brain.set_deletes(true);
    let session = new_session();
    stack.post(&Post::new("tea").to(&session)).await;
    let (id, alone) = (sent(&stack, Some(&session), b"words").await, sent(&stack, None, b"more words").await);
    let [memory, other] = [&id, &alone].map(|id| format!("att:{id}"));
    let value: Value = eventually("the file is remembered", async || stack.brain.value("public", "wm", &memory)).await;
    assert_eq!((&value["type"], &value["attachments"][0]["id"]), (&json!("attachment"), &json!(id)), "{value:#}");
    eventually("so is one of no session", async || stack.brain.value("public", "wm", &other)).await;
    let replica = format!("/v1/admin/memory/{memory}");
    eventually("the replica has it", async || (stack.client.get(&replica).await.unwrap().status == 200).then_some(()))
        .await;

    stack.brain.down().await;
    assert_eq!(code(&stack.client, Method::DELETE, &path(&id)).await.0, 204);
    eventually("the replica has it no more", async || {
        (stack.client.get(&replica).await.unwrap().status == 404).then_some(())
    })
    .await;
    stack.brain.up().await.unwrap();
    eventually("the service has it no more", async || (!stack.brain.keys().contains(&memory)).then_some(())).await;
    assert!(stack.brain.keys().contains(&other), "the other one stays");
}

#[tokio::test]
async fn without_write_through_no_file_is_remembered() {
    let stack = Stack::start().await;
    sent(&stack, None, b"words").await;
    let pool = stack.database.pool().await.unwrap();
    let queued: i64 = sqlx::query_scalar("SELECT count(*) FROM memory_write_outbox").fetch_one(&pool).await.unwrap();
    assert_eq!(queued, 0);
}

/// A system that looks through everything again all the time.
async fn rescanning(clamd: &Clamd) -> (Stack, u16) {
    let ((host, port), metrics) = (clamd.place(), port::free());
    let setup = Setup::default()
        .set("CLAMAV_ENABLED", true)
        .set("CLAMAV_HOST", host)
        .set("CLAMAV_PORT", port)
        .set("SA01_ANTIVIRUS__CONNECT_TIMEOUT_MS", 15_000)
        .set("SA01_ANTIVIRUS__BREAKER_COOLDOWN_MS", 100)
        .set("SA01_ANTIVIRUS__RESCAN_INTERVAL_SECONDS", 1)
        .set("SA01_ANTIVIRUS__RESCAN_AFTER_SECONDS", 1)
        .set("GATEWAY_METRICS_PORT", metrics);
    (setup.start().await, metrics)
}

#[tokio::test]
async fn what_a_new_signature_knows_is_quarantined_afterwards_and_what_nobody_saw_is_let_out() {
    let clamd = Clamd::start(&[]).unwrap();
    let (stack, metrics) = rescanning(&clamd).await;
    let session = new_session();
    let [good, bad] = [
        sent(&stack, Some(&session), b"harmless words").await,
        sent(&stack, Some(&session), b"zzz secretly bad zzz").await,
    ];
    assert_eq!(code(&stack.client, Method::GET, &path(&bad)).await.0, 200);
    clamd.sign("Secretly.Bad", b"secretly bad").unwrap();
    eventually("it is quarantined", async || {
        (code(&stack.client, Method::GET, &path(&bad)).await == (403, "attachment-quarantined".to_owned()))
            .then_some(())
    })
    .await;
    let found = stack.get("/v1/attachments?quarantine_reason=infected").await;
    assert_eq!((&found[0]["id"], &found[0]["threat"]), (&json!(bad), &json!("Secretly.Bad.UNOFFICIAL")), "{found:#}");
    assert!(found[0]["signatures"].as_str().unwrap().starts_with("ClamAV "), "{found:#}");
    assert_eq!(code(&stack.client, Method::GET, &path(&good)).await.0, 200);
    let trail = stack.get(&format!("/v1/admin/audit?session_id={session}&action=attachments.rescan")).await;
    assert!(trail.to_string().contains("system:attachment-rescanner"), "{trail:#}");
    let page = Client::new(&format!("http://127.0.0.1:{metrics}")).unwrap().get("/metrics").await.unwrap().text;
    assert!(page.contains("attachments_quarantined_total 1"), "{page}");

    // Somebody decides otherwise, and that holds.
    assert_eq!(code(&stack.client, Method::POST, &format!("{}/release", path(&bad))).await.0, 200);
    let again = stack.client.post(&format!("{}/scan", path(&bad)), &json!({})).await.unwrap().json();
    assert_eq!((&again["status"], &again["threat"]), (&json!("clean"), &json!("Secretly.Bad.UNOFFICIAL")), "{again:#}");

    clamd.kill().unwrap();
    let unseen = sent(&stack, None, b"unseen").await;
    assert_eq!(code(&stack.client, Method::GET, &path(&unseen)).await.0, 403);
    let failed = code(&stack.client, Method::POST, &format!("{}/scan", path(&unseen))).await;
    assert_eq!(failed, (502, "antivirus-error".to_owned()));
    // So many that clamd is left alone, and nobody sends anything afterwards.
    for _ in 0..6 {
        sent(&stack, None, b"unseen").await;
    }
    clamd.restart().unwrap();
    eventually("it is let out", async || {
        (code(&stack.client, Method::GET, &path(&unseen)).await.0 == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_clamd_that_calls_clean_what_it_did_not_look_at_is_told() {
    let clamd = Clamd::start(&["AlertExceedsMax no"]).unwrap();
    let (stack, _) = rescanning(&clamd).await;
    let told = stack.get("/v1/av/test").await;
    assert_eq!((&told["status"], &told["nested"]["result"]), (&json!("degraded"), &json!("clean")), "{told:#}");
    assert!(told["detail"].as_str().unwrap().contains("AlertExceedsMax"), "{told:#}");
    let health = stack.get("/v1/health").await;
    let clamav = &health["components"]["clamav"];
    assert!(
        clamav["status"] == "degraded" && clamav["detail"].as_str().unwrap().contains("AlertExceedsMax"),
        "{health:#}"
    );
    let well = Clamd::shared().unwrap();
    let (stack, _) = rescanning(well).await;
    let told = stack.get("/v1/av/test").await;
    assert_eq!((&told["status"], &told["nested"]["result"]), (&json!("ok"), &json!("limits_exceeded")), "{told:#}");
}
