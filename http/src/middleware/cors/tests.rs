#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use actix_web::{
    http::{Method, header::HeaderName},
    test::TestRequest,
};
use jsonwebtoken::get_current_timestamp;
use serde_json::json;
use somaagent_actors::identity::{AuthSettings, SettingsError, Verifier};
use somaagent_supervision::Probe;
use somaagent_test_services::tokens::{SECRET, Signer};

use super::*;
use crate::{
    door::Door,
    settings::DoorSettings,
    testing::{Answer, TestDoor, request},
};

const FRIEND: &str = "https://friend.example";
const STRANGER: &str = "https://stranger.example";

fn settings(cors: CorsSettings, require_auth: bool) -> DoorSettings {
    DoorSettings { require_auth, cors, ..DoorSettings::default() }
}

fn of(origins: &str) -> CorsSettings {
    CorsSettings { origins: origins.to_owned(), ..CorsSettings::default() }
}

async fn guarded(cors: CorsSettings) -> TestDoor {
    let auth = AuthSettings { jwt_secret: Some(SECRET.into()), ..AuthSettings::default() };
    let keep = |_| async { Ok::<_, SettingsError>(Probe::new(1).1) };
    let verifier = Verifier::start(&auth, keep).await.unwrap();
    TestDoor::before(&settings(cors, true), |door| Door { verifier: Some(verifier), ..door }).await
}

/// A question beforehand.
fn preflight(origin: &str, method: &str) -> TestRequest {
    let asked = request(Method::OPTIONS, "/v1/session/message").insert_header(("Origin", origin));
    asked
        .insert_header(("Access-Control-Request-Method", method))
        .insert_header(("Access-Control-Request-Headers", "authorization,content-type"))
}

fn told(answer: &Answer) -> Vec<&str> {
    let names = answer.headers.keys().map(HeaderName::as_str);
    names.filter(|name| name.starts_with("access-control-")).collect()
}

#[actix_web::test]
async fn nobody_is_told_anything_unless_origins_are_configured() {
    let door = guarded(CorsSettings::default()).await;
    let answer = door.send(preflight(FRIEND, "POST")).await;
    assert_eq!((answer.status.as_u16(), answer.header("allow")), (204, "POST, OPTIONS"));
    assert!(told(&answer).is_empty());
    let answer = door.send(request(Method::GET, "/ui/config.json").insert_header(("Origin", FRIEND))).await;
    assert!(answer.status.is_success() && told(&answer).is_empty());
}

#[actix_web::test]
async fn a_friend_may_ask_and_read_and_a_stranger_may_not() {
    let door = guarded(CorsSettings { expose_headers: "ratelimit".to_owned(), ..of(FRIEND) }).await;
    let answer = door.send(preflight(FRIEND, "POST")).await;
    assert_eq!(answer.status, 200, "no token is asked for beforehand: {}", answer.text);
    assert_eq!(answer.header("access-control-allow-origin"), FRIEND);
    assert!(answer.header("access-control-allow-methods").contains("POST"));
    assert_eq!(answer.header("access-control-allow-headers"), "authorization,content-type");
    assert_eq!(answer.header("access-control-max-age"), "3600");
    assert_eq!((answer.header("cache-control"), answer.header("x-content-type-options")), ("no-store", "nosniff"));
    assert!(answer.header("vary").contains("Origin"), "{}", answer.header("vary"));
    assert!(!told(&answer).contains(&"access-control-allow-credentials"));
    let refused = door.send(preflight(STRANGER, "POST")).await;
    assert_eq!(refused.problem(), (403, "origin-not-allowed".to_owned()));
    assert!(!told(&refused).contains(&"access-control-allow-origin"));

    let ask = |origin| request(Method::GET, "/v1/sessions").insert_header(("Origin", origin));
    let answer = door.send(ask(FRIEND)).await;
    assert_eq!(answer.problem(), (401, "authorization-missing".to_owned()));
    assert_eq!(answer.header("access-control-allow-origin"), FRIEND, "also a refusal may be read");
    let exposed: Vec<_> = answer.header("access-control-expose-headers").split(", ").collect();
    for name in ["ratelimit", "location", "upload-offset", "upload-attachment", "tus-max-size"] {
        assert!(exposed.contains(&name), "{exposed:?}");
    }
    let answer = door.send(ask(STRANGER)).await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
    assert!(answer.header("vary").contains("Origin"));
}

#[actix_web::test]
async fn only_the_methods_and_headers_of_the_settings_are_allowed() {
    let (methods, headers) = ("GET".to_owned(), "authorization".to_owned());
    let door = guarded(CorsSettings { methods, headers, ..of(FRIEND) }).await;
    assert_eq!(door.send(preflight(FRIEND, "POST")).await.problem().0, 403);
    assert_eq!(door.send(preflight(FRIEND, "GET")).await.problem().0, 403);
    let one = preflight(FRIEND, "GET").insert_header(("Access-Control-Request-Headers", "authorization"));
    assert_eq!(door.send(one).await.status, 200);
}

#[actix_web::test]
async fn all_origins_are_all_and_no_cookie_counts_from_them() {
    let door = guarded(of("*")).await;
    let answer = door.send(preflight(STRANGER, "POST")).await;
    assert_eq!((answer.status.as_u16(), answer.header("access-control-allow-origin")), (200, "*"));
    assert_eq!(with_cookie(&door, STRANGER).await.problem(), (403, "origin-not-allowed".to_owned()));
}

async fn with_cookie(door: &TestDoor, origin: &str) -> Answer {
    let claims = json!({"tenant": "acme", "sub": "ada", "exp": get_current_timestamp() + 600});
    let cookie = format!("jwt={}", Signer::secret(SECRET).sign(&claims));
    let asked = request(Method::GET, "/v1/runtime-config").insert_header(("Origin", origin));
    door.send(asked.insert_header(("Cookie", cookie)).insert_header(("Sec-Fetch-Site", "cross-site"))).await
}

#[actix_web::test]
async fn a_cookie_counts_from_a_friend_only_where_that_is_said() {
    for (credentials, origin, status) in [(false, FRIEND, 403), (true, FRIEND, 200), (true, STRANGER, 403)] {
        let door = guarded(CorsSettings { credentials, ..of(FRIEND) }).await;
        let answer = with_cookie(&door, origin).await;
        assert_eq!(answer.status.as_u16(), status, "{credentials} {origin}: {}", answer.text);
        let allowed = if credentials { "true" } else { "" };
        assert_eq!(answer.header("access-control-allow-credentials"), allowed);
    }
}

#[actix_web::test]
async fn without_authentication_a_friend_is_served_and_host_names_are_checked_all_the_same() {
    let door = TestDoor::new(&settings(of("http://localhost:3000"), false)).await;
    let ask = |origin| request(Method::GET, "/v1/runtime-config").insert_header(("Origin", origin));
    let friend = || ask("http://localhost:3000").insert_header(("Sec-Fetch-Site", "same-site"));
    assert_eq!(door.send(friend()).await.status, 200);
    let both = friend().append_header(("Origin", STRANGER));
    assert_eq!(door.send(both).await.problem().0, 403);
    for origin in [STRANGER, "http://localhost:3001", "null"] {
        assert_eq!(door.send(ask(origin)).await.problem(), (403, "origin-not-allowed".to_owned()), "{origin}");
    }
    let rebound = friend().insert_header(("Host", "evil.example"));
    assert_eq!(door.send(rebound).await.problem(), (403, "host-not-allowed".to_owned()));
}
