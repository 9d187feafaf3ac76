//! Signing in as far as the door decides it: the provider and the database are away.

#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use actix_web::{http::Method, test::TestRequest};
use somaagent_actors::identity::{AuthSettings, SettingsError, Verifier, sign_in::OidcSettings};
use somaagent_supervision::Probe;
use somaagent_test_services::tokens::{SECRET, Signer};

use super::*;
use crate::{
    settings::{DoorSettings, LimitSettings},
    testing::{Answer, TestDoor, request},
};

const SESSION: &str = "/s/0190a3f0-0000-7000-8000-000000000001";

async fn verifier() -> Verifier {
    let settings = AuthSettings { jwt_secret: Some(SECRET.into()), ..AuthSettings::default() };
    Verifier::start(&settings, |_| async { Ok::<_, SettingsError>(Probe::new(1).1) }).await.unwrap()
}

async fn sign_in(base_url: &str) -> SignIn {
    let settings = OidcSettings {
        enabled: true,
        client_id: "soma".to_owned(),
        base_url: base_url.to_owned(),
        timeout_seconds: 0.05,
        ..OidcSettings::default()
    };
    SignIn::start(&settings, "tenant", |_| async { Ok::<_, SettingsError>(Probe::new(1).1) }).await.unwrap()
}

/// A door at which people can sign in.
async fn open() -> TestDoor {
    let sign_in = sign_in("http://localhost:8010").await;
    TestDoor::guarded_with(verifier().await, |door| Door { sign_in: Some(sign_in), ..door }).await
}

fn get(path: &str) -> TestRequest {
    request(Method::GET, path)
}

fn by_a_browser(request: TestRequest) -> TestRequest {
    request.insert_header((ACCEPT, "text/html,application/xhtml+xml;q=0.9"))
}

fn bearing(request: TestRequest) -> TestRequest {
    let claims = serde_json::json!({"tenant": "acme", "sub": "ada", "scope": "chat", "exp": 4_102_444_800_u64});
    request.insert_header(("Authorization", format!("Bearer {}", Signer::secret(SECRET).sign(&claims))))
}

fn problem(answer: &Answer) -> (u16, String) {
    answer.problem()
}

#[actix_web::test]
async fn where_nobody_can_sign_in_it_is_said() {
    let door = TestDoor::guarded(verifier().await).await;
    for path in ["/v1/auth/login", "/v1/auth/callback?code=a&state=b"] {
        assert_eq!(problem(&door.send(get(path)).await), (503, "oidc-disabled".to_owned()), "{path}");
        let page = door.send(by_a_browser(get(path))).await;
        assert_eq!((page.status.as_u16(), page.header("location")), (303, "/login?problem=oidc-disabled"));
    }
    assert_eq!(door.send(get("/")).await.status, 200, "the page says itself what is wrong");
    let config = door.send(get("/ui/config.json")).await.json();
    assert_eq!(config["sign_in"], serde_json::json!({"enabled": false, "provider": null}));
}

#[actix_web::test]
async fn who_has_not_signed_in_is_sent_to_the_page_where_they_can_and_back() {
    let door = open().await;
    for (path, next) in [("/", "/login?next=/"), (SESSION, &*format!("/login?next={SESSION}"))] {
        let answer = door.send(get(path)).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, next), "{path}");
        assert_eq!(door.send(bearing(get(path))).await.status, 200, "{path}");
        let broken = get(path).insert_header(("Cookie", "login=sl_rubbish"));
        assert_eq!(door.send(broken).await.status, 303, "{path}");
    }
    // What is not known cannot be refused to somebody: the page shows nothing by itself.
    let unknown = format!("login=sl_{}_{}", "0".repeat(32), "A".repeat(43));
    assert_eq!(door.send(get("/").insert_header(("Cookie", unknown))).await.status, 200);
    let config = door.send(get("/ui/config.json")).await.json();
    assert_eq!(config["sign_in"], serde_json::json!({"enabled": true, "provider": "google"}));
}

#[actix_web::test]
async fn a_provider_that_is_away_is_no_fault_of_the_person() {
    let door = open().await;
    let path = format!("/v1/auth/login?next={SESSION}");
    let program = door.send(get(&path)).await;
    assert_eq!(problem(&program), (502, "oidc-unavailable".to_owned()));
    assert!(!program.header("retry-after").is_empty());
    let person = door.send(by_a_browser(get(&path))).await;
    let page = format!("/login?problem=oidc-unavailable&next={SESSION}");
    assert_eq!((person.status.as_u16(), person.header("location")), (303, &*page));
    let tempted = door.send(by_a_browser(get("/v1/auth/login?next=//evil.example"))).await;
    assert_eq!(tempted.header("location"), "/login?problem=oidc-unavailable");
}

