//! The door's handle to export jobs. It wakes no actor but to tell it that there is something to do.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use somaagent_supervision::Port;

use super::{ExportJob, ExportJobMetrics, ExportJobSettings, RESOURCE, messages::ExportJobsChanged, workflow};
use crate::{
    domain::{caller::Caller, ids::Tenant, session::audit},
    memory::{export::ExportOf, queries::Memories},
    store::{
        Store, StoreError, audit_event, export_chunks,
        export_jobs::{self, NewExportJob},
    },
};

/// Orders, shows, ends and fetches export jobs of one tenant each. A cheap handle.
#[derive(Clone)]
pub struct ExportJobs {
    memories: Memories,
    settings: Arc<ExportJobSettings>,
    metrics: ExportJobMetrics,
    changed: Port<ExportJobsChanged>,
}

/// A job whose result was asked for.
#[derive(Debug)]
pub struct Fetched {
    /// The job.
    pub job: ExportJob,
    /// Its result, if it is there.
    pub result: Option<Chunks>,
}

/// A result, a chunk at a time. It holds no connection between two chunks.
#[derive(Debug)]
pub struct Chunks {
    store: Store,
    tenant: Tenant,
    job_id: i64,
    first: Option<Bytes>,
    next: i32,
    count: i32,
}

impl ExportJobs {
    /// A handle for exports of `memories`; `changed` leads to who carries them out.
    #[must_use]
    pub const fn new(
        memories: Memories,
        settings: Arc<ExportJobSettings>,
        metrics: ExportJobMetrics,
        changed: Port<ExportJobsChanged>,
    ) -> Self {
        Self { memories, settings, metrics, changed }
    }

    /// Orders an export of the caller's memories and returns the job's number; `None` if the tenant has as many jobs as it
    /// may have.
    ///
    /// # Errors
    /// The store's; after `Interrupted` and `TimedOut` the job may be there.
    pub async fn order(&self, caller: &Caller, of: ExportOf) -> Result<Option<i64>, StoreError> {
        let most = self.settings.most_rows(self.memories.settings());
        let rows = of.limit.map_or(most, |limit| limit.min(most));
        let (at, max_kept) = ((self.memories.clock)(), i64::from(self.settings.max_kept));
        let job = NewExportJob {
            tenant: caller.tenant.clone(),
            filter: of.filter,
            after: of.after,
            max_rows: i64::try_from(rows).unwrap_or(i64::MAX),
            subject: caller.subject.clone(),
            request_id: caller.correlation_id,
            ip: caller.address,
            at,
        };
        let caller = caller.clone();
        let work = self.memories.store.change_for(caller.tenant.clone(), move |rows| {
            Box::pin(async move {
                let id = export_jobs::insert(rows, &job, max_kept).await?;
                if let Some(id) = id {
                    let details = json!({"max_rows": job.max_rows});
                    let line =
                        audit(&caller, "memory.export.order", RESOURCE, id.to_string(), details).within(workflow(id));
                    audit_event::insert(rows, &caller.tenant, &line, at).await?;
                }
                Ok(id)
            })
        });
        let id = work.await?;
        match id {
            Some(_) => self.tell(),
            None => self.metrics.rejected(),
        }
        Ok(id)
    }

    /// Ends a job: what is under way is cancelled, a result that is there expires. Returns the job as it is then; one that
    /// was over before is as it was. `None` if the caller's tenant has no such job. Safe to repeat.
    ///
    /// # Errors
    /// The store's; after `Interrupted` and `TimedOut` the job may be over.
    pub async fn end(&self, caller: &Caller, id: i64) -> Result<Option<ExportJob>, StoreError> {
        let (at, caller) = ((self.memories.clock)(), caller.clone());
        let work = self.memories.store.change_for(caller.tenant.clone(), move |rows| {
            Box::pin(async move {
                let tenant = caller.tenant.as_str();
                let Some(job) = export_jobs::end(rows, tenant, id, at).await? else {
                    return export_jobs::get(rows, tenant, id).await;
                };
                let details = json!({"status": job.status, "rows": job.row_count, "bytes": job.byte_size});
                let line = audit(&caller, "memory.export.end", RESOURCE, id.to_string(), details).within(workflow(id));
                audit_event::insert(rows, &caller.tenant, &line, at).await?;
                Ok(Some(job))
            })
        });
        let job = work.await?;
        self.tell();
        Ok(job)
    }

    /// One job.
    ///
    /// # Errors
    /// The store's.
    pub async fn find(&self, tenant: &Tenant, id: i64) -> Result<Option<ExportJob>, StoreError> {
        let whose = tenant.clone();
        let work = self.memories.store.read_for(tenant.clone(), move |rows| {
            Box::pin(async move { export_jobs::get(rows, whose.as_str(), id).await })
        });
        work.await
    }

    /// Up to `limit` jobs with a number below `before`, the newest first.
    ///
    /// # Errors
    /// The store's.
    pub async fn list(&self, tenant: &Tenant, before: Option<i64>, limit: i64) -> Result<Vec<ExportJob>, StoreError> {
        let whose = tenant.clone();
        let work = self.memories.store.read_for(tenant.clone(), move |rows| {
            Box::pin(async move { export_jobs::list(rows, whose.as_str(), before, limit).await })
        });
        work.await
    }

    /// One job with its result.
    ///
    /// # Errors
    /// The store's.
    pub async fn fetch(&self, tenant: &Tenant, id: i64) -> Result<Option<Fetched>, StoreError> {
        let whose = tenant.clone();
        let work = self.memories.store.read_for(tenant.clone(), move |rows| {
            Box::pin(async move {
                let Some(job) = export_jobs::get(rows, whose.as_str(), id).await? else { return Ok(None) };
                let first = match job.status.as_str() {
                    "completed" => export_chunks::get(rows, whose.as_str(), id, 0).await?,
                    _ => None,
                };
                Ok(Some((job, first)))
            })
        });
        let Some((job, first)) = work.await? else { return Ok(None) };
        let (store, tenant, count) = (self.memories.store.clone(), tenant.clone(), job.chunks);
        let result = first.map(|first| Chunks { store, tenant, job_id: id, first: Some(first.into()), next: 1, count });
        Ok(Some(Fetched { job, result }))
    }

    /// A full mailbox means that it will look anyway.
    fn tell(&self) {
        drop(self.changed.tell(ExportJobsChanged));
    }
}

impl Chunks {
    /// The next chunk, `None` after the last one.
    ///
    /// # Errors
    /// The store's; `Rejected` if the result has expired meanwhile.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        if self.next >= self.count {
            return Ok(None);
        }
        let (tenant, job_id, number) = (self.tenant.clone(), self.job_id, self.next);
        let work = self.store.read_for(self.tenant.clone(), move |rows| {
            Box::pin(async move {
                let found = export_chunks::get(rows, tenant.as_str(), job_id, number).await?;
                found.ok_or(sqlx::Error::RowNotFound)
            })
        });
        let chunk = work.await?;
        self.next += 1;
        Ok(Some(chunk.into()))
    }
}
