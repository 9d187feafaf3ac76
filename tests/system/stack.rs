//! The system under test with everything around it.

use reqwest::Method;
use serde_json::Value;
use somaagent_test_services::brain::Brain;
use somaagent_test_services::client::{Answer, Client, Post};
use somaagent_test_services::model::{self, Model};
use somaagent_test_services::postgres::{Database, Postgres};
use somaagent_test_services::process::{Binary, Running};
use somaagent_test_services::proxy::Proxy;
use somaagent_test_services::wait::eventually;

use crate::history::{Turn, turns};

/// The binary under test, nothing configured but a data folder and free ports.
pub fn binary() -> Binary {
    // A busy machine may take its time to start.
    Binary::new(env!("CARGO_BIN_EXE_somaagent")).unwrap().set("SA01_BOOT__STEP_MS", "120000")
}

/// An id for a session nobody has used.
pub fn new_session() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// What to start. A proxy stands between the binary and each of PostgreSQL, model and SomaBrain.
#[derive(Default)]
pub struct Setup {
    settings: Vec<(String, String)>,
    direct: bool,
}

impl Setup {
    /// With this variable.
    #[expect(clippy::needless_pass_by_value, reason = "callers write numbers and literals")]
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// Without the proxies: only then is a connect to a closed port refused.
    pub fn direct(mut self) -> Self {
        self.direct = true;
        self
    }

    /// Starts everything.
    pub async fn start(self) -> Stack {
        let postgres = Postgres::shared().unwrap();
        let database = postgres.fresh_database().await.unwrap();
        let model = Model::start().await.unwrap();
        let brain = Brain::start().await.unwrap();
        let proxy = Proxy::postgres(postgres.address().unwrap()).await.unwrap();
        let model_proxy = Proxy::start(model.address()).await.unwrap();
        let brain_proxy = Proxy::start(brain.address()).await.unwrap();
        let (dsn, model_address, brain_address) = if self.direct {
            (database.dsn(), model.address(), brain.address())
        } else {
            (database.dsn_through(proxy.port()), model_proxy.address(), brain_proxy.address())
        };
        let mut binary = binary()
            .set("SOMA_BASE_URL", &format!("http://{brain_address}"))
            .set("SA01_LLM_BASE_URL", &model::base_url(model_address.port()))
            .set("SA01_LLM_MODEL", "scripted")
            .set("SA01_DB_DSN", &dsn)
            // A busy machine is no fault of the memory service.
            .set("SA01_TURNS__RECALL_DEADLINE_MS", "20000")
            .set("SSE_HEARTBEAT_SECONDS", "3600");
        for (name, value) in &self.settings {
            binary = binary.set(name, value);
        }
        let app = binary.fixed_port().start().await.unwrap();
        let client = Client::new(app.url()).unwrap();
        Stack { app, client, model, brain, database, proxy, model_proxy, brain_proxy }
    }
}

/// The running system. Everything ends when it is dropped.
pub struct Stack {
    pub app: Running,
    pub client: Client,
    pub model: Model,
    pub brain: Brain,
    pub database: Database,
    /// Between the binary and PostgreSQL.
    pub proxy: Proxy,
    /// Between the binary and the model.
    pub model_proxy: Proxy,
    /// Between the binary and SomaBrain.
    pub brain_proxy: Proxy,
}

impl Stack {
    /// The system with its usual settings.
    pub async fn start() -> Self {
        Setup::default().start().await
    }

    /// Posts a message and expects it to be accepted.
    pub async fn post(&self, post: &Post) -> Answer {
        let answer = self.client.message(post).await.unwrap();
        assert_eq!(answer.status, 200, "a message was not accepted: {}", answer.text);
        answer
    }

    /// Waits until `count` turns of the session have ended, and returns all turns of its history. Every look checks that
    /// the numbers have no gap and that no turn has two ends.
    pub async fn ended_turns(&self, session: &str, count: usize) -> Vec<Turn> {
        ended_turns(&self.client, session, count).await
    }

    /// Starts the ended process again; clients keep its address.
    pub async fn restart(&mut self) {
        self.app.restart().await.unwrap();
    }

    /// A `GET` whose answer must be 200, as JSON.
    pub async fn get(&self, path: &str) -> Value {
        let answer = self.client.send(self.client.request(Method::GET, path)).await.unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()
    }
}

/// See [`Stack::ended_turns`].
pub async fn ended_turns(client: &Client, session: &str, count: usize) -> Vec<Turn> {
    eventually(&format!("{count} ended turns in session {session}"), async || {
        let turns = turns(&client.history(session).await.ok()?);
        (turns.iter().filter(|turn| turn.end.is_some()).count() >= count).then_some(turns)
    })
    .await
}
