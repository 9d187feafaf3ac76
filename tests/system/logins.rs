//! People who have signed in, seen from outside. The provider is away: their logins are in the database already.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::Method;
use serde_json::{Value, json};
use somaagent_test_services::client::{Answer, Client};
use somaagent_test_services::tokens::SECRET;
use sqlx::PgPool;
use uuid::Uuid;

use crate::identity::token;
use crate::stack::{Setup, Stack};

const ISSUER: &str = "http://localhost:1";

/// A system where people can sign in.
async fn start(csrf: bool) -> (Stack, PgPool) {
    let setup = Setup::default()
        .set("GATEWAY_JWT_SECRET", SECRET)
        .set("OIDC_ENABLED", true)
        .set("OIDC_ISSUER", ISSUER)
        .set("OIDC_CLIENT_ID", "soma")
        .set("GATEWAY_CSRF_ENABLED", csrf);
    let stack = setup.start().await;
    let pool = stack.database.pool().await.unwrap();
    (stack, pool)
}

/// Logs somebody of `acme` in, as if they had come from the provider; what their browser keeps.
async fn login(pool: &PgPool, subject: &str) -> String {
    let (key_id, random) = (Uuid::new_v4(), [Uuid::new_v4(), Uuid::new_v4()].map(Uuid::into_bytes).concat());
    let secret = format!("sl_{}_{}", key_id.simple(), URL_SAFE_NO_PAD.encode(random));
    let (mut hash, salt) = ([0; 32], [7; 16]);
    pbkdf2::derive(PBKDF2_HMAC_SHA256, NonZeroU32::MIN, &salt, secret.as_bytes(), &mut hash);
    let sql = "INSERT INTO api_keys (key_id, tenant, label, prefix, hash, salt, rounds, created_by, issuer, scopes, created_at, expires_at, kind)
               VALUES ($1, 'acme', 'Somebody', 'sl_', $2, $3, 1, $4, $5, '{chat}', now(), now() + interval '1 hour', 'login')";
    let insert = sqlx::query(sql).bind(key_id).bind(&hash[..]).bind(&salt[..]).bind(subject).bind(ISSUER);
    insert.execute(pool).await.unwrap();
    secret
}

async fn ask(stack: &Stack, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request =
        headers.iter().fold(stack.client.request(method, path), |request, header| request.header(header.0, header.1));
    stack.client.send(request).await.unwrap()
}

/// What a problem is called, or the status of what is none.
fn outcome(answer: &Answer) -> String {
    if answer.status < 400 { answer.status.to_string() } else { answer.code() }
}

#[tokio::test]
async fn signing_out_leaves_a_row_that_says_who_did_and_only_once() {
    let (stack, pool) = start(false).await;
    let (ada, bob) = (login(&pool, "ada").await, login(&pool, "bob").await);
    let [ada, bob] = [ada, bob].map(|secret| format!("login={secret}"));
    for _ in 0..2 {
        let headers = [("Cookie", &*ada), ("User-Agent", "auditor/1.0")];
        assert_eq!(ask(&stack, Method::POST, "/v1/auth/logout", &headers).await.status, 200);
    }
    let sql = "SELECT to_jsonb(a) FROM audit_event AS a WHERE action = 'auth.logout'";
    let rows: Vec<Value> = sqlx::query_scalar(sql).fetch_all(&pool).await.unwrap();
    assert_eq!(rows.len(), 1, "{rows:#?}");
    for (name, value) in [
        ("tenant", "acme"),
        ("subject", "ada"),
        ("issuer", ISSUER),
        ("resource", "login"),
        ("user_agent", "auditor/1.0"),
        ("ip", "127.0.0.1"),
    ] {
        assert_eq!(rows[0][name], value, "{:#}", rows[0]);
    }
    assert_eq!(rows[0]["decision"].as_str().map(str::len), Some(64), "{:#}", rows[0]);
    assert!(ada.contains(&rows[0]["target_id"].as_str().unwrap().replace('-', "")), "{:#}", rows[0]);
    assert!(!rows[0].to_string().contains(&ada[40..]), "{:#}", rows[0]);
    let session =
        async |cookie: &str| outcome(&ask(&stack, Method::GET, "/v1/auth/session", &[("Cookie", cookie)]).await);
    assert_eq!((session(&ada).await, session(&bob).await), ("token-invalid".to_owned(), "200".to_owned()));
}

