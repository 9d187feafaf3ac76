//! The stand-in as its clients see it: requests over a real socket, rows in a real database.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a failed expectation ends the test, the server is a free task, and time against sockets is real"
)]

use std::net::Ipv4Addr;
use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use somaagent_actors::domain::{ids::Tenant, memory::MemorySpace};
use somaagent_actors::somabrain::{
    Asker, BrainClient, BrainDeps, BrainMetrics, BrainSettings, HealthState, MemoryWrite, Recall, RememberBatch,
};
use somaagent_actors::store::Connections;
use somaagent_supervision::{Restart, Strategy, SupervisorSpec, Tree};
use sqlx::PgPool;
use tokio::time::Instant;
use uuid::Uuid;

use super::super::stand_in::start_at;
use super::*;

struct Brain {
    base_url: String,
    client: Client,
}

impl Brain {
    fn start(pool: PgPool) -> Self {
        Self::start_with(true, pool)
    }

    fn start_with(deletes: bool, pool: PgPool) -> Self {
        let connections = match pool.options().get_max_connections() {
            1 => Connections { shared: pool, journal: None },
            _ => Connections::of_pool(pool),
        };
        let store = Store::new(connections, Duration::from_secs(5), tokio::runtime::Handle::current());
        let stand_in = MemoryStandIn { store, clock: OffsetDateTime::now_utc, deletes };
        let (address, server) = start_at(&stand_in, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        tokio::spawn(server);
        Self { base_url: format!("http://{address}"), client: Client::builder().no_proxy().build().unwrap() }
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("{}{path}", self.base_url)).header("X-Tenant-ID", "acme")
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.base_url)).header("X-Tenant-ID", "acme")
    }

    /// Posts a body, expects 200 and returns the answer.
    async fn told(&self, path: &str, body: Value) -> Value {
        let (status, answer) = answer(self.post(path).body(body.to_string())).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    async fn remember(&self, key: &str, text: &str) -> Value {
        let value = json!({"content": text, "role": "user"});
        self.told("/memory/remember", json!({"tenant": "acme", "namespace": "wm", "key": key, "value": value})).await
    }

    /// The texts a recall finds.
    async fn recall(&self, query: &str) -> Vec<String> {
        texts(&self.told("/memory/recall", json!({"namespace": "wm", "query": query, "top_k": 5})).await)
    }
}

async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response: Response = request.send().await.unwrap();
    (response.status().as_u16(), serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default())
}

fn texts(answer: &Value) -> Vec<String> {
    let results = answer["results"].as_array().unwrap();
    results.iter().map(|hit| hit["payload"]["content"].as_str().unwrap().to_owned()).collect()
}

#[sqlx::test]
async fn what_was_remembered_is_recalled_by_its_words(pool: PgPool) {
    let brain = Brain::start(pool);
    assert_eq!(answer(brain.get("/health")).await, (200, json!({"ok": true, "status": "healthy"})));
    let receipt = brain.remember("k1", "I drink black tea").await;
    assert_eq!(
        (&receipt["ok"], &receipt["key"], &receipt["deduplicated"]),
        (&true.into(), &"k1".into(), &false.into())
    );
    assert_eq!(receipt["coordinate"].as_array().unwrap().len(), 3);
    brain.remember("k2", "The cat sleeps").await;
    brain.remember("k2", "The cat drinks milk").await;
    assert_eq!(brain.recall("who drinks black tea?").await, ["I drink black tea", "The cat drinks milk"]);
    assert!(brain.recall("sleeps").await.is_empty(), "the newest value of a key is kept");

    let found = brain.told("/memory/recall", json!({"query": "black tea"})).await;
    assert_eq!(
        (&found["tenant"], &found["namespace"], &found["total_results"]),
        (&json!("acme"), &json!("wm"), &json!(1))
    );
    let hit = &found["results"][0];
    assert_eq!((&hit["layer"], &hit["coordinate"]), (&json!("ltm"), &receipt["coordinate"]));
    let none = json!({"query": "black tea", "min_score": 2});
    assert_eq!(brain.told("/memory/recall", none).await["results"], json!([]));

    let metrics = answer(brain.get("/memory/metrics?tenant=acme&namespace=wm")).await;
    assert_eq!(metrics, (200, json!({"tenant": "acme", "namespace": "wm", "wm_items": 2, "circuit_open": false})));
}

