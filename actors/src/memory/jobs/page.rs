//! One page of one job: claimed, read, and written down together with how far the job is then.
//!
//! Nothing is locked while the page is read, so that a job can be cancelled at any time. Who is slower than its lease, or was
//! cancelled, writes nothing.

use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use sqlx::Connection;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{ExportJob, RESOURCE, runner::RunnerDeps, workflow};
use crate::{
    domain::{
        append::{AuditWrite, Doer},
        ids::Tenant,
    },
    memory::export::Progress,
    store::{StoreError, audit_event, export_chunks, export_jobs, memory_replica::reads},
};

/// How often a job may be begun without getting any further.
const MAX_TRIES: i32 = 8;
/// How long a job is left alone whose page could not be read.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Does the next page of the job that has waited longest, if there is one. Returns whether there was.
///
/// # Errors
/// The store's: the page was not read, and will be tried again; or it was not written, or not for certain.
pub async fn next_page(deps: &RunnerDeps) -> Result<bool, StoreError> {
    let (claim, at) = (Uuid::new_v4(), (deps.memories.clock)());
    let lease_until = at + Duration::from_millis(deps.settings.lease_ms);
    let work = deps
        .memories
        .store
        .run(move |connection| Box::pin(async move { export_jobs::claim(connection, claim, at, lease_until).await }));
    let Some(job) = work.await? else { return Ok(false) };
    let mut job = ExportJob { lease_until: None, ..job };
    let read = read(deps, &mut job).await;
    let (lines, failed) = match read {
        Ok(lines) => (lines, None),
        Err(error) => {
            job.error = Some(error.to_string());
            job.lease_until = Some((deps.memories.clock)() + RETRY_AFTER);
            (None, Some(error))
        }
    };
    settle(deps, job, claim, lines).await?;
    failed.map_or(Ok(true), Err)
}

/// Reads the next page of `job`, which becomes what it is with that page. Returns the lines to be kept.
async fn read(deps: &RunnerDeps, job: &mut ExportJob) -> Result<Option<Bytes>, StoreError> {
    if job.tries > MAX_TRIES {
        let last = job.error.take().unwrap_or_else(|| "whoever did it was gone".to_owned());
        return Ok(fail(job, "no-progress", format!("it got no further in {MAX_TRIES} tries, the last time: {last}")));
    }
    let (Some(progress), Some(tenant)) = (progress(job), Tenant::new(&job.tenant)) else {
        // Another version of this program may have written it.
        return Ok(fail(job, "unreadable", "it was begun in a way that cannot be gone on with".to_owned()));
    };
    if job.row_count == 0 && job.tries == 1 {
        job.total = count(deps, job).await;
    }
    let page_rows = deps.settings.page_rows(deps.memories.settings());
    let mut export = deps.memories.go_on(&tenant, job.filter.0.clone(), page_rows, progress);
    let lines = export.next().await?.unwrap_or_default();
    let bytes = job.byte_size.saturating_add(i64::try_from(lines.len()).unwrap_or(i64::MAX));
    if u64::try_from(bytes).is_ok_and(|bytes| bytes > deps.settings.max_bytes) {
        let why = format!("the result would be larger than {} bytes: export less at a time", deps.settings.max_bytes);
        return Ok(fail(job, "result-too-large", why));
    }
    let progress = export.progress();
    job.cursor = progress.cursor;
    job.row_count = i64::try_from(progress.lines.rows()).unwrap_or(i64::MAX);
    job.byte_size = bytes;
    job.chunks += 1;
    (job.tries, job.error) = (0, None);
    if export.ended() {
        "completed".clone_into(&mut job.status);
        job.total = Some(job.row_count);
        (job.digest, job.sha256) = (None, Some(progress.lines.sha256(&lines)));
    } else {
        job.digest = Some(progress.lines.digest());
    }
    Ok(Some(lines))
}

/// How far the job is.
fn progress(job: &ExportJob) -> Option<Progress> {
    let left = u64::try_from(job.max_rows - job.row_count).unwrap_or_default();
    match &job.digest {
        None => Some(Progress::beginning(job.cursor, left)),
        Some(digest) => Progress::after(job.cursor, left, u64::try_from(job.row_count).ok()?, digest),
    }
}

/// How many rows the job will have, where that can be told at once. Without the number the job goes on all the same.
async fn count(deps: &RunnerDeps, job: &ExportJob) -> Option<i64> {
    let (tenant, filter, after, most) = (Tenant::new(&job.tenant)?, job.filter.0.clone(), job.cursor, job.max_rows);
    let work = deps.memories.store.search_for(tenant.clone(), move |rows| {
        Box::pin(async move { reads::count(rows, tenant.as_str(), &filter, after, most).await })
    });
    work.await.ok().flatten()
}

/// The job fails, and what it has found is no result.
fn fail(job: &mut ExportJob, code: &str, why: String) -> Option<Bytes> {
    "failed".clone_into(&mut job.status);
    (job.error_code, job.error, job.digest) = (Some(code.to_owned()), Some(why), None);
    None
}

/// Writes down what `job` is now, with its next chunk, unless it was cancelled or taken by another one meanwhile.
async fn settle(deps: &RunnerDeps, mut job: ExportJob, claim: Uuid, lines: Option<Bytes>) -> Result<(), StoreError> {
    let at = (deps.memories.clock)();
    let completed = job.status == "completed";
    let over = completed || job.status == "failed";
    if over {
        job.ended_at = Some(at);
        job.expires_at = completed.then(|| at + Duration::from_millis(deps.settings.expire_ms));
    }
    let seconds = (at - job.started_at.unwrap_or(at)).as_seconds_f64();
    let work = deps.memories.store.run(move |connection| {
        Box::pin(async move {
            let mut transaction = connection.begin().await?;
            if !export_jobs::settle(&mut transaction, &job, claim, at).await? {
                transaction.rollback().await?;
                return Ok(false);
            }
            if let Some(lines) = lines {
                export_chunks::insert(&mut transaction, &job.tenant, job.id, job.chunks - 1, &lines).await?;
            }
            if over {
                let action = if completed { "memory.export.complete" } else { "memory.export.fail" };
                write_audit(&mut transaction, &job, action, at).await?;
            }
            transaction.commit().await?;
            Ok(true)
        })
    });
    if work.await? && over {
        deps.metrics.over(completed, seconds);
    }
    Ok(())
}

/// Writes down what became of a job by itself, in the name of who ordered it.
pub(super) async fn write_audit(
    connection: &mut sqlx::PgConnection,
    job: &ExportJob,
    action: &'static str,
    at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let audit = AuditWrite {
        doer: Doer {
            correlation_id: job.request_id,
            subject: job.subject.clone(),
            ip: job.ip.as_deref().and_then(|ip| ip.parse().ok()),
            ..Doer::default()
        },
        action,
        resource: RESOURCE,
        target_id: job.id.to_string(),
        workflow_id: Some(workflow(job.id)),
        details: json!({"rows": job.row_count, "bytes": job.byte_size, "error_code": job.error_code}),
        diff: None,
    };
    audit_event::insert_of_process(connection, (&job.tenant, None), &audit, at).await?;
    Ok(())
}
