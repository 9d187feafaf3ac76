//! People who have signed in, seen from outside. The provider is away: their logins are in the database already.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::Method;
use serde_json::{Value, json};
use somaagent_test_services::client::{Answer, Client};
use somaagent_test_services::tokens::{SECRET, Signer};
use somaagent_test_services::wait::eventually;
use sqlx::PgPool;
use uuid::Uuid;

use crate::identity::{claims, token};
use crate::stack::{Setup, Stack, new_session};

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
    login_of(pool, "acme", subject, Some(ISSUER)).await
}

/// Logs somebody in for whom somebody vouches.
pub async fn login_of(pool: &PgPool, tenant: &str, subject: &str, issuer: Option<&str>) -> String {
    let (key_id, random) = (Uuid::new_v4(), [Uuid::new_v4(), Uuid::new_v4()].map(Uuid::into_bytes).concat());
    let secret = format!("sl_{}_{}", key_id.simple(), URL_SAFE_NO_PAD.encode(random));
    let (mut hash, salt) = ([0; 32], [7; 16]);
    pbkdf2::derive(PBKDF2_HMAC_SHA256, NonZeroU32::MIN, &salt, secret.as_bytes(), &mut hash);
    let sql = "INSERT INTO api_keys (key_id, tenant, label, prefix, hash, salt, rounds, created_by, issuer, scopes, created_at, expires_at, kind)
               VALUES ($1, $6, 'Somebody', 'sl_', $2, $3, 1, $4, $5, '{chat}', now(), now() + interval '1 hour', 'login')";
    let insert = sqlx::query(sql).bind(key_id).bind(&hash[..]).bind(&salt[..]).bind(subject).bind(issuer).bind(tenant);
    insert.execute(pool).await.unwrap();
    secret
}

