//! `somaagent doctor`: finds each fault of what a process would use, says what to do about it, and changes nothing.

mod antivirus;
mod database;

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use somaagent_test_services::brain::{Brain, Mood};
use somaagent_test_services::kafka::Kafka;
use somaagent_test_services::port;
use somaagent_test_services::postgres::{Database, Postgres};
use somaagent_test_services::process::Binary;
use somaagent_test_services::proxy::{Direction, Proxy};
use somaagent_test_services::site::Site;
use somaagent_test_services::tokens::{ec_signer, rsa_signer};
use sqlx::{AssertSqlSafe, PgPool};
use time::Duration;

use crate::stack::binary;

/// Everything that is ever looked at, in its order.
const SUBJECTS: [&str; 17] = [
    "configuration",
    "environment",
    "secret files",
    "open files",
    "ports",
    "data folder",
    "keys of tokens",
    "sign-in",
    "policy",
    "members of tenants",
    "database",
    "tenant wall",
    "audit trail",
    "log",
    "memory service",
    "model",
    "antivirus",
];

const JWKS: &str = "/keys";
const DISCOVERY: &str = "/.well-known/openid-configuration";
const STORE: &str = "/stores/01S";
const STORED_MODELS: &str = "/stores/01S/authorization-models";
const CHECK: &str = "/stores/01S/check";
const LISTED_MODELS: &str = "/v1/models";

/// What a run said.
struct Told {
    code: i32,
    document: Value,
}

impl Told {
    /// By a run that has time enough on a busy machine.
    async fn by(binary: &Binary) -> Self {
        Self::within(binary, 120).await
    }

    /// By a run whose subjects have so many seconds each.
    async fn within(binary: &Binary, seconds: u32) -> Self {
        let asked = binary.clone().argument("doctor").argument("--json").argument("--timeout");
        let ended = asked.argument(&seconds.to_string()).run().await.unwrap();
        let line = ended.output.lines().find(|line| line.starts_with('{'));
        let document = line.unwrap_or_else(|| panic!("no document: {}", ended.output));
        Self { code: ended.code.unwrap(), document: serde_json::from_str(document).unwrap() }
    }

    fn findings(&self) -> &Vec<Value> {
        self.document["findings"].as_array().unwrap()
    }

    /// Those that are worth a look, as text.
    fn ills(&self) -> Vec<String> {
        let ill = |found: &&Value| ["warning", "fault"].contains(&found["severity"].as_str().unwrap());
        self.findings().iter().filter(ill).map(Value::to_string).collect()
    }

    /// The one finding of a severity that a check of a subject made, and that says this.
    fn has(&self, (subject, check): (&str, &str), severity: &str, says: &str) {
        let fits = |found: &&Value| {
            let text = format!("{} {}", found["seen"].as_str().unwrap(), found["advice"].as_str().unwrap_or_default());
            found["subject"] == subject
                && found["check"] == check
                && found["severity"] == severity
                && text.contains(says)
        };
        let found = self.findings().iter().filter(fits).count();
        assert_eq!(found, 1, "{subject}/{check} {severity} {says:?} in {:#}", self.document);
    }

    fn is_fine(&self) {
        assert!(self.ills().is_empty(), "{:#?}", self.ills());
        assert_eq!((self.code, &self.document["verdict"]), (0, &json!("fine")));
    }
}

/// A whole installation around a binary that is well.
struct World {
    binary: Binary,
    site: Site,
    brain: Brain,
    database: Database,
    owner: String,
    pool: PgPool,
}

