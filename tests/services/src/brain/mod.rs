//! A scriptable SomaBrain: health, remember, batch, recall and delete, with all shapes of recall answers and the faults of
//! a service that is slow, unwell, gone, or gone just after it did what it was asked.
//!
//! | file | holds |
//! | --- | --- |
//! | `mod.rs` | the service, its moods, and what it saw |
//! | `memory` | what it knows, and its answers to writes and recalls |

mod memory;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
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
pub use memory::Shape;
use memory::Shelf;

/// How the service behaves.
#[derive(Debug, Clone)]
pub enum Mood {
    /// It answers.
    Well,
    /// Every call but health gets this status; with a `Retry-After` when one is given.
    Failing(u16, Option<u32>),
    /// Every call but health is answered with 200 and a text that is no JSON.
    Babbling,
    /// Every call waits until the gate lets it pass, then is answered.
    Slow(Gate),
    /// Every call loses its connection before anything is done.
    Dropping,
    /// Every call is done, and loses its connection before the answer: the caller cannot know.
    DroppingAfter,
    /// The health says that something is amiss; every call is answered.
    Degraded,
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
            next: Mutex::default(),
            shelf: Mutex::default(),
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

    /// Plans moods for the next calls but health, one each; after them its lasting mood holds again.
    pub fn next_moods(&self, moods: impl IntoIterator<Item = Mood>) {
        locked(&self.desk().next).extend(moods);
    }

    /// Makes it well: moods that were planned are forgotten.
    pub fn recover(&self) {
        locked(&self.desk().next).clear();
        self.set_mood(Mood::Well);
    }

    /// Changes the shape of its recall answers.
    pub fn set_shape(&self, shape: Shape) {
        locked(&self.desk().shelf).shape = shape;
    }

    /// Whether memories can be deleted, as on the oldest servers; not at first, as on those of today.
    pub fn set_deletes(&self, deletes: bool) {
        locked(&self.desk().shelf).deletes = deletes;
    }

    /// Whether a write under a known key is answered with `deduplicated: true`; not at first, as on real servers.
    pub fn set_deduplicates(&self, deduplicates: bool) {
        locked(&self.desk().shelf).deduplicates = deduplicates;
    }

    /// Gives it something to recall.
    pub fn know(&self, key: &str, content: &str) {
        locked(&self.desk().shelf).keep("public", "wm", key, &json!({"content": content}));
    }

    /// The keys it knows, each once, the newest written last.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        locked(&self.desk().shelf).keys()
    }

    /// The key of every write it has done, in the order of doing, repeated ones repeated.
    #[must_use]
    pub fn received(&self) -> Vec<String> {
        locked(&self.desk().shelf).received.clone()
    }

    /// What it keeps under a key.
    #[must_use]
    pub fn value(&self, tenant: &str, namespace: &str, key: &str) -> Option<Value> {
        locked(&self.desk().shelf).value(tenant, namespace, key)
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

struct Desk {
    mood: Mutex<Mood>,
    /// Moods of the calls to come, before the lasting one.
    next: Mutex<VecDeque<Mood>>,
    shelf: Mutex<Shelf>,
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
        let request_id = request.headers.get("x-request-id").cloned();
        let request_id = request_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        let call = Call {
            at: Instant::now(),
            method: request.method.clone(),
            path: path.clone(),
            headers: request.headers.clone(),
            body: body.clone(),
        };
        self.calls.send_modify(|calls| calls.push(call));
        let probe = path == "/health";
        let planned = if probe { None } else { locked(&self.next).pop_front() };
        let mood = planned.unwrap_or_else(|| locked(&self.mood).clone());
        match mood {
            Mood::Failing(_, _) | Mood::Babbling if probe => {}
            Mood::Degraded if probe => {
                wire.answer_json(200, &json!({"ok": false, "status": "degraded"})).await?;
                return Ok(Some(wire));
            }
            Mood::Well | Mood::Degraded => {}
            Mood::Dropping => {
                wire.reset();
                return Ok(None);
            }
            Mood::DroppingAfter => {
                drop(self.answer(&request.method, &path, &body, &request_id));
                wire.reset();
                return Ok(None);
            }
            Mood::Failing(status, retry_after) => {
                let headers: Vec<_> =
                    retry_after.map(|after| ("retry-after".to_owned(), after.to_string())).into_iter().collect();
                wire.answer(status, &headers, "{\"detail\":\"scripted\"}").await?;
                return Ok(Some(wire));
            }
            Mood::Babbling => {
                wire.answer(200, &[], "<html>").await?;
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
        let (status, answer) = self.answer(&request.method, &path, &body, &request_id);
        wire.answer_json(status, &answer).await?;
        Ok(Some(wire))
    }
}

impl Desk {
    fn answer(&self, method: &str, path: &str, body: &Value, request_id: &str) -> (u16, Value) {
        let mut known = locked(&self.shelf);
        match (method, path) {
            ("GET", "/health") => (200, json!({"ok": true, "status": "healthy", "ready": true})),
            ("POST", "/memory/remember") => known.remember(body, request_id),
            ("POST", "/memory/remember/batch") => known.remember_batch(body, request_id),
            ("POST", "/memory/recall" | "/recall") => known.recall(path, body),
            ("POST", "/recall/delete") if known.deletes => known.delete(body),
            ("GET", "/memory/metrics") => {
                let items = known.keys().len();
                (200, json!({"tenant": "public", "namespace": "wm", "wm_items": items, "circuit_open": false}))
            }
            _ => (404, json!({"detail": "Not Found"})),
        }
    }
}

fn percent_decoded(text: &str) -> String {
    let pairs = reqwest::Url::parse(&format!("http://localhost/?payload={text}"));
    let value = pairs.ok().and_then(|url| url.query_pairs().next().map(|(_, value)| value.into_owned()));
    value.unwrap_or_default()
}
