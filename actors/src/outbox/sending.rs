//! Hands memories of one session to the memory service, as far as the policy lets them and the service takes them.

use std::time::Duration;

use somaagent_supervision::AskError;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::{memory_sync::MemorySyncDeps, through::Cause};
use crate::{
    domain::{event, ids::Tenant, memory::MemorySpace, trace_context::TraceContext},
    policy::{Act, Context, Leave, Policy},
    somabrain::messages::{Arguments, Asker, BrainError, MemoryWrite, Remember, RememberBatch, Remembered, placed},
    store::memory_write_outbox::ClaimedMemory,
};

/// Part of the lease that a call may take: what comes after it must fit too.
const CALLS_A_LEASE: u32 = 3;

/// Why a memory was not written.
pub(super) enum NotWritten {
    /// The service cannot now; the memory may be there all the same.
    Later { reason: String, after: Option<Duration>, cause: Cause },
    /// The policy does not let it be remembered.
    Denied,
    /// The service will never take it so.
    Refused { reason: String, code: Option<String> },
}

impl From<BrainError> for NotWritten {
    fn from(error: BrainError) -> Self {
        let (reason, cause) = (error.to_string(), Cause::from(&error));
        match error {
            // What a key or an address has to be mended for is no fault of the memory.
            BrainError::Refused { status: 401 | 403 | 404 | 405 | 407 | 421, .. } => {
                Self::Later { reason, after: None, cause }
            }
            BrainError::Refused { status, .. } => Self::Refused { reason, code: Some(status.to_string()) },
            BrainError::Unavailable { retry_after, .. } => Self::Later { reason, after: retry_after, cause },
            // An answer that nobody can read is none of the service, and does not say that the memory was taken.
            BrainError::TimedOut { .. } | BrainError::Broken { .. } => Self::Later { reason, after: None, cause },
        }
    }
}

impl From<AskError> for NotWritten {
    fn from(error: AskError) -> Self {
        let reason = format!("the client of the memory service: {error}");
        Self::Later { reason, after: None, cause: Cause::Waiting }
    }
}

/// What the service took, in order, and why it did not take the next one.
pub(super) struct Sent {
    pub(super) taken: Vec<Remembered>,
    pub(super) stopped: Option<NotWritten>,
}

/// How long a call may take, and all questions to the policy before it.
fn a_call(deps: &MemorySyncDeps) -> Duration {
    deps.settings.lease() / CALLS_A_LEASE
}

/// Sends as many as the policy lets, in order.
pub(super) async fn send(deps: &MemorySyncDeps, rows: &[ClaimedMemory]) -> Sent {
    let refused = NotWritten::Refused { reason: "its tenant is no name of a tenant".into(), code: None };
    let Some(tenant) = rows.first().and_then(|row| Tenant::new(&row.tenant)) else {
        return Sent { taken: vec![], stopped: Some(refused) };
    };
    let (allowed, held_up) = allowed(&deps.policy, a_call(deps), &tenant, rows).await;
    let sent = carry(deps, &tenant, allowed).await;
    Sent { stopped: sent.stopped.or(held_up), ..sent }
}

/// The memories up to the first that the policy does not let be remembered, or does not decide about `within` this time, and why
/// that is not written. What is the same question is asked once: memories of one session differ by their kind and by who said
/// them.
async fn allowed<'a>(
    policy: &Policy,
    within: Duration,
    tenant: &Tenant,
    rows: &'a [ClaimedMemory],
) -> (&'a [ClaimedMemory], Option<NotWritten>) {
    let until = Instant::now() + within;
    let mut granted = Vec::new();
    for (count, row) in rows.iter().enumerate() {
        let kind = [row.payload["type"].as_str(), row.payload["role"].as_str()];
        if granted.contains(&kind) {
            continue;
        }
        let [payload_type, role] = kind;
        let context = Context { session_id: Some(row.session_id), payload_type, role, ..Context::default() };
        let act = Act { tenant, subject: None, persona_id: None, action: "memory.write", resource: "somabrain" };
        let held_up = match timeout_at(until, policy.leave(act, &context)).await {
            Ok(Leave::Granted) => {
                granted.push(kind);
                continue;
            }
            Ok(Leave::Denied) => NotWritten::Denied,
            Ok(Leave::Unknown) => later("the policy could not be asked"),
            Err(_) => later("the policy did not answer in time"),
        };
        return (&rows[..count], Some(held_up));
    }
    (rows, None)
}

fn later(reason: &str) -> NotWritten {
    NotWritten::Later { reason: reason.to_owned(), after: None, cause: Cause::Waiting }
}

