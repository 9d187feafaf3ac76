//! The way to the database.

use futures_util::future::BoxFuture;
use sqlx::{PgConnection, PgPool};

use super::body::Trouble;

/// Lends a connection to one piece of work at a time.
#[derive(Debug)]
pub(super) struct Shelf {
    pool: PgPool,
}

impl Shelf {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Does `work` on a connection and waits for its result.
    ///
    /// The work is a task of its own: a client that hangs up drops its handler, and a query cut off half-way would
    /// end the embedded database's only connection.
    pub async fn run<T, W>(&self, work: W) -> Result<T, Trouble>
    where
        T: Send + 'static,
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>> + Send + 'static,
    {
        let pool = self.pool.clone();
        let task = actix_web::rt::spawn(async move { work(&mut *pool.acquire().await?).await });
        let result =
            task.await.map_err(|failure| Trouble::Database(sqlx::Error::Io(std::io::Error::other(failure))))?;
        result.map_err(Trouble::Database)
    }
}