#[tokio::test]
async fn a_login_changes_something_only_beside_its_own_csrf_token() {
    let (stack, pool) = start(true).await;
    let mut kept = Vec::new();
    for subject in ["ada", "eve"] {
        let cookie = format!("login={}", login(&pool, subject).await);
        let page = ask(&stack, Method::GET, "/", &[("Cookie", &cookie)]).await;
        let set = page.header("set-cookie").split(';').next().unwrap().to_owned();
        kept.push((cookie, set.strip_prefix("csrf_token=").unwrap().to_owned()));
    }
    let [(ada, csrf), (_, eves)] = <[_; 2]>::try_from(kept).unwrap();
    let post = async |headers: &[(&str, &str)]| {
        let request = stack.client.request(Method::POST, "/v1/session/message").json(&json!({"message": "tea"}));
        let request = headers.iter().fold(request, |request, header| request.header(header.0, header.1));
        outcome(&stack.client.send(request).await.unwrap())
    };
    let bearer = format!("Bearer {}", token("acme", "ada", ""));
    let (both, tossed) = (format!("{ada}; csrf_token={csrf}"), format!("{ada}; csrf_token={eves}"));
    for (headers, expected) in [
        (&[("Cookie", &*ada)][..], "csrf-token-invalid"),
        (&[("Cookie", &both)], "csrf-token-invalid"),
        (&[("Cookie", &both), ("X-CSRF-Token", &eves)], "csrf-token-invalid"),
        (&[("Cookie", &tossed), ("X-CSRF-Token", &eves)], "csrf-token-invalid"),
        (&[("Cookie", &both), ("X-CSRF-Token", &csrf), ("Origin", "https://evil.example")], "origin-not-allowed"),
        (&[("Cookie", &both), ("X-CSRF-Token", &csrf)], "200"),
        (&[("Cookie", &ada), ("Authorization", &bearer)], "200"),
    ] {
        assert_eq!(post(headers).await, expected, "{headers:?}");
    }
    let logout = async |headers: &[(&str, &str)]| outcome(&ask(&stack, Method::POST, "/v1/auth/logout", headers).await);
    assert_eq!(logout(&[("Cookie", &both)]).await, "csrf-token-invalid");
    assert_eq!(logout(&[("Cookie", &both), ("X-CSRF-Token", &csrf)]).await, "200");
    assert_eq!(post(&[("Cookie", &both), ("X-CSRF-Token", &csrf)]).await, "token-invalid");
    assert_eq!(ask(&stack, Method::GET, "/v1/csrf", &[("Cookie", &both)]).await.status, 404);
}

/// What a browser with this login sees.
fn browser(client: &Client, secret: &str) -> Client {
    client.keeping(&format!("login={secret}")).unwrap()
}

/// Who somebody is, or why that is not known.
async fn who(client: &Client) -> String {
    outcome(&client.get("/v1/auth/session").await.unwrap())
}

#[tokio::test]
async fn signing_out_ends_each_login_that_a_browser_shows() {
    for csrf in [false, true] {
        let (stack, pool) = start(csrf).await;
        let (ada, planted) = (login(&pool, "ada").await, login(&pool, "eve").await);
        let page = browser(&stack.client, &ada).get("/").await.unwrap();
        let token = page.header("set-cookie").split(';').next().unwrap().trim_start_matches("csrf_token=").to_owned();
        let both = format!("login={planted}; login={ada}; csrf_token={token}");
        let out = async |headers: &[(&str, &str)]| ask(&stack, Method::POST, "/v1/auth/logout", headers).await;
        assert_eq!(who(&stack.client.keeping(&both).unwrap()).await, "token-invalid", "nobody can say which is meant");
        if csrf {
            assert_eq!(outcome(&out(&[("Cookie", &both)]).await), "csrf-token-invalid");
            assert_eq!(who(&browser(&stack.client, &ada)).await, "200");
        }
        let many = (0..9).map(|n| format!("login={n}")).collect::<Vec<_>>().join("; ");
        assert_eq!(outcome(&out(&[("Cookie", &many)]).await), "bad-request");
        assert_eq!(outcome(&out(&[("Cookie", &both), ("X-CSRF-Token", &token)]).await), "200");
        for secret in [&ada, &planted] {
            assert_eq!(who(&browser(&stack.client, secret)).await, "token-invalid");
        }
    }
}

#[tokio::test]
async fn nobody_is_signed_out_by_the_odd_cookie_of_another_site() {
    let (stack, pool) = start(false).await;
    let secret = login(&pool, "ada").await;
    for odd in [&b"caf\xe9=1"[..], b"name=\xff\xfe", "größe=ü".as_bytes()] {
        let line = [odd, b"; login=", secret.as_bytes()].concat();
        let request = stack.client.request(Method::GET, "/v1/auth/session").header("Cookie", &line[..]);
        assert_eq!(stack.client.send(request).await.unwrap().status, 200, "{}", odd.escape_ascii());
    }
}
