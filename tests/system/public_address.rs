//! A process that others reach: only with authentication, and behind proxies that say whom a request is from.

use reqwest::Method;
use serde_json::json;
use somaagent_test_services::client::{Answer, Post};
use somaagent_test_services::tokens::SECRET;

use crate::identity::token;
use crate::stack::{Setup, Stack, binary, ended_turns, new_session};

async fn ask(stack: &Stack, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = stack.client.request(Method::GET, path);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    stack.client.send(request).await.unwrap()
}

#[tokio::test]
async fn without_authentication_nobody_listens_to_other_machines() {
    let refused = binary().set("GATEWAY_HOST", "0.0.0.0").run().await.unwrap();
    assert_eq!(refused.code, Some(78), "{}", refused.output);
    assert!(refused.output.contains("server.host (GATEWAY_HOST): 0.0.0.0 is not loopback"), "{}", refused.output);
}

#[tokio::test]
async fn without_authentication_no_proxy_brings_other_machines_in() {
    for (name, value) in [("GATEWAY_TRUSTED_PROXIES", "127.0.0.1"), ("GATEWAY_ALLOWED_HOSTS", "soma.example")] {
        let refused = binary().set(name, value).run().await.unwrap();
        assert_eq!(refused.code, Some(78), "{}", refused.output);
        let told = format!("({name}): is set, and nobody would have to prove who they are");
        assert!(refused.output.contains(&told), "{}", refused.output);
    }
    // One that nobody has told of.
    let stack = Stack::start().await;
    let posted = ask(&stack, "/v1/sessions", &[("X-Forwarded-For", "127.0.0.1, ::1")]).await;
    assert_eq!(posted.status, 200, "{}", posted.text);
    for header in [
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Forwarded-For", "127.0.0.1, 203.0.113.9"),
        ("X-Forwarded-For", "203.0.113.9, 127.0.0.1"),
        ("X-Forwarded-For", "unknown"),
        ("X-Real-IP", "203.0.113.9"),
        ("Forwarded", "for=\"[2001:db8::1]:4711\";proto=https"),
        ("Forwarded", "for=_hidden"),
    ] {
        for path in ["/v1/sessions", "/", "/readyz", "/v1/session/0190a3f0-0000-7000-8000-000000000001/events"] {
            let answer = ask(&stack, path, &[header]).await;
            assert_eq!((answer.status, &*answer.code()), (403, "address-not-allowed"), "{header:?} {path}");
        }
    }
}

#[tokio::test]
async fn with_authentication_others_are_served_under_the_names_of_the_settings() {
    let stack = Setup::default()
        .set("GATEWAY_HOST", "0.0.0.0")
        .set("GATEWAY_JWT_SECRET", SECRET)
        .set("GATEWAY_ALLOWED_HOSTS", "soma.example")
        .start()
        .await;
    let bearer = format!("Bearer {}", token("acme", "ada", ""));
    let shown = ("Authorization", bearer.as_str());
    let ours = ("Host", "soma.example");
    assert_eq!(ask(&stack, "/v1/sessions", &[ours, shown]).await.status, 200);
    assert_eq!(ask(&stack, "/v1/sessions", &[ours]).await.code(), "authorization-missing");
    assert_eq!(ask(&stack, "/readyz", &[("Host", "10.1.2.3")]).await.status, 200);
    for host in ["evil.example", "localhost", "soma.example.evil.example"] {
        // Nobody is trusted to say another host than `Host`.
        let headers = [("Host", host), shown, ("X-Forwarded-Host", "soma.example")];
        let answer = ask(&stack, "/v1/sessions", &headers).await;
        assert_eq!((answer.status, answer.code().as_str()), (421, "misdirected"), "{host}: {}", answer.text);
    }
    let cookie = format!("jwt={}", token("acme", "ada", ""));
    for (origin, status) in [("https://soma.example", 200), ("https://evil.example", 403)] {
        let answer = ask(&stack, "/v1/sessions", &[ours, ("Cookie", &cookie), ("Origin", origin)]).await;
        assert_eq!(answer.status, status, "{origin}: {}", answer.text);
    }
}

#[tokio::test]
async fn the_address_in_the_audit_is_the_clients_if_a_trusted_proxy_says_so() {
    for (trusted, address) in [("127.0.0.0/8,10.0.0.0/8", "203.0.113.9"), ("10.0.0.0/8", "127.0.0.1")] {
        let setup = Setup::default().set("GATEWAY_JWT_SECRET", SECRET).set("GATEWAY_TRUSTED_PROXIES", trusted);
        let stack = setup.start().await;
        let ada = stack.client.showing(&token("acme", "ada", "")).unwrap();
        let session = new_session();
        let message = ada.request(Method::POST, "/v1/session/message");
        let message = message.json(&json!({"message": "tea", "session_id": session}));
        let message = message.header("X-Forwarded-For", "127.0.0.9, 203.0.113.9, 10.0.0.2");
        let posted = ada.send(message.header("Forwarded", "for=198.51.100.1")).await.unwrap();
        assert_eq!(posted.status, 200, "{}", posted.text);
        ended_turns(&ada, &session, 1).await;
        let query = "SELECT DISTINCT host(ip) FROM audit_event WHERE tenant = 'acme' AND ip IS NOT NULL";
        let pool = stack.database.pool().await.unwrap();
        let found: Vec<String> = sqlx::query_scalar(query).fetch_all(&pool).await.unwrap();
        assert_eq!(found, [address], "{trusted}");
        assert_eq!(ada.message(&Post::new("more").to(&session)).await.unwrap().status, 200);
    }
}
