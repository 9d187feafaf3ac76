//! The changes that people ask for, each a transaction with its audit row.

use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    keeper::KeeperDeps,
    messages::{ChangeError, Job, LetterFilter},
};
use crate::{
    domain::{append::AuditWrite, caller::Caller, dead_letter::Confirmation, session, wal},
    store::{
        audit_event,
        dead_letters::{
            browse::Letter,
            replay::{self, Outgoing},
        },
        dlq_jobs, memory_write_outbox,
        outbox_events::Enqueued,
    },
};

/// Letters deleted in one transaction of a purge.
const PURGE_PAGE: i64 = 1_000;

pub use crate::store::dead_letters::RESOURCE;

/// The audit row of a change that `caller` asked for.
fn audit(caller: &Caller, action: &'static str, target_id: String, details: Value) -> AuditWrite {
    session::audit(caller, action, RESOURCE, target_id, details)
}

/// What the rows of one order have in common.
pub(super) fn workflow(id: Uuid) -> String {
    format!("dlq.reprocess/{id}")
}

/// Sends a letter again, or `event` in its place, and returns the topic it goes to.
///
/// # Errors
/// `NotFound`, `Superseded`, `Unusable`, `Store`; only the last may have had its effect.
pub async fn reprocess(
    deps: &KeeperDeps,
    caller: Caller,
    topic: String,
    id: i64,
    event: Option<Value>,
) -> Result<String, ChangeError> {
    let (at, counted) = ((deps.clock)(), topic.clone());
    let work = deps.store.enqueue_for(caller.tenant.clone(), move |rows| {
        Box::pin(async move {
            let Some(mut letter) = replay::take(rows, caller.tenant.as_str(), &topic, id).await? else {
                return Ok((Err(ChangeError::NotFound), Enqueued::default()));
            };
            // With another content it goes because somebody says that this is what holds.
            if event.is_none() && replay::is_superseded(rows, &letter).await? {
                rows.undo();
                return Ok((Err(ChangeError::Superseded), Enqueued::default()));
            }
            let (target, details) = (letter.source_topic.clone(), json!({"topic": topic, "origin": letter.origin}));
            let mut line = audit(&caller, "admin.dlq.reprocess", id.to_string(), details);
            let edited = match event {
                Some(event) => {
                    let (before, revision) = (letter.original.clone(), memory_write_outbox::next_revision(rows).await?);
                    let edited = edit(&mut letter, event, (revision, at));
                    line.details["edited"] = json!({"before": before.len(), "after": letter.original.len()});
                    line = line.changing("record", &before, &letter.original);
                    edited
                }
                None => Ok(()),
            };
            let outgoing = edited.and_then(|()| Outgoing::of(letter).map_err(|why| why.0.to_owned()));
            let outgoing = match outgoing {
                Ok(outgoing) => outgoing,
                Err(why) => {
                    rows.undo();
                    return Ok((Err(ChangeError::Unusable(why)), Enqueued::default()));
                }
            };
            let put = replay::send(rows, vec![outgoing], at).await?;
            audit_event::insert(rows, &caller.tenant, &line, at).await?;
            Ok((Ok(target), put))
        })
    });
    let target = work.await??;
    deps.metrics.reprocessed(&counted, 1);
    Ok(target)
}

/// Puts `event` in the place of the letter's record, as one that is published now: it is the last word on its memory.
fn edit(letter: &mut Letter, mut event: Value, (revision, at): (i64, OffsetDateTime)) -> Result<(), String> {
    let foreign = |value: &Value| !value.is_null() && value.as_str() != Some(&letter.tenant);
    let memory = &event["payload"];
    let named = [&event, memory].map(|said| [&said["tenant"], &said["metadata"]["tenant"]]);
    if named.into_iter().flatten().any(foreign) {
        return Err("names another tenant".to_owned());
    }
    let before: Value = serde_json::from_slice(&letter.original).unwrap_or_default();
    if before["tenant"].is_string() && event["tenant"].is_null() {
        return Err("must keep its `tenant`".to_owned());
    }
    wal::publish(&mut event, revision, at);
    letter.original = event.to_string().into_bytes();
    Ok(())
}

/// Writes down an order to send many letters again; [`job`](super::job) carries it out.
///
/// # Errors
/// `Store`.
pub async fn reprocess_all(
    deps: &KeeperDeps,
    caller: Caller,
    topic: String,
    filter: LetterFilter,
    max_letters: i64,
) -> Result<Job, ChangeError> {
    let (at, id) = ((deps.clock)(), Uuid::new_v4());
    let work = deps.store.change_for(caller.tenant.clone(), move |rows| {
        Box::pin(async move {
            let tenant = caller.tenant.as_str();
            let (letters, upto) = replay::count(rows, tenant, &topic, &filter, i64::MAX).await?;
            let job = Job {
                id,
                tenant: tenant.to_owned(),
                topic,
                status: if letters == 0 { "completed" } else { "running" }.to_owned(),
                filter,
                upto,
                max_letters,
                place: 0,
                total: letters.min(max_letters),
                reprocessed: 0,
                failed: 0,
                subject: caller.subject.clone(),
                request_id: caller.correlation_id,
                ip: caller.address,
                created_at: at,
                updated_at: at,
            };
            dlq_jobs::insert(rows, &job).await?;
            let details = json!({"topic": job.topic, "letters": job.total, "upto": upto});
            let audit = audit(&caller, "admin.dlq.reprocess_all", id.to_string(), details).within(workflow(id));
            audit_event::insert(rows, &caller.tenant, &audit, at).await?;
            Ok(job)
        })
    });
    Ok(work.await?)
}

