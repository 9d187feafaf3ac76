//! Secrets that are kept in Vault, and the token by which workers are known.

use reqwest::Method;
use serde_json::{Value, json};
use somaagent_test_services::brain::Brain;
use somaagent_test_services::client::{Answer, Client, Post};
use somaagent_test_services::model::Model;
use somaagent_test_services::postgres::Postgres;
use somaagent_test_services::process::{Binary, ProcessSignal};
use somaagent_test_services::tokens::{SECRET, Signer};
use somaagent_test_services::vault::{Mood, Vault};
use somaagent_test_services::wait::eventually;

use crate::identity::claims;
use crate::stack::{Setup, binary, ended_turns, new_session};

const TOKEN: &str = "hvs.3f9c1e7a5b2d";
const OTHER_SECRET: &str = "another-0123456789-abcdefghijklmnop";
const INTERNAL: &str = "internal-5d1c7e90ab";
const PLACE: &str = "secret/gateway";

/// A process that is told of every secret only where it is.
fn keeping(vault: &Vault) -> Binary {
    let mut binary = binary()
        .set("VAULT_ADDR", &vault.url())
        .set("VAULT_TOKEN", TOKEN)
        .set("SA01_VAULT__REFRESH_SECONDS", "1")
        .set("SA01_VAULT__GRACE_SECONDS", "0");
    for (name, field) in [
        ("GATEWAY_JWT_SECRET", "jwt"),
        ("GATEWAY_INTERNAL_TOKEN", "internal"),
        ("SA01_LLM_API_KEY", "model"),
        ("SOMA_API_KEY", "brain"),
        ("POSTGRES_DSN", "dsn"),
    ] {
        binary = binary.set(&format!("{name}_VAULT"), &format!("{PLACE}#{field}"));
    }
    binary
}

fn keep(vault: &Vault, dsn: &str, jwt: &str, keys: &str) {
    let (model, brain) = (format!("model-{keys}"), format!("brain-{keys}"));
    let internal = format!("{INTERNAL}-{keys}");
    vault.keep(PLACE, &[("jwt", jwt), ("internal", &internal), ("model", &model), ("brain", &brain), ("dsn", dsn)]);
}

async fn status_of(client: &Client) -> u16 {
    client.get("/v1/sessions").await.unwrap().status
}

async fn tested(client: &Client, token: &str, role: &str) -> Answer {
    let request = client.request(Method::POST, "/v1/llm/test").json(&json!({"role": role}));
    client.send(request.header("X-Internal-Token", token)).await.unwrap()
}

#[tokio::test]
async fn secrets_of_vault_are_used_and_exchanged_without_a_restart() {
    let (vault, model, brain) =
        (Vault::start(TOKEN).await.unwrap(), Model::start().await.unwrap(), Brain::start().await.unwrap());
    let database = Postgres::shared().unwrap().fresh_database().await.unwrap();
    keep(&vault, &database.dsn(), SECRET, "one");
    let app = keeping(&vault)
        .set("SA01_LLM_BASE_URL", &model.base_url())
        .set("SA01_LLM_MODEL", "scripted")
        .set("SOMA_BASE_URL", &brain.base_url())
        .set("SA01_TURNS__RECALL_DEADLINE_MS", "20000");
    let app = app.start().await.unwrap();
    let nobody = Client::new(app.url()).unwrap();
    let [old, new] = [SECRET, OTHER_SECRET]
        .map(|secret| nobody.showing(&Signer::secret(secret).sign(&claims("acme", "ada", "chat"))).unwrap());
    let turn = async |client: &Client, number: usize, keys: &str| {
        let session = new_session();
        let posted = client.message(&Post::new("hi").to(&session)).await.unwrap();
        assert_eq!(posted.status, 200, "{}", posted.text);
        ended_turns(client, &session, 1).await;
        assert_eq!(model.exchange(number).await.headers["authorization"], format!("Bearer model-{keys}"));
    };
    assert_eq!((status_of(&old).await, status_of(&new).await), (200, 401));
    turn(&old, 0, "one").await;
    assert_eq!(tested(&nobody, &format!("{INTERNAL}-one"), "dialogue").await.status, 200);

    // Everything is another one.
    keep(&vault, &database.dsn(), OTHER_SECRET, "two");
    eventually("the new secret", async || (status_of(&new).await == 200).then_some(())).await;
    assert_eq!(status_of(&old).await, 401, "what was proved before is forgotten");
    turn(&new, 1, "two").await;
    eventually("the new key of the memory service", async || {
        brain.calls().iter().any(|call| call.headers.values().any(|value| value.contains("brain-two"))).then_some(())
    })
    .await;
    assert_eq!(tested(&nobody, &format!("{INTERNAL}-two"), "dialogue").await.status, 200);
    assert_eq!(tested(&nobody, &format!("{INTERNAL}-one"), "dialogue").await.code(), "internal-denied");

    // Vault is away, talks rubbish, refuses: what was read last goes on.
    let health = async || -> Value { nobody.get("/healthz").await.unwrap().json()["components"]["vault"].clone() };
    for mood in [Mood::Failing(503), Mood::Babbling, Mood::Failing(403), Mood::Dropping] {
        vault.set_mood(mood);
        eventually("it shows", async || (health().await["status"] == "degraded").then_some(())).await;
        assert_eq!((status_of(&new).await, status_of(&old).await), (200, 401), "{mood:?}");
        vault.set_mood(Mood::Well);
        eventually("it is well again", async || (health().await["status"] == "ok").then_some(())).await;
    }
    keep(&vault, &database.dsn(), SECRET, "three");
    eventually("the secret after that", async || (status_of(&old).await == 200).then_some(())).await;
}

