//! Personas and the constitution: JSON documents by name, kept beside the memories in namespaces of their own.

use std::fmt::Write as _;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{ETAG, IF_MATCH},
    web::{Bytes, Data, Path},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use somaagent_actors::store::brain_memories::{self, NewMemory, Place};
use sqlx::{Connection as _, PgConnection};
use time::OffsetDateTime;

use super::{
    body::{Fields, Trouble, tenant},
    memory::DEFAULT_UNIVERSE,
    shelf::Shelf,
};

const PERSONAS: &str = "stand-in:personas";
const CONSTITUTION: &str = "stand-in:constitution";
/// Namespaces that hold documents, which no deletion of memories may touch.
pub(super) const NAMESPACES: [&str; 2] = [PERSONAS, CONSTITUTION];
/// The name of the one constitution a tenant has.
const CURRENT: &str = "current";

/// The first 32 hex digits of the SHA-256 of a document as the database gives it back, whose spelling of numbers and
/// order of members are always the same.
fn checksum(document: &Value) -> String {
    let digest = Sha256::digest(document.to_string().as_bytes());
    digest.iter().take(16).fold(String::new(), |mut hex, byte| {
        // Writing to a text cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn etag(document: &Value) -> String {
    format!("\"{}\"", checksum(document))
}

/// Puts a document in its place and returns it as stored; `None` if the one there is not the one the caller knows.
async fn replace(
    conn: &mut PgConnection,
    place: Place<'_>,
    document: NewMemory,
    known: Option<&str>,
    now: OffsetDateTime,
) -> sqlx::Result<Option<Value>> {
    let mut transaction = conn.begin().await?;
    let there = brain_memories::lock(&mut transaction, place.tenant, place.namespace, &document.key).await?;
    let agreed = match (known, &there) {
        (None, _) => true,
        (Some("*"), there) => there.is_some(),
        (Some(known), Some(there)) => known == etag(there),
        (Some(_), None) => false,
    };
    let mut stored = None;
    if agreed {
        let key = document.key.clone();
        brain_memories::remember(&mut transaction, place, &[document], now).await?;
        stored = brain_memories::lock(&mut transaction, place.tenant, place.namespace, &key).await?;
    }
    transaction.commit().await?;
    Ok(stored)
}

async fn put(
    store: &Shelf,
    (tenant, namespace): (String, &'static str),
    key: String,
    document: Value,
    known: Option<String>,
) -> Result<Value, Trouble> {
    let now = store.now();
    // Documents are fetched by name: nothing of them is searched, and no coordinate leads to them.
    let document = NewMemory { key, value: document, text: String::new(), coordinate: [0.0; 3] };
    let stored = store
        .run(move |conn| {
            Box::pin(async move {
                let place = Place { tenant: &tenant, namespace, universe: DEFAULT_UNIVERSE };
                replace(conn, place, document, known.as_deref(), now).await
            })
        })
        .await?;
    stored.ok_or(Trouble::Changed)
}

async fn get(store: &Shelf, tenant: String, namespace: &'static str, key: String) -> Result<Option<Value>, Trouble> {
    store.run(move |conn| Box::pin(async move { brain_memories::lock(conn, &tenant, namespace, &key).await })).await
}

/// `PUT /persona/{id}`, with or without `If-Match`.
pub(super) async fn put_persona(
    store: Data<Shelf>,
    request: HttpRequest,
    id: Path<String>,
    body: Bytes,
) -> Result<HttpResponse, Trouble> {
    let mut persona = Fields::of_body(&body)?.rest();
    persona["id"] = id.as_str().into();
    persona["fact"] = "persona".into();
    let known = request.headers().get(IF_MATCH).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
    let persona = put(&store, (tenant(&request, None), PERSONAS), id.into_inner(), persona, known).await?;
    Ok(HttpResponse::Ok().insert_header((ETAG, etag(&persona))).json(json!({"ok": true, "persona": persona})))
}

/// `GET /persona/{id}`.
pub(super) async fn get_persona(
    store: Data<Shelf>,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Trouble> {
    let persona = get(&store, tenant(&request, None), PERSONAS, id.into_inner()).await?.ok_or(Trouble::NotFound)?;
    Ok(HttpResponse::Ok().insert_header((ETAG, etag(&persona))).json(json!({"ok": true, "persona": persona})))
}

/// `DELETE /persona/{id}`.
pub(super) async fn delete_persona(
    store: Data<Shelf>,
    request: HttpRequest,
    id: Path<String>,
) -> Result<HttpResponse, Trouble> {
    let tenant = tenant(&request, None);
    let id = id.into_inner();
    let gone = store
        .run(move |conn| Box::pin(async move { brain_memories::forget(conn, &tenant, PERSONAS, &id).await }))
        .await?;
    if gone { Ok(HttpResponse::Ok().json(json!({"ok": true}))) } else { Err(Trouble::NotFound) }
}

/// `GET /constitution/version`.
pub(super) async fn constitution_version(store: Data<Shelf>, request: HttpRequest) -> Result<HttpResponse, Trouble> {
    let constitution = get(&store, tenant(&request, None), CONSTITUTION, CURRENT.into()).await?;
    Ok(HttpResponse::Ok().json(json!({
        "constitution_version": constitution.as_ref().map(checksum),
        "constitution_status": if constitution.is_some() { "loaded" } else { "not_loaded" },
        "constitution_signatures": [],
    })))
}

/// `POST /constitution/validate`: the stand-in reads no rules, so it finds no fault, and says why.
pub(super) async fn validate(body: Bytes) -> Result<HttpResponse, Trouble> {
    Fields::of_body(&body)?;
    Ok(HttpResponse::Ok().json(json!({"allowed": true, "reason": "this stand-in evaluates no rules"})))
}

/// `POST /constitution/load`.
pub(super) async fn load_constitution(
    store: Data<Shelf>,
    request: HttpRequest,
    body: Bytes,
) -> Result<HttpResponse, Trouble> {
    let constitution = Fields::of_body(&body)?.rest();
    let place = (tenant(&request, None), CONSTITUTION);
    let stored = put(&store, place, CURRENT.into(), constitution, None).await?;
    Ok(HttpResponse::Ok().json(json!({"status": "saved", "checksum": checksum(&stored)})))
}
