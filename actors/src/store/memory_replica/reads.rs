//! Reads of the replica: pages by filter, one memory, and how far it is.

use serde::{Deserialize, Serialize};
use sqlx::{Connection, PgConnection};
use time::OffsetDateTime;
use tracing::instrument;

use super::LogPartition;
use crate::store::wall::TenantTx;

/// A memory as the replica has it.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaRow {
    /// The row; later rows have higher ones.
    pub id: i64,
    /// The memory's id, unique for the tenant.
    pub event_id: String,
    /// The session it comes from.
    pub session_id: Option<String>,
    /// The persona it was said to or by.
    pub persona_id: Option<String>,
    /// Whose it is.
    pub tenant: String,
    /// Who said it.
    pub role: Option<String>,
    /// Where the memory service put it.
    pub coord: Option<String>,
    /// The memory service's name of the request.
    pub request_id: Option<String>,
    /// The memory service's name of the trace.
    pub trace_id: Option<String>,
    /// The memory, JSON text.
    pub payload: String,
    /// When the record was published, in seconds since 1970.
    pub wal_timestamp: Option<f64>,
    /// When the row was made.
    pub created_at: OffsetDateTime,
}

/// Which memories of a tenant. What is `None` excludes nothing. As JSON it has the names that queries use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplicaFilter {
    /// The tenant once more, as the asker named it: another one than the asker's has nothing here.
    pub tenant: Option<String>,
    /// The persona.
    pub persona_id: Option<String>,
    /// Who said it.
    pub role: Option<String>,
    /// The session.
    pub session_id: Option<String>,
    /// The knowledge base that the memory's metadata name.
    pub universe: Option<String>,
    /// The sub-space that the memory or its metadata name.
    pub namespace: Option<String>,
    /// Text that the JSON of the memory contains, in either case.
    #[serde(rename = "q")]
    pub containing: Option<String>,
    /// Published then or later, in seconds since 1970.
    pub min_ts: Option<f64>,
    /// Published then or earlier.
    pub max_ts: Option<f64>,
}

/// Which part of what a filter leaves.
#[derive(Clone, Copy, Debug)]
pub struct PageOf {
    /// Rows with a lower id only.
    pub after: Option<i64>,
    /// At most so many.
    pub rows: i64,
    /// None after so many bytes of payload; one row there is in any case.
    pub bytes: i64,
}

/// The memories of `tenant` that pass `filter`, the newest row first; with `among`, only those of these rows. Fewer than asked
/// for do not mean that there are no more; none do.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.memory_replica.page", skip_all)]
pub async fn page(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    filter: &ReplicaFilter,
    of: PageOf,
    among: Option<&[i64]>,
) -> Result<Vec<ReplicaRow>, sqlx::Error> {
    let pattern = filter.containing.as_deref().map(pattern);
    sqlx::query_file_as!(
        ReplicaRow,
        "src/store/memory_replica/page.sql",
        tenant,
        of.after,
        filter.tenant,
        filter.persona_id,
        filter.role,
        filter.session_id,
        filter.universe,
        filter.namespace,
        pattern,
        filter.min_ts,
        filter.max_ts,
        of.rows,
        of.bytes,
        among,
    )
    .fetch_all(&mut **rows)
    .await
}

/// The numbers of the next `limit` rows that pass `filter`, and nothing else of them: for [`page`], where the filter names a text.
/// Texts have an index, which is of no use behind the wall.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.memory_replica.numbers", skip_all)]
pub async fn numbers(
    connection: &mut PgConnection,
    tenant: &str,
    filter: &ReplicaFilter,
    after: Option<i64>,
    limit: i64,
) -> Result<Vec<i64>, sqlx::Error> {
    // A plan for any filter would read every row of the tenant.
    let planned = "BEGIN READ ONLY; SET LOCAL plan_cache_mode = force_custom_plan";
    let mut transaction = connection.begin_with(planned).await?;
    let pattern = filter.containing.as_deref().map(pattern);
    let numbers = sqlx::query_file_scalar!(
        "src/store/memory_replica/numbers.sql",
        tenant,
        after,
        filter.tenant,
        filter.persona_id,
        filter.role,
        filter.session_id,
        filter.universe,
        filter.namespace,
        pattern,
        filter.min_ts,
        filter.max_ts,
        limit,
    )
    .fetch_all(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(numbers)
}

/// How many memories [`page`] would have for `filter` after `after`, at most `limit`; `None` where an index does not tell and
/// each would have to be read.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.memory_replica.count", skip_all)]
pub async fn count(
    rows: &mut TenantTx<'_>,
    tenant: &str,
    filter: &ReplicaFilter,
    after: Option<i64>,
    limit: i64,
) -> Result<Option<i64>, sqlx::Error> {
    let indexed = ReplicaFilter {
        tenant: filter.tenant.clone(),
        persona_id: filter.persona_id.clone(),
        session_id: filter.session_id.clone(),
        ..ReplicaFilter::default()
    };
    if *filter != indexed {
        return Ok(None);
    }
    let count = sqlx::query_scalar!(
        r#"SELECT count(*) AS "count!" FROM (
               SELECT FROM memory_replica
               WHERE tenant = $1
                 AND ($2::bigint IS NULL OR id < $2)
                 AND ($3::text IS NULL OR tenant = $3)
                 AND ($4::text IS NULL OR persona_id = $4)
                 AND ($5::text IS NULL OR session_id = $5)
               LIMIT $6
           ) AS found"#,
        tenant,
        after,
        filter.tenant,
        filter.persona_id,
        filter.session_id,
        limit,
    );
    Ok(Some(count.fetch_one(&mut **rows).await?))
}

/// The pattern that finds `text` anywhere.
fn pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

/// The memory of `tenant` with that id.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.memory_replica.find", skip_all)]
pub async fn find(rows: &mut TenantTx<'_>, tenant: &str, event_id: &str) -> Result<Option<ReplicaRow>, sqlx::Error> {
    sqlx::query_as!(
        ReplicaRow,
        r#"SELECT
               id, event_id, session_id, persona_id, tenant, role, coord, request_id, trace_id, payload::text AS "payload!",
               wal_timestamp, created_at
           FROM memory_replica WHERE tenant = $1 AND event_id = $2"#,
        tenant,
        event_id,
    )
    .fetch_optional(&mut **rows)
    .await
}

/// The offset up to which `place` is applied, not itself included; 0 if nothing of it is.
///
/// # Errors
/// The database's.
#[instrument(level = "debug", name = "db.memory_replica.applied", skip_all)]
pub async fn applied(connection: &mut PgConnection, place: &LogPartition) -> Result<i64, sqlx::Error> {
    let found = sqlx::query_scalar!(
        "SELECT next_offset FROM memory_replica_offsets WHERE source = $1 AND topic = $2 AND partition = $3",
        place.source,
        place.topic,
        place.partition,
    )
    .fetch_optional(connection)
    .await?;
    Ok(found.unwrap_or_default())
}

#[cfg(test)]
mod tests;