/// The product's own client understands the stand-in, and each memory keeps to its place on the way.
#[sqlx::test]
async fn the_client_of_the_product_writes_to_it_and_recalls_from_it(pool: PgPool) {
    let brain = Brain::start(pool);
    let settings = BrainSettings { base_url: brain.base_url.clone(), ..BrainSettings::default() };
    let registry = prometheus::Registry::new();
    let deps = BrainDeps::new(&settings, BrainMetrics::new(&registry).unwrap()).unwrap();
    let mut health = deps.health();
    let recalls = async {
        let tree = Tree::new(&registry).unwrap();
        let root = tree.root(SupervisorSpec::new("somabrain", Strategy::OneForOne));
        let seat = root.seat::<BrainClient>(Restart::Permanent);
        let (port, batch) = (seat.port::<Recall>("recall", 4), seat.port::<RememberBatch>("remember-batch", 1));
        seat.start(move || BrainClient::new(deps)).await.unwrap();
        assert_eq!(health.changed().await.state, HealthState::Normal);
        let within = Duration::from_secs(5);
        let asker = |tenant: &str| Asker {
            tenant: Tenant::new(tenant).unwrap(),
            correlation_id: Uuid::nil(),
            trace: None,
            deadline: Instant::now() + within,
        };
        let memory = |key: &str, text: &str| MemoryWrite::new(key, json!({"content": text}));
        let memories = vec![memory("k1", "I drink black tea"), memory("k2", "The cat sleeps")];
        let make = |reply| RememberBatch { asker: asker("acme"), space: settings.space(), memories, reply };
        let written = batch.call(make, within).await.unwrap().unwrap();
        assert_eq!(written[1].coordinate.as_ref().unwrap().len(), 3);
        let recall = async |tenant: &str, universe: Option<&str>| {
            let make = |reply| Recall {
                query: "tea?".into(),
                asker: asker(tenant),
                space: MemorySpace { universe: universe.map(str::to_owned), ..settings.space() },
                top_k: 3,
                session_id: Uuid::nil(),
                reply,
            };
            port.call(make, within).await.unwrap().unwrap().memories
        };
        let found = recall("acme", None).await;
        assert_eq!((found.len(), found[0].text.as_str()), (1, "I drink black tea"));
        assert_eq!(found[0].source.as_deref(), Some("full-text"));
        assert!(recall("other", None).await.is_empty());
        assert!(recall("acme", Some("wm")).await.is_empty(), "a namespace is no universe");
        root.stop(within).await;
    };
    tokio::task::LocalSet::new().run_until(recalls).await;
}

#[sqlx::test]
async fn recall_takes_the_payload_from_the_query_string_and_streams(pool: PgPool) {
    let brain = Brain::start(pool);
    brain.remember("k1", "I drink black tea").await;
    let asked = "?payload=%7B%22query%22%3A%22tea%22%7D";
    let (status, found) = answer(brain.post(&format!("/memory/recall{asked}"))).await;
    assert_eq!((status, texts(&found)), (200, vec!["I drink black tea".to_owned()]));

    let response = brain.post(&format!("/memory/recall/stream{asked}")).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let body = response.text().await.unwrap();
    let events: Vec<_> = body.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect();
    assert_eq!((events.len(), events[1]), (2, "[DONE]"));
    assert_eq!(serde_json::from_str::<Value>(events[0]).unwrap()["payload"]["content"], "I drink black tea");
}

