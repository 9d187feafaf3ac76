//! Every secret that a process is given, and every one that it gives or is shown, is looked for wherever it could have got to.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use reqwest::{Method, Url};
use serde_json::json;
use somaagent_test_services::brain::{Brain, Mood};
use somaagent_test_services::client::{Answer, Client, Post};
use somaagent_test_services::model::{Model, Script};
use somaagent_test_services::port;
use somaagent_test_services::postgres::Postgres;
use somaagent_test_services::process::Binary;
use somaagent_test_services::proxy::Proxy;
use somaagent_test_services::tokens::Signer;
use somaagent_test_services::vault::{Mood as VaultMood, Vault};
use somaagent_test_services::wait::eventually;
use sqlx::{AssertSqlSafe, PgPool};

use crate::identity::claims;
use crate::stack::{binary, ended_turns, new_session};

const JWT_SECRET: &str = "canary-jwt-7c1e5f0a93b24d68-long-enough";
const MODEL_KEY: &str = "canary-model-4b8d21";
const BRAIN_KEY: &str = "canary-brain-90fe37";
const DATABASE_PASSWORD: &str = "canary-database-c2a6d4";
const TLS_PASSWORD: &str = "canary-tls-81d0ab";
const VAULT_TOKEN: &str = "hvs.canary-vault-2f6b8d";
const INTERNAL_TOKEN: &str = "canary-internal-a3c5e7";
const OTHER_INTERNAL_TOKEN: &str = "canary-internal-b4d6f8";
const KAFKA_PASSWORD: &str = "canary-kafka-5e17b9";

/// What was found out, by the place it comes from.
#[derive(Default)]
struct Places(Vec<(String, String)>);

impl Places {
    fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push((place.into(), text.into()));
    }

    /// What an answer says; an answer that shows what it must not is as bad as a log that does.
    fn answer(&mut self, place: &str, answer: &Answer) {
        self.add(place, format!("{:?}\n{}", answer.headers, answer.text));
    }

    /// No secret is in any of the places, neither as it is nor as bytes are written in rows.
    fn have_none_of(&self, secrets: &[&str]) {
        for secret in secrets {
            let hex = secret.bytes().fold(String::new(), |mut digits, byte| {
                write!(digits, "{byte:02x}").unwrap();
                digits
            });
            for (place, text) in &self.0 {
                let found = text.find(secret).or_else(|| text.find(&hex));
                let around = found.map(|at| text[at.saturating_sub(300)..].chars().take(600).collect::<String>());
                assert_eq!(around, None, "{secret} is in: {place}");
            }
        }
    }
}

/// The text of every row of every table.
async fn rows(pool: &PgPool, places: &mut Places) {
    let query = "SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) FROM information_schema.tables
                 WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')";
    let tables: Vec<String> = sqlx::query_scalar(query).fetch_all(pool).await.unwrap();
    for seen in ["api_keys", "audit_event", "session_events", "message_outbox", "memory_write_outbox"] {
        assert!(tables.iter().any(|table| table.ends_with(seen)), "{tables:?}");
    }
    for table in tables {
        let query = AssertSqlSafe(format!("SELECT to_jsonb(held)::text FROM {table} AS held"));
        let rows: Vec<String> = sqlx::query_scalar(query).fetch_all(pool).await.unwrap();
        places.add(format!("the table {table}"), rows.join("\n"));
    }
}

/// Every file under a folder.
fn files(folder: &Path, places: &mut Places) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, places);
        } else {
            let text = fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            places.add(format!("the file {}", path.display()), text.unwrap_or_default());
        }
    }
}

