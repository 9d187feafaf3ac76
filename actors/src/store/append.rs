//! The one statement by which history is written: many sessions' steps in one round trip, each a compare-and-set.

use std::collections::HashSet;

use sqlx::PgConnection;
use tracing::instrument;

use crate::domain::append::Append;

/// Commits `batch` in one statement, which is one transaction, and tells for each step whether its fence held. A step
/// that was stale had no effect; the others are durable when this returns. Each session may be in the batch once.
///
/// # Errors
/// The database's; a content error (SQLSTATE class 22 or 23) of one step fails the whole batch.
#[instrument(level = "debug", name = "db.session_events.append", skip_all)]
pub async fn append_batch(connection: &mut PgConnection, batch: &[Append]) -> Result<Vec<bool>, sqlx::Error> {
    let steps = Steps::of(batch);
    let events = Events::of(batch);
    let turns = Turns::of(batch);
    let audit = Audit::of(batch);
    let passed = sqlx::query_file_scalar!(
        "src/store/append.sql",
        &steps.tenant as _,
        &steps.session_id,
        &steps.epoch,
        &steps.head,
        &steps.new_head,
        &steps.fresh,
        &steps.at,
        &steps.owner as _,
        &steps.lease_until as _,
        &steps.title as _,
        &steps.keep_title,
        &steps.persona_id as _,
        &steps.subject as _,
        &steps.scope as _,
        &steps.metadata as _,
        &steps.analysis as _,
        &steps.paused as _,
        &events.step,
        &events.place,
        &events.event_id,
        &events.turn_seq,
        &events.type_name as _,
        &events.terminal,
        &events.key as _,
        &events.hash as _,
        &events.payload,
        &events.topic as _,
        &events.memory as _,
        &events.memory_key as _,
        &turns.step,
        &turns.turn_seq,
        &turns.event_id,
        &turns.attempt,
        &turns.state as _,
        &turns.usage as _,
        &turns.error_code as _,
        &audit.step,
        &audit.request_id,
        &audit.subject as _,
        &audit.action as _,
        &audit.resource as _,
        &audit.target_id as _,
        &audit.details,
        &audit.ip as _,
        &steps.title_folded as _,
        &audit.trace_id as _,
        &audit.workflow_id as _,
        &audit.issuer as _,
        &audit.decision as _,
        &audit.diff as _,
        &audit.user_agent as _,
    )
    .fetch_all(connection)
    .await?;
    let passed: HashSet<i64> = passed.into_iter().flatten().collect();
    Ok((1..).take(batch.len()).map(|step| passed.contains(&step)).collect())
}

/// Columns of arrays, one element a row, as `unnest` takes them.
macro_rules! columns {
    ($name:ident<$life:lifetime> { $($field:ident: $kind:ty),* $(,)? }) => {
        #[derive(Default)]
        struct $name<$life> { $($field: Vec<$kind>),* }
    };
}

columns!(Steps<'a> {
    tenant: &'a str, session_id: uuid::Uuid, epoch: i64, head: i64, new_head: i64, fresh: bool, at: time::OffsetDateTime,
    owner: Option<&'a str>, lease_until: Option<time::OffsetDateTime>, title: Option<&'a str>, keep_title: bool,
    persona_id: Option<&'a str>, subject: Option<&'a str>, scope: Option<&'a str>, metadata: Option<String>,
    analysis: Option<String>, paused: Option<bool>, title_folded: Option<String>,
});

impl<'a> Steps<'a> {
    fn of(batch: &'a [Append]) -> Self {
        let mut rows = Self::default();
        for step in batch {
            let (change, begun) = (&step.envelope, step.begun.as_ref());
            rows.tenant.push(step.key.tenant.as_str());
            rows.session_id.push(step.key.session_id);
            rows.epoch.push(step.epoch);
            rows.head.push(step.head);
            rows.new_head.push(step.new_head());
            rows.fresh.push(step.fresh);
            rows.at.push(step.at);
            rows.owner.push(change.owner.as_ref().map(|(name, _)| name.as_str()));
            rows.lease_until.push(change.owner.as_ref().map(|(_, until)| *until));
            rows.title.push(change.title.as_deref());
            rows.keep_title.push(change.keep_title);
            rows.persona_id.push(change.persona_id.as_deref());
            rows.subject.push(begun.and_then(|by| by.subject.as_deref()));
            rows.scope.push(begun.and_then(|by| by.scope.as_deref()));
            rows.metadata.push(change.metadata.as_ref().map(ToString::to_string));
            rows.analysis.push(change.analysis.as_ref().map(ToString::to_string));
            rows.paused.push(change.paused);
            rows.title_folded.push(change.title.as_deref().map(str::to_lowercase));
        }
        rows
    }
}

