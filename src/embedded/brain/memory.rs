//! Remember, recall, delete.

use actix_web::{
    HttpRequest, HttpResponse,
    web::{Bytes, Data},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use somaagent_actors::store::brain_memories::{self, Found, NewMemory, Place};
use tokio::time::Instant;

use super::{
    body::{Faults, Fields, Parameters, Trouble, header, request_id, tenant},
    documents::NAMESPACES as DOCUMENTS,
    shelf::Shelf,
};

/// Namespace of requests that name none.
pub(super) const DEFAULT_NAMESPACE: &str = "wm";
/// Universe of requests that name none.
pub(super) const DEFAULT_UNIVERSE: &str = "real";
/// Members of a memory that are searched, the first that holds a text.
const TEXT_MEMBERS: [&str; 5] = ["content", "task", "text", "message", "fact"];

/// Where a memory lives, for work that outlives its request.
#[derive(Debug, Clone)]
pub(super) struct OwnedPlace {
    pub tenant: String,
    pub namespace: String,
    pub universe: String,
}

impl OwnedPlace {
    fn as_place(&self) -> Place<'_> {
        Place { tenant: &self.tenant, namespace: &self.namespace, universe: &self.universe }
    }

    /// The place a write names: its body decides.
    fn of_write(fields: &mut Fields, faults: &mut Faults) -> Self {
        Self {
            tenant: fields.required_name("tenant", faults),
            namespace: fields.required_name("namespace", faults),
            universe: fields.name("universe", faults).unwrap_or_else(|| DEFAULT_UNIVERSE.into()),
        }
    }

    /// The place a read names: headers decide over tenant and namespace, as on the real server; a universe in the
    /// body over one in the header.
    fn of_read(request: &HttpRequest, fields: &mut Fields, faults: &mut Faults) -> Self {
        let (said_tenant, said_namespace) = (fields.name("tenant", faults), fields.name("namespace", faults));
        Self {
            tenant: tenant(request, said_tenant),
            namespace: header(request, "X-Namespace").or(said_namespace).unwrap_or_else(|| DEFAULT_NAMESPACE.into()),
            universe: fields
                .name("universe", faults)
                .or_else(|| header(request, "X-Universe"))
                .unwrap_or_else(|| DEFAULT_UNIVERSE.into()),
        }
    }
}

/// A memory to be written and what the answer repeats of its request.
struct Item {
    memory: NewMemory,
    importance: Option<f64>,
    novelty: Option<f64>,
    ttl_seconds: Option<f64>,
    trace_id: Value,
    signals: Value,
}

impl Item {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        let key = fields.required_name("key", faults);
        let value = fields.required_object("value", faults);
        let memory = NewMemory { coordinate: coordinate(&key), text: searched(&value), key, value };
        Self {
            memory,
            importance: fields.amount("importance", faults),
            novelty: fields.amount("novelty", faults),
            ttl_seconds: fields.amount("ttl_seconds", faults),
            trace_id: fields.any("trace_id"),
            signals: fields.any("signals"),
        }
    }

    /// What was done with it.
    fn receipt(&self, request_id: &str) -> Value {
        let warnings: &[&str] =
            if self.ttl_seconds.is_some() { &["ttl-ignored: this stand-in keeps everything"] } else { &[] };
        json!({
            "key": self.memory.key,
            "queued_for_ltm": false,
            "coordinate": self.memory.coordinate,
            "promoted_to_wm": false,
            "persisted_to_ltm": true,
            "deduplicated": false,
            "importance": self.importance,
            "novelty": self.novelty,
            "ttl_applied": null,
            "trace_id": self.trace_id,
            "request_id": request_id,
            "warnings": warnings,
            "signals": {
                "applied": self.signals,
                "promoted_to_wm": false,
                "persisted_to_ltm": true,
            },
        })
    }
}

/// Three numbers from 0 to 1 that follow from the key. Six decimals, so that they come back from JSON unchanged.
fn coordinate(key: &str) -> [f64; 3] {
    let digest = Sha256::digest(key.as_bytes());
    let axis = |n: usize| {
        let bytes = [digest[4 * n], digest[4 * n + 1], digest[4 * n + 2], digest[4 * n + 3]];
        f64::from(u32::from_be_bytes(bytes) % 1_000_000) / 1e6
    };
    [axis(0), axis(1), axis(2)]
}