#[tokio::test]
async fn a_secret_that_nobody_confirms_is_taken_no_longer_and_readers_are_told_to_come_back() {
    let vault = Vault::start(TOKEN).await.unwrap();
    vault.keep(PLACE, &[("jwt", SECRET), ("internal", INTERNAL)]);
    let app = binary()
        .set("VAULT_ADDR", &vault.url())
        .set("VAULT_TOKEN", TOKEN)
        .set("SA01_VAULT__REFRESH_SECONDS", "1")
        .set("SA01_VAULT__STALE_SECONDS", "2")
        .set("GATEWAY_JWT_VAULT_PATH", "gateway")
        .set("GATEWAY_JWT_VAULT_SECRET_KEY", "jwt")
        .set("GATEWAY_INTERNAL_TOKEN_VAULT", "secret/gateway#internal");
    let app = app.start().await.unwrap();
    let nobody = Client::new(app.url()).unwrap();
    let ada = nobody.showing(&Signer::secret(SECRET).sign(&claims("acme", "ada", "chat"))).unwrap();
    eventually("it is taken", async || (status_of(&ada).await == 200).then_some(())).await;
    vault.down().await;
    let refused = eventually("it is not taken", async || {
        Some(ada.get("/v1/sessions").await.unwrap()).filter(|answer| answer.status != 200)
    });
    let refused = refused.await;
    assert_eq!((refused.status, refused.code().as_str()), (502, "jwks-unavailable"), "{}", refused.text);
    assert!(!refused.header("retry-after").is_empty());
    let internal = eventually("nor is the internal one", async || {
        Some(tested(&nobody, INTERNAL, "dialogue").await).filter(|answer| answer.status != 200)
    });
    let internal = internal.await;
    assert_eq!((internal.status, internal.code().as_str()), (503, "unavailable"), "{}", internal.text);
    vault.up().await.unwrap();
    eventually("it is taken again", async || (status_of(&ada).await == 200).then_some(())).await;
}

#[tokio::test]
async fn what_vault_refuses_ends_the_start_with_everything_that_is_wrong() {
    let vault = Vault::start(TOKEN).await.unwrap();
    vault.keep(PLACE, &[("jwt", "short"), ("brain", "fine")]);
    let binary = keeping(&vault).set("GATEWAY_CSP", "default-src\n'none'");
    let ended = binary.run().await.unwrap();
    assert_eq!(ended.code, Some(78), "{}", ended.output);
    for named in [
        "auth.jwt_secret (GATEWAY_JWT_SECRET): is shorter than 32 bytes",
        "SA01_LLM_API_KEY_VAULT names secret/gateway#model: Vault has nothing there",
        "POSTGRES_DSN_VAULT names secret/gateway#dsn: Vault has nothing there",
        "headers.csp (GATEWAY_CSP)",
    ] {
        assert!(ended.output.contains(named), "{named} is missing in {}", ended.output);
    }
    let refused = keeping(&vault).set("VAULT_TOKEN", "hvs.wrong").run().await.unwrap();
    assert_eq!(refused.code, Some(78), "{}", refused.output);
    assert_eq!(
        refused.output.matches("Vault refuses the token, or what it asks for (status 403)").count(),
        5,
        "{}",
        refused.output
    );
    assert!(!refused.output.contains("hvs.wrong") && !refused.output.contains(TOKEN), "{}", refused.output);
}

