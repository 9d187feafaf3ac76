//! The SomaBrain stand-in: what remembers when no SomaBrain is configured.
//!
//! A real HTTP server on a loopback port that speaks SomaBrain's protocol, so that the code which remembers and recalls
//! has one path. Its rows are in the same database as everything else; recall is a search by words. It understands
//! nothing: no meaning, no learning, no forgetting with time, and its answers say so where the protocol lets them.
//!
//! | file | holds |
//! | --- | --- |
//! | `memory` | remember, recall, delete |
//! | `context` | evaluate, feedback, adaptation |
//! | `documents` | personas and the constitution: JSON documents by name |
//! | `body` | reading requests, and the refusals the real server gives |
//! | `shelf` | the database and the clock |
//!
//! Anyone on this machine may call it, as anyone may call a SomaBrain without a key. Web pages may not: a request that
//! a browser sends for another site is refused.

mod body;
mod context;
mod documents;
mod memory;
mod shelf;
#[cfg(test)]
mod tests;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
};

use actix_web::{
    App, Error, HttpResponse, HttpServer,
    body::{BoxBody, MessageBody},
    dev::{Server, ServerHandle, ServiceRequest, ServiceResponse},
    http::header::{HOST, ORIGIN},
    middleware::{Next, from_fn},
    web::{self, Data, PayloadConfig},
};
use serde_json::json;
use somaagent_actors::store::Store;
use time::OffsetDateTime;

use super::stand_in::StandIn;
use shelf::Shelf;

/// Largest request.
const MAX_REQUEST_BYTES: usize = 8 * 1024 * 1024;

/// What the stand-in keeps its rows in, and its clock.
#[derive(Clone)]
pub struct MemoryStandIn {
    /// The database.
    pub store: Store,
    /// What time it is.
    pub clock: fn() -> OffsetDateTime,
}

impl StandIn for MemoryStandIn {
    const NAME: &'static str = "memory-stand-in";

    fn start_at(&self, address: SocketAddr) -> io::Result<(SocketAddr, Server)> {
        let settings = BrainStandInSettings::default();
        let (stand_in, server) = BrainStandIn::start_at(settings, self.store.clone(), self.clock, address)?;
        Ok((stand_in.address, server))
    }
}

/// How the stand-in behaves where servers differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BrainStandInSettings {
    /// Whether memories can be deleted, as the oldest servers allow. Without it these paths do not exist.
    pub deletes: bool,
}

impl Default for BrainStandInSettings {
    fn default() -> Self {
        Self { deletes: true }
    }
}

/// A started stand-in. Dropping it stops nothing: the [`Server`] that came with it is what runs.
#[derive(Debug, Clone)]
pub struct BrainStandIn {
    address: SocketAddr,
    handle: ServerHandle,
}

impl BrainStandIn {
    /// Starts on a free loopback port. Requests are answered once the returned server is polled. `clock` tells the time
    /// that is written with a row.
    ///
    /// # Errors
    /// No port could be opened.
    pub fn start(
        settings: BrainStandInSettings,
        store: Store,
        clock: fn() -> OffsetDateTime,
    ) -> io::Result<(Self, Server)> {
        Self::start_at(settings, store, clock, (Ipv4Addr::LOCALHOST, 0).into())
    }

    /// Starts on this address; for a restart, which must keep the address that clients know.
    ///
    /// # Errors
    /// The port could not be opened.
    pub fn start_at(
        settings: BrainStandInSettings,
        store: Store,
        clock: fn() -> OffsetDateTime,
        address: SocketAddr,
    ) -> io::Result<(Self, Server)> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shelf = Data::new(Shelf::new(store, clock));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(Data::clone(&shelf))
                .app_data(PayloadConfig::new(MAX_REQUEST_BYTES))
                .wrap(from_fn(no_web_pages))
                .configure(|app| routes(app, settings))
                .default_service(web::to(not_found))
        })
        .workers(1)
        .disable_signals()
        .shutdown_timeout(1)
        .listen(listener)?
        .run();
        Ok((Self { address, handle: server.handle() }, server))
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The value for `brain.base_url`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends the server: at once, or after the requests under way (for at most a second).
    pub async fn stop(&self, graceful: bool) {
        self.handle.stop(graceful).await;
    }
}

fn routes(app: &mut web::ServiceConfig, settings: BrainStandInSettings) {
    app.route("/health", web::get().to(health))
        .route("/memory/remember", web::post().to(memory::remember))
        .route("/memory/remember/batch", web::post().to(memory::remember_batch))
        .route("/memory/recall", web::post().to(memory::recall))
        .route("/memory/recall/stream", web::post().to(memory::recall_stream))
        .route("/memory/metrics", web::get().to(memory::metrics))
        .route("/context/evaluate", web::post().to(context::evaluate))
        .route("/context/feedback", web::post().to(context::feedback))
        .route("/context/adaptation/state", web::get().to(context::adaptation))
        .service(
            web::resource("/persona/{id}")
                .route(web::put().to(documents::put_persona))
                .route(web::get().to(documents::get_persona))
                .route(web::delete().to(documents::delete_persona)),
        )
        .route("/constitution/version", web::get().to(documents::constitution_version))
        .route("/constitution/validate", web::post().to(documents::validate))
        .route("/constitution/load", web::post().to(documents::load_constitution));
    if settings.deletes {
        app.route("/recall/delete", web::post().to(memory::delete_by_key))
            .route("/delete", web::post().to(memory::delete_by_coordinate));
    }
}

async fn health() -> HttpResponse {
    HttpResponse::Ok().json(json!({"ok": true, "status": "healthy"}))
}

async fn not_found() -> Result<HttpResponse, body::Trouble> {
    Err(body::Trouble::NotFound)
}

/// Refuses what a web page could send: an `Origin`, or a host name that only pretends to be this machine.
async fn no_web_pages(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if request.headers().contains_key(ORIGIN) || !is_loopback(host) {
        let refusal = HttpResponse::Forbidden().json(json!({"detail": "not for web pages"}));
        return Ok(request.into_response(refusal));
    }
    next.call(request).await.map(ServiceResponse::map_into_boxed_body)
}

/// Whether a `Host` header names this machine, with or without a port.
fn is_loopback(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    name.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
