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
//! | `fault` | the switch that makes it ill on purpose |
//! | `body` | reading requests, and the refusals the real server gives |
//! | `shelf` | the database and the clock |
//!
//! Anyone on this machine may call it, as anyone may call a SomaBrain without a key.

mod body;
mod context;
mod documents;
mod fault;
mod memory;
mod shelf;
#[cfg(test)]
mod tests;

use std::any::Any;

use actix_web::{
    HttpResponse,
    dev::Extensions,
    middleware::from_fn,
    web::{self, Data, ServiceConfig},
};
use serde_json::json;
use somaagent_actors::store::Store;
use time::OffsetDateTime;

use super::stand_in::StandIn;
use shelf::Shelf;

/// What the stand-in keeps its rows in, its clock, and how it behaves where servers differ.
#[derive(Clone)]
pub struct MemoryStandIn {
    /// The database.
    pub store: Store,
    /// What time it is.
    pub clock: fn() -> OffsetDateTime,
    /// Whether memories can be deleted, as the oldest servers allow. Without it these paths do not exist.
    pub deletes: bool,
}

impl StandIn for MemoryStandIn {
    const NAME: &'static str = "memory-stand-in";
    /// SomaBrain's own.
    const PORT: u16 = 9696;

    fn routes(&self, app: &mut ServiceConfig) {
        let ill = web::scope("").wrap(from_fn(fault::apply));
        app.app_data(Data::new(Shelf::new(self.store.clone(), self.clock)))
            .app_data(Data::new(fault::Switch::default()))
            .service(ill.configure(|app| routes(app, self.deletes)).default_service(web::to(not_found)));
    }

    fn connected(connection: &dyn Any, extensions: &mut Extensions) {
        fault::keep_socket(connection, extensions);
    }
}

fn routes(app: &mut ServiceConfig, deletes: bool) {
    app.route("/health", web::get().to(health))
        .service(web::resource(fault::PATH).route(web::get().to(fault::get)).route(web::put().to(fault::put)))
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
    if deletes {
        app.route("/recall/delete", web::post().to(memory::delete_by_key))
            .route("/delete", web::post().to(memory::delete_by_coordinate));
    }
}

async fn health(switch: Data<fault::Switch>) -> HttpResponse {
    let (ok, status) = if switch.get() == fault::Fault::Degraded { (false, "degraded") } else { (true, "healthy") };
    HttpResponse::Ok().json(json!({"ok": ok, "status": status}))
}

async fn not_found() -> Result<HttpResponse, body::Trouble> {
    Err(body::Trouble::NotFound)
}
