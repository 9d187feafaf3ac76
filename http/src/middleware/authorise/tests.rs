#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use actix_web::{App, HttpResponse, HttpServer, http::StatusCode, test::TestRequest, web::to};
use jsonwebtoken::get_current_timestamp;
use serde_json::json;
use somaagent_actors::{
    identity::{AuthSettings, SettingsError, Verifier},
    policy::{FgaSettings, PolicySettings},
};
use somaagent_supervision::Probe;
use somaagent_test_services::tokens::{SECRET, Signer};

use super::*;
use crate::{
    door::Door,
    openapi::{actions, describe},
    testing::{Answer, TestDoor, request, with_body},
};

async fn verifier() -> Verifier {
    let settings = AuthSettings { jwt_secret: Some(SECRET.into()), ..AuthSettings::default() };
    let keep = |_| async { Ok::<_, SettingsError>(Probe::new(1).1) };
    Verifier::start(&settings, keep).await.unwrap()
}

async fn door() -> TestDoor {
    TestDoor::guarded(verifier().await).await
}

fn token(scope: &str) -> String {
    let now = get_current_timestamp();
    Signer::secret(SECRET).sign(&json!({"tenant": "acme", "sub": "ada", "scope": scope, "exp": now + 600}))
}

fn bearing(request: TestRequest, token: &str) -> TestRequest {
    request.insert_header(("Authorization", format!("Bearer {token}")))
}

fn code(answer: &Answer) -> (u16, String) {
    answer.problem()
}

/// Every operation: its path with its parameters filled in, its method, its action.
fn operations() -> Vec<(String, Method, String)> {
    let mut all = Vec::new();
    for (pattern, methods) in actions(&describe("1", false)) {
        let mut path = pattern.replace("{path:.*}", "css/page.css").replace("{topic}", "memory.wal.dlq");
        while let Some((before, rest)) = path.split_once('{') {
            let behind = rest.split_once('}').map_or("", |(_, behind)| behind);
            path = format!("{before}00000000-0000-4000-8000-000000000000{behind}");
        }
        all.extend(methods.into_iter().map(|(method, action)| (path.clone(), method, action)));
    }
    assert!(all.len() > 40 && all.iter().all(|(.., action)| !action.is_empty()));
    all
}

