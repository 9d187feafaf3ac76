//! What the queues, the replica and the dead letters know of a memory.

use time::OffsetDateTime;
use tracing::instrument;

use super::wall::TenantTx;
use crate::domain::receipt::{Letter, Place, Queued, Replicated, Step, Traces};

/// The traces of the memory `id` of `tenant`, all of one moment; with `only`, those that belong to sessions of these
/// subjects. `source` is the log that the replica is made from.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.memory_replica.traces", skip_all)]
pub async fn traces(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    id: &str,
    source: &str,
    only: Option<&[String]>,
) -> Result<Traces, sqlx::Error> {
    let row = sqlx::query_file!("src/store/receipt.sql", tenant, id, source, only).fetch_one(&mut **rows).await?;
    let place = |partition: Option<i32>, offset: Option<i64>| {
        let (partition, offset) = partition.zip(offset)?;
        Some(Place { partition, offset })
    };
    let sent_to = place(row.log_partition, row.log_offset);
    let record = queued(row.record_status.as_deref(), row.record_created_at, row.record_updated_at);
    let copied = place(row.replica_partition, row.replica_offset).zip(row.replica_sha256).zip(row.replica_changed_at);
    let buried = place(row.letter_partition, row.letter_offset);
    Ok(Traces {
        write: queued(row.write_status.as_deref(), row.write_created_at, row.write_updated_at),
        record: record.map(|record| (record, sent_to)),
        applied: row.applied,
        replica: copied.map(|((place, sha256), at)| Replicated {
            place,
            of_this_log: row.replica_is_of_this_log,
            sha256,
            at,
        }),
        letter: row.letter_created_at.map(|at| Letter { place: buried, at }),
    })
}

fn queued(status: Option<&str>, created: Option<OffsetDateTime>, updated: Option<OffsetDateTime>) -> Option<Queued> {
    let step = match status? {
        "sent" => Step::Done,
        "failed" => Step::GivenUp,
        _ => Step::Waiting,
    };
    Some(Queued { step, created_at: created?, updated_at: updated? })
}

#[cfg(test)]
mod tests;
