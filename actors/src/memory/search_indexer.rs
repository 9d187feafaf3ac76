//! Makes the index for text anywhere in a memory, once, while everybody else goes on.
//!
//! State: none but what it is doing. Asks: none. Supervision: child of `durability`, Transient: it ends when it is done. A
//! failure is logged and no more: without the index searches take longer.

use actix::{Actor, ActorContext, ActorFutureExt, Context, ContextFutureSpawner, Supervised, WrapFuture};
use somaagent_supervision::Child;
use sqlx::postgres::PgConnectOptions;

use crate::store::memory_replica::search_index::{self, SearchIndex};

/// See the module.
pub struct SearchIndexer {
    server: PgConnectOptions,
}

impl SearchIndexer {
    /// An indexer with a connection of its own to `server`.
    #[must_use]
    pub const fn new(server: PgConnectOptions) -> Self {
        Self { server }
    }
}

impl Actor for SearchIndexer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let server = self.server.clone();
        async move { search_index::ensure_on(&server).await }
            .into_actor(self)
            .map(|made, _, ctx| {
                match made {
                    Ok(SearchIndex::Ready) => tracing::info!("the index for text in memories is there"),
                    Ok(SearchIndex::Elsewhere) => {
                        tracing::info!("another process makes the index for text in memories");
                    }
                    Ok(SearchIndex::Unsupported) => {
                        tracing::warn!("the server has no pg_trgm: searches for text in memories read them one by one");
                    }
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "the index for text in memories could not be made");
                    }
                }
                ctx.stop();
            })
            .spawn(ctx);
    }
}

impl Supervised for SearchIndexer {}

impl Child for SearchIndexer {
    const NAME: &'static str = "search-indexer";

    fn state_name(&self) -> &'static str {
        "indexing"
    }
}
