//! A scriptable SomaBrain: health, remember, batch and recall, with the three shapes of recall answers and the faults of a
//! service that is slow, unwell or gone.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::Result;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::http::{Request, Server, Service, Wire};
use crate::lock::locked;
use crate::model::Gate;
use crate::wait::within;

/// The shapes in which versions of SomaBrain answer a recall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Items with a `payload`, from the full model of December.
    Payload,
    /// Items whose `content` is the text, from the endpoint of December.
    Text,
    /// Items whose `content` is the stored object, from today's endpoint.
    Content,
    /// `{wm, memory}` of the oldest `/recall`; `/memory/recall` does not exist then.
    Old,
}

/// How the service behaves.
#[derive(Debug, Clone)]
pub enum Mood {
    /// It answers.
    Well,
    /// Every call but health gets this status; with a `Retry-After` when one is given.
    Failing(u16, Option<u32>),
    /// Every call waits until the gate lets it pass, then is answered.
    Slow(Gate),
}

/// One received call.
#[derive(Debug, Clone)]
pub struct Call {
    /// When it had been read.
    pub at: Instant,
    /// `GET` or `POST`.
    pub method: String,
    /// The path without its query.
    pub path: String,
    /// Header fields, names in lower case.
    pub headers: HashMap<String, String>,
    /// The JSON body.
    pub body: Value,
}

/// The scriptable SomaBrain. Ends when dropped.
pub struct Brain {
    server: Server<Desk>,
}

impl Brain {
    /// Starts a well service without any memory, which answers recalls in today's shape.
    pub async fn start() -> Result<Self> {
        let desk = Desk {
            mood: Mutex::new(Mood::Well),
            shape: Mutex::new(Shape::Content),
            memories: Mutex::default(),
            calls: watch::Sender::default(),
        };
        Ok(Self { server: Server::start(desk).await? })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What goes in `SOMA_BASE_URL`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Changes its behaviour, for calls to come.
    pub fn set_mood(&self, mood: Mood) {
        *locked(&self.desk().mood) = mood;
    }

    /// Changes the shape of its recall answers.
    pub fn set_shape(&self, shape: Shape) {
        *locked(&self.desk().shape) = shape;
    }

    /// Gives it something to recall.
    pub fn know(&self, key: &str, content: &str) {
        self.desk().keep("public", "wm", key, &json!({"content": content}));
    }

    /// The keys it was told to remember or knows, in order.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        locked(&self.desk().memories).iter().map(|memory| memory.key.clone()).collect()
    }

    /// Every call so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.desk().calls.borrow().clone()
    }

    /// The calls to `path` so far.
    #[must_use]
    pub fn calls_to(&self, path: &str) -> Vec<Call> {
        self.desk().calls.borrow().iter().filter(|call| call.path == path).cloned().collect()
    }

    /// Waits until `path` was called `count` times.
    ///
    /// # Panics
    /// When that does not happen.
    pub async fn called(&self, path: &str, count: usize) {
        let mut calls = self.desk().calls.subscribe();
        let enough = |calls: &Vec<Call>| calls.iter().filter(|call| call.path == path).count() >= count;
        let _ = within(&format!("call {count} of {path}"), calls.wait_for(enough)).await;
    }

    /// Closes the port: a connect is refused.
    pub async fn down(&self) {
        self.server.down().await;
    }

    /// Opens the port again.
    pub async fn up(&self) -> Result<()> {
        self.server.up().await
    }

    fn desk(&self) -> &Desk {
        self.server.service()
    }
}

#[derive(Debug, Clone)]
struct Memory {
    tenant: String,
    namespace: String,
    key: String,
    value: Value,
}

struct Desk {
    mood: Mutex<Mood>,
    shape: Mutex<Shape>,
    memories: Mutex<Vec<Memory>>,
    calls: watch::Sender<Vec<Call>>,
}

impl Service for Desk {
    async fn serve(&self, request: Request, mut wire: Wire) -> io::Result<Option<Wire>> {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let path = path.to_owned();
        let body = match query.strip_prefix("payload=") {
            Some(payload) => serde_json::from_str(&percent_decoded(payload)).unwrap_or(Value::Null),
            None => request.json(),
        };
        let call = Call {
            at: Instant::now(),
            method: request.method.clone(),
            path: path.clone(),
            headers: request.headers.clone(),
            body: body.clone(),
        };
        self.calls.send_modify(|calls| calls.push(call));
        let mood = locked(&self.mood).clone();
        match mood {
            Mood::Well => {}
            Mood::Failing(_, _) if path == "/health" => {}
            Mood::Failing(status, retry_after) => {
                let headers: Vec<_> =
                    retry_after.map(|after| ("retry-after".to_owned(), after.to_string())).into_iter().collect();
                wire.answer(status, &headers, "{\"detail\":\"scripted\"}").await?;
                return Ok(Some(wire));
            }
            Mood::Slow(gate) => {
                let gone = tokio::select! {
                    () = gate.pass() => false,
                    () = wire.closed() => true,
                };
                if gone {
                    return Ok(None);
                }
            }
        }
        let (status, answer) = self.answer(&request.method, &path, &body);
        wire.answer_json(status, &answer).await?;
        Ok(Some(wire))
    }
}

