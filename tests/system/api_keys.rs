//! API keys: made by an admin, shown once, taken in two headers, revoked everywhere.

use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::Method;
use serde_json::{Value, json};
use somaagent_test_services::client::{Answer, Client};
use somaagent_test_services::tokens::SECRET;
use somaagent_test_services::wait::eventually;

use crate::identity::{guarded, token};
use crate::stack::{Setup, Stack, new_session};

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn admin(stack: &Stack, tenant: &str) -> Client {
    stack.client.showing(&token(tenant, "ada", "admin chat")).unwrap()
}

async fn make(client: &Client, order: Value) -> Value {
    let made = client.post("/v1/keys", &order).await.unwrap();
    assert_eq!(made.status, 200, "{}", made.text);
    made.json()
}

fn secret(made: &Value) -> &str {
    made["secret"].as_str().unwrap()
}

/// Shows a key in the header that only keys have.
async fn ask(stack: &Stack, path: &str, key: &str) -> Answer {
    let request = stack.client.request(Method::GET, path).header("X-API-Key", key);
    stack.client.send(request).await.unwrap()
}

fn problem(answer: &Answer) -> (u16, String) {
    (answer.status, answer.code())
}

#[tokio::test]
async fn a_key_speaks_for_its_maker_and_its_secret_is_shown_once() {
    let stack = guarded().await;
    let ada = admin(&stack, "acme");
    let answer = ada.post("/v1/keys", &json!({"label": " deploy "})).await.unwrap();
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"), "{}", answer.text);
    let made = answer.json();
    let (id, key) = (made["key_id"].as_str().unwrap(), secret(&made).to_owned());
    assert!(key.starts_with(&format!("sk_{id}_")) && made["prefix"] == key[..12], "{made}");
    assert_eq!((&made["label"], &made["created_by"]), (&json!("deploy"), &json!("ada")));
    assert_eq!(made["scopes"], json!(["admin", "chat"]));
    assert!((made["created_at"].as_f64().unwrap() - now()).abs() < 600.0, "{made}");

    let bearer = stack.client.showing(&key).unwrap();
    assert_eq!(bearer.get("/v1/admin/dlq").await.unwrap().status, 200);
    assert_eq!(ask(&stack, "/v1/admin/dlq", &key).await.status, 200);
    let foreign = bearer.get("/v1/sessions?tenant=umbrella").await.unwrap();
    assert_eq!(problem(&foreign), (403, "tenant-denied".to_owned()));
    let other = bearer.post("/v1/keys", &json!({"label": "child"})).await.unwrap();
    assert_eq!(problem(&other), (403, "token-required".to_owned()));

    let used = eventually("the key's use", async || {
        let listed = ada.get("/v1/keys").await.ok()?;
        assert!(!listed.text.contains("secret") && !listed.text.contains(&key[36..]), "{}", listed.text);
        let listed = listed.json();
        assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
        listed[0]["last_used_at"].is_number().then(|| listed[0].clone())
    });
    let mut used = used.await;
    used["last_used_at"] = Value::Null;
    used["secret"] = json!(key);
    assert_eq!(used, made);
}

#[tokio::test]
async fn a_key_may_no_more_than_its_maker_says_and_has() {
    let stack = guarded().await;
    let ada = admin(&stack, "acme");
    let member = make(&ada, json!({"label": "reader", "scopes": []})).await;
    assert_eq!(member["scopes"], json!([]));
    let member = stack.client.showing(secret(&member)).unwrap();
    assert_eq!(member.get("/v1/sessions").await.unwrap().status, 200);
    for path in ["/v1/admin/dlq", "/v1/keys"] {
        assert_eq!(problem(&member.get(path).await.unwrap()), (403, "admin-scope-required".to_owned()), "{path}");
    }
    let keeper = stack.client.showing(&token("acme", "bob", "keys:manage")).unwrap();
    for scopes in [json!(["admin"]), json!(["keys:manage", "chat"]), json!(["keys:manage admin"]), json!([""])] {
        let wide = keeper.post("/v1/keys", &json!({"label": "wide", "scopes": scopes})).await.unwrap();
        assert_eq!(problem(&wide), (422, "invalid-body".to_owned()), "{scopes}: {}", wide.text);
    }
    for body in [
        json!({}),
        json!({"label": ""}),
        json!({"label": "  "}),
        json!({"label": "a\nb"}),
        json!({"label": "ä".repeat(101)}),
        json!({"label": 7}),
        json!({"label": "x", "scopes": "chat"}),
        json!({"label": "x", "expires_at": now() - 1.0}),
        json!({"label": "x", "expires_at": 1e300}),
        json!({"label": "x", "expires_at": "tomorrow"}),
    ] {
        let answer = ada.post("/v1/keys", &body).await.unwrap();
        assert_eq!(problem(&answer), (422, "invalid-body".to_owned()), "{body}: {}", answer.text);
    }
    let twice = ada.request(Method::POST, "/v1/keys").header("Idempotency-Key", "k").json(&json!({"label": "x"}));
    assert_eq!(problem(&ada.send(twice).await.unwrap()), (422, "invalid-header".to_owned()));
    let listed = ada.get("/v1/keys").await.unwrap().json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "nothing was made: {listed}");
    let all = make(&ada, json!({"label": "ä".repeat(100)})).await;
    let page = ada.get("/v1/keys?limit=1").await.unwrap();
    assert_eq!(page.json()[0]["key_id"], all["key_id"]);
    let next = page.header("link").trim_start_matches('<').split('>').next().unwrap().to_owned();
    assert_eq!(ada.get(&next).await.unwrap().json()[0]["label"], "reader");
}

