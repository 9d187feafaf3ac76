//! Takes a memory out of every table that has it.

use serde_json::json;
use time::OffsetDateTime;
use tracing::instrument;
use uuid::Uuid;

use super::{
    memory_lock::lock,
    memory_replica::{LogPartition, tombstones},
    memory_write_outbox,
    message_outbox::{self, NewMessage},
    outbox_events::Enqueued,
    wall::TenantTx,
};
use crate::domain::{
    brought::lane,
    ids::Tenant,
    wal::{self, MEMORY_WAL, TakenBack},
};

/// What was there, and is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Rows of the replica.
    pub replica: usize,
    /// Writes that waited or were given up, those under way included.
    pub queued: usize,
    /// Of these, writes that the memory service may be working on.
    pub under_way: usize,
    /// Records that waited for their place in the log.
    pub unpublished: usize,
    /// Dead letters.
    pub dead_letters: usize,
    /// What orders the memory's records, as far as that was found.
    pub lane: Option<Uuid>,
    /// The session that the replica knew.
    pub session_id: Option<String>,
}

/// Removes the memory `id` of `tenant` wherever it is, and what tells of its way here. A record that is on its way into the
/// log stays: what takes it back has a later revision.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.memory_replica.forget", skip_all)]
pub async fn forget(rows: &mut TenantTx<'_>, tenant: &str, id: &str) -> Result<Forgotten, sqlx::Error> {
    // The letters first: whoever sends one again has it before it puts anything into a queue, which is seen below.
    let letters = sqlx::query_scalar!(
        "DELETE FROM dlq_messages
         WHERE tenant = $1 AND topic = 'memory.wal.dlq'
           AND memory_id = left($2, 400)
           AND COALESCE(event -> 'payload' ->> 'id', event ->> 'id') = $2
         RETURNING session_id",
        tenant,
        id,
    )
    .fetch_all(&mut **rows)
    .await?;
    lock(rows, tenant, id).await?;
    let replica = sqlx::query_scalar!(
        "DELETE FROM memory_replica WHERE tenant = $1 AND event_id = $2 RETURNING session_id",
        tenant,
        id,
    )
    .fetch_all(&mut **rows)
    .await?;
    let writes = sqlx::query!(
        r#"WITH gone AS (
               SELECT id, status FROM memory_write_outbox
               WHERE id = ANY (ARRAY (
                   SELECT id FROM memory_write_outbox
                   WHERE tenant = $1 AND dedupe_key = $2 AND status IN ('pending', 'sending')
                   UNION ALL
                   SELECT id FROM memory_write_outbox
                   WHERE tenant = $1 AND dedupe_key = $2 AND status IN ('sent', 'failed')
                   UNION ALL
                   SELECT id FROM memory_write_outbox WHERE tenant = $1 AND beside_id = $2
               ))
               ORDER BY id
               FOR UPDATE
           )
           DELETE FROM memory_write_outbox AS o USING gone WHERE o.id = gone.id
           RETURNING o.session_id, gone.status <> 'sent' AS "queued!",
               gone.status IN ('pending', 'sending') AND (
                   gone.status = 'sending' OR EXISTS (
                       SELECT FROM outbox_leases AS l
                       WHERE l.queue = 'memory_write_outbox' AND l.scope = $1 AND l.key = o.session_id::text
                   )
               ) AS "under_way!""#,
        tenant,
        id,
    )
    .fetch_all(&mut **rows)
    .await?;
    let records = sqlx::query!(
        r#"DELETE FROM message_outbox AS o
         WHERE tenant = $1 AND topic = 'memory.wal' AND dedupe_key = $2 AND status <> 'sending'
           AND NOT (status = 'pending' AND EXISTS (
             SELECT FROM outbox_leases AS l
             WHERE l.queue = 'message_outbox' AND l.scope = o.topic AND l.key = o.partition_key
           ))
         RETURNING session_id, status <> 'sent' AS "unpublished!""#,
        tenant,
        id,
    )
    .fetch_all(&mut **rows)
    .await?;
    let lanes = writes.iter().map(|row| Some(row.session_id)).chain(records.iter().map(|row| row.session_id));
    Ok(Forgotten {
        replica: replica.len(),
        queued: writes.iter().filter(|row| row.queued).count(),
        under_way: writes.iter().filter(|row| row.under_way).count(),
        unpublished: records.iter().filter(|row| row.unpublished).count(),
        dead_letters: letters.len(),
        lane: lanes.chain(letters.iter().copied()).flatten().next(),
        session_id: replica.into_iter().flatten().next(),
    })
}

/// Takes the memory `id` of `tenant` back: out of every table that has it, and out of every other replica by a record for the log.
///
/// # Errors
/// The database's.
pub async fn take_back(
    rows: &mut TenantTx<'_>,
    tenant: &Tenant,
    id: &str,
    at: OffsetDateTime,
) -> Result<(Forgotten, Enqueued), sqlx::Error> {
    let gone = forget(rows, tenant.as_str(), id).await?;
    let revision = memory_write_outbox::next_revision(rows).await?;
    // What is on its way does not bring it back even for a moment.
    let back = TakenBack {
        tenant: tenant.to_string(),
        event_id: id.to_owned(),
        revision: Some(revision),
        timestamp: Some(wal::seconds(at)),
    };
    tombstones::remove(rows, &nowhere(), &back, 0, at).await?;
    let back = tombstone(tenant, &gone, id, revision, at);
    let put = message_outbox::insert(rows, &[back], at).await?;
    Ok((gone, put))
}

/// The place of what no log has told yet: it is none of any log.
fn nowhere() -> LogPartition {
    LogPartition { source: "deletion", topic: MEMORY_WAL.to_owned(), partition: 0 }
}

/// What takes the memory back, by the way of its session where that is known.
fn tombstone(tenant: &Tenant, gone: &Forgotten, id: &str, revision: i64, at: OffsetDateTime) -> NewMessage {
    let lane = gone.lane.unwrap_or_else(|| lane(tenant, gone.session_id.as_deref(), id));
    let session = gone.session_id.clone().unwrap_or_else(|| lane.to_string());
    NewMessage {
        tenant: tenant.to_string(),
        session_id: lane,
        seq: None,
        topic: MEMORY_WAL,
        headers: json!({}),
        payload: wal::tombstone(tenant.as_str(), &session, id, revision, at),
        dedupe_key: None,
    }
}
