//! The system under test, with something in it for every operation.

use std::path::Path;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use somaagent_test_services::brain::{Brain, Mood};
use somaagent_test_services::client::{Client, Post};
use somaagent_test_services::postgres::{Database, Postgres};
use somaagent_test_services::process::{Binary, Running};
use somaagent_test_services::seed::VARIABLE;
use somaagent_test_services::tokens::Signer;
use somaagent_test_services::wait::eventually;
use tokio::process::Command;
use uuid::Uuid;

use crate::summary::Summary;

const TENANT: &str = "acme";
/// How many sessions each has who talks.
const SESSIONS: usize = 6;
/// How many dead letters there are that nothing but a `DELETE` takes away: `numbers` in `schemathesis.toml`.
const LETTERS: usize = 20;

/// Has memories of a parrot written, by ids that are the same every time.
async fn remember(client: &Client, colour: &str) {
    let item = |n| json!({"id": format!("parrot-{n}"), "role": "user", "content": format!("parrot {n} is {colour}")});
    let items: Vec<Value> = (0..LETTERS).map(item).collect();
    let written = client.post("/v1/memory/batch", &json!({ "items": items })).await.unwrap();
    assert_eq!(written.status, 200, "{}", written.text);
}

/// Says something in sessions of one's own, which the dictionaries of `schemathesis.toml` name if `nth` is 0.
async fn talk(client: &Client, nth: usize) {
    for n in nth * SESSIONS..(nth + 1) * SESSIONS {
        let session = format!("5e550000-0000-4000-8000-{n:012}");
        let posted = client.message(&Post::new("our parrot is green").to(&session)).await.unwrap();
        assert_eq!(posted.status, 200, "{}", posted.text);
    }
}

/// The running system. Everything ends when it is dropped.
pub struct Stage {
    app: Running,
    signer: Signer,
    brain: Brain,
    _database: Database,
}

impl Stage {
    /// Starts it, with limits that nobody reaches, and fills it.
    pub async fn start() -> Self {
        let database = Postgres::shared().unwrap().fresh_database().await.unwrap();
        let brain = Brain::start().await.unwrap();
        let secret = Uuid::new_v4().to_string();
        let app = Binary::new(env!("CARGO_BIN_EXE_somaagent"))
            .unwrap()
            .set("SA01_BOOT__STEP_MS", "120000")
            .set("SA01_DB_DSN", &database.dsn())
            .set("SOMA_BASE_URL", &brain.base_url())
            .set("GATEWAY_JWT_SECRET", &secret)
            .set("GATEWAY_AUTH_FAILURE_RPS", "1000000")
            .set("GATEWAY_AUTH_FAILURE_BURST", "1000000")
            .set("GATEWAY_MAX_STREAMS_EACH", "0")
            .set("EXPORT_JOBS_POLL_SECONDS", "0.05")
            .set("MEMORY_SYNC_INTERVAL_SECONDS", "0.05")
            .set("MEMORY_SYNC_MAX_RETRIES", "0")
            .set("OUTBOX_SYNC_INTERVAL_SECONDS", "0.05")
            // A stream says something at once.
            .set("SSE_HEARTBEAT_SECONDS", "1")
            .start()
            .await
            .unwrap();
        let stage = Self { app, signer: Signer::secret(&secret), brain, _database: database };
        stage.fill().await;
        stage
    }

    fn token(&self, subject: &str, scope: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        self.signer.sign(&json!({"sub": subject, "tenant": TENANT, "scope": scope, "exp": now + 86_400}))
    }

    fn client(&self, subject: &str, scope: &str) -> Client {
        Client::new(self.app.url()).unwrap().showing(&self.token(subject, scope)).unwrap()
    }

    /// Sessions, memories and dead letters, so that lists have something to show and ids lead somewhere.
    async fn fill(&self) {
        let admin = self.client("ada", "admin");
        self.brain.set_mood(Mood::Failing(400, None));
        remember(&admin, "green").await;
        eventually("a dead letter for each memory", async || {
            let letters = admin.get("/v1/admin/dlq/memory.wal.dlq").await.ok()?.json();
            (letters.as_array()?.len() == LETTERS).then_some(())
        })
        .await;
        self.brain.set_mood(Mood::Well);
        // To send the letters again would undo this.
        remember(&admin, "blue").await;
        talk(&admin, 0).await;
        talk(&self.client("ann", "chat"), 1).await;
        eventually("everything in the replica", async || {
            let memories = admin.get("/v1/admin/memory?limit=200").await.ok()?.json();
            (memories["items"].as_array()?.len() >= LETTERS + 4 * SESSIONS).then_some(())
        })
        .await;
        let exported = admin.post("/v1/memory/export/jobs", &json!({})).await.unwrap();
        assert_eq!(exported.status, 202, "{}", exported.text);
    }

    async fn description(&self) -> Value {
        Client::new(self.app.url()).unwrap().get("/openapi.json").await.unwrap().json()
    }

    /// The operations that are described.
    pub async fn operations(&self) -> Vec<String> {
        let described = self.description().await;
        let paths = described["paths"].as_object().unwrap();
        paths
            .iter()
            .flat_map(|(path, item)| item.as_object().unwrap().keys().map(move |method| format!("{method} {path}")))
            .collect()
    }

    /// Runs schemathesis as somebody, with `examples` requests of an operation unless a variable says how many.
    pub async fn run(&self, subject: &str, scope: &str, examples: u32) -> Summary {
        let folder = tempfile::tempdir().unwrap();
        let home = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/schema");
        let (described, report) = (folder.path().join("openapi.json"), folder.path().join("report.json"));
        // From its address it would be read as it is, and left out of the operations.
        std::fs::write(&described, self.description().await.to_string()).unwrap();
        let variable = |name: &str| std::env::var(name).ok();
        let program = variable("SA01_TEST_SCHEMATHESIS").unwrap_or_else(|| "schemathesis".to_owned());
        let seed = variable(VARIABLE).unwrap_or_else(|| "1".to_owned());
        let examples = variable("SA01_TEST_EXAMPLES").unwrap_or_else(|| examples.to_string());
        let status = Command::new(&program)
            .arg("--config-file")
            .arg(home.join("schemathesis.toml"))
            .arg("run")
            .arg(&described)
            .args(["--url", self.app.url()])
            .args(["--checks", "all", "--phases", "examples,coverage,fuzzing,stateful", "--workers", "1", "--no-color"])
            .args(["--seed", &seed, "--max-examples", &examples, "--report", "json", "--report-json-path"])
            .arg(&report)
            .env("SA01_TEST_HOOKS", home.join("hooks.py"))
            .env("SA01_TEST_TOKEN", self.token(subject, scope))
            // The same seed asks the same, and nothing is left in the sources.
            .env("PYTHONHASHSEED", "0")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .status()
            .await
            .unwrap_or_else(|error| panic!("{program} does not start: {error}"));
        eprintln!("schemathesis as {subject} ended with {status}");
        Summary::read(&report)
    }
}