#[tokio::test]
async fn a_revoked_key_is_refused_by_every_process_and_its_streams_end() {
    let stack = guarded().await;
    let other = stack.app.binary().elsewhere().unwrap().start().await.unwrap();
    let ada = admin(&stack, "acme");
    let made = make(&ada, json!({"label": "deploy"})).await;
    let [here, there] =
        [stack.app.url(), other.url()].map(|url| Client::new(url).unwrap().showing(secret(&made)).unwrap());
    for client in [&here, &there] {
        assert_eq!(client.get("/v1/sessions").await.unwrap().status, 200);
    }
    let path = format!("/v1/session/{}/events", new_session());
    let (mut near, mut far) =
        (here.events(&new_session()).open().await.unwrap(), there.events(&new_session()).open().await.unwrap());

    let key = format!("/v1/keys/{}", made["key_id"].as_str().unwrap());
    let stranger = admin(&stack, "umbrella");
    assert_eq!(problem(&stranger.delete(&key).await.unwrap()), (404, "api-key-not-found".to_owned()));
    assert_eq!(problem(&ada.delete("/v1/keys/no-key").await.unwrap()), (404, "api-key-not-found".to_owned()));
    assert_eq!(there.get("/v1/sessions").await.unwrap().status, 200);
    for _ in 0..2 {
        assert_eq!(ada.delete(&key).await.unwrap().status, 204);
    }
    let refused = here.get("/v1/sessions").await.unwrap();
    assert_eq!(problem(&refused), (401, "api-key-invalid".to_owned()), "at once where it was revoked");
    near.until_end().await;
    far.until_end().await;
    let refused = eventually("the revocation in the other process", async || {
        there.get("/v1/sessions").await.ok().filter(|answer| answer.status != 200)
    });
    assert_eq!(problem(&refused.await), (401, "api-key-invalid".to_owned()));
    assert_eq!(problem(&there.get(&path).await.unwrap()), (401, "api-key-invalid".to_owned()));
    assert_eq!(ada.get("/v1/keys").await.unwrap().json()[0]["revoked"], true);
    let pool = stack.database.pool().await.unwrap();
    let query = "SELECT action FROM audit_event WHERE resource = 'api_key' AND subject = 'ada' ORDER BY id";
    let lines: Vec<String> = sqlx::query_scalar(query).fetch_all(&pool).await.unwrap();
    assert_eq!(lines, ["admin.keys.create", "admin.keys.revoke"]);
}

#[tokio::test]
async fn a_key_expires() {
    let stack = guarded().await;
    let made = make(&admin(&stack, "acme"), json!({"label": "short", "expires_at": now() + 3.0})).await;
    let client = stack.client.showing(secret(&made)).unwrap();
    let refused = eventually("the key's end", async || {
        let answer = client.get("/v1/sessions").await.ok()?;
        assert!(answer.status == 200 || now() >= made["expires_at"].as_f64().unwrap(), "too soon: {}", answer.text);
        (answer.status != 200).then_some(answer)
    });
    assert_eq!(problem(&refused.await), (401, "api-key-invalid".to_owned()));
}

#[tokio::test]
async fn without_its_database_a_process_takes_no_key_for_long_and_says_when_to_come_back() {
    let stack = guarded().await;
    let made = make(&admin(&stack, "acme"), json!({"label": "deploy"})).await;
    let client = stack.client.showing(secret(&made)).unwrap();
    assert_eq!(client.get("/v1/runtime-config").await.unwrap().status, 200);
    let mut stream = client.events(&new_session()).open().await.unwrap();
    stack.proxy.refuse(true);
    stack.proxy.cut();
    let refused = eventually("nobody vouches for the key", async || {
        client.get("/v1/runtime-config").await.ok().filter(|answer| answer.status != 200)
    });
    let refused = refused.await;
    assert_eq!(problem(&refused), (503, "unavailable".to_owned()), "{}", refused.text);
    assert!(!refused.header("retry-after").is_empty());
    stream.until_end().await;
    stack.proxy.refuse(false);
    eventually("the key is taken again", async || {
        client.get("/v1/runtime-config").await.ok().filter(|answer| answer.status == 200)
    })
    .await;
}

#[tokio::test]
async fn while_nobody_says_who_they_are_no_key_is_made_and_none_is_looked_at() {
    let stack = Stack::start().await;
    let made = stack.client.post("/v1/keys", &json!({"label": "deploy"})).await.unwrap();
    assert_eq!(problem(&made), (409, "authentication-off".to_owned()));
    assert_eq!(stack.get("/v1/keys").await, json!([]));
    assert_eq!(ask(&stack, "/v1/sessions", "rubbish").await.status, 200);
    let guarded = Setup::default().set("GATEWAY_JWT_SECRET", SECRET).start().await;
    assert_eq!(ask(&guarded, "/v1/sessions", "rubbish").await.status, 401);
}