#[sqlx::test]
async fn a_batch_is_written_as_a_whole(pool: PgPool) {
    let brain = Brain::start(pool);
    let item = |key: &str, text: &str| json!({"key": key, "value": {"content": text}, "ttl_seconds": 60});
    let batch = json!({"tenant": "acme", "namespace": "wm", "items": [item("a", "tea"), item("b", "milk")]});
    let (_, answered) =
        answer(brain.post("/memory/remember/batch").header("X-Request-ID", "r").body(batch.to_string())).await;
    assert_eq!(answered["results"][1]["request_id"], "r:1");
    assert!(answered["results"][0]["warnings"][0].as_str().unwrap().starts_with("ttl-ignored"));
    let broken = json!({"tenant": "acme", "namespace": "wm", "items": [item("c", "sugar"), {"key": "", "value": 1}]});
    let (status, refused) = answer(brain.post("/memory/remember/batch").body(broken.to_string())).await;
    let places: Vec<_> = refused["detail"].as_array().unwrap().iter().map(|fault| fault["loc"].clone()).collect();
    assert_eq!(status, 422);
    assert_eq!(places, [json!(["body", "items", 1, "key"]), json!(["body", "items", 1, "value"])]);
    assert_eq!(brain.recall("tea milk sugar").await.len(), 2);
}

#[sqlx::test]
async fn wrong_requests_are_refused_like_the_real_server_does(pool: PgPool) {
    let brain = Brain::start(pool);
    let whole = json!({"tenant": "t", "namespace": "n", "key": "k", "value": {"content": "x"}});
    let without = |name: &str| {
        let mut body = whole.clone();
        body.as_object_mut().unwrap().remove(name);
        body
    };
    let with = |name: &str, value: Value| {
        let mut body = whole.clone();
        body[name] = value;
        body
    };
    let remember = "/memory/remember";
    let cases = [
        (remember, without("tenant"), "missing", "tenant"),
        (remember, without("namespace"), "missing", "namespace"),
        (remember, without("key"), "missing", "key"),
        (remember, without("value"), "missing", "value"),
        (remember, with("key", json!("")), "string_too_short", "key"),
        (remember, with("key", json!(7)), "string_type", "key"),
        (remember, with("key", json!("k".repeat(600))), "string_too_long", "key"),
        (remember, with("value", json!("text")), "dict_type", "value"),
        (remember, with("importance", json!(-1)), "greater_than_equal", "importance"),
        (remember, with("novelty", json!("high")), "float_type", "novelty"),
        ("/memory/recall", json!({}), "missing", "query"),
        ("/memory/recall", json!({"query": "x", "top_k": 51}), "int_range", "top_k"),
        ("/context/evaluate", json!({"query": "x", "top_k": 0}), "int_range", "top_k"),
        ("/recall/delete", json!({}), "missing", "id"),
        ("/delete", json!({"coordinate": "0,0,0"}), "list_type", "coordinate"),
    ];
    for (path, body, kind, field) in cases {
        let (status, refused) = answer(brain.post(path).body(body.to_string())).await;
        assert_eq!(status, 422, "{path} {body}");
        assert_eq!(refused["detail"][0]["type"], kind, "{path} {body}");
        assert_eq!(refused["detail"][0]["loc"], json!(["body", field]), "{path} {body}");
    }
    let (status, refused) = answer(brain.post(remember).body(with("value", json!({"a": "b\0"})).to_string())).await;
    assert_eq!((status, &refused["detail"][0]["type"]), (422, &json!("value_error")));
    assert_eq!(answer(brain.post(remember).body("{")).await.0, 400);
    assert_eq!(answer(brain.post("/memory/unknown")).await, (404, json!({"detail": "Not Found"})));
}

#[sqlx::test]
async fn memories_of_another_tenant_namespace_or_universe_are_not_found(pool: PgPool) {
    let brain = Brain::start(pool);
    brain.remember("k", "tea").await;
    let value = json!({"content": "tea elsewhere"});
    for place in [
        json!({"tenant": "other", "namespace": "wm"}),
        json!({"tenant": "acme", "namespace": "ltm"}),
        json!({"tenant": "acme", "namespace": "wm", "universe": "ltm"}),
    ] {
        let mut body = place;
        body["key"] = "elsewhere".into();
        body["value"] = value.clone();
        brain.told("/memory/remember", body).await;
    }
    assert_eq!(brain.recall("tea").await, ["tea"]);
    let claimed = json!({"tenant": "other", "query": "tea"});
    assert_eq!(texts(&brain.told("/memory/recall", claimed).await), ["tea"], "the header decides over the tenant");
    let universe = json!({"query": "tea", "universe": "ltm"});
    assert_eq!(texts(&brain.told("/memory/recall", universe).await), ["tea elsewhere"]);
}

