//! The metrics' own listener. Metrics are never served on the API's port.

use std::io;
use std::net::{IpAddr, SocketAddr};

use actix_web::dev::ServerHandle;
use actix_web::http::header::ContentType;
use actix_web::web::Data;
use actix_web::{App, HttpResponse, HttpServer, get};
use prometheus::{Encoder, Registry, TextEncoder};

/// A listener that answers `GET /metrics`.
pub struct MetricsListener {
    /// Where it listens.
    pub address: SocketAddr,
    handle: ServerHandle,
}

impl MetricsListener {
    /// Binds the address and answers there until it is stopped.
    ///
    /// # Errors
    /// If the address cannot be bound, for example because another process has it.
    #[expect(clippy::disallowed_methods, reason = "the server ends by its handle, which `stop` awaits")]
    pub fn start(address: (IpAddr, u16), registry: Registry) -> io::Result<Self> {
        let registry = Data::new(registry);
        let server = HttpServer::new(move || App::new().app_data(registry.clone()).service(metrics))
            .workers(1)
            .disable_signals()
            .bind(address)?;
        let address = server.addrs().first().copied().unwrap_or_else(|| address.into());
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Ok(Self { address, handle })
    }

    /// Stops at once; a scrape under way is cut.
    pub async fn stop(self) {
        self.handle.stop(false).await;
    }
}

#[get("/metrics")]
async fn metrics(registry: Data<Registry>) -> HttpResponse {
    let mut body = Vec::new();
    let encoder = TextEncoder::new();
    match encoder.encode(&registry.gather(), &mut body) {
        Ok(()) => HttpResponse::Ok().content_type(encoder.format_type()).body(body),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be encoded");
            HttpResponse::InternalServerError().content_type(ContentType::plaintext()).finish()
        }
    }
}
