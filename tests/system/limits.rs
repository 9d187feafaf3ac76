//! What callers may ask for at most, seen from outside.

use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::{Method, StatusCode};
use serde_json::json;
use somaagent_test_services::client::{Answer, Client, Raw};
use somaagent_test_services::port;
use somaagent_test_services::tokens::{SECRET, Signer};
use somaagent_test_services::wait::eventually;

use crate::identity::token;
use crate::stack::{Setup, Stack, new_session};

async fn status(client: &Client, path: &str) -> u16 {
    client.get(path).await.unwrap().status
}

/// Opens a stream of a new session; the answer's head, and what keeps it open.
async fn open(client: &Client) -> (StatusCode, reqwest::Response) {
    let request = client.request(Method::GET, &format!("/v1/session/{}/events", new_session()));
    let answer = request.send().await.unwrap();
    (answer.status(), answer)
}

async fn refused(client: &Client) -> Answer {
    client.get(&format!("/v1/session/{}/events", new_session())).await.unwrap()
}

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_back_and_others_are_served() {
    let port = port::free();
    let stack = Setup::default()
        .set("GATEWAY_METRICS_PORT", port)
        .set("GATEWAY_JWT_SECRET", SECRET)
        .set("GATEWAY_RATE_LIMIT_ENABLED", true)
        .set("GATEWAY_RATE_LIMIT_RPS", "0.01")
        .set("GATEWAY_RATE_LIMIT_BURST", 3)
        .set("GATEWAY_ADMIN_RPS", "0.01")
        .set("GATEWAY_ADMIN_BURST", 1)
        .start()
        .await;
    let [ada, bob] = ["ada", "bob"].map(|subject| stack.client.showing(&token("acme", subject, "admin")).unwrap());
    let first = ada.get("/v1/admin/dlq").await.unwrap();
    assert_eq!((first.status, first.header("ratelimit")), (200, r#""default";r=2;t=100, "admin";r=0;t=100"#));
    assert_eq!(first.header("ratelimit-policy"), r#""default";q=3;w=300, "admin";q=1;w=100"#);
    let second = bob.get("/v1/admin/dlq").await.unwrap();
    assert_eq!((second.status, second.code().as_str()), (429, "admin-rate-limited"));
    assert_eq!(second.json()["detail"], "Too Many Requests (admin rate limit)");
    for _ in 0..2 {
        assert_eq!(status(&ada, "/v1/sessions").await, 200);
    }
    let third = ada.get("/v1/sessions").await.unwrap();
    assert_eq!((third.status, third.code().as_str()), (429, "rate-limited"), "{}", third.text);
    assert!((1..=100).contains(&third.header("retry-after").parse().unwrap()));
    assert_eq!(status(&bob, "/v1/sessions").await, 200);
    for _ in 0..5 {
        assert_eq!(status(&stack.client, "/readyz").await, 200);
    }
    let metrics = Client::new(&format!("http://127.0.0.1:{port}")).unwrap();
    let page = metrics.get("/metrics").await.unwrap().text;
    for line in [
        r#"gateway_rate_limit_results_total{result="limited"} 1"#,
        r#"gateway_rate_limit_results_total{result="admin_limited"} 1"#,
        "http_requests_shed_total 0",
    ] {
        assert!(page.contains(line), "{line} is not in {page}");
    }
}

#[tokio::test]
async fn open_streams_take_no_place_of_requests_under_way() {
    let stack = Setup::default().set("GATEWAY_MAX_IN_FLIGHT", 1).start().await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        let (status, stream) = open(&stack.client).await;
        assert_eq!(status, 200);
        streams.push(stream);
    }
    assert_eq!(status(&stack.client, "/v1/sessions").await, 200);
}

#[tokio::test]
async fn streams_of_one_caller_are_counted_until_they_end() {
    let stack = Setup::default()
        .set("GATEWAY_JWT_SECRET", SECRET)
        .set("GATEWAY_JWT_LEEWAY", 0)
        .set("GATEWAY_MAX_STREAMS", 4)
        .set("GATEWAY_MAX_STREAMS_EACH", 2)
        .start()
        .await;
    let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3;
    let short = Signer::secret(SECRET).sign(&json!({"tenant": "acme", "sub": "ada", "exp": end}));
    let [short, ada, bob, eve] = [short, token("acme", "ada", ""), token("acme", "bob", ""), token("acme", "eve", "")]
        .map(|token| stack.client.showing(&token).unwrap());
    let [(_, ended), (_, kept)] = [open(&short).await, open(&ada).await];
    let answer = refused(&ada).await;
    assert_eq!((answer.status, answer.code().as_str()), (429, "too-many-streams"), "{}", answer.text);
    assert!(!answer.header("retry-after").is_empty());
    let others = [open(&bob).await, open(&bob).await];
    assert_eq!(others.each_ref().map(|(status, _)| status.as_u16()), [200, 200]);
    let answer = refused(&eve).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "overloaded"), "{}", answer.text);
    // The token of one ends, and with it the stream.
    ended.bytes().await.unwrap();
    let (status, again) = open(&ada).await;
    assert_eq!(status, 200);
    // A reader goes away.
    drop(kept);
    let (_, third) = eventually("the place of a reader that went away", async || {
        let (status, stream) = open(&ada).await;
        (status == 200).then_some((status, stream))
    })
    .await;
    drop((again, third, others));
}