#[tokio::test]
async fn a_start_waits_for_a_vault_that_does_not_answer_but_not_for_ever() {
    let vault = Vault::start(TOKEN).await.unwrap();
    vault.keep(PLACE, &[("internal", INTERNAL)]);
    let binary = binary()
        .set("VAULT_ADDR", &vault.url())
        .set("VAULT_TOKEN", TOKEN)
        .set("GATEWAY_INTERNAL_TOKEN_VAULT", "secret/gateway#internal");
    for mood in [Mood::Failing(503), Mood::Silent] {
        vault.set_mood(mood);
        let ended = binary.clone().set("SA01_VAULT__START_SECONDS", "2").run().await.unwrap();
        assert_eq!(ended.code, Some(1), "{}", ended.output);
        assert!(ended.output.contains("secrets cannot be read, also after 2 s: Vault "), "{}", ended.output);
        assert!(!ended.output.contains(TOKEN), "{}", ended.output);
    }
    let active = Vault::start(TOKEN).await.unwrap();
    vault.send_to(307, &active.url());
    let ended = binary.clone().set("SA01_VAULT__START_SECONDS", "2").run().await.unwrap();
    assert_eq!(ended.code, Some(1), "{}", ended.output);
    assert!(ended.output.contains("Vault redirects to another address (status 307)"), "{}", ended.output);
    assert_eq!(active.calls(), [""; 0], "the token has gone nowhere");
    let patient = binary.set("SA01_VAULT__START_SECONDS", "120");
    vault.set_mood(Mood::Failing(503));
    let asked = vault.count("/data/gateway");
    let unseal = async {
        vault.called("/data/gateway", asked + 1).await;
        vault.set_mood(Mood::Well);
    };
    let (started, ()) = tokio::join!(patient.start(), unseal);
    let app = started.unwrap();
    let client = Client::new(app.url()).unwrap();
    assert_eq!(tested(&client, INTERNAL, "dialogue").await.status, 200);
}

#[tokio::test]
async fn a_signal_ends_whatever_waits_for_a_vault_that_does_not_answer() {
    let vault = Vault::start(TOKEN).await.unwrap();
    let waiting = binary()
        .set("VAULT_ADDR", &vault.url())
        .set("VAULT_TOKEN", TOKEN)
        .set("GATEWAY_INTERNAL_TOKEN_VAULT", "secret/gateway#internal")
        .set("SA01_VAULT__TIMEOUT_SECONDS", "60")
        .set("SA01_VAULT__START_SECONDS", "3600");
    let [check, doctor] = ["--check-config", "doctor"].map(|argument| waiting.clone().argument(argument));
    let (term, int) = (ProcessSignal::TERM, ProcessSignal::INT);
    for (mood, signal, [served, checked, examined]) in [
        (Mood::Silent, term, [0, 143, 143]),
        (Mood::Silent, int, [0, 130, 130]),
        (Mood::Failing(503), term, [0, 143, 143]),
    ] {
        vault.set_mood(mood);
        for (binary, code) in [(&waiting, served), (&check, checked), (&doctor, examined)] {
            let asked = vault.count("/data/gateway");
            let ended = binary.run_until(vault.called("/data/gateway", asked), signal).await.unwrap();
            assert_eq!((ended.code, ended.signal), (Some(code), None), "{mood:?}, {signal:?}: {}", ended.output);
            assert!(!ended.output.contains("secrets cannot be read"), "{}", ended.output);
        }
    }
}

#[tokio::test]
async fn workers_learn_whether_the_model_is_there_and_nobody_else_does() {
    let stack =
        Setup::default().set("GATEWAY_JWT_SECRET", SECRET).set("GATEWAY_INTERNAL_TOKEN", INTERNAL).start().await;
    let there = tested(&stack.client, INTERNAL, "dialogue").await;
    let told = there.json();
    assert_eq!((there.status, &told["ok"], &told["reachable"]), (200, &json!(true), &json!(true)), "{}", there.text);
    assert_eq!((&told["provider"], &told["role"]), (&json!("other"), &json!("dialogue")));
    assert!(told["status_code"].is_u64() && told["detail"].is_null(), "{}", there.text);
    stack.model_proxy.refuse(true);
    stack.model_proxy.cut();
    let away = tested(&stack.client, INTERNAL, "dialogue").await.json();
    assert_eq!((&away["ok"], &away["reachable"], &away["status_code"]), (&json!(true), &json!(false), &Value::Null));
    let admin = stack.client.showing(&Signer::secret(SECRET).sign(&claims("acme", "root", "admin"))).unwrap();
    for (client, token) in [(&stack.client, "wrong"), (&admin, ""), (&admin, SECRET)] {
        let refused = tested(client, token, "dialogue").await;
        assert_eq!((refused.status, refused.code().as_str()), (403, "internal-denied"), "{}", refused.text);
    }
    let none = tested(&stack.client, INTERNAL, "escalation").await;
    assert_eq!((none.status, none.code().as_str()), (404, "model-profile-not-found"), "{}", none.text);
}