/// Ends an order before its time.
///
/// # Errors
/// `NoSuchJob`, `Store`.
pub async fn cancel(deps: &KeeperDeps, caller: Caller, topic: String, id: Uuid) -> Result<Job, ChangeError> {
    let at = (deps.clock)();
    let work = deps.store.change_for(caller.tenant.clone(), move |rows| {
        Box::pin(async move {
            let Some(job) = dlq_jobs::cancel(rows, caller.tenant.as_str(), &topic, id, at).await? else {
                return dlq_jobs::get(rows, caller.tenant.as_str(), &topic, id).await;
            };
            let details = json!({"topic": topic, "reprocessed": job.reprocessed, "failed": job.failed});
            let audit = audit(&caller, "admin.dlq.cancel", id.to_string(), details).within(workflow(id));
            audit_event::insert(rows, &caller.tenant, &audit, at).await?;
            Ok(Some(job))
        })
    });
    work.await?.ok_or(ChangeError::NoSuchJob)
}

/// Deletes a letter.
///
/// # Errors
/// `NotFound`, `Store`.
pub async fn discard(deps: &KeeperDeps, caller: Caller, topic: String, id: i64) -> Result<(), ChangeError> {
    let (at, counted) = ((deps.clock)(), topic.clone());
    let work = deps.store.change_for(caller.tenant.clone(), move |rows| {
        Box::pin(async move {
            if replay::take(rows, caller.tenant.as_str(), &topic, id).await?.is_none() {
                return Ok(Err(ChangeError::NotFound));
            }
            let audit = audit(&caller, "admin.dlq.delete", id.to_string(), json!({"topic": topic}));
            audit_event::insert(rows, &caller.tenant, &audit, at).await?;
            Ok(Ok(()))
        })
    });
    work.await??;
    deps.metrics.deleted(&counted, 1);
    Ok(())
}

/// Deletes the letters of a topic that `token` confirms, page by page: after a failure the same token goes on.
///
/// # Errors
/// `Unconfirmed`, `Store`.
pub async fn purge(
    deps: &KeeperDeps,
    caller: Caller,
    topic: String,
    token: Option<String>,
) -> Result<u64, ChangeError> {
    let given = token.and_then(|token| Confirmation::read(&token, caller.tenant.as_str(), &topic));
    let upto = given.map_or(i64::MAX, |given| given.upto);
    let now = count(deps, &caller, &topic, upto).await?;
    // Numbers are given before their rows can be seen: an older one may have come since.
    let confirmed = given.filter(|given| now.letters <= given.letters);
    if now.letters == 0 {
        return Ok(0);
    }
    if confirmed.is_none() {
        let all = count(deps, &caller, &topic, i64::MAX).await?;
        let token = all.token(caller.tenant.as_str(), &topic);
        return Err(ChangeError::Unconfirmed { token, letters: all.letters });
    }
    let mut deleted = 0;
    loop {
        let page = purge_page(deps, caller.clone(), topic.clone(), upto).await?;
        deps.metrics.deleted(&topic, page);
        deleted += page;
        if page < PURGE_PAGE.unsigned_abs() {
            return Ok(deleted);
        }
    }
}

async fn count(deps: &KeeperDeps, caller: &Caller, topic: &str, upto: i64) -> Result<Confirmation, ChangeError> {
    let (tenant, topic) = (caller.tenant.clone(), topic.to_owned());
    let work = deps.store.read_for(caller.tenant.clone(), move |rows| {
        Box::pin(async move { replay::count(rows, tenant.as_str(), &topic, &LetterFilter::default(), upto).await })
    });
    let (letters, upto) = work.await?;
    Ok(Confirmation { upto, letters })
}

async fn purge_page(deps: &KeeperDeps, caller: Caller, topic: String, upto: i64) -> Result<u64, ChangeError> {
    let at = (deps.clock)();
    let work = deps.store.change_for(caller.tenant.clone(), move |rows| {
        Box::pin(async move {
            let tenant = caller.tenant.as_str();
            let deleted = replay::delete_page(rows, tenant, &topic, upto, PURGE_PAGE).await?;
            if deleted > 0 {
                let details = json!({"upto": upto, "deleted": deleted});
                let audit = audit(&caller, "admin.dlq.purge", topic, details);
                audit_event::insert(rows, &caller.tenant, &audit, at).await?;
            }
            Ok(deleted)
        })
    });
    Ok(work.await?)
}

#[cfg(test)]
mod tests;