/// The address of a database, with a canary wherever it takes a password.
fn with_canaries(dsn: &str) -> String {
    let mut dsn: Url = dsn.parse().unwrap();
    // A server that asks for a password has its own, which then stands where it wins over the canary.
    if let Some(own) = dsn.password().map(str::to_owned) {
        dsn.set_query(Some(&format!("{}&password={own}", dsn.query().unwrap_or_default())));
    }
    dsn.set_password(Some(DATABASE_PASSWORD)).unwrap();
    // What the driver does not know it may tell of.
    dsn.query_pairs_mut().append_pair("sslpassword", TLS_PASSWORD);
    dsn.into()
}

fn configured(dsn: &str, model: &Model, brain: &Brain, metrics: u16) -> Binary {
    binary()
        .set("LOG_LEVEL", "DEBUG")
        .set("GATEWAY_JWT_SECRET", JWT_SECRET)
        .set("GATEWAY_INTERNAL_TOKEN", INTERNAL_TOKEN)
        .set("SA01_DB_DSN", &with_canaries(dsn))
        .set("SA01_LLM_BASE_URL", &model.base_url())
        .set("SA01_LLM_MODEL", "scripted")
        .set("SA01_LLM_API_KEY", MODEL_KEY)
        .set("SOMA_BASE_URL", &brain.base_url())
        .set("SOMA_API_KEY", BRAIN_KEY)
        .set("SA01_TURNS__RECALL_DEADLINE_MS", "20000")
        .set("GATEWAY_METRICS_PORT", &metrics.to_string())
}