#[sqlx::test]
async fn memories_can_be_deleted_unless_that_is_switched_off(pool: PgPool) {
    let brain = Brain::start(pool.clone());
    brain.remember("k1", "tea").await;
    let coordinate = brain.remember("k2", "milk").await["coordinate"].clone();
    assert_eq!(brain.told("/recall/delete", json!({"id": "k1"})).await["deleted"], 1);
    assert_eq!(brain.told("/recall/delete", json!({"id": "k1"})).await["deleted"], 0);
    assert_eq!(brain.told("/delete", json!({"coordinate": coordinate})).await["deleted"], 1);
    assert!(brain.recall("tea milk").await.is_empty());

    let real = Brain::start_with(false, pool);
    for path in ["/recall/delete", "/delete"] {
        assert_eq!(answer(real.post(path).body("{}")).await, (404, json!({"detail": "Not Found"})), "{path}");
    }
}

#[sqlx::test]
async fn context_is_offered_and_nothing_is_learnt(pool: PgPool) {
    let brain = Brain::start(pool);
    brain.remember("k", "I drink tea").await;
    let context =
        brain.told("/context/evaluate", json!({"session_id": "s", "query": "tea?", "tenant_id": "acme"})).await;
    assert_eq!(
        (&context["prompt"], &context["memories"][0]["content"]),
        (&json!("I drink tea\n\ntea?"), &json!("I drink tea"))
    );
    assert!(context["weights"][0].as_f64().unwrap() > 0.0);
    let feedback = brain.told("/context/feedback", json!({"session_id": "s", "utility": 1.0})).await;
    assert_eq!(feedback, json!({"accepted": true, "adaptation_applied": false, "elapsed_ms": 0}));
    let (_, state) = answer(brain.get("/context/adaptation/state?tenant_id=acme")).await;
    assert_eq!((&state["tenant_id"], &state["history_len"]), (&json!("acme"), &json!(0)));
}

#[sqlx::test]
async fn a_persona_is_replaced_only_by_who_knows_it(pool: PgPool) {
    let brain = Brain::start(pool);
    let url = format!("{}/persona/ada", brain.base_url);
    let put = |body: Value| brain.client.put(&url).header("X-Tenant-ID", "acme").body(body.to_string());
    assert_eq!(answer(brain.get("/persona/ada")).await.0, 404);
    let response = put(json!({"display_name": "Ada", "properties": {"speed": 1e2}})).send().await.unwrap();
    let etag = response.headers()["etag"].clone();
    let response = brain.get("/persona/ada").send().await.unwrap();
    assert_eq!(response.headers()["etag"], etag);
    let persona: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
    assert_eq!(persona["persona"]["display_name"], "Ada");
    let next = json!({"display_name": "Ada L."});
    assert_eq!(answer(put(next.clone()).header("If-Match", "\"other\"")).await.0, 412);
    assert_eq!(answer(put(next.clone()).header("If-Match", &etag)).await.0, 200);
    assert_eq!(answer(put(next).header("If-Match", etag)).await.0, 412, "it changed meanwhile");

    brain.told("/recall/delete", json!({"id": "ada"})).await;
    assert_eq!(answer(brain.get("/persona/ada")).await.0, 200, "a persona is no memory");
    for status in [200, 404] {
        assert_eq!(answer(brain.client.delete(&url).header("X-Tenant-ID", "acme")).await.0, status);
    }
}

