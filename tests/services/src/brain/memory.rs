//! What the scriptable SomaBrain knows, and its answers to writes, recalls and deletions.

use serde_json::{Value, json};

/// The shapes in which versions of SomaBrain answer a recall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    /// Items with a `payload`, from the full model of December.
    Payload,
    /// Items whose `content` is the text, from the endpoint of December.
    Text,
    /// Items whose `content` is the stored object, from today's endpoint.
    #[default]
    Content,
    /// `{wm, memory}` of the oldest `/recall`; `/memory/recall` does not exist then.
    Old,
}

#[derive(Debug, Clone)]
struct Memory {
    tenant: String,
    namespace: String,
    key: String,
    value: Value,
}

impl Memory {
    fn is(&self, tenant: &str, namespace: &str, key: &str) -> bool {
        (&*self.tenant, &*self.namespace, &*self.key) == (tenant, namespace, key)
    }
}

/// Its memories, and how it behaves where servers differ.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    pub(super) shape: Shape,
    pub(super) deletes: bool,
    pub(super) deduplicates: bool,
    /// The key of every write done.
    pub(super) received: Vec<String>,
    memories: Vec<Memory>,
}

impl Shelf {
    pub(super) fn keys(&self) -> Vec<String> {
        self.memories.iter().map(|memory| memory.key.clone()).collect()
    }

    pub(super) fn value(&self, tenant: &str, namespace: &str, key: &str) -> Option<Value> {
        self.memories.iter().find(|memory| memory.is(tenant, namespace, key)).map(|memory| memory.value.clone())
    }

    /// Keeps the newest value of each `(tenant, namespace, key)`; says whether there was one.
    pub(super) fn keep(&mut self, tenant: &str, namespace: &str, key: &str, value: &Value) -> bool {
        let before = self.memories.len();
        self.memories.retain(|memory| !memory.is(tenant, namespace, key));
        let known = self.memories.len() < before;
        self.memories.push(Memory {
            tenant: tenant.to_owned(),
            namespace: namespace.to_owned(),
            key: key.to_owned(),
            value: value.clone(),
        });
        known
    }

    pub(super) fn remember(&mut self, body: &Value, request_id: &str) -> (u16, Value) {
        let faults: Vec<_> = faults(body, &["tenant", "namespace"], &[]).chain(item_faults(body, &[])).collect();
        if !faults.is_empty() {
            return (422, json!({"detail": faults}));
        }
        let mut answer = json!({"ok": true, "tenant": body["tenant"], "namespace": body["namespace"]});
        for (name, value) in self.write(body, body, request_id) {
            answer[name] = value;
        }
        (200, answer)
    }

    /// All items or none of them.
    pub(super) fn remember_batch(&mut self, body: &Value, request_id: &str) -> (u16, Value) {
        let mut faults: Vec<_> = faults(body, &["tenant", "namespace"], &[]).collect();
        let items = body["items"].as_array().cloned();
        if items.is_none() {
            faults.push(fault(&[], "items"));
        }
        let items = items.unwrap_or_default();
        for (index, item) in items.iter().enumerate() {
            faults.extend(item_faults(item, &[json!("items"), json!(index)]));
        }
        if !faults.is_empty() {
            return (422, json!({"detail": faults}));
        }
        let results: Vec<Value> = items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                let receipt = self.write(body, item, &format!("{request_id}:{index}"));
                Value::Object(receipt.into_iter().collect())
            })
            .collect();
        (200, json!({"ok": true, "tenant": body["tenant"], "namespace": body["namespace"], "results": results}))
    }

    fn write(&mut self, place: &Value, item: &Value, request_id: &str) -> Vec<(String, Value)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let key = text(&item["key"]);
        let known = self.keep(&text(&place["tenant"]), &text(&place["namespace"]), &key, &item["value"]);
        self.received.push(key.clone());
        receipt(&key, known && self.deduplicates, item, request_id)
    }

    pub(super) fn delete(&mut self, body: &Value) -> (u16, Value) {
        let Some(id) = body["id"].as_str() else { return (422, json!({"detail": [fault(&[], "id")]})) };
        let before = self.memories.len();
        self.memories.retain(|memory| memory.key != id);
        (200, json!({"ok": true, "deleted": before - self.memories.len()}))
    }

    pub(super) fn recall(&self, path: &str, body: &Value) -> (u16, Value) {
        let shape = self.shape;
        if (shape == Shape::Old) != (path == "/recall") {
            return (404, json!({"detail": "Not Found"}));
        }
        let Some(query) = body["query"].as_str() else {
            return (422, json!({"detail": [{"type": "missing", "loc": ["body", "query"], "msg": "Field required"}]}));
        };
        let limit = body["top_k"].as_u64().and_then(|k| usize::try_from(k).ok()).unwrap_or(3);
        let mut found: Vec<(f64, Memory)> = self
            .memories
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

/// What the server says of a member that is absent or empty.
fn fault(place: &[Value], name: &str) -> Value {
    let place: Vec<_> = [json!("body")].into_iter().chain(place.iter().cloned()).chain([json!(name)]).collect();
    json!({"type": "missing", "loc": place, "msg": "Field required"})
}

fn faults(body: &Value, names: &[&str], place: &[Value]) -> impl Iterator<Item = Value> {
    let missing = names.iter().filter(|name| body[**name].as_str().is_none_or(str::is_empty));
    missing.map(|name| fault(place, name)).collect::<Vec<_>>().into_iter()
}

fn item_faults(item: &Value, place: &[Value]) -> impl Iterator<Item = Value> {
    let value = (!item["value"].is_object()).then(|| fault(place, "value"));
    faults(item, &["key"], place).chain(value)
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

fn receipt(key: &str, known: bool, request: &Value, request_id: &str) -> Vec<(String, Value)> {
    [
        ("key", json!(key)),
        ("coordinate", coordinate(key)),
        ("promoted_to_wm", json!(true)),
        ("persisted_to_ltm", json!(true)),
        ("deduplicated", json!(known)),
        ("importance", request["importance"].clone()),
        ("novelty", request["novelty"].clone()),
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
