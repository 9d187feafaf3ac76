//! Keeps the embedded PostgreSQL alive and its files in shape.
//!
//! State: the watch on the server's thread, and when upkeep is due. Asks and tells: none.
//! Supervision: child of `embedded`, Permanent. It stops itself when the server's thread has ended, whatever ended it,
//! and so has it started again; while the thread lives, a restart of the actor just watches on.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Supervised, WrapFuture};
use somaagent_supervision::Child;
use sqlx::PgPool;

use super::server::EmbeddedServer;
use super::upkeep::Upkeep;

/// Keeps the server's thread alive and its files in shape.
pub struct EmbeddedPostgres {
    server: Arc<EmbeddedServer>,
    pool: PgPool,
    upkeep: Upkeep,
}

impl EmbeddedPostgres {
    /// How often is asked whether there is upkeep to do.
    const TICK: Duration = Duration::from_secs(2);

    /// Watches `server`, which need not run yet, and keeps it in shape by way of `pool`, its only pool.
    #[must_use]
    pub fn new(server: Arc<EmbeddedServer>, pool: PgPool) -> Self {
        Self { server, pool, upkeep: Upkeep::default() }
    }

    fn watch(&self, ctx: &mut Context<Self>) {
        let server = Arc::clone(&self.server);
        let ended = async move { server.ended().await };
        ctx.spawn(ended.into_actor(self).map(|why, _, ctx| {
            tracing::error!(%why, "the embedded PostgreSQL ended");
            ctx.stop();
        }));
    }

    /// One round of upkeep, then the next after a rest: rounds never overlap, however long one waits for the connection.
    fn keep_up(&self, ctx: &mut Context<Self>) {
        let (pool, upkeep) = (self.pool.clone(), self.upkeep);
        let round = async move {
            tokio::time::sleep(Self::TICK).await;
            upkeep.round(&pool).await
        };
        ctx.spawn(round.into_actor(self).map(|done, this, ctx| {
            match done {
                Ok(next) => this.upkeep = next,
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the embedded PostgreSQL could not be kept in shape"
                ),
            }
            this.keep_up(ctx);
        }));
    }
}

impl Actor for EmbeddedPostgres {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Err(error) = self.server.start() {
            tracing::error!(error = &error as &dyn std::error::Error, "the embedded PostgreSQL cannot be started");
            ctx.stop();
            return;
        }
        self.watch(ctx);
        self.keep_up(ctx);
    }
}

impl Supervised for EmbeddedPostgres {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.upkeep = Upkeep::default();
    }
}

impl Child for EmbeddedPostgres {
    const NAME: &'static str = "embedded-postgres";
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a failed expectation ends the test")]

    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use prometheus::Registry;
    use somaagent_supervision::{Restart, Strategy, SupervisorSpec, Tree};
    use tokio::task::LocalSet;

    use super::*;
    use crate::config::{Config, DataSettings, Environment};
    use crate::data_dir::DataDir;
    use crate::database::Database;

    #[tokio::test]
    async fn a_server_whose_thread_ended_is_started_again_and_has_lost_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(&DataSettings { dir: Some(dir.path().to_owned()) }).unwrap();
        let socket = data.path().join("run/.s.PGSQL.5432");
        let server = Arc::new(EmbeddedServer::new(data).unwrap());
        let settings = Config::load(&Environment::default()).unwrap().database;
        let database = Database::embedded(&settings, Arc::clone(&server));
        let pool = database.pool();
        let work = async {
            let root = Tree::new(&Registry::new()).unwrap().root(SupervisorSpec::new("root", Strategy::OneForOne));
            let watched = pool.clone();
            root.seat(Restart::Permanent).start(move || EmbeddedPostgres::new(server, watched)).await.unwrap();
            sqlx::raw_sql("CREATE TABLE kept AS SELECT 7 AS id").execute(&pool).await.unwrap();
            // The thread serves the pool's connection until that is gone; then it meets the rubbish that waits.
            let vandals: Vec<_> = (0..16).map(|_| UnixStream::connect(&socket).unwrap()).collect();
            for mut vandal in vandals {
                vandal.write_all(&[0; 4]).unwrap();
            }
            pool.acquire().await.unwrap().close().await.unwrap();
            // What was asked of the thread that is about to end gets an error; what is asked afterwards is answered.
            let kept = loop {
                match sqlx::query_scalar::<_, i32>("SELECT id FROM kept").fetch_one(&pool).await {
                    Ok(kept) => break kept,
                    Err(sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut) => tokio::task::yield_now().await,
                    Err(error) => unreachable!("{error}"),
                }
            };
            assert_eq!(kept, 7);
            root.stop(Duration::from_secs(5)).await;
            database.close(Duration::from_secs(5)).await;
        };
        LocalSet::new().run_until(Box::pin(work)).await;
    }
}