#[actix_web::test]
async fn nobody_is_signed_in_because_another_site_wants_it() {
    let door = open().await;
    let path = format!("/v1/auth/login?next={SESSION}");
    let link = |site| {
        let asked = by_a_browser(get(&path)).insert_header(("Sec-Fetch-Site", site));
        asked.insert_header(("Sec-Fetch-Mode", "navigate")).insert_header(("Sec-Fetch-Dest", "document"))
    };
    for site in ["cross-site", "same-site"] {
        let answer = door.send(link(site)).await;
        assert_eq!((answer.status.as_u16(), answer.header("location")), (303, &*format!("/login?next={SESSION}")));
        assert!(answer.header("set-cookie").is_empty(), "no attempt has begun");
    }
    for site in ["same-origin", "none"] {
        // The provider is away, so somebody has asked for it.
        let answer = door.send(link(site)).await;
        assert!(answer.header("location").starts_with("/login?problem=oidc-unavailable"), "{site}");
    }
}

#[actix_web::test]
async fn nobody_comes_back_from_an_attempt_of_somebody_else() {
    let door = open().await;
    let attempt = sign_in("http://localhost:8010").await.attempt(Some(SESSION));
    let other = sign_in("http://localhost:8010").await.attempt(None);
    let cookie = format!("sign-in={}", attempt.cookie());
    let state = attempt.state();
    for (cookie, query, expected) in [
        (String::new(), format!("code=a&state={state}"), (400, "oidc-state-invalid")),
        ("sign-in=rubbish".to_owned(), format!("code=a&state={state}"), (400, "oidc-state-invalid")),
        (format!("{cookie}; {cookie}"), format!("code=a&state={state}"), (400, "oidc-state-invalid")),
        (format!("__Host-{cookie}"), format!("code=a&state={state}"), (400, "oidc-state-invalid")),
        (cookie.clone(), format!("code=a&state={}", other.state()), (400, "oidc-state-invalid")),
        (cookie.clone(), format!("code=a&state={state}&iss=https://evil.example"), (400, "oidc-state-invalid")),
        (cookie.clone(), "code=a".to_owned(), (400, "oidc-code-missing")),
        (cookie.clone(), format!("state={state}"), (400, "oidc-code-missing")),
        (cookie.clone(), "error=access_denied".to_owned(), (400, "oidc-state-invalid")),
        (cookie.clone(), format!("error=access_denied&state={state}"), (403, "sign-in-denied")),
        (cookie.clone(), format!("code=a&state={state}"), (502, "oidc-unavailable")),
        (cookie.clone(), format!("code=a&code=b&state={state}"), (422, "invalid-query")),
    ] {
        let back = || get(&format!("/v1/auth/callback?{query}")).insert_header(("Cookie", cookie.clone()));
        let answer = door.send(back()).await;
        assert_eq!(problem(&answer), (expected.0, expected.1.to_owned()), "{query}");
        assert!(answer.header("set-cookie").starts_with("sign-in=; "), "an attempt is good for one return");
        let page = door.send(by_a_browser(back())).await;
        assert!(page.header("location").starts_with(&format!("/login?problem={}", expected.1)), "{query}");
        assert!(!page.header("location").contains("evil"), "nothing of the query is said again");
    }
}