impl World {
    async fn begin() -> Self {
        let database = Postgres::shared().unwrap().fresh_database().await.unwrap();
        let pool = database.pool().await.unwrap();
        let (name, owner) = (database.name().to_owned(), format!("{}_owner", database.name()));
        for sql in [format!("CREATE ROLE {owner} LOGIN CREATEROLE"), format!("ALTER DATABASE {name} OWNER TO {owner}")]
        {
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
        }
        let (site, brain) = (Site::start().await.unwrap(), Brain::start().await.unwrap());
        let url = site.url();
        let binary = binary()
            .fixed_port()
            .set("SA01_DB_DSN", &database.dsn().replace("postgres@", &format!("{owner}@")))
            .set("SOMA_BASE_URL", &brain.base_url())
            .set("SA01_LLM_BASE_URL", &format!("{url}/v1"))
            .set("SA01_LLM_MODEL", "scripted")
            .set("GATEWAY_JWKS_URL", &format!("{url}{JWKS}"))
            .set("GATEWAY_JWT_ISSUER", "https://id.example")
            .set("GATEWAY_JWT_AUDIENCE", "soma")
            .set("GATEWAY_JWT_ALGORITHMS", "RS256")
            .set("OIDC_ENABLED", "true")
            .set("OIDC_ISSUER", &url)
            .set("OIDC_CLIENT_ID", "soma")
            .set("OPENFGA_API_URL", &url)
            .set("OPENFGA_STORE_ID", "01S")
            // A busy machine is no fault of what is asked.
            .set("GATEWAY_JWKS_TIMEOUT_SECONDS", "60")
            .set("SA01_OIDC__TIMEOUT_SECONDS", "60")
            .set("SA01_OPENFGA__TIMEOUT_SECONDS", "60")
            .set("SA01_DATABASE__ACQUIRE_TIMEOUT_MS", "60000")
            .set("SA01_DATABASE__STATEMENT_TIMEOUT_MS", "60000");
        let port = binary.setting("GATEWAY_PORT").unwrap().to_owned();
        let binary = binary.set("GATEWAY_BASE_URL", &format!("http://localhost:{port}"));
        let world = Self { binary, site, brain, database, owner, pool };
        world.mend();
        world
    }

    /// Makes everything that the site has as it should be.
    fn mend(&self) {
        let (site, url) = (&self.site, self.site.url());
        site.set_clock(Duration::ZERO);
        site.put(JWKS, 200, &keys());
        let discovery = json!({
            "issuer": url, "authorization_endpoint": format!("{url}/auth"), "token_endpoint": format!("{url}/token"),
            "jwks_uri": format!("{url}{JWKS}"), "response_types_supported": ["code"],
            "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"],
        });
        site.put(DISCOVERY, 200, &discovery);
        site.put(STORE, 200, &json!({"id": "01S", "name": "soma"}));
        site.put(STORED_MODELS, 200, &models(&json!({"member": {"this": {}}})));
        site.put(CHECK, 200, &json!({"allowed": false}));
        site.put(LISTED_MODELS, 200, &json!({"object": "list", "data": [{"id": "scripted"}, {"id": "another"}]}));
    }

    async fn told(&self) -> Told {
        Told::by(&self.binary).await
    }

    async fn sql(&self, sql: String) {
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.pool).await.unwrap();
    }

    /// Starts it and ends it again, so that the tables are there.
    async fn migrated(&self) {
        let mut app = self.binary.start().await.unwrap();
        assert_eq!(app.terminate().await.unwrap(), Some(0));
    }
}

/// What falls ill, how, the finding that tells it, its severity, and what it says.
type Ill<'a> = (&'a str, Box<dyn Fn() + 'a>, (&'a str, &'a str), &'a str, &'a str);

fn keys() -> Value {
    json!({"keys": [rsa_signer().jwk("r")]})
}

fn models(relations: &Value) -> Value {
    json!({"authorization_models": [{"id": "01M", "type_definitions": [{"type": "tenant", "relations": relations}]}]})
}

#[tokio::test]
async fn a_well_installation_is_told_to_be_fine_before_and_while_it_runs() {
    let world = World::begin().await;
    let kafka = Kafka::shared().unwrap();
    let world = World { binary: world.binary.clone().set("KAFKA_BOOTSTRAP_SERVERS", kafka.address()), ..world };
    let before = world.told().await;
    before.is_fine();
    before.has(("database", "migrations"), "note", "the next start does that");
    before.has(("ports", "door"), "ok", "is free");
    let mut app = world.binary.start().await.unwrap();
    let running = world.told().await;
    running.is_fine();
    running.has(("database", "migrations"), "ok", "all are applied");
    running.has(("database", "processes"), "ok", "every role");
    running.has(("tenant wall", "up"), "ok", "soma_tenant_");
    running.has(("ports", "door"), "ok", "a somaagent runs at");
    running.has(("log", "topics"), "ok", "all 8 are there");
    running.has(("log", "copies"), "note", "one copy");
    running.has(("keys of tokens", "published"), "ok", "they prove RS256");
    running.has(("members of tenants", "model"), "ok", "01M");
    running.has(("model", "endpoint"), "ok", "`scripted` is among 2 models");
    running.has(("memory service", "service"), "ok", "it is well");
    assert_eq!(app.terminate().await.unwrap(), Some(0));
}