/// Sends all at once, and one by one where the service refuses that: then only the refused one is at fault.
async fn carry(deps: &MemorySyncDeps, tenant: &Tenant, rows: &[ClaimedMemory]) -> Sent {
    let arguments = Arguments { tenant: Some(tenant), ..Arguments::default() };
    let space = |row: &ClaimedMemory| placed(&row.payload, arguments, tenant, &deps.space).1;
    let spaces: Vec<MemorySpace> = rows.iter().map(space).collect();
    if rows.len() > 1 && spaces.windows(2).all(|pair| pair[0] == pair[1]) {
        match batch(deps, tenant, &spaces[0], rows).await {
            Ok(taken) if taken.len() == rows.len() => return Sent { taken, stopped: None },
            Ok(_) | Err(NotWritten::Refused { .. }) => {}
            Err(later) => return Sent { taken: vec![], stopped: Some(later) },
        }
    }
    let mut taken = Vec::with_capacity(rows.len());
    for (row, space) in rows.iter().zip(&spaces) {
        match one(deps, tenant, space, row).await {
            Ok(remembered) => taken.push(remembered),
            Err(stopped) => return Sent { taken, stopped: Some(stopped) },
        }
    }
    Sent { taken, stopped: None }
}

fn memory(row: &ClaimedMemory) -> MemoryWrite {
    let key = row.payload["id"].as_str().map_or_else(|| row.id.to_string(), ToOwned::to_owned);
    MemoryWrite::new(key, row.payload.clone())
}

/// A call is made in the name of the request that the first of its memories goes back to.
fn asker(deps: &MemorySyncDeps, tenant: &Tenant, first: Option<&ClaimedMemory>) -> (Asker, Duration) {
    let within = a_call(deps);
    let deadline = Instant::now() + within;
    let correlation_id = first.and_then(|row| event::correlation_id(&row.payload)).unwrap_or_else(Uuid::new_v4);
    let trace = first.and_then(|row| TraceContext::within(&row.payload["metadata"]));
    (Asker { tenant: tenant.clone(), correlation_id, trace, deadline }, within)
}

async fn batch(
    deps: &MemorySyncDeps,
    tenant: &Tenant,
    space: &MemorySpace,
    rows: &[ClaimedMemory],
) -> Result<Vec<Remembered>, NotWritten> {
    let (asker, within) = asker(deps, tenant, rows.first());
    let (space, memories) = (space.clone(), rows.iter().map(memory).collect());
    let ask = deps.remember_batch.call(|reply| RememberBatch { asker, space, memories, reply }, within);
    Ok(ask.await??)
}

async fn one(
    deps: &MemorySyncDeps,
    tenant: &Tenant,
    space: &MemorySpace,
    row: &ClaimedMemory,
) -> Result<Remembered, NotWritten> {
    let (asker, within) = asker(deps, tenant, Some(row));
    let (space, memory) = (space.clone(), memory(row));
    let ask = deps.remember.call(|reply| Remember { asker, space, memory, reply }, within);
    Ok(ask.await??)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation ends the test")]

    use serde_json::json;

    use super::*;
    use crate::{
        loopback::{Play, Server},
        policy::PolicySettings,
    };

    const YES: &str = r#"{"result": {"allow": true, "rule": "r", "reason": "w", "reach": "own"}}"#;
    const NO: &str = r#"{"result": {"allow": false, "rule": "r", "reason": "w", "reach": "own"}}"#;

    fn said(role: &str) -> ClaimedMemory {
        ClaimedMemory {
            id: 1,
            revision: 1,
            tenant: "acme".to_owned(),
            session_id: Uuid::nil(),
            seq: None,
            persona_id: None,
            payload: json!({"type": "conversation_event", "role": role}),
            history: json!([]),
            retry_count: 0,
        }
    }

    /// How many of these may be remembered, and why the next one is not, by an OPA that holds nothing for long.
    async fn asked(server: &Server, within: Duration, roles: &[&str]) -> (usize, Option<NotWritten>) {
        let settings = PolicySettings {
            opa_url: Some(server.url.clone()),
            opa_timeout_seconds: 3_600.0,
            cache_ttl_seconds: 0.0,
            ..PolicySettings::default()
        };
        let rows: Vec<_> = roles.iter().map(|role| said(role)).collect();
        let policy = Policy::from_settings(&settings).unwrap();
        let (allowed, held_up) = allowed(&policy, within, &Tenant::new("acme").unwrap(), &rows).await;
        (allowed.len(), held_up)
    }

    #[tokio::test]
    async fn what_is_one_question_is_asked_once() {
        let server = Server::start(|request| Play::json(200, if request.contains("tool") { NO } else { YES })).await;
        let long = Duration::from_hours(1);
        let (allowed, held_up) = asked(&server, long, &["user", "assistant"].repeat(25)).await;
        assert!((allowed, server.seen().len()) == (50, 2) && held_up.is_none(), "{} questions", server.seen().len());
        let (allowed, held_up) = asked(&server, long, &["user", "user", "tool", "user"]).await;
        assert!(allowed == 2 && matches!(held_up, Some(NotWritten::Denied)), "what comes after it waits");
    }

    #[tokio::test]
    async fn a_policy_that_does_not_answer_holds_memories_up_no_longer_than_a_call_may_take() {
        let server =
            Server::start(|request| if request.contains("assistant") { Play::Hang } else { Play::json(200, YES) })
                .await;
        let (allowed, held_up) = asked(&server, Duration::from_secs(1), &["user", "assistant", "user"]).await;
        assert!(allowed == 1 && matches!(held_up, Some(NotWritten::Later { .. })), "it answers in an hour");
    }
}