columns!(Events<'a> {
    step: i64, place: i64, event_id: uuid::Uuid, turn_seq: i64, type_name: &'a str, terminal: bool,
    key: Option<&'a str>, hash: Option<&'a [u8]>, payload: String, topic: &'a str, memory: Option<String>,
    memory_key: Option<&'a str>,
});

impl<'a> Events<'a> {
    fn of(batch: &'a [Append]) -> Self {
        let mut rows = Self::default();
        for (step, append) in (1..).zip(batch) {
            for (place, event) in (1..).zip(&append.events) {
                rows.step.push(step);
                rows.place.push(place);
                rows.event_id.push(event.event_id);
                rows.turn_seq.push(event.turn_seq);
                rows.type_name.push(event.event_type.as_str());
                rows.terminal.push(event.event_type.is_terminal());
                rows.key.push(event.idempotency.as_ref().map(|idempotency| idempotency.key.as_str()));
                rows.hash.push(event.idempotency.as_ref().map(|idempotency| idempotency.body_hash.as_slice()));
                rows.payload.push(event.payload.to_string());
                rows.topic.push(event.topic);
                rows.memory.push(event.memory.as_ref().map(|(record, _)| record.to_string()));
                rows.memory_key.push(event.memory.as_ref().map(|(_, key)| key.as_str()));
            }
        }
        rows
    }
}

columns!(Turns<'a> {
    step: i64, turn_seq: i64, event_id: uuid::Uuid, attempt: i32, state: &'a str, usage: Option<String>,
    error_code: Option<&'a str>,
});

impl<'a> Turns<'a> {
    fn of(batch: &'a [Append]) -> Self {
        let mut rows = Self::default();
        for (step, append) in (1..).zip(batch) {
            for turn in &append.turns {
                rows.step.push(step);
                rows.turn_seq.push(turn.turn_seq);
                rows.event_id.push(turn.event_id);
                rows.attempt.push(turn.attempt);
                rows.state.push(turn.state.as_str());
                rows.usage.push(turn.usage.as_ref().map(ToString::to_string));
                rows.error_code.push(turn.error_code);
            }
        }
        rows
    }
}

columns!(Audit<'a> {
    step: i64, request_id: String, subject: Option<&'a str>, action: &'a str, resource: &'a str, target_id: &'a str,
    details: String, ip: Option<String>, trace_id: Option<&'a str>, workflow_id: Option<&'a str>, issuer: Option<&'a str>,
    decision: Option<&'a str>, diff: Option<String>, user_agent: Option<&'a str>,
});

impl<'a> Audit<'a> {
    fn of(batch: &'a [Append]) -> Self {
        let mut rows = Self::default();
        for (step, append) in (1..).zip(batch) {
            for entry in &append.audit {
                let doer = &entry.doer;
                rows.step.push(step);
                rows.request_id.push(doer.correlation_id.to_string());
                rows.subject.push(doer.subject.as_deref());
                rows.action.push(entry.action);
                rows.resource.push(entry.resource);
                rows.target_id.push(&entry.target_id);
                rows.details.push(entry.details.to_string());
                rows.ip.push(doer.ip.map(|ip| ip.to_string()));
                rows.trace_id.push(doer.trace_id.as_deref());
                rows.workflow_id.push(entry.workflow_id.as_deref());
                rows.issuer.push(doer.issuer());
                rows.decision.push(doer.decision());
                rows.diff.push(entry.diff.as_ref().map(ToString::to_string));
                rows.user_agent.push(doer.user_agent());
            }
        }
        rows
    }
}
