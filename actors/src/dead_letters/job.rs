//! A page of an order to send many letters again.
//!
//! The letters of a page, where they go, and how far the order is are one transaction: an order that was cut off anywhere
//! goes on with the letter after the last one that went out.

use serde_json::{Value, json};
use sqlx::Connection;
use time::OffsetDateTime;

use super::{
    changes::{RESOURCE, workflow},
    keeper::KeeperDeps,
};
use crate::{
    domain::append::{AuditWrite, Doer},
    store::{
        StoreError, audit_event,
        dead_letters::replay::{self, Outgoing},
        dlq_jobs::{self, Job},
        outbox_events::Enqueued,
    },
};

/// Most bytes of records in a page; at least one record is in it.
const PAGE_BYTES: i64 = 8 << 20;

/// Does the next page of the order that has waited longest, if there is one. Returns whether there was.
///
/// # Errors
/// The store's; nothing of the page was done, or all of it.
pub async fn next_page(deps: &KeeperDeps) -> Result<bool, StoreError> {
    let (at, page_letters) = ((deps.clock)(), i64::from(deps.settings.page_letters));
    let work = deps.store.run_enqueuing(move |connection| {
        Box::pin(async move {
            let mut transaction = connection.begin().await?;
            let Some(mut job) = dlq_jobs::lock_next(&mut transaction).await? else {
                transaction.rollback().await?;
                return Ok((None, Enqueued::default()));
            };
            let limit = page_letters.min(job.left());
            let span = (job.place, job.upto);
            let letters =
                replay::lock_page(&mut transaction, &job.tenant, &job.topic, &job.filter, span, limit, PAGE_BYTES)
                    .await?;
            let Some(last) = letters.last().map(|letter| letter.id) else {
                "completed".clone_into(&mut job.status);
                job.updated_at = at;
                let details = json!({"topic": job.topic, "reprocessed": job.reprocessed, "failed": job.failed});
                write_audit(&mut transaction, &job, "admin.dlq.reprocess_end", details, at).await?;
                dlq_jobs::advance(&mut transaction, &job).await?;
                transaction.commit().await?;
                return Ok((Some((job.topic, 0)), Enqueued::default()));
            };
            let (mut sent, mut put) = (Vec::new(), Enqueued::default());
            for letter in letters {
                let id = letter.id;
                // One by one: of two letters of a memory the first may be the later one.
                if replay::is_superseded(&mut transaction, &letter).await? {
                    job.failed += 1;
                    continue;
                }
                match Outgoing::of(letter) {
                    Ok(one) => {
                        put += replay::send(&mut transaction, vec![one], at).await?;
                        sent.push(id);
                    }
                    Err(_) => job.failed += 1,
                }
            }
            let deleted = replay::delete_all(&mut transaction, &job.tenant, &sent).await?;
            job.reprocessed += i64::try_from(deleted).unwrap_or(i64::MAX);
            (job.place, job.updated_at) = (last, at);
            let details = json!({"topic": job.topic, "letters": deleted, "upto": last});
            write_audit(&mut transaction, &job, "admin.dlq.reprocess_page", details, at).await?;
            dlq_jobs::advance(&mut transaction, &job).await?;
            transaction.commit().await?;
            Ok((Some((job.topic, deleted)), put))
        })
    });
    let Some((topic, sent)) = work.await? else { return Ok(false) };
    deps.metrics.reprocessed(&topic, sent);
    Ok(true)
}

/// Writes down what became of an order by itself, in the name of who gave it.
async fn write_audit(
    connection: &mut sqlx::PgConnection,
    job: &Job,
    action: &'static str,
    details: Value,
    at: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    let audit = AuditWrite {
        doer: Doer { correlation_id: job.request_id, subject: job.subject.clone(), ip: job.ip, ..Doer::default() },
        action,
        resource: RESOURCE,
        target_id: job.id.to_string(),
        workflow_id: Some(workflow(job.id)),
        details,
        diff: None,
    };
    audit_event::insert_of_process(connection, (&job.tenant, None), &audit, at).await?;
    Ok(())
}
