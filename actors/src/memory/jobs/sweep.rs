//! Results and jobs whose time is over: they go in small steps, each in nobody's way.

use std::time::Duration;

use sqlx::Connection;

use super::{page::write_audit, runner::RunnerDeps};
use crate::store::{StoreError, export_chunks, export_jobs};

/// Results that expire at a time.
const EXPIRE_JOBS: i64 = 100;
/// Chunks removed at a time.
const REMOVE_CHUNKS: i64 = 16;
/// Jobs removed at a time.
const PURGE_JOBS: i64 = 500;

/// Lets results go that have expired, their chunks and those of jobs that came to nothing, and jobs that are long over.
/// Returns whether there is more to do.
///
/// # Errors
/// The store's; what was done stays done.
pub async fn sweep(deps: &RunnerDeps) -> Result<bool, StoreError> {
    let at = (deps.memories.clock)();
    let before = at - Duration::from_millis(deps.settings.retention_ms);
    let work = deps.memories.store.run(move |connection| {
        Box::pin(async move {
            let mut transaction = connection.begin().await?;
            let expired = export_jobs::expire(&mut transaction, at, EXPIRE_JOBS).await?;
            for job in &expired {
                write_audit(&mut transaction, job, "memory.export.expire", at).await?;
            }
            transaction.commit().await?;
            let removed = export_chunks::remove(&mut *connection, REMOVE_CHUNKS).await?;
            let purged = export_jobs::purge(connection, before, at, PURGE_JOBS).await?;
            Ok(!expired.is_empty() || removed > 0 || purged == PURGE_JOBS.unsigned_abs())
        })
    });
    work.await
}
