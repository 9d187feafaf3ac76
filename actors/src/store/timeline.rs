//! What happened in a session, from every table that knows of it.

use serde_json::Value;
use time::OffsetDateTime;
use tracing::instrument;

use super::wall::TenantTx;
use crate::domain::{
    ids::SessionKey,
    session::{INBOUND, OUTBOUND},
    wal::MEMORY_WAL,
};

/// Something that happened.
#[derive(Clone, Debug)]
pub struct TimelineEntry {
    /// When; of what goes on, when it last did.
    pub at: OffsetDateTime,
    /// `event`, `audit`, `turn`, `outbox`, `memory` or `replica`.
    pub kind: String,
    /// What is known of it, a JSON object without what was said.
    pub entry: Value,
}

/// Reads what happened in a session, in the order of time: of each kind the newest, at most `limit`. Nothing of a session that
/// is there but none of `only`'s, if that is given.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.session_envelopes.timeline", skip_all)]
pub async fn timeline(
    rows: &mut TenantTx<'_>,
    key: &SessionKey,
    only: Option<&[String]>,
    limit: i64,
    with_audit: bool,
) -> Result<Vec<TimelineEntry>, sqlx::Error> {
    let topics = [INBOUND, OUTBOUND, MEMORY_WAL].map(ToOwned::to_owned);
    sqlx::query_file_as!(
        TimelineEntry,
        "src/store/timeline.sql",
        key.tenant.as_str(),
        key.session_id,
        only,
        limit,
        with_audit,
        &topics,
    )
    .fetch_all(&mut **rows)
    .await
}
