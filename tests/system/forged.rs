//! Tokens and requests that must not be taken, each with its exact answer. None of them changes anything.

mod api_keys;
mod internal;
mod requests;
mod tokens;

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use somaagent_test_services::client::Raw;
use somaagent_test_services::tokens::{SECRET, Signer, ec_signer, ed_signer, rsa_signer};
use sqlx::PgPool;

use crate::stack::{Setup, Stack};

/// Who the issuers with public keys are.
const RSA_ISSUER: &str = "https://rsa.example";
const EC_ISSUER: &str = "https://ec.example";
const ED_ISSUER: &str = "https://ed.example";
const AUDIENCE: &str = "soma";
const INTERNAL: &str = "internal-5d1c7e90ab";

/// A request as it goes over the wire, and its answer: the status, and the problem's code if it has one.
struct Case {
    name: String,
    request: Vec<u8>,
    expected: (u16, &'static str),
}

impl Case {
    /// A request for the list of sessions with these lines in its head.
    fn with(name: &str, lines: &[u8], status: u16, code: &'static str) -> Self {
        let start = b"GET /v1/sessions HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n";
        Self::raw(name, &[&start[..], lines, b"\r\n"].concat(), status, code)
    }

    fn raw(name: &str, request: &[u8], status: u16, code: &'static str) -> Self {
        Self { name: name.to_owned(), request: request.to_vec(), expected: (status, code) }
    }

    /// A request that shows this token.
    fn token(name: &str, token: &str, status: u16, code: &'static str) -> Self {
        Self::with(name, format!("Authorization: Bearer {token}\r\n").as_bytes(), status, code)
    }

    async fn answer(&self, base: &str) -> (u16, String) {
        let mut raw = Raw::connect(base, None).await.unwrap();
        // A server that has refused need not read to the end.
        drop(raw.send(&self.request).await);
        let answer = String::from_utf8_lossy(&raw.read_to_end().await).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        (status, body["code"].as_str().unwrap_or_default().to_owned())
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Claims that are taken.
fn claims() -> Value {
    json!({"sub": "ada", "tenant": "acme", "exp": now() + 3600, "scope": "admin"})
}

/// Claims that are taken of one of the issuers with public keys.
fn claims_of(issuer: &str) -> Value {
    with(&claims(), &json!({"iss": issuer, "aud": AUDIENCE, "tenant": issuer}))
}

fn with(claims: &Value, change: &Value) -> Value {
    let mut all = claims.clone();
    all.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    all
}

fn good() -> String {
    Signer::secret(SECRET).sign(&claims())
}

async fn start() -> Stack {
    let issuers: Vec<String> = [
        (RSA_ISSUER, rsa_signer(), "RS256"),
        (EC_ISSUER, ec_signer(), "ES256"),
        (ED_ISSUER, ed_signer(), "EdDSA"),
    ]
    .iter()
    .map(|(issuer, signer, algorithm)| {
        let key = json!(signer.public_pem);
        format!(r#"{{issuer = "{issuer}", public_key = {key}, algorithms = "{algorithm}", audience = "{AUDIENCE}", tenants = "{issuer}"}}"#)
    })
    .collect();
    Setup::default()
        .set("GATEWAY_JWT_SECRET", SECRET)
        .set("GATEWAY_INTERNAL_TOKEN", INTERNAL)
        .set("GATEWAY_CSRF_ENABLED", true)
        .set("SA01_AUTH__ISSUERS", format!("[{}]", issuers.join(", ")))
        // All of them come from one address.
        .set("GATEWAY_AUTH_FAILURE_RPS", 0)
        .start()
        .await
}

async fn rows(pool: &PgPool) -> Vec<i64> {
    let query = "SELECT count(*) FROM session_events UNION ALL SELECT count(*) FROM session_envelopes
                 UNION ALL SELECT count(*) FROM memory_write_outbox UNION ALL SELECT count(*) FROM api_keys";
    sqlx::query_scalar(query).fetch_all(pool).await.unwrap()
}

#[tokio::test]
async fn what_is_forged_is_refused_with_its_exact_answer_and_changes_nothing() {
    let stack = start().await;
    let pool = stack.database.pool().await.unwrap();
    let before = rows(&pool).await;
    let cases = [tokens::all(), requests::all(), api_keys::all(), internal::all()];
    let cases: Vec<Case> = cases.into_iter().flatten().collect();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    assert_eq!(names.len(), cases.len(), "a name is there twice");
    assert!(cases.len() >= 150, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let answer = case.answer(stack.app.url()).await;
        if (answer.0, answer.1.as_str()) != case.expected {
            wrong.push(format!("{}: {answer:?} and not {:?}", case.name, case.expected));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    assert_eq!(rows(&pool).await, before);
    assert!(!stack.app.output().contains("panicked"));
}

#[tokio::test]
async fn what_is_right_is_taken() {
    let stack = start().await;
    let signed = [
        ("secret", good()),
        ("rsa", rsa_signer().sign(&claims_of(RSA_ISSUER))),
        ("ec", ec_signer().sign(&claims_of(EC_ISSUER))),
        ("ed", ed_signer().sign(&claims_of(ED_ISSUER))),
        // Where a token says that its key is to be had counts for nothing.
        (
            "jku",
            Signer::secret(SECRET)
                .sign_raw(br#"{"alg":"HS256","jku":"https://evil.example"}"#, claims().to_string().as_bytes()),
        ),
        ("leeway", Signer::secret(SECRET).sign(&with(&claims(), &json!({"exp": now() - 5, "nbf": now() + 5})))),
    ];
    for (name, token) in signed {
        let case = Case::token(name, &token, 200, "");
        assert_eq!(case.answer(stack.app.url()).await, (200, String::new()), "{name}");
    }
}