#[actix_web::test]
async fn logging_out_takes_the_cookie_away_and_no_other_site_can() {
    let door = open().await;
    let post = || request(Method::POST, "/v1/auth/logout").insert_header(("Cookie", "login=sl_rubbish"));
    let answer = door.send(post()).await;
    assert_eq!((answer.status.as_u16(), &*answer.text), (200, r#"{"status":"ok"}"#));
    assert!(answer.header("set-cookie").starts_with("login=; "), "{}", answer.header("set-cookie"));
    for header in [("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")] {
        let foreign = door.send(post().insert_header(header)).await;
        assert_eq!(problem(&foreign), (403, "origin-not-allowed".to_owned()), "{header:?}");
        assert!(foreign.header("set-cookie").is_empty());
    }
    // Somebody whose login cannot be ended now is not told that it has been.
    let unknown = format!("login=sl_{}_{}", "0".repeat(32), "A".repeat(43));
    let away = door.send(request(Method::POST, "/v1/auth/logout").insert_header(("Cookie", unknown))).await;
    assert_eq!(away.status, 503);
    assert!(!away.header("retry-after").is_empty() && away.header("set-cookie").is_empty());
}

#[actix_web::test]
async fn a_caller_is_told_who_they_are() {
    let door = open().await;
    assert_eq!(problem(&door.send(get("/v1/auth/session")).await), (401, "authorization-missing".to_owned()));
    let who = door.send(bearing(get("/v1/auth/session"))).await.json();
    let expected = serde_json::json!({
        "tenant": "acme", "subject": "ada", "name": null, "scopes": ["chat"], "provider_login": false,
    });
    assert_eq!(who, expected);
}

#[actix_web::test]
async fn a_door_that_people_see_by_tls_takes_no_cookie_that_others_may_have_planted() {
    let sign_in = sign_in("https://soma.example").await;
    let attempt = sign_in.attempt(None);
    let door = TestDoor::guarded_with(verifier().await, |door| Door { sign_in: Some(sign_in), ..door }).await;
    let back = format!("/v1/auth/callback?error=access_denied&state={}", attempt.state());
    let planted = get(&back).insert_header(("Cookie", format!("sign-in={}", attempt.cookie())));
    assert_eq!(problem(&door.send(planted).await).1, "oidc-state-invalid");
    let own = get(&back).insert_header(("Cookie", format!("__Host-sign-in={}", attempt.cookie())));
    let answer = door.send(own).await;
    assert_eq!(problem(&answer).1, "sign-in-denied");
    assert!(answer.header("set-cookie").contains("Secure"), "{}", answer.header("set-cookie"));
}

fn cookies(answer: &Answer) -> Vec<&str> {
    answer.headers.get_all("set-cookie").map(|value| value.to_str().unwrap()).collect()
}

#[actix_web::test]
async fn who_has_signed_out_is_asked_again_who_they_are() {
    let door = open().await;
    let out = door.send(request(Method::POST, "/v1/auth/logout")).await;
    assert!(
        cookies(&out).contains(&"ask-who=1; HttpOnly; SameSite=Lax; Path=/; Max-Age=2592000"),
        "{:?}",
        cookies(&out)
    );
}

#[actix_web::test]
async fn logging_out_needs_the_token_of_the_login_and_takes_it_away() {
    let sign_in = sign_in("https://soma.example").await;
    let settings = DoorSettings { require_auth: true, csrf_enabled: true, ..DoorSettings::default() };
    let verifier = verifier().await;
    let door =
        TestDoor::before(&settings, |door| Door { verifier: Some(verifier), sign_in: Some(sign_in), ..door }).await;
    let post = |cookie: &str| request(Method::POST, "/v1/auth/logout").insert_header(("Cookie", cookie.to_owned()));
    let refused = door.send(post("__Host-login=sl_rubbish")).await;
    assert_eq!(problem(&refused), (403, "csrf-token-invalid".to_owned()));
    assert!(cookies(&refused).is_empty());
    let unknown = format!("__Host-login=sl_{}_{}", "0".repeat(32), "A".repeat(43));
    let page = door.send(get("/").insert_header(("Cookie", unknown.clone()))).await;
    let given = cookies(&page)[0].to_owned();
    let csrf =
        given.strip_prefix("__Host-csrf_token=").unwrap().strip_suffix("; SameSite=Lax; Secure; Path=/").unwrap();
    let both = format!("{unknown}; __Host-csrf_token={csrf}");
    let away = door.send(post(&both).insert_header(("X-CSRF-Token", csrf))).await;
    assert_eq!(away.status, 503, "the database is away");
    let out = door.send(post(&format!("__Host-csrf_token={csrf}"))).await;
    assert_eq!(out.status, 200, "nobody is logged in with it");
    assert!(
        cookies(&out).contains(&"__Host-csrf_token=; SameSite=Lax; Secure; Path=/; Max-Age=0"),
        "{:?}",
        cookies(&out)
    );
    assert_eq!(door.send(get("/ui/config.json")).await.json()["csrf_cookie"], "__Host-csrf_token");
}

#[actix_web::test]
async fn guesses_at_the_page_count_and_first_visits_do_not() {
    let sign_in = sign_in("http://localhost:8010").await;
    let limits = LimitSettings { failure_rps: 0.001, failure_burst: 3, ..LimitSettings::default() };
    let settings = DoorSettings { require_auth: true, limits, ..DoorSettings::default() };
    let verifier = verifier().await;
    let door =
        TestDoor::before(&settings, |door| Door { verifier: Some(verifier), sign_in: Some(sign_in), ..door }).await;
    let ask = async |path: &str, cookie: Option<&str>| {
        let asked = cookie.into_iter().fold(get(path), |asked, cookie| asked.insert_header(("Cookie", cookie)));
        door.send(asked).await.status.as_u16()
    };
    for _ in 0..5 {
        assert_eq!((ask("/", None).await, ask("/login", None).await), (303, 200));
    }
    for path in ["/", "/login", SESSION] {
        assert!([200, 303].contains(&ask(path, Some("login=sl_rubbish")).await), "{path}");
    }
    assert_eq!(ask("/v1/sessions", Some("login=sl_rubbish")).await, 429);
    assert_eq!(ask("/", Some("login=sl_rubbish")).await, 200, "nobody can tell now, and the page holds nothing");
    assert_eq!(ask("/", None).await, 303);
}
