//! A connection that belongs to one user, outside any pool: nobody else's trouble reaches it, and nothing is asked of the
//! server between two pieces of work.

use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::StoreError;

/// Rest after which the connection is tried before it is used: the server may have been restarted meanwhile.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug)]
pub(super) struct Lane {
    options: PgConnectOptions,
    /// The open connection, and when it was last used.
    open: Mutex<Option<(PgConnection, Instant)>>,
}

impl Lane {
    pub(super) fn new(options: PgConnectOptions) -> Self {
        // A plan that is kept was made for tables of another size: kept while they were new, it reads all of them at every
        // statement, until the server has gathered statistics.
        let options = options.options([("plan_cache_mode", "force_custom_plan")]);
        Self { options, open: Mutex::new(None) }
    }

    /// Does `work`, one piece at a time. A connection on which anything failed is closed.
    pub(super) async fn run<T, W>(&self, limit: Duration, work: W) -> Result<T, StoreError>
    where
        W: for<'c> FnOnce(&'c mut PgConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    {
        let mut open = self.open.lock().await;
        let mut connection = timeout(limit, self.usable(open.take()))
            .await
            .map_err(|_| StoreError::Unavailable(sqlx::Error::PoolTimedOut))?
            .map_err(StoreError::Unavailable)?;
        let result = match timeout(limit, work(&mut connection)).await {
            Ok(result) => result.map_err(StoreError::from),
            Err(_) => Err(StoreError::TimedOut),
        };
        // After any error a new one is opened: what the server keeps for this connection may be what failed.
        if result.is_ok() {
            *open = Some((connection, Instant::now()));
        }
        result
    }

    async fn usable(&self, open: Option<(PgConnection, Instant)>) -> Result<PgConnection, sqlx::Error> {
        if let Some((mut connection, used)) = open
            && (used.elapsed() < TRUSTED_FOR || connection.ping().await.is_ok())
        {
            return Ok(connection);
        }
        self.options.connect().await
    }
}