#[tokio::test]
async fn no_secret_gets_anywhere_but_to_whom_it_is_for() {
    let (model, brain) = (Model::start().await.unwrap(), Brain::start().await.unwrap());
    let postgres = Postgres::shared().unwrap();
    let database = postgres.fresh_database().await.unwrap();
    let proxy = Proxy::postgres(postgres.address().unwrap()).await.unwrap();
    let metrics = port::free();
    let mut app = configured(&database.dsn_through(proxy.port()), &model, &brain, metrics).start().await.unwrap();
    let nobody = Client::new(app.url()).unwrap();
    let token = Signer::secret(JWT_SECRET).sign(&claims("acme", "ada", "admin"));
    let ada = nobody.showing(&token).unwrap();
    let mut places = Places::default();

    // Used.
    let made = ada.post("/v1/keys", &json!({"label": "deploy"})).await.unwrap();
    let key = made.text_of("secret");
    assert!(key.starts_with("sk_"), "{}", made.text);
    let program = nobody.showing(&key).unwrap();
    let session = new_session();
    places.answer("a message", &program.message(&Post::new("hi").to(&session)).await.unwrap());
    ended_turns(&program, &session, 1).await;
    let exchange = model.exchange(0).await;
    assert_eq!(exchange.headers["authorization"], format!("Bearer {MODEL_KEY}"));
    places.add("what the model reads", exchange.body.to_string());
    let remembered = eventually("a memory", async || {
        brain.calls().into_iter().find(|call| call.path.starts_with("/memory/remember"))
    })
    .await;
    assert!(remembered.headers.values().any(|value| value.contains(BRAIN_KEY)), "{:?}", remembered.headers);
    places.add("what the memory service reads", remembered.body.to_string());

    // Made to fail: by a model that repeats the key, a memory service and a database that are away, and wrong secrets.
    model.next(Script::refuse(401, &format!("Incorrect API key provided: {MODEL_KEY}")));
    brain.set_mood(Mood::Failing(401, None));
    let failed = new_session();
    places.answer("a message that fails", &program.message(&Post::new("and now").to(&failed)).await.unwrap());
    ended_turns(&program, &failed, 1).await;
    let forged = format!("{}{}", &key[..key.len() - 1], if key.ends_with('A') { "E" } else { "A" });
    for shown in [key.as_str(), &forged, &token, &format!("{token}x"), JWT_SECRET, INTERNAL_TOKEN] {
        for request in [
            nobody.request(Method::GET, "/v1/sessions").header("X-API-Key", shown),
            nobody.request(Method::GET, "/v1/sessions").header("Cookie", format!("jwt={shown}")),
            nobody.request(Method::GET, "/v1/sessions").header("Authorization", format!("Basic {shown}")),
            nobody.request(Method::GET, "/v1/sessions").header("Authorization", format!("Bearer {shown}")),
        ] {
            places.answer("a request that shows something", &nobody.send(request).await.unwrap());
        }
        let internal = nobody.request(Method::POST, "/v1/llm/test").header("X-Internal-Token", shown);
        places.answer("a worker", &nobody.send(internal.json(&json!({"role": "dialogue"}))).await.unwrap());
    }
    for path in ["/v1/keys", "/v1/runtime-config", "/ui/config.json", "/healthz", "/v1/admin/actors", "/openapi.json"] {
        places.answer(path, &ada.get(path).await.unwrap());
    }
    places.answer("history", &ada.get(&format!("/v1/sessions/{failed}/history")).await.unwrap());
    proxy.refuse(true);
    proxy.cut();
    places.answer("without a database", &ada.post("/v1/keys", &json!({"label": "late"})).await.unwrap());
    places.answer("without a database", &program.message(&Post::new("lost?").to(&new_session())).await.unwrap());
    let refused = eventually("no key is taken", async || {
        program.get("/v1/runtime-config").await.ok().filter(|answer| answer.status != 200)
    });
    places.answer("a key without a database", &refused.await);
    proxy.refuse(false);
    let page = Client::new(&format!("http://127.0.0.1:{metrics}")).unwrap().get("/metrics").await.unwrap();
    assert!(page.text.contains("identity_api_keys_total"), "{}", page.text);
    places.answer("metrics", &page);
    let arguments = fs::read(format!("/proc/{}/cmdline", app.id())).unwrap();
    places.add("the list of processes", String::from_utf8_lossy(&arguments));

    // Stopped.
    app.terminate().await.unwrap();
    assert!(app.output().contains("api-key-invalid"), "refusals are in the log: {}", app.output());
    places.add("the log", app.output());
    files(app.binary().home(), &mut places);
    rows(&database.pool().await.unwrap(), &mut places).await;
    let checked = app.binary().clone().argument("--check-config").run().await.unwrap();
    assert!(checked.output.contains("jwt_secret"), "{}", checked.output);
    places.add("--check-config", checked.output);
    let looked = app.binary().clone().argument("doctor").run().await.unwrap();
    assert!(looked.output.contains("Memory service"), "{}", looked.output);
    places.add("doctor", looked.output);
    let token_signature = token.rsplit('.').next().unwrap();
    places.have_none_of(&[
        JWT_SECRET,
        INTERNAL_TOKEN,
        MODEL_KEY,
        BRAIN_KEY,
        DATABASE_PASSWORD,
        TLS_PASSWORD,
        &key[36..],
        &forged[36..],
        token_signature,
    ]);
}

