//! What every handler of the stand-in needs: the database and the time.

use futures_util::future::BoxFuture;
use somaagent_actors::store::Store;
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::body::Trouble;

/// The database and the clock.
#[derive(Debug)]
pub(super) struct Shelf {
    store: Store,
    clock: fn() -> OffsetDateTime,
}

impl Shelf {
    pub fn new(store: Store, clock: fn() -> OffsetDateTime) -> Self {
        Self { store, clock }
    }

    /// The time that is written with a row.
    pub fn now(&self) -> OffsetDateTime {
        (self.clock)()
    }

    /// Does `work` on a connection and waits for its result. The work goes on when the client hangs up.
    pub async fn run<T, W>(&self, work: W) -> Result<T, Trouble>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send + 'static,
    {
        self.store.run(work).await.map_err(Trouble::Database)
    }
}
