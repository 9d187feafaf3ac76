//! The scanners of uploads before a real clamd, as an operator sees them.

use serde_json::{Value, json};
use somaagent_test_services::clamd::{Clamd, EICAR};
use somaagent_test_services::client::Client;
use somaagent_test_services::port;
use somaagent_test_services::wait::eventually;

use crate::stack::{Setup, Stack};

/// A system whose uploads are scanned at `place`.
async fn scanning(place: (String, u16), setup: Setup) -> Stack {
    let (host, port) = place;
    let setup = setup.set("CLAMAV_ENABLED", true).set("CLAMAV_HOST", host).set("CLAMAV_PORT", port);
    // A busy machine is no fault of clamd.
    setup.set("SA01_ANTIVIRUS__CONNECT_TIMEOUT_MS", 15_000).set("SA01_HTTP__HEALTH_TIMEOUT_MS", 20_000).start().await
}

async fn clamav(stack: &Stack) -> Value {
    stack.get("/v1/health").await["components"]["clamav"].clone()
}

#[tokio::test]
async fn the_test_tells_whether_infected_bytes_are_found_and_when_clamd_is_away() {
    let clamd = Clamd::start(&[]).unwrap();
    let metrics = port::free();
    let stack = scanning(clamd.place(), Setup::default().set("GATEWAY_METRICS_PORT", metrics)).await;
    let well = stack.get("/v1/av/test").await;
    assert_eq!((&well["status"], &well["port"]), (&json!("ok"), &json!(clamd.place().1)), "{well:#}");
    assert_eq!(well["eicar"], json!({"result": "infected", "detail": EICAR}));
    assert_eq!(well["clean"], json!({"result": "clean"}));
    assert!(well["signatures"]["engine"].as_str().unwrap().starts_with("ClamAV "), "{well:#}");
    assert_eq!(well["scanners"], json!({"total": 10, "busy": 0, "breaker": "closed"}));
    assert_eq!(clamav(&stack).await, json!({"status": "ok"}));

    clamd.kill().unwrap();
    let away = stack.get("/v1/av/test").await;
    assert_eq!((&away["status"], &away["eicar"]["result"]), (&json!("error"), &json!("error")), "{away:#}");
    assert!(away["detail"].as_str().unwrap().starts_with("clamd is away"), "{away:#}");
    assert!(away["signatures"].is_null(), "{away:#}");
    let health = stack.get("/v1/health").await;
    assert_eq!(health["components"]["clamav"], json!({"status": "down", "detail": "no answer"}));
    assert_eq!(health["status"], "degraded");
    // The test asks past the breaker, and so sees clamd's return at once.
    for _ in 0..3 {
        assert_eq!(stack.get("/v1/av/test").await["status"], "error");
    }
    assert_eq!(stack.get("/v1/av/test").await["scanners"]["breaker"], "open");
    clamd.restart().unwrap();
    assert_eq!(stack.get("/v1/av/test").await["status"], "ok");
    assert_eq!(clamav(&stack).await["status"], "ok");

    let page = Client::new(&format!("http://127.0.0.1:{metrics}")).unwrap().get("/metrics").await.unwrap().text;
    for line in [r#"clamav_scan_duration_seconds_count{result="infected"} 2"#, "upload_scanners_busy 0"] {
        assert!(page.contains(line), "no {line} in {page}");
    }
}

#[tokio::test]
async fn an_antivirus_that_is_off_is_neither_tried_nor_part_of_the_health() {
    let stack = Stack::start().await;
    let told = stack.get("/v1/av/test").await;
    assert_eq!((&told["status"], &told["host"]), (&json!("disabled"), &json!("clamav")));
    assert!(told["eicar"].is_null() && told["signatures"].is_null(), "{told:#}");
    assert!(clamav(&stack).await.is_null());
}

#[tokio::test]
async fn the_scanners_are_among_the_actors_and_a_stop_does_not_wait_for_idle_ones() {
    let mut stack =
        scanning(Clamd::shared().unwrap().place(), Setup::default().set("SA01_ANTIVIRUS__SCANNERS", 3)).await;
    assert_eq!(stack.get("/v1/av/test").await["status"], "ok");
    // The answer may be there before whoever looked is free again.
    eventually("three scanners are free", async || {
        let actors = stack.get("/v1/admin/actors?limit=500").await;
        let all = actors["actors"].as_array().unwrap().iter();
        let scanners = all.filter(|actor| actor["path"].as_str().unwrap().starts_with("root/uploads/upload-scanner"));
        assert_eq!(scanners.clone().count(), 3, "{actors:#}");
        scanners.clone().all(|actor| actor["state"] == "free" && actor["restarts"] == 0).then_some(())
    })
    .await;
    assert_eq!(stack.app.terminate().await.unwrap(), Some(0));
    assert!(!stack.app.output().contains("did not stop in time"), "{}", stack.app.output());
}

#[tokio::test]
async fn another_server_in_clamds_place_is_told_from_it() {
    let stack = Stack::start().await;
    // The API itself: it answers, and not as clamd does.
    let other = scanning(("127.0.0.1".to_owned(), stack.app.port()), Setup::default()).await;
    let told = other.get("/v1/av/test").await;
    assert_eq!((&told["status"], &told["eicar"]["result"]), (&json!("error"), &json!("error")), "{told:#}");
    assert_eq!(clamav(&other).await["status"], "down");
}
