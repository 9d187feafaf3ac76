#![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

use actix_web::http::Method;
use actix_web::test::TestRequest;
use serde_json::{Value, json};
use somaagent_actors::identity::{AuthSettings, SettingsError, Verifier};
use somaagent_supervision::Probe;
use somaagent_test_services::tokens::{SECRET, Signer};

use crate::{
    settings::{DoorSettings, LimitSettings},
    testing::{TestDoor, with_body},
};

const PATH: &str = "/v1/llm/test";
const TOKEN: &str = "6f1c0a0e9b7d4c2f8e3a5b6d";

fn settings() -> DoorSettings {
    DoorSettings { internal_token: Some(TOKEN.into()), ..DoorSettings::default() }
}

fn showing(token: &str, role: &str) -> TestRequest {
    let body = json!({ "role": role }).to_string();
    with_body(Method::POST, PATH, &body).insert_header(("X-Internal-Token", token))
}

fn denied() -> (u16, String) {
    (403, "internal-denied".to_owned())
}

#[actix_web::test]
async fn a_worker_learns_that_a_model_does_not_answer_and_why() {
    let door = TestDoor::new(&settings()).await;
    let answer = door.send(showing(TOKEN, "dialogue")).await;
    let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
    assert!(detail.contains("refused") && !detail.contains("127.0.0.1"), "{}", answer.text);
    let expected = json!({
        "ok": true,
        "role": "dialogue",
        "base_url": "http://127.0.0.1:1",
        "provider": "offline",
        "credentials_present": false,
        "reachable": false,
        "status_code": null,
        "detail": detail,
    });
    assert_eq!(answer.json(), expected);
}

#[actix_web::test]
async fn a_role_without_a_model_has_none() {
    let door = TestDoor::new(&settings()).await;
    let answer = door.send(showing(TOKEN, "escalation")).await;
    assert_eq!(answer.problem(), (404, "model-profile-not-found".to_owned()));
    assert_eq!(answer.json()["detail"], "model profile not found");
    assert_eq!(door.send(showing(TOKEN, "poet")).await.problem(), (422, "invalid-body".to_owned()));
}

#[actix_web::test]
async fn only_the_internal_token_lets_workers_in() {
    let door = TestDoor::new(&settings()).await;
    for wrong in ["", " ", "6f1c0a0e9b7d4c2f8e3a5b6", "6F1C0A0E9B7D4C2F8E3A5B6D", "Bearer 6f1c0a0e9b7d4c2f8e3a5b6d"] {
        let answer = door.send(showing(wrong, "dialogue")).await;
        assert_eq!(answer.problem(), denied(), "{wrong:?}");
        assert_eq!(answer.json()["detail"], "forbidden");
    }
    let twice = showing(TOKEN, "dialogue").append_header(("X-Internal-Token", TOKEN));
    assert_eq!(door.send(twice).await.problem(), denied());
    let without = with_body(Method::POST, PATH, "{}").insert_header(("Authorization", format!("Bearer {TOKEN}")));
    assert_eq!(door.send(without).await.problem(), denied());
    // What is wrong with the request is told to workers only.
    assert_eq!(door.send(showing("wrong", "poet")).await.problem(), denied());
}

#[actix_web::test]
async fn without_an_internal_token_nobody_is_a_worker() {
    let door = TestDoor::new(&DoorSettings::default()).await;
    for shown in ["", TOKEN, "null", "None"] {
        assert_eq!(door.send(showing(shown, "dialogue")).await.problem(), denied(), "{shown:?}");
    }
}

async fn verifier() -> Verifier {
    let settings = AuthSettings { jwt_secret: Some(SECRET.into()), ..AuthSettings::default() };
    let keep = |_| async { Ok::<_, SettingsError>(Probe::new(1).1) };
    Verifier::start(&settings, keep).await.unwrap()
}

#[actix_web::test]
async fn an_admin_is_no_worker_and_a_worker_is_nobody_elsewhere() {
    let verifier = verifier().await;
    let guarded = DoorSettings { require_auth: true, ..settings() };
    let door = TestDoor::before(&guarded, |door| crate::door::Door { verifier: Some(verifier), ..door }).await;
    let claims = json!({"tenant": "acme", "sub": "ada", "scope": "admin", "exp": 9_999_999_999_u64});
    let admin = format!("Bearer {}", Signer::secret(SECRET).sign(&claims));
    let asked = with_body(Method::POST, PATH, r#"{"role":"dialogue"}"#).insert_header(("Authorization", admin));
    assert_eq!(door.send(asked).await.problem(), denied());
    assert_eq!(door.send(showing(TOKEN, "dialogue")).await.status.as_u16(), 200);
    let elsewhere = crate::testing::request(Method::GET, "/v1/sessions").insert_header(("X-Internal-Token", TOKEN));
    assert_eq!(door.send(elsewhere).await.problem(), (401, "authorization-missing".to_owned()));
}

#[actix_web::test]
async fn wrong_tokens_are_counted_and_the_right_one_still_gets_in() {
    let limits = LimitSettings { failure_rps: 0.001, failure_burst: 3, ..LimitSettings::default() };
    let door = TestDoor::new(&DoorSettings { limits, ..settings() }).await;
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(door.send(showing("wrong", "dialogue")).await.status.as_u16());
    }
    assert_eq!(seen, [403, 403, 403, 429, 429]);
    assert_eq!(door.send(showing(TOKEN, "dialogue")).await.status.as_u16(), 200);
}

#[actix_web::test]
async fn the_description_asks_for_the_internal_token_alone() {
    let door = TestDoor::new(&settings()).await;
    let api: Value = door.send(crate::testing::request(Method::GET, "/openapi.json")).await.json();
    let operation = &api["paths"][PATH]["post"];
    assert_eq!(operation["security"], json!([{"internal-token": []}]));
    assert_eq!(api["components"]["securitySchemes"]["internal-token"]["name"], "X-Internal-Token");
}
