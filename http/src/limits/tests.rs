#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use std::{
    hash::{BuildHasherDefault, DefaultHasher},
    net::SocketAddr,
    thread,
};

use actix_web::{http::Method, test::TestRequest};
use jsonwebtoken::get_current_timestamp;
use serde_json::json;
use somaagent_actors::{
    domain::ids::Tenant,
    identity::{AuthSettings, SettingsError, Verifier},
    policy::{Asker, Context, Policy, PolicySettings, Subject, decision::ADMIN_SCOPE},
};
use somaagent_supervision::Probe;
use somaagent_test_services::tokens::{SECRET, Signer};

use super::*;
use crate::door::Door;
use crate::{
    openapi::describe,
    settings::DoorSettings,
    testing::{Answer, TestDoor, request, with_body},
};

/// What is known of all callers takes, however many there are.
const TABLE_BYTES: usize = 2 << 20;

/// A hash that is the same in every run.
fn hash(caller: u64) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(caller)
}

#[tokio::test(start_paused = true)]
async fn a_bucket_is_full_at_first_and_fills_steadily() {
    let each = Each::new("default", 0.5, 3).unwrap();
    let stands = |remaining, reset_seconds| Standing {
        policy: "default",
        quota: 3,
        window_seconds: 6,
        remaining,
        reset_seconds,
    };
    assert_eq!(each.look(1), Ok(stands(2, 2)));
    assert_eq!([each.take(1), each.take(1), each.take(1)], [Ok(stands(2, 2)), Ok(stands(1, 4)), Ok(stands(0, 6))]);
    assert_eq!([each.take(1), each.look(1)], [Err(stands(0, 2)), Err(stands(0, 2))]);
    assert_eq!(each.take(2), Ok(stands(2, 2)), "another one has a bucket of their own");
    tokio::time::advance(Duration::from_millis(1_500)).await;
    assert_eq!(each.take(1), Err(stands(0, 1)));
    tokio::time::advance(Duration::from_millis(500)).await;
    assert_eq!([each.take(1), each.take(1)], [Ok(stands(0, 6)), Err(stands(0, 2))]);
    tokio::time::advance(Duration::from_hours(1)).await;
    assert_eq!(each.take(1), Ok(stands(2, 2)));
    assert!(Each::new("default", 0.0, 3).is_none() && Shared::new("admin", 0.0, 3).is_none());
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_identities_have_a_bucket_each_in_a_table_that_does_not_grow() {
    const IDENTITIES: u64 = 10_000;
    let each = Each::new("default", 1.0, 5).unwrap();
    let mut robbed = 0;
    for caller in 0..IDENTITIES {
        let taken = (0..5).filter(|_| each.take(hash(caller)).is_ok()).count();
        robbed += usize::from(taken < 5);
        assert!(each.take(hash(caller)).is_err(), "{caller} has more than a bucket");
    }
    assert!(robbed <= 10, "{robbed} of {IDENTITIES} lost something to others, who all took all they had");
    assert_eq!(each.bytes(), TABLE_BYTES);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_new_callers_frees_no_abuser_and_shuts_nobody_out() {
    let each = Each::new("default", 1.0, 5).unwrap();
    while each.take(hash(0)).is_ok() {}
    let refused = (1..300_000).filter(|caller| each.take(hash(*caller)).is_err()).count();
    assert!(each.take(hash(0)).is_err(), "the flood washed the abuser's use away");
    assert_eq!(refused, 0);
    assert_eq!(each.bytes(), TABLE_BYTES);
}

#[test]
fn threads_that_take_at_once_get_no_more_than_there_is() {
    let each = Each::new("default", 0.000_1, 1_000).unwrap();
    let taken: usize = thread::scope(|scope| {
        let take = || (0..1_000).filter(|_| each.take(hash(7)).is_ok()).count();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(taken, 1_000);
}

#[test]
fn addresses_of_one_network_of_version_6_are_one() {
    let network = |text: &str| network(text.parse().unwrap()).to_string();
    assert_eq!(network("2001:db8:1:2:3:4:5:6"), network("2001:db8:1:2::1"));
    assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
    assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
}

#[actix_web::test]
async fn admin_actions_are_those_that_the_policy_gives_to_admins_only() {
    let policy = Policy::from_settings(&PolicySettings::default()).unwrap();
    let tenant = Tenant::new("acme").unwrap();
    let mut seen = 0;
    for (_, action) in crate::openapi::actions(&describe("1", false)).into_values().flatten() {
        let subject = Subject {
            tenant: &tenant,
            persona_id: None,
            asker: Asker::Member { subject: "u", issuer: None, scope: None },
        };
        let decision = policy.decide(&subject, &action, "something", &Context::default()).await;
        assert_eq!(is_admin(&action), &*decision.rule == ADMIN_SCOPE, "{action}");
        seen += 1;
    }
    assert!(seen > 40, "{seen}");
}

async fn guarded(limits: LimitSettings) -> TestDoor {
    let settings = AuthSettings { jwt_secret: Some(SECRET.into()), ..AuthSettings::default() };
    let keep = |_| async { Ok::<_, SettingsError>(Probe::new(1).1) };
    let verifier = Verifier::start(&settings, keep).await.unwrap();
    let settings = DoorSettings { require_auth: true, limits, ..DoorSettings::default() };
    TestDoor::before(&settings, |door| Door { verifier: Some(verifier), ..door }).await
}

async fn open(limits: LimitSettings) -> TestDoor {
    TestDoor::new(&DoorSettings { limits, ..DoorSettings::default() }).await
}

fn from(request: TestRequest, address: &str) -> TestRequest {
    request.peer_addr(SocketAddr::new(address.parse().unwrap(), 4711))
}

fn token(subject: &str, scope: &str) -> String {
    let claims = json!({"tenant": "acme", "sub": subject, "scope": scope, "exp": get_current_timestamp() + 600});
    Signer::secret(SECRET).sign(&claims)
}

fn shown(subject: &str, scope: &str) -> TestRequest {
    showing(&token(subject, scope))
}

fn showing(token: &str) -> TestRequest {
    request(Method::GET, "/v1/runtime-config").insert_header(("Authorization", format!("Bearer {token}")))
}

fn told(answer: &Answer) -> (u16, [&str; 3]) {
    (answer.status.as_u16(), ["ratelimit-policy", "ratelimit", "retry-after"].map(|name| answer.header(name)))
}

/// So slow that nothing comes back while a test runs.
const SLOW: f64 = 0.001;

#[actix_web::test]
async fn callers_are_told_how_they_stand_and_refused_when_nothing_is_left() {
    let limits = LimitSettings { enabled: true, rps: SLOW, burst: 2, ..LimitSettings::default() };
    let door = guarded(limits).await;
    let policy = r#""default";q=2;w=2000"#;
    let first = door.send(shown("ada", "")).await;
    assert_eq!(told(&first), (200, [policy, r#""default";r=1;t=1000"#, ""]));
    assert_eq!(told(&door.send(shown("ada", "")).await).1[1], r#""default";r=0;t=2000"#);
    let refused = door.send(from(shown("ada", ""), "192.0.2.9")).await;
    assert_eq!(refused.problem(), (429, "rate-limited".to_owned()));
    assert_eq!(refused.header("content-type"), "application/problem+json");
    let (_, [given, left, after]) = told(&refused);
    assert_eq!((given, left.starts_with(r#""default";r=0;t="#)), (policy, true), "{left}");
    assert!(left.ends_with(&format!("t={after}")) && (900..=1000).contains(&after.parse().unwrap()), "{after}");
    // Others have their own; who needs not say who they are counts by address, and probes not at all.
    assert_eq!(door.send(shown("bob", "")).await.status, 200);
    for (address, statuses) in
        [("2001:db8::1", [200, 200, 429]), ("2001:db8::2", [429; 3]), ("192.0.2.1", [200, 200, 429])]
    {
        for expected in statuses {
            let page = door.send(from(request(Method::GET, "/ui/config.json"), address)).await;
            assert_eq!(page.status.as_u16(), expected, "{address}");
        }
        let probe = door.send(from(request(Method::GET, "/healthz"), address)).await;
        assert_eq!((told(&probe).1[0], probe.status.as_u16()), ("", 200));
    }
}

#[actix_web::test]
async fn operations_of_admins_have_a_bucket_for_each_route() {
    let limits = LimitSettings { admin_rps: SLOW, admin_burst: 2, ..LimitSettings::default() };
    let door = open(limits.clone()).await;
    let ask = async |path: &str| door.send(request(Method::GET, path)).await;
    for id in ["a", "%62"] {
        assert_eq!(ask(&format!("/v1/admin/memory/{id}")).await.status, 503, "the database is away");
    }
    let refused = ask("/v1/admin/memory/c").await;
    assert_eq!(refused.problem(), (429, "admin-rate-limited".to_owned()));
    assert_eq!(refused.json()["detail"], "Too Many Requests (admin rate limit)");
    assert_eq!(refused.header("ratelimit-policy"), r#""admin";q=2;w=2000"#);
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(ask("/v1/admin/memory").await.status, 503);
    for _ in 0..5 {
        assert_eq!(ask("/v1/sessions").await.status, 503);
    }
    // Who may not do it uses nothing up.
    let door = guarded(limits).await;
    let ask = async |scope| door.send(shown("ada", scope).uri("/v1/admin/dlq")).await.status.as_u16();
    for (scope, status) in [("", 403), ("", 403), ("", 403), ("admin", 503), ("admin", 503), ("admin", 429), ("", 403)]
    {
        assert_eq!(ask(scope).await, status, "{scope}");
    }
}

#[actix_web::test]
async fn an_address_that_fails_to_prove_who_it_is_may_not_try_for_ever() {
    let door = guarded(LimitSettings { failure_rps: SLOW, failure_burst: 3, ..LimitSettings::default() }).await;
    let ask = async |request, address| door.send(from(request, address)).await.problem().0;
    let wrong = || request(Method::GET, "/v1/sessions").insert_header(("Authorization", "Bearer a.b.c"));
    let nothing = || request(Method::GET, "/v1/sessions");
    // Whoever shows nothing guesses nothing: a page of another site can make anybody's browser ask so.
    for request in [nothing(), wrong(), nothing(), wrong(), nothing(), nothing(), wrong()] {
        assert_eq!(ask(request, "2001:db8::1").await, 401);
    }
    for request in [wrong(), nothing(), shown("ada", "")] {
        let refused = door.send(from(request, "2001:db8::ffff")).await;
        assert_eq!(refused.problem(), (429, "rate-limited".to_owned()));
        assert_eq!(refused.header("ratelimit-policy"), r#""auth-failures";q=3;w=3000"#);
    }
    // Others may, and what needs no proof is answered to everybody.
    assert_eq!(door.send(from(shown("ada", ""), "192.0.2.1")).await.status, 200);
    assert_eq!(door.send(from(request(Method::GET, "/ui/config.json"), "2001:db8::1")).await.status, 200);
    for _ in 0..5 {
        assert_eq!(door.send(from(shown("ada", ""), "192.0.2.1")).await.status, 200, "a proof uses nothing up");
    }
    let token = token("bob", "");
    assert_eq!(door.send(from(showing(&token), "192.0.2.1")).await.status, 200);
    assert_eq!(door.send(from(showing(&token), "2001:db8::1")).await.status, 200, "whoever was proved before gets in");
}

#[actix_web::test]
async fn what_cannot_be_checked_just_now_is_not_tried_for_ever_either() {
    let door = guarded(LimitSettings { failure_rps: SLOW, failure_burst: 3, ..LimitSettings::default() }).await;
    // The database is away.
    let key = |n: u32| format!("sk_{n:032}_{}", "A".repeat(43));
    for n in 0..3 {
        assert_eq!(door.send(showing(&key(n))).await.problem(), (503, "unavailable".to_owned()));
    }
    assert_eq!(door.send(showing(&key(3))).await.problem(), (429, "rate-limited".to_owned()));
    assert_eq!(door.send(from(shown("ada", ""), "192.0.2.1")).await.status, 200);
}

#[actix_web::test]
async fn a_full_door_refuses_before_it_looks_and_says_how_it_is() {
    let door = guarded(LimitSettings { max_in_flight: 0, ..LimitSettings::default() }).await;
    for asked in [shown("ada", ""), request(Method::GET, "/"), with_body(Method::POST, "/v1/session/message", "{")] {
        let answer = door.send(asked).await;
        assert_eq!(answer.problem(), (503, "overloaded".to_owned()));
        assert_eq!(answer.header("retry-after"), "1");
    }
    for path in ["/healthz", "/health", "/v1/health"] {
        assert_eq!(door.send(request(Method::GET, path)).await.status, 200, "{path}");
    }
    assert_eq!(door.send(request(Method::GET, "/readyz")).await.problem().1, "unavailable", "the database is away");
}