impl Desk {
    fn answer(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        match (method, path) {
            ("GET", "/health") => (200, json!({"ok": true, "status": "healthy", "ready": true})),
            ("POST", "/memory/remember") => self.remember(body),
            ("POST", "/memory/remember/batch") => self.remember_batch(body),
            ("POST", "/memory/recall" | "/recall") => self.recall(path, body),
            ("GET", "/memory/metrics") => {
                let items = locked(&self.memories).len();
                (200, json!({"tenant": "public", "namespace": "wm", "wm_items": items, "circuit_open": false}))
            }
            _ => (404, json!({"detail": "Not Found"})),
        }
    }

    fn remember(&self, body: &Value) -> (u16, Value) {
        let text = |name: &str| body[name].as_str().filter(|text| !text.is_empty());
        let (Some(tenant), Some(namespace), Some(key)) = (text("tenant"), text("namespace"), text("key")) else {
            return (422, json!({"detail": [{"type": "missing", "loc": ["body"], "msg": "Field required"}]}));
        };
        if !body["value"].is_object() {
            return (422, json!({"detail": [{"type": "missing", "loc": ["body", "value"], "msg": "Field required"}]}));
        }
        self.keep(tenant, namespace, key, &body["value"]);
        let mut answer = json!({"ok": true, "tenant": tenant, "namespace": namespace});
        for (name, value) in remembered(key, body, &uuid::Uuid::new_v4().to_string()) {
            answer[name] = value;
        }
        (200, answer)
    }

    fn remember_batch(&self, body: &Value) -> (u16, Value) {
        let (Some(tenant), Some(namespace)) = (body["tenant"].as_str(), body["namespace"].as_str()) else {
            return (422, json!({"detail": [{"type": "missing", "loc": ["body"], "msg": "Field required"}]}));
        };
        let request = uuid::Uuid::new_v4();
        let items = body["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let results: Vec<Value> = items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                let key = item["key"].as_str().unwrap_or_default();
                self.keep(tenant, namespace, key, &item["value"]);
                Value::Object(remembered(key, item, &format!("{request}:{index}")).into_iter().collect())
            })
            .collect();
        (200, json!({"ok": true, "tenant": tenant, "namespace": namespace, "results": results}))
    }

    /// Keeps the newest value of each `(tenant, namespace, key)`.
    fn keep(&self, tenant: &str, namespace: &str, key: &str, value: &Value) {
        let mut memories = locked(&self.memories);
        memories.retain(|memory| (&*memory.tenant, &*memory.namespace, &*memory.key) != (tenant, namespace, key));
        memories.push(Memory {
            tenant: tenant.to_owned(),
            namespace: namespace.to_owned(),
            key: key.to_owned(),
            value: value.clone(),
        });
    }

    fn recall(&self, path: &str, body: &Value) -> (u16, Value) {
        let shape = *locked(&self.shape);
        if (shape == Shape::Old) != (path == "/recall") {
            return (404, json!({"detail": "Not Found"}));
        }
        let Some(query) = body["query"].as_str() else {
            return (422, json!({"detail": [{"type": "missing", "loc": ["body", "query"], "msg": "Field required"}]}));
        };
        let limit = body["top_k"].as_u64().and_then(|k| usize::try_from(k).ok()).unwrap_or(3);
        let mut found: Vec<(f64, Memory)> = locked(&self.memories)
            .iter()
            .map(|memory| (overlap(query, memory.value["content"].as_str().unwrap_or_default()), memory.clone()))
            .filter(|(score, _)| *score > 0.0)
            .collect();
        found.sort_by(|(left, _), (right, _)| right.total_cmp(left));
        found.truncate(limit);
        let items: Vec<Value> = found.iter().map(|(score, memory)| item(shape, *score, memory)).collect();
        let total = items.len();
        let answer = match shape {
            Shape::Old => json!({"wm": items, "memory": [], "namespace": "wm", "trace_id": "t"}),
            Shape::Payload => json!({
                "tenant": "public", "namespace": "wm", "results": items, "wm_hits": total, "ltm_hits": 0,
                "duration_ms": 1.5, "session_id": null, "scoring_mode": "blend", "chunk_index": 0, "has_more": false,
                "total_results": total, "chunk_size": null, "conversation_id": null, "degraded": false,
            }),
            Shape::Text | Shape::Content => json!({
                "tenant": "public", "namespace": "wm", "results": items, "wm_hits": total, "ltm_hits": 0,
                "duration_ms": 1.5, "total_results": total, "degraded": false, "degraded_reasons": [],
            }),
        };
        (200, answer)
    }
}