#[tokio::test]
async fn the_document_has_its_shape_and_every_subject_in_its_order() {
    let told = Told::by(&binary()).await;
    let document = told.document.as_object().unwrap();
    let members: Vec<&str> = document.keys().map(String::as_str).collect();
    let expected = ["checked_at", "counts", "environment", "exit_code", "findings", "took_ms", "verdict", "version"];
    assert_eq!(members, expected);
    assert_eq!((&document["exit_code"], &document["environment"]), (&json!(0), &json!("DEV")));
    assert!(document["took_ms"].is_u64() && document["checked_at"].as_str().unwrap().ends_with('Z'));
    let mut subjects: Vec<&str> = told.findings().iter().map(|found| found["subject"].as_str().unwrap()).collect();
    subjects.dedup();
    assert_eq!(subjects, SUBJECTS);
    for severity in ["ok", "skipped", "note", "warning", "fault"] {
        let count = told.findings().iter().filter(|found| found["severity"] == severity).count();
        assert_eq!(document["counts"][severity], count, "{severity}");
    }
    for found in told.findings() {
        let members: Vec<&str> = found.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["advice", "check", "seen", "severity", "subject"]);
        let is_ill = ["warning", "fault"].contains(&found["severity"].as_str().unwrap());
        assert!(!is_ill || found["advice"].as_str().is_some_and(|advice| !advice.is_empty()), "{found}");
    }
}