#[actix_web::test]
async fn an_operation_is_everybodys_or_nobodys_without_a_token() {
    let door = door().await;
    for (path, method, action) in operations() {
        let answer = door.send(request(method.clone(), &path)).await;
        if action == PUBLIC {
            assert!(![401, 403].contains(&answer.status.as_u16()), "{method} {path}: {}", answer.text);
        } else if is_internal(&action) {
            assert_eq!(code(&answer), (403, "internal-denied".to_owned()), "{method} {path}");
        } else {
            assert_eq!(code(&answer), (401, "authorization-missing".to_owned()), "{method} {path}");
            assert_eq!(answer.header("www-authenticate"), r#"Bearer realm="somaagent01""#, "{method} {path}");
        }
    }
    // The router reads a path as what it means, not as it is written.
    for (method, path) in
        [(Method::HEAD, "/v1/sessions"), (Method::GET, "/v1/admin/%61ctors"), (Method::GET, "/v1/runtime%2Dconfig")]
    {
        assert_eq!(door.send(request(method, path)).await.status.as_u16(), 401, "{path}");
    }
}

#[actix_web::test]
async fn what_no_operation_has_is_refused_in_the_same_words_for_everybody() {
    let door = door().await;
    for (method, path) in
        [(Method::GET, "/v1/nothing"), (Method::PUT, "/v1/sessions"), (Method::OPTIONS, "/v1/sessions")]
    {
        let nobody = door.send(request(method.clone(), path)).await;
        let somebody = door.send(bearing(request(method.clone(), path), &token("admin"))).await;
        assert_eq!((nobody.status, code(&nobody)), (somebody.status, code(&somebody)), "{method} {path}");
        assert_ne!(nobody.status.as_u16(), 401, "{method} {path}");
    }
    let overridden = request(Method::POST, "/v1/nothing").insert_header(("X-HTTP-Method-Override", "GET"));
    assert_eq!(door.send(overridden).await.status.as_u16(), 404);
}

#[actix_web::test]
async fn members_and_admins_get_as_far_as_the_policy_lets_them() {
    let door = door().await;
    for (scope, admin) in
        [("", false), ("chat administrator xadmin admin2", false), ("chat admin", true), ("keys:manage", true)]
    {
        let token = token(scope);
        // The database is away: whoever is let through is told so.
        let sessions = door.send(bearing(request(Method::GET, "/v1/sessions"), &token)).await;
        assert_eq!(code(&sessions), (503, "unavailable".to_owned()), "{scope}");
        let letters = door.send(bearing(request(Method::GET, "/v1/admin/dlq"), &token)).await;
        let expected = if admin { (503, "unavailable") } else { (403, "admin-scope-required") };
        assert_eq!(code(&letters), (expected.0, expected.1.to_owned()), "{scope}");
    }
}

#[actix_web::test]
async fn each_refusal_has_its_code() {
    let door = door().await;
    let ask = async |value: &str| {
        let asked = request(Method::GET, "/v1/sessions").insert_header(("Authorization", value));
        code(&door.send(asked).await)
    };
    let nobody = Signer::secret(SECRET).sign(&json!({"sub": "ada", "exp": 9_999_999_999_u64}));
    for (value, code) in [
        ("Basic YTpi".to_owned(), "authorization-invalid"),
        ("Bearer rubbish".to_owned(), "token-header-invalid"),
        (format!("Bearer {}x", token("")), "token-invalid"),
        (format!("Bearer {nobody}"), "identity-missing"),
    ] {
        assert_eq!(ask(&value).await, (401, code.to_owned()), "{value}");
    }
}

#[actix_web::test]
async fn without_a_decision_nobody_gets_in_and_the_process_still_says_how_it_is() {
    let settings = PolicySettings { opa_url: Some("http://127.0.0.1:1".to_owned()), ..PolicySettings::default() };
    let policy = Policy::from_settings(&settings).unwrap();
    let door = TestDoor::guarded_with(verifier().await, |door| Door { policy, ..door }).await;
    for asked in 1..8 {
        let answer = door.send(bearing(request(Method::GET, "/v1/sessions"), &token("admin"))).await;
        assert_eq!(code(&answer), (502, "policy-unavailable".to_owned()));
        assert_eq!(answer.json()["title"].as_str(), Some("OPA evaluation failed"));
        // After the fifth time it is left alone for a minute.
        let after: u64 = answer.header("retry-after").parse().unwrap();
        assert!(if asked < 5 { after == 1 } else { (2..=60).contains(&after) }, "{asked}: {after}");
    }
    let nobody = door.send(request(Method::GET, "/v1/sessions")).await;
    assert_eq!(code(&nobody), (401, "authorization-missing".to_owned()));
    for path in ["/v1/health", "/healthz", "/"] {
        assert_eq!(door.send(request(Method::GET, path)).await.status.as_u16(), 200, "{path}");
    }
}

/// A door before an OpenFGA that answers with this status and text.
#[expect(clippy::disallowed_methods, reason = "a server that ends with its test")]
async fn door_of_members(status: u16, answer: &'static str) -> TestDoor {
    let answered = move || async move { HttpResponse::build(StatusCode::from_u16(status).unwrap()).body(answer) };
    let server = HttpServer::new(move || App::new().default_service(to(answered))).workers(1).disable_signals();
    let server = server.bind(("127.0.0.1", 0)).unwrap();
    let api_url = Some(format!("http://{}", server.addrs()[0]));
    actix_web::rt::spawn(server.run());
    let settings = FgaSettings { api_url, store_id: Some("01S".to_owned()), ..FgaSettings::default() };
    let membership = Membership::from_settings(&settings).unwrap();
    TestDoor::guarded_with(verifier().await, |door| Door { membership, ..door }).await
}

#[actix_web::test]
async fn who_is_no_member_of_the_tenant_is_told_that_before_the_scope_and_after_the_policy() {
    for (status, answer, refused) in [
        (200, r#"{"allowed": true}"#, None),
        (200, r#"{"allowed": false}"#, Some((403, "tenant-denied", "Tenant access denied"))),
        (200, "{}", Some((502, "authorization-unavailable", "Authorization service unavailable"))),
        (500, r#"{"allowed": true}"#, Some((502, "authorization-unavailable", "Authorization service unavailable"))),
    ] {
        let door = door_of_members(status, answer).await;
        let otherwise = [("/v1/sessions", (503, "unavailable")), ("/v1/admin/dlq", (403, "admin-scope-required"))];
        for (path, (known, at_last)) in otherwise {
            let found = door.send(bearing(request(Method::GET, path), &token("chat"))).await;
            let (expected, name, title) = refused.unwrap_or((known, at_last, ""));
            assert_eq!(code(&found), (expected, name.to_owned()), "{answer}: {path}");
            assert!(title.is_empty() || found.json()["title"] == title, "{}", found.text);
            assert_eq!(found.header("retry-after") == "1", found.status.as_u16() >= 500, "{}", found.text);
        }
        for path in ["/v1/health", "/healthz", "/"] {
            assert_eq!(door.send(request(Method::GET, path)).await.status.as_u16(), 200, "{path}");
        }
        let nobody = door.send(request(Method::GET, "/v1/sessions")).await;
        assert_eq!(code(&nobody), (401, "authorization-missing".to_owned()));
    }
}

#[actix_web::test]
async fn a_cookie_counts_only_from_a_page_of_this_door() {
    let door = door().await;
    let ask = async |headers: &[(&'static str, &str)]| {
        let mut asked = request(Method::POST, "/v1/sessions/00000000-0000-4000-8000-000000000000/stop");
        for header in headers {
            asked = asked.insert_header(*header);
        }
        door.send(asked).await.status.as_u16()
    };
    let cookie = format!("theme=dark; jwt={}", token(""));
    let bearer = format!("Bearer {}", token(""));
    let own = ("Origin", "http://127.0.0.1:8010");
    assert_eq!(ask(&[("Cookie", &cookie), own]).await, 503);
    for foreign in [
        ("Origin", "https://evil.example"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
    ] {
        assert_eq!(ask(&[("Cookie", &cookie), foreign]).await, 403, "{foreign:?}");
        assert_eq!(
            ask(&[("Authorization", &bearer), foreign]).await,
            503,
            "no browser adds that by itself: {foreign:?}"
        );
    }
}

#[actix_web::test]
async fn the_token_says_the_tenant() {
    let door = door().await;
    let token = token("admin");
    for uri in ["/v1/sessions?tenant=umbrella", "/v1/admin/memory?tenant=umbrella", "/v1/memory/export?tenant=umbrella"]
    {
        let answer = door.send(bearing(request(Method::GET, uri), &token)).await;
        assert_eq!(code(&answer), (403, "tenant-denied".to_owned()), "{uri}");
    }
    let named = bearing(request(Method::GET, "/v1/sessions"), &token).insert_header(("X-Tenant-Id", "umbrella"));
    assert_eq!(code(&door.send(named).await), (403, "tenant-denied".to_owned()));
    let both = request(Method::GET, "/v1/sessions?tenant=umbrella").insert_header(("X-Tenant-Id", "acme"));
    assert_eq!(code(&door.send(bearing(both, &token)).await), (403, "tenant-denied".to_owned()));
    let own = bearing(request(Method::GET, "/v1/sessions"), &token).insert_header(("X-Tenant-Id", "acme"));
    assert_eq!(code(&door.send(own).await), (503, "unavailable".to_owned()));
    let body = with_body(Method::POST, "/v1/memory/export/jobs", r#"{"tenant":"umbrella"}"#);
    assert_eq!(code(&door.send(bearing(body, &token)).await), (403, "tenant-denied".to_owned()));
}

/// A door that wants a token beside a cookie.
async fn door_with_csrf() -> TestDoor {
    let settings = DoorSettings { require_auth: true, csrf_enabled: true, ..DoorSettings::default() };
    let verifier = verifier().await;
    TestDoor::before(&settings, |door| Door { verifier: Some(verifier), ..door }).await
}

#[actix_web::test]
async fn a_cookie_changes_something_only_beside_the_token_that_goes_with_it() {
    let door = door_with_csrf().await;
    let (own, others) = (token("chat"), token("chat admin"));
    let page = door.send(request(Method::GET, "/").insert_header(("Cookie", format!("jwt={own}")))).await;
    assert_eq!((page.status.as_u16(), page.header("cache-control")), (200, "private, no-cache"));
    let set = page.header("set-cookie").to_owned();
    let csrf = set.strip_prefix("csrf_token=").and_then(|rest| rest.strip_suffix("; SameSite=Lax; Path=/")).unwrap();
    let (with_own, with_others) = (format!("jwt={own}; csrf_token={csrf}"), format!("jwt={others}; csrf_token={csrf}"));
    let ask = async |method: Method, path: &str, headers: &[(&'static str, &str)]| {
        let asked = headers.iter().fold(request(method, path), |asked, header| asked.append_header(*header));
        code(&door.send(asked).await).1
    };
    let stop = "/v1/sessions/00000000-0000-4000-8000-000000000000/stop";
    let shown = ("X-CSRF-Token", csrf);
    assert_eq!(ask(Method::POST, stop, &[("Cookie", &with_own), shown]).await, "unavailable", "the database is away");
    for headers in [
        &[("Cookie", &*with_own)][..],
        &[("Cookie", &with_own), ("X-CSRF-Token", "made-up")],
        &[("Cookie", &with_own), shown, shown],
        &[("Cookie", &with_others), shown],
        &[("Cookie", &format!("jwt={own}")), shown],
        &[("Cookie", &format!("jwt={own}; csrf_token=evil")), ("X-CSRF-Token", "evil")],
    ] {
        for (method, path) in [(Method::POST, stop), (Method::DELETE, "/v1/keys/00000000-0000-4000-8000-000000000000")]
        {
            assert_eq!(ask(method, path, headers).await, "csrf-token-invalid", "{headers:?}");
        }
        assert_eq!(ask(Method::GET, "/v1/sessions", headers).await, "unavailable", "it changes nothing: {headers:?}");
    }
    // What no browser adds by itself needs nothing else, and what another site sends is refused for that.
    let bearer = format!("Bearer {own}");
    let unknown = format!("sk_{}_{}", "0".repeat(32), "A".repeat(43));
    for header in [("Authorization", &*bearer), ("X-API-Key", &*unknown)] {
        assert_eq!(ask(Method::POST, stop, &[header, ("Cookie", &with_own)]).await, "unavailable");
    }
    let foreign = [("Cookie", &*with_own), shown, ("Origin", "https://evil.example")];
    assert_eq!(ask(Method::POST, stop, &foreign).await, "origin-not-allowed");
    assert_eq!(door.send(request(Method::GET, "/ui/config.json")).await.json()["csrf_cookie"], "csrf_token");
}

#[actix_web::test]
async fn where_people_see_tls_the_csrf_token_is_in_a_cookie_that_no_other_site_can_plant() {
    let settings = DoorSettings {
        require_auth: true,
        csrf_enabled: true,
        trusted_proxies: "127.0.0.1".to_owned(),
        ..DoorSettings::default()
    };
    let jwt = format!("jwt={}", token("chat"));
    for (is_seen_by_tls, said, secure) in
        [(false, None, false), (false, Some("http"), false), (false, Some("https"), true), (true, None, true)]
    {
        let verifier = verifier().await;
        let door = TestDoor::before(&settings, |door| Door { verifier: Some(verifier), is_seen_by_tls, ..door }).await;
        let asked = |method: Method, path: &str| {
            said.into_iter().fold(request(method, path), |asked, said| asked.insert_header(("X-Forwarded-Proto", said)))
        };
        let page = door.send(asked(Method::GET, "/").insert_header(("Cookie", jwt.clone()))).await;
        let set = page.header("set-cookie").to_owned();
        let (name, rest) = if secure {
            ("__Host-csrf_token", "; SameSite=Lax; Secure; Path=/")
        } else {
            ("csrf_token", "; SameSite=Lax; Path=/")
        };
        let csrf = set.strip_prefix(name).and_then(|set| set.strip_prefix('=')?.strip_suffix(rest));
        let csrf = csrf.unwrap();
        assert_eq!(door.send(asked(Method::GET, "/ui/config.json")).await.json()["csrf_cookie"], name, "{said:?}");
        let change = async |name: &str| {
            let both = format!("{jwt}; {name}={csrf}");
            let asked = asked(Method::DELETE, "/v1/keys/00000000-0000-4000-8000-000000000000");
            code(&door.send(asked.insert_header(("Cookie", both)).insert_header(("X-CSRF-Token", csrf))).await).1
        };
        assert_eq!(change(name).await, "admin-scope-required", "it got that far: {said:?}");
        let other = if secure { "csrf_token" } else { "__Host-csrf_token" };
        assert_eq!(change(other).await, "csrf-token-invalid", "{said:?}");
    }
}

#[actix_web::test]
async fn a_page_gives_a_token_to_who_needs_one_and_has_none() {
    let door = door_with_csrf().await;
    let csrf = |answer: &Answer| answer.header("set-cookie").to_owned();
    let open = async |cookie: &str| door.send(request(Method::GET, "/").insert_header(("Cookie", cookie))).await;
    let jwt = format!("jwt={}", token(""));
    let given = csrf(&open(&jwt).await);
    let kept = given.split(';').next().unwrap();
    let again = open(&format!("{jwt}; {kept}")).await;
    assert_eq!((&*csrf(&again), again.header("cache-control")), ("", "no-cache"), "it has the right one");
    assert!(csrf(&open(&format!("{jwt}; csrf_token=evil")).await).starts_with("csrf_token="));
    let known = request(Method::GET, "/").insert_header(("Cookie", jwt.clone())).insert_header(("If-None-Match", "*"));
    let unchanged = door.send(known).await;
    assert_eq!((unchanged.status.as_u16(), csrf(&unchanged).starts_with("csrf_token=")), (304, true));
    assert_eq!(csrf(&open("theme=dark").await), "", "nothing is kept");
    assert_eq!(csrf(&door.send(bearing(request(Method::GET, "/"), &token(""))).await), "");
    // Where it is off nothing is wanted and nothing given.
    let off = self::door().await;
    let page = off.send(request(Method::GET, "/").insert_header(("Cookie", jwt))).await;
    assert_eq!((page.status.as_u16(), csrf(&page)), (200, String::new()));
    assert!(off.send(request(Method::GET, "/ui/config.json")).await.json()["csrf_cookie"].is_null());
}