fn item(shape: Shape, score: f64, memory: &Memory) -> Value {
    let value = &memory.value;
    match shape {
        Shape::Payload => json!({
            "layer": "wm", "score": score, "payload": value, "coordinate": coordinate(&memory.key), "source": "wm",
            "confidence": 0.5, "novelty": null, "affinity": null,
        }),
        Shape::Text => json!({"content": value["content"], "layer": "wm", "score": score}),
        Shape::Content => json!({"content": value, "layer": "wm", "score": score}),
        Shape::Old => json!({"payload": value, "score": score}),
    }
}

fn remembered(key: &str, request: &Value, request_id: &str) -> Vec<(String, Value)> {
    [
        ("key", json!(key)),
        ("coordinate", coordinate(key)),
        ("promoted_to_wm", json!(true)),
        ("persisted_to_ltm", json!(true)),
        ("deduplicated", json!(false)),
        ("importance", Value::Null),
        ("novelty", Value::Null),
        ("ttl_applied", Value::Null),
        ("trace_id", request["trace_id"].clone()),
        ("request_id", json!(request_id)),
        ("warnings", json!([])),
        ("signals", json!({})),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec()
}

/// Three numbers that depend on the key alone.
fn coordinate(key: &str) -> Value {
    let part = |salt: u32| {
        let sum = key.bytes().fold(salt, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        f64::from(sum % 1000) / 1000.0
    };
    json!([part(1), part(2), part(3)])
}

/// The share of the query's words that the text holds.
#[expect(clippy::cast_precision_loss, reason = "a handful of words")]
fn overlap(query: &str, text: &str) -> f64 {
    let words = |text: &str| -> Vec<String> {
        text.to_lowercase().split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_owned).collect()
    };
    let (asked, held) = (words(query), words(text));
    let hits = asked.iter().filter(|word| held.contains(word)).count();
    hits as f64 / asked.len().max(1) as f64
}

fn percent_decoded(text: &str) -> String {
    let pairs = reqwest::Url::parse(&format!("http://localhost/?payload={text}"));
    let value = pairs.ok().and_then(|url| url.query_pairs().next().map(|(_, value)| value.into_owned()));
    value.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    async fn post(brain: &Brain, path: &str, body: &Value) -> (u16, Value) {
        let answer =
            reqwest::Client::new().post(format!("{}{path}", brain.base_url())).json(body).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    #[tokio::test]
    async fn what_was_remembered_is_recalled_in_each_shape() {
        let brain = Brain::start().await.unwrap();
        let write =
            json!({"tenant": "public", "namespace": "wm", "key": "k1", "value": {"content": "the sky is green"}});
        assert_eq!(post(&brain, "/memory/remember", &write).await.1["ok"], true);
        let query = json!({"query": "which colour is the sky", "top_k": 3});
        for (shape, path, place) in [
            (Shape::Payload, "/memory/recall", "/results/0/payload/content"),
            (Shape::Text, "/memory/recall", "/results/0/content"),
            (Shape::Content, "/memory/recall", "/results/0/content/content"),
            (Shape::Old, "/recall", "/wm/0/payload/content"),
        ] {
            brain.set_shape(shape);
            let (_, answer) = post(&brain, path, &query).await;
            assert_eq!(answer.pointer(place), Some(&json!("the sky is green")), "{shape:?}");
        }
        assert_eq!(brain.keys(), ["k1"]);
    }

    #[tokio::test]
    async fn a_write_without_a_key_is_refused() {
        let brain = Brain::start().await.unwrap();
        let write = json!({"tenant": "public", "namespace": "wm", "value": {}});
        assert_eq!(post(&brain, "/memory/remember", &write).await.0, 422);
    }

    #[tokio::test]
    async fn moods_are_seen_by_the_client() {
        let brain = Brain::start().await.unwrap();
        brain.set_mood(Mood::Failing(503, Some(2)));
        assert_eq!(post(&brain, "/memory/recall", &json!({"query": "x"})).await.0, 503);
        let gate = Gate::closed();
        brain.set_mood(Mood::Slow(gate.clone()));
        let slow = tokio::spawn(reqwest::get(format!("{}/health", brain.base_url())));
        brain.called("/health", 1).await;
        assert!(!slow.is_finished());
        gate.open();
        assert_eq!(slow.await.unwrap().unwrap().status().as_u16(), 200);
        brain.down().await;
        assert!(reqwest::get(format!("{}/health", brain.base_url())).await.unwrap_err().is_connect());
    }
}