#[sqlx::test]
async fn a_constitution_is_kept_and_not_evaluated(pool: PgPool) {
    let brain = Brain::start(pool);
    let (_, none) = answer(brain.get("/constitution/version")).await;
    assert_eq!((&none["constitution_version"], &none["constitution_status"]), (&Value::Null, &json!("not_loaded")));
    let saved = brain.told("/constitution/load", json!({"rules": ["be kind"]})).await;
    let (_, version) = answer(brain.get("/constitution/version")).await;
    assert_eq!((&saved["status"], &version["constitution_version"]), (&json!("saved"), &saved["checksum"]));
    assert_eq!(brain.told("/constitution/validate", json!({"input": "x"})).await["allowed"], true);
}

#[sqlx::test]
async fn the_fault_switch_makes_it_ill_and_well_again(pool: PgPool) {
    let brain = Brain::start(pool);
    let switch = async |body: &str| {
        answer(brain.client.put(format!("{}/stand-in/fault", brain.base_url)).body(body.to_owned())).await
    };
    let health = || brain.get("/health").send();
    assert_eq!(answer(brain.get("/stand-in/fault")).await, (200, json!({"mode": "none"})));
    assert_eq!(answer(brain.get("/health")).await.0, 200);

    assert_eq!(switch(r#"{"mode": "off"}"#).await.0, 200);
    for _ in 0..2 {
        assert!(health().await.is_err(), "it closes without an answer");
    }
    assert_eq!(switch(r#"{"mode": "503", "retry_after_seconds": 7}"#).await.0, 200);
    let refused = brain.post("/memory/remember").body("{}").send().await.unwrap();
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"7".parse().unwrap()));
    assert_eq!(switch(r#"{"mode": "slow", "delay_ms": 80}"#).await.0, 200);
    let begun = Instant::now();
    assert_eq!(answer(brain.get("/health")).await.0, 200);
    assert!(begun.elapsed() >= Duration::from_millis(80));
    assert_eq!(switch(r#"{"mode": "degraded"}"#).await.0, 200);
    assert_eq!(answer(brain.get("/health")).await.1["status"], "degraded");

    assert_eq!(switch(r#"{"mode": "ill"}"#).await.0, 422);
    assert_eq!(switch(r#"{"mode": "none"}"#).await, (200, json!({"mode": "none"})));
    assert_eq!(answer(brain.get("/health")).await, (200, json!({"ok": true, "status": "healthy"})));
}

#[sqlx::test]
async fn web_pages_are_refused(pool: PgPool) {
    let brain = Brain::start(pool);
    let refused = |request: RequestBuilder| async { answer(request).await.0 };
    assert_eq!(refused(brain.post("/memory/recall").header("Origin", "http://evil.example").body("{}")).await, 403);
    assert_eq!(refused(brain.get("/health").header("Host", "evil.example")).await, 403);
    assert_eq!(refused(brain.get("/health").header("Host", "localhost:1")).await, 200);
}

#[sqlx::test]
async fn a_database_that_is_gone_is_said_and_not_hidden(pool: PgPool) {
    let brain = Brain::start(pool.clone());
    pool.close().await;
    let (status, answered) = answer(brain.post("/memory/recall").body(r#"{"query": "tea"}"#)).await;
    assert_eq!((status, answered), (503, json!({"detail": "Memory services not available"})));
}

#[tokio::test]
async fn the_embedded_database_serves_it_too() {
    let folder = tempfile::tempdir().unwrap();
    let database = pglite_oxide::PgliteServer::builder().path(folder.path()).start().unwrap();
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .test_before_acquire(false)
        .connect(&database.database_url())
        .await
        .unwrap();
    sqlx::migrate!().run(&pool).await.unwrap();
    let brain = Brain::start(pool.clone());
    brain.remember("k1", "I drink black tea").await;
    assert_eq!(brain.recall("tea?").await, ["I drink black tea"]);
    // A client that hangs up at once, many times: the only connection must survive it.
    for _ in 0..50 {
        let request = brain.post("/memory/recall").body(r#"{"query": "tea"}"#).send();
        drop(tokio::time::timeout(Duration::from_micros(500), request).await);
    }
    assert_eq!(brain.recall("tea?").await, ["I drink black tea"]);
    pool.close().await;
    database.shutdown().unwrap();
}