#[tokio::test]
async fn what_is_kept_in_vault_gets_nowhere_but_to_whom_it_is_for() {
    let (model, brain) = (Model::start().await.unwrap(), Brain::start().await.unwrap());
    let vault = Vault::start(VAULT_TOKEN).await.unwrap();
    let database = Postgres::shared().unwrap().fresh_database().await.unwrap();
    let dsn = with_canaries(&database.dsn());
    let keep = |jwt: &str, internal: &str| {
        let fields = [("jwt", jwt), ("internal", internal), ("model", MODEL_KEY), ("brain", BRAIN_KEY), ("dsn", &dsn)];
        vault.keep("secret/canary", &fields);
    };
    keep(JWT_SECRET, INTERNAL_TOKEN);
    let metrics = port::free();
    let mut binary = binary()
        .set("LOG_LEVEL", "TRACE")
        .set("VAULT_ADDR", &vault.url())
        .set("VAULT_TOKEN", VAULT_TOKEN)
        .set("SA01_VAULT__REFRESH_SECONDS", "1")
        .set("SA01_VAULT__START_SECONDS", "2")
        .set("SA01_LLM_BASE_URL", &model.base_url())
        .set("SA01_LLM_MODEL", "scripted")
        .set("SOMA_BASE_URL", &brain.base_url())
        .set("SA01_TURNS__RECALL_DEADLINE_MS", "20000")
        .set("GATEWAY_METRICS_PORT", &metrics.to_string());
    for (name, field) in [
        ("GATEWAY_JWT_SECRET", "jwt"),
        ("GATEWAY_INTERNAL_TOKEN", "internal"),
        ("SA01_LLM_API_KEY", "model"),
        ("SOMA_API_KEY", "brain"),
        ("SA01_DB_DSN", "dsn"),
    ] {
        binary = binary.set(&format!("{name}_VAULT"), &format!("secret/canary#{field}"));
    }
    let mut app = binary.start().await.unwrap();
    let nobody = Client::new(app.url()).unwrap();
    let ada = nobody.showing(&Signer::secret(JWT_SECRET).sign(&claims("acme", "ada", "admin"))).unwrap();
    let mut places = Places::default();
    let session = new_session();
    places.answer("a message", &ada.message(&Post::new("hi").to(&session)).await.unwrap());
    ended_turns(&ada, &session, 1).await;
    assert_eq!(model.exchange(0).await.headers["authorization"], format!("Bearer {MODEL_KEY}"));
    let internal = |token: String| {
        let request = nobody.request(Method::POST, "/v1/llm/test").json(&json!({"role": "dialogue"}));
        request.header("X-Internal-Token", token)
    };
    for (token, status) in
        [(INTERNAL_TOKEN.to_owned(), 200), (format!("{INTERNAL_TOKEN}x"), 403), (JWT_SECRET.to_owned(), 403)]
    {
        let answer = nobody.send(internal(token)).await.unwrap();
        assert_eq!(answer.status, status, "{}", answer.text);
        places.answer("the internal door", &answer);
    }
    // Exchanged for what cannot be used and for what can; refused by a Vault that repeats what it was shown.
    keep("canary-short", INTERNAL_TOKEN);
    let health = async || nobody.get("/healthz").await.unwrap();
    let vault_is = async |status: &str| {
        eventually(&format!("the vault is {status}"), async || {
            Some(health().await).filter(|answer| answer.json()["components"]["vault"]["status"] == status)
        })
        .await
    };
    places.answer("health", &vault_is("degraded").await);
    keep(JWT_SECRET, OTHER_INTERNAL_TOKEN);
    vault_is("ok").await;
    for mood in [VaultMood::Failing(403), VaultMood::Failing(503), VaultMood::Babbling] {
        vault.set_mood(mood);
        places.answer("health", &vault_is("degraded").await);
        let ended = app.binary().clone().set("GATEWAY_METRICS_PORT", "0").set("GATEWAY_PORT", "0").run().await.unwrap();
        assert!([1, 78].contains(&ended.code.unwrap()), "{}", ended.output);
        places.add(format!("a start with {mood:?}"), ended.output);
        vault.set_mood(VaultMood::Well);
        vault_is("ok").await;
    }
    let answer = nobody.send(internal(OTHER_INTERNAL_TOKEN.to_owned())).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    for path in
        ["/v1/runtime-config", "/ui/config.json", "/v1/health", "/v1/admin/actors", "/v1/admin/audit", "/openapi.json"]
    {
        places.answer(path, &ada.get(path).await.unwrap());
    }
    let page = Client::new(&format!("http://127.0.0.1:{metrics}")).unwrap().get("/metrics").await.unwrap();
    assert!(page.text.contains("vault_exchanges_total"), "{}", page.text);
    places.answer("metrics", &page);
    let arguments = fs::read(format!("/proc/{}/cmdline", app.id())).unwrap();
    places.add("the list of processes", String::from_utf8_lossy(&arguments));
    let checked = app.binary().clone().argument("--check-config").run().await.unwrap();
    assert!(checked.output.contains("internal_token = \"********\""), "{}", checked.output);
    places.add("--check-config", checked.output);
    app.terminate().await.unwrap();
    assert!(app.output().contains("a secret was exchanged"), "{}", app.output());
    places.add("the log", app.output());
    files(app.binary().home(), &mut places);
    rows(&database.pool().await.unwrap(), &mut places).await;
    places.have_none_of(&[
        VAULT_TOKEN,
        JWT_SECRET,
        "canary-short",
        INTERNAL_TOKEN,
        OTHER_INTERNAL_TOKEN,
        MODEL_KEY,
        BRAIN_KEY,
        DATABASE_PASSWORD,
        TLS_PASSWORD,
    ]);
}