#[tokio::test]
async fn each_fault_of_what_is_asked_over_the_network_is_named_and_gone_once_it_is_mended() {
    let world = World::begin().await;
    let (site, brain) = (&world.site, &world.brain);
    let elsewhere = json!({"keys": [ec_signer().jwk("e")]});
    let other_issuer = json!({
        "issuer": "https://other.example", "authorization_endpoint": "https://other.example/a",
        "token_endpoint": "https://other.example/t", "jwks_uri": format!("{}{JWKS}", site.url()),
        "response_types_supported": ["code"], "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    });
    let ills: [Ill<'_>; 15] = [
        (
            "keys away",
            Box::new(|| site.put(JWKS, 503, &json!({}))),
            ("keys of tokens", "published"),
            "fault",
            "status 503",
        ),
        (
            "no keys",
            Box::new(|| site.put_with(JWKS, 200, &[], "<html>")),
            ("keys of tokens", "published"),
            "fault",
            "no set of keys",
        ),
        (
            "others' keys",
            Box::new(|| site.put(JWKS, 200, &elsewhere)),
            ("keys of tokens", "published"),
            "fault",
            "add ES256 to",
        ),
        ("a clock", Box::new(|| site.set_clock(Duration::hours(-1))), ("keys of tokens", "clock"), "fault", "behind"),
        (
            "a cache",
            Box::new(|| site.put_with(JWKS, 200, &[("age", "4000")], &keys().to_string())),
            ("keys of tokens", "age"),
            "warning",
            "4000 s old",
        ),
        (
            "no provider",
            Box::new(|| site.put(DISCOVERY, 404, &json!({}))),
            ("sign-in", "provider"),
            "fault",
            "OIDC_ISSUER must be",
        ),
        (
            "another provider",
            Box::new(|| site.put(DISCOVERY, 200, &other_issuer)),
            ("sign-in", "provider"),
            "fault",
            "another issuer",
        ),
        (
            "no store",
            Box::new(|| site.put(STORE, 404, &json!({}))),
            ("members of tenants", "store"),
            "fault",
            "OPENFGA_STORE_ID",
        ),
        (
            "another model",
            Box::new(|| site.put(STORED_MODELS, 200, &models(&json!({"owner": {}})))),
            ("members of tenants", "model"),
            "fault",
            "no relation `member`",
        ),
        (
            "no answer",
            Box::new(|| site.put(CHECK, 500, &json!({}))),
            ("members of tenants", "questions"),
            "fault",
            "status 500",
        ),
        (
            "another key",
            Box::new(|| site.put(LISTED_MODELS, 401, &json!({}))),
            ("model", "endpoint"),
            "fault",
            "SA01_LLM_API_KEY",
        ),
        (
            "no such model",
            Box::new(|| site.put(LISTED_MODELS, 200, &json!({"data": []}))),
            ("model", "endpoint"),
            "warning",
            "not among 0 models",
        ),
        (
            "a refusal",
            Box::new(|| brain.set_mood(Mood::Failing(401, None))),
            ("memory service", "entry"),
            "fault",
            "SOMA_API_KEY",
        ),
        (
            "an illness",
            Box::new(|| brain.set_mood(Mood::Degraded)),
            ("memory service", "service"),
            "warning",
            "something is amiss",
        ),
        (
            "lost calls",
            Box::new(|| brain.set_mood(Mood::Dropping)),
            ("memory service", "service"),
            "fault",
            "SOMA_BASE_URL",
        ),
    ];
    for (name, fall_ill, check, severity, says) in ills {
        fall_ill();
        let told = world.told().await;
        told.has(check, severity, says);
        assert_eq!(told.code, if severity == "fault" { 2 } else { 1 }, "{name}: {:#?}", told.ills());
        world.mend();
        brain.recover();
    }
    world.told().await.is_fine();
}

#[tokio::test]
async fn what_this_machine_has_wrong_is_named() {
    let bare = binary().fixed_port();
    Told::by(&bare).await.is_fine();
    let port = bare.setting("GATEWAY_PORT").unwrap();
    let other = TcpListener::bind(format!("127.0.0.1:{port}")).unwrap();
    // It answers nobody, and is no somaagent.
    let told = Told::within(&bare, 6).await;
    told.has(("ports", "door"), "fault", "set GATEWAY_PORT");
    drop(other);
    let key = bare.home().join("key");
    fs::write(&key, "mZ4Qv9tXw2LrB7sJ1kYpH8cN5dFgTa0E").unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let keyed = bare.clone().set("GATEWAY_JWT_SECRET_FILE", &key.to_string_lossy());
    let told = Told::by(&keyed).await;
    told.has(("secret files", "modes"), "warning", "chmod 600");
    assert_eq!(told.code, 1);
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    Told::by(&keyed).await.is_fine();
    let mistaken = Told::by(&bare.clone().set("GATEWAY_JWT_SECERT", "canary")).await;
    mistaken.has(("environment", "names"), "warning", "if GATEWAY_JWT_SECRET is meant");
    assert!(mistaken.code == 1 && !mistaken.document.to_string().contains("canary"));
    let away = format!("127.0.0.1:{}", port::free());
    let brokers = bare.set("KAFKA_BOOTSTRAP_SERVERS", &away);
    Told::within(&brokers, 15).await.has(("log", "brokers"), "fault", "KAFKA_BOOTSTRAP_SERVERS");
}

#[tokio::test]
async fn what_accepts_and_never_answers_is_a_fault_and_holds_nothing_up() {
    let world = World::begin().await;
    let postgres = Postgres::shared().unwrap();
    let proxy = Proxy::postgres(postgres.address().unwrap()).await.unwrap();
    proxy.stall(Direction::Up);
    world.site.set_silent(true);
    let binary = world.binary.clone().set("SA01_DB_DSN", &world.database.dsn_through(proxy.port()));
    // Its own patience with the provider is longer than what the subject has.
    let binary = binary.set("GATEWAY_JWKS_TIMEOUT_SECONDS", "3").set("SA01_OPENFGA__TIMEOUT_SECONDS", "3");
    let told = Told::within(&binary, 12).await;
    assert_eq!(told.code, 2);
    told.has(("database", "reachable"), "fault", "did not answer within");
    told.has(("keys of tokens", "published"), "fault", "GATEWAY_JWKS_URL");
    told.has(("members of tenants", "store"), "fault", "OPENFGA_API_URL");
    told.has(("model", "endpoint"), "fault", "no answer in");
    told.has(("sign-in", "time"), "fault", "no end within 12 s");
    told.has(("memory service", "service"), "ok", "it is well");
}

#[tokio::test]
async fn an_opa_that_is_away_or_decides_otherwise_is_told() {
    let (site, bare) = (Site::start().await.unwrap(), binary());
    let judged = bare.set("OPA_URL", &site.url());
    let decision = "/v1/data/soma/policy/decision";
    let told = Told::by(&judged).await;
    told.has(("policy", "opa"), "fault", "OPA_DECISION_PATH");
    assert_eq!(told.code, 2);
    let yes = json!({"result": {"allow": true, "rule": "yes", "reason": "w", "reach": "tenant"}});
    site.put(decision, 200, &yes);
    let told = Told::by(&judged).await;
    told.has(("policy", "opa"), "warning", "give it the files of config/policy");
    assert_eq!(told.code, 1);
    site.put(decision, 500, &json!({}));
    Told::by(&judged).await.has(("policy", "opa"), "fault", "OPA_URL");
}

#[tokio::test]
async fn a_policy_that_forgets_an_action_is_a_warning_and_a_candidate_is_compared() {
    let dir = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/policy/soma.rego")).unwrap();
    fs::write(dir.path().join("soma.rego"), &text).unwrap();
    let folder = dir.path().to_string_lossy().into_owned();
    let own = binary().set("SA01_POLICY_DIR", &folder).set("SA01_POLICY_SHADOW_DIR", &folder);
    let told = Told::by(&own).await;
    told.is_fine();
    told.has(("policy", "tests"), "note", "opa test");
    told.has(("policy", "shadow"), "ok", "alike");
    let narrow = r#"package soma.policy

import rego.v1

default decision := {"allow": false, "rule": "no", "reason": "w", "reach": "own"}

decision := {"allow": true, "rule": "public", "reason": "w", "reach": "own"} if input.action == "public"
"#;
    fs::write(dir.path().join("soma.rego"), narrow).unwrap();
    let told = Told::by(&own).await;
    told.has(("policy", "rules"), "warning", "conversation.send");
    assert_eq!(told.code, 1);
}

#[tokio::test]
async fn a_refused_configuration_is_told_with_what_else_is_known() {
    let refused = binary().set("GATEWAY_PORT", "eighty").set("GATEWAY_JWT_SECERT", "canary");
    let told = Told::by(&refused).await;
    assert_eq!((told.code, &told.document["verdict"]), (78, &json!("refused")));
    told.has(("configuration", "refused"), "fault", "server.port (GATEWAY_PORT)");
    told.has(("environment", "names"), "warning", "GATEWAY_JWT_SECRET");
    assert_eq!(told.document["environment"], Value::Null);
}

#[tokio::test]
async fn it_makes_nothing_and_looks_at_the_folder_of_a_running_process_from_outside() {
    let world = World::begin().await;
    world.told().await.is_fine();
    let tables = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace";
    let tables: i64 = sqlx::query_scalar(tables).fetch_one(&world.pool).await.unwrap();
    assert_eq!(tables, 0);
    let bare = binary().fixed_port();
    let told = Told::by(&bare).await;
    told.is_fine();
    told.has(("data folder", "folder"), "ok", "will be made");
    assert!(!bare.data().exists());
    let mut app = bare.start().await.unwrap();
    let told = Told::by(&bare).await;
    told.is_fine();
    told.has(("data folder", "in use"), "note", &format!("the process {} has it", app.id()));
    told.has(("ports", "door"), "ok", "a somaagent runs at");
    assert!(app.is_running());
    assert_eq!(app.terminate().await.unwrap(), Some(0));
}

#[tokio::test]
async fn people_read_text_that_is_aligned_and_has_no_colours_where_no_terminal_is() {
    let run = binary().set("GATEWAY_JWT_SECERT", "canary").argument("doctor").run().await.unwrap();
    assert_eq!(run.code, Some(1), "{}", run.output);
    for line in ["Configuration", "Environment", "  ! names", "→ if GATEWAY_JWT_SECRET is meant, rename it"] {
        assert!(run.output.contains(line), "{line} is not in {}", run.output);
    }
    assert!(!run.output.contains('\u{1b}') && !run.output.contains("canary"), "{}", run.output);
    assert!(run.output.lines().last().unwrap().starts_with("1 warning, "), "{}", run.output);
}
