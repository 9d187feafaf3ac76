//! The metrics' own listener. Metrics are never served on the API's port.

use std::io;
use std::net::TcpListener;

use actix_web::dev::{Server, ServerHandle};
use actix_web::http::header::ContentType;
use actix_web::web::Data;
use actix_web::{App, HttpResponse, HttpServer, get};
use prometheus::{Encoder, Registry, TextEncoder};

/// A server that answers `GET /metrics` on `listener`, and its handle.
///
/// # Errors
/// If the listener cannot be used.
pub fn server(listener: TcpListener, registry: Registry) -> io::Result<(Server, ServerHandle)> {
    let registry = Data::new(registry);
    let server = HttpServer::new(move || App::new().app_data(registry.clone()).service(metrics))
        .workers(1)
        .disable_signals()
        .listen(listener)?
        .run();
    let handle = server.handle();
    Ok((server, handle))
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
