//! The metrics' own listener. Metrics are never served on the API's port; the health is served here too, for a process that
//! is no gateway has no other port.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::http::header::ContentType;
use actix_web::web::{Data, Json};
use actix_web::{App, HttpResponse, HttpServer, get};
use prometheus::{Encoder, Registry, TextEncoder};
use somaagent_http::door::{Component, Scope};
use somaagent_http::health::{HealthReply, examine};

/// What is asked for `/healthz`, and how long each part has to answer.
pub type Health = (Arc<[Component]>, Duration);

/// A server that answers `GET /metrics` and `GET /healthz` on `listener`, and its handle. The status of the latter is always
/// 200; its body tells.
///
/// # Errors
/// If the listener cannot be used.
pub fn server(listener: TcpListener, registry: Registry, health: Health) -> io::Result<(Server, ServerHandle)> {
    let (registry, health) = (Data::new(registry), Data::new(health));
    let app = move || App::new().app_data(registry.clone()).app_data(health.clone()).service(metrics).service(healthz);
    let server = HttpServer::new(app).workers(1).disable_signals().listen(listener)?.run();
    let handle = server.handle();
    Ok((server, handle))
}

#[get("/healthz")]
async fn healthz(health: Data<Health>) -> Json<HealthReply> {
    let (components, within) = &**health;
    Json(examine(components, *within, Scope::Healthz).await)
}

#[get("/metrics")]
async fn metrics(registry: Data<Registry>) -> HttpResponse {
    let mut body = Vec::new();
    let encoder = TextEncoder::new();
    match encoder.encode(&registry.gather(), &mut body) {
        Ok(()) => HttpResponse::Ok().content_type(encoder.format_type()).body(body),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "metrics cannot be encoded");
            HttpResponse::InternalServerError().content_type(ContentType::plaintext()).finish()
        }
    }
}