/// The id of a login.
pub fn id(secret: &str) -> &str {
    secret.split('_').nth(1).unwrap()
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

/// A token of somebody for whom the provider vouches as well.
fn of_provider(tenant: &str, subject: &str, scope: &str) -> String {
    let mut claims = claims(tenant, subject, scope);
    claims["iss"] = json!(ISSUER);
    Signer::secret(SECRET).sign(&claims)
}

async fn listed(client: &Client, path: &str) -> Vec<(String, bool)> {
    let answer = client.get(path).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    let mut listed: Vec<_> = answer.json().as_array().unwrap().iter().map(shown).collect();
    listed.sort();
    listed
}

fn shown(login: &Value) -> (String, bool) {
    (login["login_id"].as_str().unwrap().to_owned(), login["current"].as_bool().unwrap())
}

/// Several as [`listed`] gives them.
fn these<const N: usize>(mut logins: [(&str, bool); N]) -> Vec<(String, bool)> {
    logins.sort_unstable();
    logins.map(|(secret, current)| (id(secret).to_owned(), current)).into()
}

#[tokio::test]
async fn people_see_their_logins_and_end_one_or_all_of_them_in_every_process() {
    let (stack, pool) = start(false).await;
    let other = stack.app.binary().elsewhere().unwrap().start().await.unwrap();
    let there = Client::new(other.url()).unwrap();
    let mine = [login(&pool, "ada").await, login(&pool, "ada").await, login(&pool, "ada").await];
    let others = [
        login(&pool, "bob").await,
        login_of(&pool, "umbrella", "ada", Some(ISSUER)).await,
        login_of(&pool, "acme", "ada", Some("http://localhost:2")).await,
    ];
    let here = browser(&stack.client, &mine[0]);
    let own = "/v1/auth/logins";
    let all = || these([(&mine[0], true), (&mine[1], false), (&mine[2], false)]);
    assert_eq!(listed(&here, own).await, all());
    let whole = here.get(own).await.unwrap();
    assert!(!mine.iter().chain(&others).any(|secret| whole.text.contains(&secret[36..])), "{}", whole.text);
    let page = here.get(&format!("{own}?limit=2")).await.unwrap();
    let next = page.header("link").trim_start_matches('<').split('>').next().unwrap().to_owned();
    let mut both: Vec<_> = page.json().as_array().unwrap().iter().map(shown).collect();
    both.extend(listed(&here, &next).await);
    both.sort();
    assert_eq!(both, all());

    let mut stream = browser(&there, &mine[1]).events(&new_session()).open().await.unwrap();
    let end = async |client: &Client, login: &str| outcome(&client.delete(&format!("{own}/{login}")).await.unwrap());
    for foreign in others.iter().map(|secret| id(secret)).chain(["no-login", &new_session()]) {
        assert_eq!(end(&here, foreign).await, "login-not-found", "{foreign}");
    }
    assert_eq!(end(&here, id(&mine[1])).await, "204");
    assert_eq!(end(&here, id(&mine[1])).await, "login-not-found", "it is over");
    stream.until_end().await;
    let far = browser(&there, &mine[1]);
    eventually("the end of the login there", async || (who(&far).await == "token-invalid").then_some(())).await;
    assert_eq!(who(&browser(&stack.client, &mine[1])).await, "token-invalid");

    let mut stream = browser(&there, &mine[2]).events(&new_session()).open().await.unwrap();
    let ended = here.delete(own).await.unwrap();
    assert_eq!((ended.status, ended.json()), (200, json!({"ended": 2})));
    assert!(ended.header("set-cookie").starts_with("login=; "), "{}", ended.header("set-cookie"));
    stream.until_end().await;
    for secret in &mine {
        assert_eq!(who(&browser(&stack.client, secret)).await, "token-invalid");
    }
    for secret in &others {
        assert_eq!(who(&browser(&stack.client, secret)).await, "200");
    }
}

#[tokio::test]
async fn a_token_of_the_same_person_ends_their_logins_and_a_key_nobodys() {
    let (stack, pool) = start(false).await;
    let secret = login(&pool, "ada").await;
    let [own, mine] = ["/v1/auth/logins".to_owned(), format!("/v1/auth/logins/{}", id(&secret))];
    // Another issuer's Ada is somebody else.
    let stranger = stack.client.showing(&token("acme", "ada", "admin")).unwrap();
    assert!(listed(&stranger, &own).await.is_empty());
    assert_eq!(outcome(&stranger.delete(&mine).await.unwrap()), "login-not-found");
    assert_eq!(stranger.delete(&own).await.unwrap().json(), json!({"ended": 0}));

    let ada = stack.client.showing(&of_provider("acme", "ada", "admin")).unwrap();
    let key = ada.post("/v1/keys", &json!({"label": "deploy"})).await.unwrap().text_of("secret");
    let key = stack.client.showing(&key).unwrap();
    let all = "/v1/admin/logins?all=true";
    for (method, path) in
        [(Method::GET, &*own), (Method::DELETE, &*own), (Method::DELETE, &*mine), (Method::DELETE, all)]
    {
        let answer = key.send(key.request(method.clone(), path)).await.unwrap();
        assert_eq!(outcome(&answer), "token-required", "{method} {path}");
    }
    assert_eq!(listed(&key, "/v1/admin/logins").await, these([(&secret, false)]), "an admin's key looks");
    assert_eq!(who(&browser(&stack.client, &secret)).await, "200");

    assert_eq!(listed(&ada, &own).await, these([(&secret, false)]));
    let ended = ada.delete(&mine).await.unwrap();
    assert_eq!((ended.status, ended.header("set-cookie")), (204, ""), "no browser of hers asked");
    assert_eq!(who(&browser(&stack.client, &secret)).await, "token-invalid");
    assert_eq!(who(&ada).await, "200");
}

#[tokio::test]
async fn an_admin_ends_the_logins_of_one_person_or_of_the_whole_tenant() {
    let (stack, pool) = start(false).await;
    let admin = stack.client.showing(&of_provider("acme", "root", "admin")).unwrap();
    let (bob, other_bob) = (login(&pool, "bob").await, login_of(&pool, "acme", "bob", Some("https://two")).await);
    let (cy, stranger) = (login(&pool, "cy").await, login_of(&pool, "umbrella", "bob", Some(ISSUER)).await);
    let all = "/v1/admin/logins";
    let expected = these([(&bob, false), (&other_bob, false), (&cy, false)]);
    assert_eq!(listed(&admin, all).await, expected);
    assert_eq!(listed(&admin, &format!("{all}?subject=cy")).await, these([(&cy, false)]));
    let first = admin.get(&format!("{all}?subject=bob&limit=1")).await.unwrap();
    let next = first.header("link").trim_start_matches('<').split('>').next().unwrap().to_owned();
    assert!(next.contains("subject=bob") && first.json()[0]["subject"] == "bob", "{next}");
    assert_eq!(listed(&admin, &next).await.len(), 1);

    for (query, status, code) in [
        ("", 400, "subject-required"),
        ("?subject=", 400, "subject-required"),
        ("?all=false", 400, "subject-required"),
        ("?all=yes", 422, "invalid-query"),
        ("?all=true&subject=bob", 422, "invalid-query"),
        ("?all=true&issuer=x", 422, "invalid-query"),
        ("?issuer=x", 422, "invalid-query"),
        ("?subject=bob&subject=cy", 422, "invalid-query"),
        ("?all=true&tenant=umbrella", 403, "tenant-denied"),
    ] {
        let answer = admin.delete(&format!("{all}{query}")).await.unwrap();
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{query}: {}", answer.text);
    }
    let member = browser(&stack.client, &bob);
    for method in [Method::GET, Method::DELETE] {
        let refused = member.send(member.request(method, &format!("{all}?subject=cy"))).await.unwrap();
        assert_eq!(outcome(&refused), "admin-scope-required");
    }
    assert_eq!(listed(&admin, all).await, expected, "nothing has ended");

    let end = async |query: &str| admin.delete(&format!("{all}{query}")).await.unwrap().json()["ended"].clone();
    assert_eq!(end(&format!("?subject=bob&issuer={ISSUER}")).await, 1);
    assert_eq!(who(&member).await, "token-invalid");
    assert_eq!(listed(&admin, all).await, these([(&other_bob, false), (&cy, false)]));
    assert_eq!((end("?subject=bob").await, end("?subject=nobody").await), (json!(1), json!(0)));
    assert_eq!((end("?all=true").await, end("?all=true").await), (json!(1), json!(0)));
    assert_eq!(who(&browser(&stack.client, &cy)).await, "token-invalid");
    assert_eq!(who(&browser(&stack.client, &stranger)).await, "200");
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