#[tokio::test]
async fn a_process_that_cannot_start_tells_no_secret_either() {
    let (model, brain) = (Model::start().await.unwrap(), Brain::start().await.unwrap());
    let mut places = Places::default();
    let closed = port::free();
    let dsn = format!("postgres://me@127.0.0.1:{closed}/nowhere");
    let binary = configured(&dsn, &model, &brain, 0)
        .set("SA01_BOOT__STEP_MS", "3000")
        .set("KAFKA_BOOTSTRAP_SERVERS", &format!("127.0.0.1:{closed}"))
        .set("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT")
        .set("KAFKA_SASL_MECHANISM", "PLAIN")
        .set("KAFKA_SASL_USERNAME", "me")
        .set("KAFKA_SASL_PASSWORD", KAFKA_PASSWORD);
    let away = binary.run().await.unwrap();
    assert_ne!(away.code, Some(0), "{}", away.output);
    let checked = binary.clone().argument("--check-config").run().await.unwrap();
    assert!(checked.output.contains("sasl_password"), "{}", checked.output);
    let looked = binary.clone().argument("doctor").argument("--json").run().await.unwrap();
    assert_eq!(looked.code, Some(2), "{}", looked.output);
    // Faulty, and where others reach it: every fault is told at once.
    let faulty = binary.set("GATEWAY_HOST", "0.0.0.0").set("GATEWAY_JWT_ALGORITHMS", "none").set("SA01_ENV", "PROD");
    let faulty = faulty.run().await.unwrap();
    assert_eq!(faulty.code, Some(78), "{}", faulty.output);
    for (place, output) in
        [("away", away.output), ("checked", checked.output), ("doctor", looked.output), ("faulty", faulty.output)]
    {
        places.add(place, output);
    }
    places.have_none_of(&[
        JWT_SECRET,
        INTERNAL_TOKEN,
        MODEL_KEY,
        BRAIN_KEY,
        DATABASE_PASSWORD,
        TLS_PASSWORD,
        KAFKA_PASSWORD,
    ]);
}

#[tokio::test]
async fn secrets_that_everybody_knows_are_refused_beyond_this_machine_all_at_once() {
    let known = binary()
        .set("GATEWAY_HOST", "0.0.0.0")
        .set("GATEWAY_JWT_SECRET", "your-super-secret-jwt-key-change-in-production")
        .set("SA01_DB_DSN", "postgres://soma:soma@127.0.0.1/soma")
        .set("SOMA_BASE_URL", "http://127.0.0.1:1")
        .set("SOMA_API_KEY", "changeme");
    let ended = known.run().await.unwrap();
    assert_eq!(ended.code, Some(78), "{}", ended.output);
    for name in ["GATEWAY_JWT_SECRET", "SA01_DB_DSN", "SOMA_API_KEY"] {
        assert!(ended.output.contains(&format!("({name}): is a known development secret")), "{}", ended.output);
    }
    assert!(!ended.output.contains("soma:soma") && !ended.output.contains("changeme"), "{}", ended.output);
}