/// The part of a memory that is searched: its text, else all its texts.
fn searched(value: &Value) -> String {
    let named = TEXT_MEMBERS.iter().filter_map(|name| value[name].as_str()).find(|text| !text.trim().is_empty());
    if let Some(text) = named {
        return text.to_owned();
    }
    let members = value.as_object().into_iter().flat_map(|members| members.values());
    members.filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
}

async fn write(store: &Shelf, place: OwnedPlace, memories: Vec<NewMemory>) -> Result<(), Trouble> {
    let now = store.now();
    store
        .run(move |conn| {
            Box::pin(async move { brain_memories::remember(conn, place.as_place(), &memories, now).await })
        })
        .await
}

/// `POST /memory/remember`.
pub(super) async fn remember(store: Data<Shelf>, request: HttpRequest, body: Bytes) -> Result<HttpResponse, Trouble> {
    let mut fields = Fields::of_body(&body)?;
    let mut faults = Faults::default();
    let place = OwnedPlace::of_write(&mut fields, &mut faults);
    let item = Item::read(&mut fields, &mut faults);
    faults.check()?;
    let mut receipt = item.receipt(&request_id(&request));
    receipt["ok"] = true.into();
    receipt["tenant"] = place.tenant.as_str().into();
    receipt["namespace"] = place.namespace.as_str().into();
    write(&store, place, vec![item.memory]).await?;
    Ok(HttpResponse::Ok().json(receipt))
}

/// `POST /memory/remember/batch`: all of it or nothing.
pub(super) async fn remember_batch(
    store: Data<Shelf>,
    request: HttpRequest,
    body: Bytes,
) -> Result<HttpResponse, Trouble> {
    let mut fields = Fields::of_body(&body)?;
    let mut faults = Faults::default();
    let place = OwnedPlace::of_write(&mut fields, &mut faults);
    let mut items = fields.required_items("items", &mut faults);
    let items: Vec<_> = items.iter_mut().map(|fields| Item::read(fields, &mut faults)).collect();
    faults.check()?;
    let id = request_id(&request);
    let results: Vec<_> = items.iter().enumerate().map(|(n, item)| item.receipt(&format!("{id}:{n}"))).collect();
    let answer = json!({"ok": true, "tenant": place.tenant, "namespace": place.namespace, "results": results});
    write(&store, place, items.into_iter().map(|item| item.memory).collect()).await?;
    Ok(HttpResponse::Ok().json(answer))
}

/// What a recall asks for.
struct Wish {
    place: OwnedPlace,
    query: String,
    top_k: u32,
    min_score: f64,
    session_id: Value,
    conversation_id: Value,
}

impl Wish {
    /// Reads the body, or the parameter `payload` that some clients send instead of one.
    fn read(request: &HttpRequest, parameters: &Parameters, body: &[u8]) -> Result<Self, Trouble> {
        let mut fields = Fields::of_body(parameters.get("payload").map_or(body, String::as_bytes))?;
        let mut faults = Faults::default();
        let wish = Self {
            place: OwnedPlace::of_read(request, &mut fields, &mut faults),
            query: fields.required_text("query", &mut faults),
            top_k: fields.top_k(10, &mut faults),
            min_score: fields.amount("min_score", &mut faults).unwrap_or(0.0),
            session_id: fields.any("session_id"),
            conversation_id: fields.any("conversation_id"),
        };
        faults.check()?;
        Ok(wish)
    }

    async fn granted(&self, store: &Shelf) -> Result<Vec<Value>, Trouble> {
        let mut found = search(store, self.place.clone(), self.query.clone(), self.top_k).await?;
        found.retain(|found| found.score >= self.min_score);
        Ok(found.iter().map(hit).collect())
    }
}

/// The memories of a place that have any word of the query, best first.
pub(super) async fn search(store: &Shelf, place: OwnedPlace, query: String, limit: u32) -> Result<Vec<Found>, Trouble> {
    store
        .run(move |conn| {
            Box::pin(async move { brain_memories::recall(conn, place.as_place(), &query, limit.into()).await })
        })
        .await
}