#[tokio::test]
async fn requests_that_wait_for_their_bodies_take_no_place_of_others() {
    let port = port::free();
    let stack = Setup::default()
        .set("GATEWAY_METRICS_PORT", port)
        .set("GATEWAY_JWT_SECRET", SECRET)
        .set("GATEWAY_MAX_IN_FLIGHT", 2)
        .set("GATEWAY_MAX_BODIES_EACH", 3)
        .start()
        .await;
    let metrics = Client::new(&format!("http://127.0.0.1:{port}")).unwrap();
    let begin = async |subject: &str| {
        let head = format!(
            "POST /v1/session/message HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: 16\r\n\r\n{{\"message\"",
            token("acme", subject, "")
        );
        let mut raw = Raw::connect(stack.app.url(), None).await.unwrap();
        raw.send(head.as_bytes()).await.unwrap();
        raw
    };
    let awaited = async |count: usize| {
        eventually(&format!("{count} awaited bodies"), async || {
            let page = metrics.get("/metrics").await.ok()?.text;
            let line = |name: &str, value: usize| page.contains(&format!("{name} {value}\n"));
            (line("http_bodies_awaited", count) && line("http_requests_in_flight", 0)).then_some(())
        })
        .await;
    };
    let mut slow = Vec::new();
    for count in 1..=3 {
        slow.push(begin("ada").await);
        awaited(count).await;
    }
    let refused = String::from_utf8(begin("ada").await.read_to_end().await).unwrap();
    assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("too-many-bodies"), "{refused}");
    let [ada, bob] = ["ada", "bob"].map(|subject| stack.client.showing(&token("acme", subject, "")).unwrap());
    for client in [&ada, &bob] {
        assert_eq!(status(client, "/v1/sessions").await, 200);
    }
    slow.push(begin("bob").await);
    awaited(4).await;
    for raw in &mut slow {
        raw.send(b":\"hi\"}").await.unwrap();
        let answer = String::from_utf8(raw.read_to_end().await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    awaited(0).await;
    // Who shows nothing is refused before its body is waited for.
    let nobody =
        b"POST /v1/session/message HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: 9\r\n\r\n";
    let mut raw = Raw::connect(stack.app.url(), None).await.unwrap();
    raw.send(nobody).await.unwrap();
    assert!(raw.read_to_end().await.starts_with(b"HTTP/1.1 401 "));
}

#[tokio::test]
async fn who_fails_to_prove_who_they_are_is_not_listened_to_for_a_while() {
    let stack = Setup::default()
        .set("GATEWAY_JWT_SECRET", SECRET)
        .set("GATEWAY_TRUSTED_PROXIES", "127.0.0.1")
        .set("GATEWAY_AUTH_FAILURE_RPS", "0.01")
        .set("GATEWAY_AUTH_FAILURE_BURST", 2)
        .start()
        .await;
    let ask = async |stack: &Stack, token: &str, from: &str| {
        let request =
            stack.client.request(Method::GET, "/v1/sessions").header("Authorization", format!("Bearer {token}"));
        stack.client.send(request.header("X-Forwarded-For", from)).await.unwrap().status
    };
    let good = token("acme", "ada", "");
    for expected in [401, 401, 429] {
        assert_eq!(ask(&stack, "a.b.c", "203.0.113.9").await, expected);
    }
    assert_eq!(ask(&stack, &good, "203.0.113.9").await, 429);
    // What it says of itself frees nobody.
    assert_eq!(ask(&stack, &good, "198.51.100.1, 203.0.113.9").await, 429);
    assert_eq!(ask(&stack, &good, "198.51.100.1").await, 200);
}