fn hit(found: &Found) -> Value {
    json!({
        "layer": "ltm",
        "score": found.score,
        "payload": found.value,
        "coordinate": found.coordinate,
        "source": "full-text",
        "confidence": null,
        "novelty": null,
        "affinity": null,
    })
}

/// `POST /memory/recall`.
pub(super) async fn recall(
    store: Data<Shelf>,
    request: HttpRequest,
    parameters: Parameters,
    body: Bytes,
) -> Result<HttpResponse, Trouble> {
    let begun = Instant::now();
    let wish = Wish::read(&request, &parameters, &body)?;
    let hits = wish.granted(&store).await?;
    let found = hits.len();
    Ok(HttpResponse::Ok().json(json!({
        "tenant": wish.place.tenant,
        "namespace": wish.place.namespace,
        "results": hits,
        "wm_hits": 0,
        "ltm_hits": found,
        "duration_ms": begun.elapsed().as_secs_f64() * 1e3,
        "session_id": wish.session_id,
        "conversation_id": wish.conversation_id,
        "scoring_mode": "full-text",
        "chunk_index": 0,
        "chunk_size": found,
        "has_more": false,
        "total_results": found,
        "degraded": false,
    })))
}

/// `POST /memory/recall/stream`: one event a hit, then `[DONE]`.
pub(super) async fn recall_stream(
    store: Data<Shelf>,
    request: HttpRequest,
    parameters: Parameters,
    body: Bytes,
) -> Result<HttpResponse, Trouble> {
    let hits = Wish::read(&request, &parameters, &body)?.granted(&store).await?;
    let mut events: String = hits.iter().flat_map(|hit| ["data: ".into(), hit.to_string(), "\n\n".into()]).collect();
    events.push_str("data: [DONE]\n\n");
    Ok(HttpResponse::Ok().content_type("text/event-stream").insert_header(("cache-control", "no-store")).body(events))
}

/// `GET /memory/metrics?tenant&namespace`.
pub(super) async fn metrics(
    store: Data<Shelf>,
    request: HttpRequest,
    parameters: Parameters,
) -> Result<HttpResponse, Trouble> {
    let tenant = parameters.get("tenant").cloned().unwrap_or_else(|| tenant(&request, None));
    let namespace = parameters.get("namespace").cloned().unwrap_or_else(|| DEFAULT_NAMESPACE.into());
    let (asked_tenant, asked_namespace) = (tenant.clone(), namespace.clone());
    let items = store
        .run(move |conn| Box::pin(async move { brain_memories::count(conn, &asked_tenant, &asked_namespace).await }))
        .await?;
    let answer = json!({"tenant": tenant, "namespace": namespace, "wm_items": items, "circuit_open": false});
    Ok(HttpResponse::Ok().json(answer))
}

/// `POST /recall/delete`.
pub(super) async fn delete_by_key(
    store: Data<Shelf>,
    request: HttpRequest,
    body: Bytes,
) -> Result<HttpResponse, Trouble> {
    let mut fields = Fields::of_body(&body)?;
    let mut faults = Faults::default();
    let key = fields.required_name("id", &mut faults);
    let tenant = tenant(&request, fields.name("tenant", &mut faults));
    faults.check()?;
    let deleted = store
        .run(move |conn| {
            let spared = DOCUMENTS.map(str::to_owned);
            Box::pin(async move { brain_memories::forget_everywhere(conn, &tenant, &key, &spared).await })
        })
        .await?;
    Ok(HttpResponse::Ok().json(json!({"ok": true, "deleted": deleted})))
}

/// `POST /delete`.
pub(super) async fn delete_by_coordinate(
    store: Data<Shelf>,
    request: HttpRequest,
    body: Bytes,
) -> Result<HttpResponse, Trouble> {
    let mut fields = Fields::of_body(&body)?;
    let mut faults = Faults::default();
    let coordinate = fields.required_numbers("coordinate", &mut faults);
    let tenant = tenant(&request, fields.name("tenant", &mut faults));
    faults.check()?;
    let deleted = store
        .run(move |conn| {
            let spared = DOCUMENTS.map(str::to_owned);
            Box::pin(async move { brain_memories::forget_at(conn, &tenant, &coordinate, &spared).await })
        })
        .await?;
    Ok(HttpResponse::Ok().json(json!({"ok": true, "deleted": deleted})))
}
